"""A population in a schema of a PostgreSQL server."""

"""A population in a schema of a PostgreSQL server.

All that is particular to PostgreSQL; psycopg is imported only where a server is used.
"""

"""A population in a SQLite file, which ASE reads as a database of its own."""

"""A population in a SQLite file, which ASE reads as a database of its own.

All that is particular to SQLite: the file, its lock, backups, and whether its folder locks.
"""

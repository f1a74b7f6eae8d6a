"""Revisions of the database schema, for alembic: how an older file becomes one of today."""

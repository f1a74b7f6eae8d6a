"""Bringing the schema of a file up to this version."""

from __future__ import annotations

from sqlalchemy import Connection

from gasearch.store.database import Database
from gasearch.store.schema import SCHEMA_VERSION, metadata
from gasearch.store.views import create_views


def make_tables(connection: Connection) -> None:
    """Make the tables of a new file, and note the revision that they are."""
    metadata.create_all(connection)
    create_views(connection)
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (SCHEMA_VERSION,))


def bring_up_to_date(database: Database) -> None:
    """Upgrade an older file, after a backup."""

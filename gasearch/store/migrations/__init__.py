"""Revisions of the database schema, for alembic: how an older file becomes one of today."""

from typing import Any

import sqlalchemy as sa


def columns(kind: Any, *names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    """Return columns of one type."""
    return [sa.Column(name, kind, nullable=nullable) for name in names]


def references(**tables: str) -> list[sa.ForeignKeyConstraint]:
    """Return the references of columns to the keys of other tables."""
    return [sa.ForeignKeyConstraint([name], [f"{table}.id"]) for name, table in tables.items()]

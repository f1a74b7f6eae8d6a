"""All of a database but its structures, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from gasearch.store.schema import (
    candidate,
    evaluation,
    event,
    extra,
    level,
    parent,
    promotion,
    run,
    structure,
    without_blobs,
)


@dataclass(frozen=True)
class Snapshot:
    """Rows of the tables, each list in the order of its key."""

    run: Row[Any]
    level: Row[Any]
    candidates: list[Row[Any]]
    parents: dict[int, list[int]]
    evaluations: list[Row[Any]]
    counts_for: dict[int, int | None]
    extras: list[Row[Any]]
    promotions: list[Row[Any]]
    events: list[Row[Any]]


def take_snapshot(connection: Connection) -> Snapshot:
    """Read the tables in the caller's transaction."""
    parents: dict[int, list[int]] = {}
    lines = select(parent.c.child, parent.c.parent).order_by(parent.c.child, parent.c.position)
    for child, number in connection.execute(lines):
        parents.setdefault(child, []).append(number)
    structures = select(structure.c.id, structure.c.counts_for).order_by(structure.c.id)
    return Snapshot(
        run=_rows(connection, run)[0],
        level=_rows(connection, level)[0],
        candidates=_rows(connection, candidate),
        parents=parents,
        evaluations=_rows(connection, evaluation),
        counts_for={row.id: row.counts_for for row in connection.execute(structures)},
        extras=_rows(connection, extra),
        promotions=_rows(connection, promotion),
        events=_rows(connection, event),
    )


def _rows(connection: Connection, table: Table) -> list[Row[Any]]:
    """Return all rows without their blobs, in the order of their keys."""
    return list(connection.execute(select(*without_blobs(table)).order_by(table.c.id)))

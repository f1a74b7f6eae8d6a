"""All of a database but its structures, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from gasearch.store.schema import (
    candidate,
    dft_job,
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
from gasearch.store.sql.blobs import STATED, stated


@dataclass(frozen=True)
class Snapshot:
    """Rows of the tables, each list in the order of its key.

    Parameters
    ----------
    stated
        What the row of each result states, as `gasearch.store.sql.blobs.stated`.
    """

    run: Row[Any]
    levels: list[Row[Any]]
    candidates: list[Row[Any]]
    parents: dict[int, list[int]]
    evaluations: list[Row[Any]]
    counts_for: dict[int, int | None]
    stated: dict[int, str]
    extras: list[Row[Any]]
    dft_jobs: list[Row[Any]]
    promotions: list[Row[Any]]
    events: list[Row[Any]]


def take_snapshot(connection: Connection) -> Snapshot:
    """Read the tables in the caller's transaction."""
    parents: dict[int, list[int]] = {}
    lines = select(parent.c.child, parent.c.parent).order_by(parent.c.child, parent.c.position)
    for child, number in connection.execute(lines):
        parents.setdefault(child, []).append(number)
    structures = select(structure.c.id, structure.c.counts_for).order_by(structure.c.id)
    homes = {name: evaluation if name in evaluation.c else structure for name in STATED}
    results = (
        select(evaluation.c.id, *(table.c[name] for name, table in homes.items()))
        .join(structure, structure.c.id == evaluation.c.id)
        .order_by(evaluation.c.id)
    )
    return Snapshot(
        run=_rows(connection, run)[0],
        levels=_rows(connection, level),
        candidates=_rows(connection, candidate),
        parents=parents,
        evaluations=_rows(connection, evaluation),
        counts_for={row.id: row.counts_for for row in connection.execute(structures)},
        stated={row.id: stated(row._asdict()) for row in connection.execute(results)},
        extras=_rows(connection, extra),
        dft_jobs=_rows(connection, dft_job),
        promotions=_rows(connection, promotion),
        events=_rows(connection, event),
    )


def _rows(connection: Connection, table: Table) -> list[Row[Any]]:
    """Return all rows without their blobs, in the order of their keys."""
    return list(connection.execute(select(*without_blobs(table)).order_by(table.c.id)))

"""All of a database but its structures, at one moment, for whoever has to look at it as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from gasearch.store.schema import (
    SEARCH_LEVEL,
    candidate,
    evaluation,
    event,
    extra,
    level,
    parent,
    run,
    structure,
)

_EVALUATION = (
    "id",
    "candidate",
    "level",
    "purpose",
    "state",
    "attempt",
    "n_crashes",
    "result",
    "verdict",
    "energy",
    "n_calls",
)

_EXTRA = ("id", "candidate", "purpose", "attempt", "verdict", "energy", "n_calls")


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
    events: list[Row[Any]]


def take_snapshot(connection: Connection) -> Snapshot:
    """Read the tables in the caller's transaction."""
    parents: dict[int, list[int]] = {}
    lines = select(parent.c.child, parent.c.parent).order_by(parent.c.child, parent.c.position)
    for child, number in connection.execute(lines):
        parents.setdefault(child, []).append(number)
    columns = [column for column in candidate.c if column.name not in ("occupation", "run")]
    states = [evaluation.c[name] for name in _EVALUATION]
    late = select(*(extra.c[name] for name in _EXTRA)).order_by(extra.c.id)
    structures = select(structure.c.id, structure.c.counts_for).order_by(structure.c.id)
    return Snapshot(
        run=connection.execute(select(run).order_by(run.c.id)).one(),
        level=connection.execute(select(level).where(level.c.id == SEARCH_LEVEL)).one(),
        candidates=list(connection.execute(select(*columns).order_by(candidate.c.id))),
        parents=parents,
        evaluations=list(connection.execute(select(*states).order_by(evaluation.c.id))),
        counts_for={row.id: row.counts_for for row in connection.execute(structures)},
        extras=list(connection.execute(late)),
        events=list(connection.execute(select(event).order_by(event.c.id))),
    )

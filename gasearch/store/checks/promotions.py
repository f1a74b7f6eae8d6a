"""Whether the promotions that are stored are those that the record tells of."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqlalchemy import Connection, select

from gasearch.store.checks.check import Problem
from gasearch.store.population_store import PopulationStore
from gasearch.store.schema import event, promotion
from gasearch.store.sql.events import PROMOTED


def check_promotions(store: PopulationStore) -> Iterator[Problem]:
    """Yield where a promotion and its event differ, or one of them is missing."""
    stored, told = store.read(_read)
    for key, row in stored.items():
        name = f"the promotion of candidate {key[0]} by {key[1]!r}"
        if key not in told:
            yield Problem("promotions", f"{name} has no event")
        elif told[key] != row:
            yield Problem("promotions", f"{name} differs from its event")
    for candidate, rule in told.keys() - stored.keys():
        detail = f"the promotion of candidate {candidate} by {rule!r} has an event but no row"
        yield Problem("promotions", detail)


def _read(
    connection: Connection,
) -> tuple[dict[tuple[int, str], tuple[str, float]], dict[tuple[int, str], tuple[str, float]]]:
    """Return reason and time by candidate and rule: as rows have them, and as events tell."""
    columns = (promotion.c.candidate, promotion.c.rule, promotion.c.reason, promotion.c.promoted)
    rows = connection.execute(select(*columns).order_by(promotion.c.id))
    stored = {(row.candidate, row.rule): (row.reason, row.promoted) for row in rows}
    query = select(event.c.candidate, event.c.time, event.c.data)
    told = {}
    for row in connection.execute(query.where(event.c.kind == PROMOTED).order_by(event.c.id)):
        data = json.loads(row.data)
        told[row.candidate, data["rule"]] = (data["reason"], row.time)
    return stored, told

"""Which candidates were promoted to DFT, at which level, by which rule, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from gasearch.store.population_store import PopulationStore
from gasearch.store.schema import SEARCH_LEVEL, level, promotion
from gasearch.store.sql.events import PROMOTED
from gasearch.store.sql.transaction import Transaction


@dataclass(frozen=True)
class NewPromotion:
    """A promotion that is to be written.

    Parameters
    ----------
    rule
        Its name, such as "lowest".
    reason
        One line, for people.
    """

    candidate: int
    rule: str
    reason: str


@dataclass(frozen=True)
class PromotionRow:
    """A promotion as it is stored.

    Parameters
    ----------
    level
        Name of the level of theory at which the rule looked at the candidate.
    promoted_s
        When, in seconds since 1970, UTC.
    """

    candidate: int
    level: str
    rule: str
    reason: str
    promoted_s: float


def promotions(store: PopulationStore) -> list[PromotionRow]:
    """Return all promotions of a run, oldest first."""
    return store.read(_read)


def add_promotions(store: PopulationStore, new: Sequence[NewPromotion]) -> int:
    """Write promotions at the level of the search, in one transaction; return how many are new.

    A candidate that the same rule promoted before is left as it is. Each one that is written has
    an event. A search may be running meanwhile.
    """
    if not new:
        return 0
    return store.write(lambda transaction: _add(transaction, new))


def _read(connection: Connection) -> list[PromotionRow]:
    query = (
        select(
            promotion.c.candidate,
            level.c.name,
            promotion.c.rule,
            promotion.c.reason,
            promotion.c.promoted,
        )
        .join(level, level.c.id == promotion.c.level)
        .order_by(promotion.c.id)
    )
    return [PromotionRow(*row) for row in connection.execute(query)]


def _add(transaction: Transaction, new: Sequence[NewPromotion]) -> int:
    stored = select(promotion.c.candidate, promotion.c.rule).where(
        promotion.c.level == SEARCH_LEVEL
    )
    known = {(number, rule) for number, rule in transaction.connection.execute(stored)}
    rows = []
    for one in new:
        if (one.candidate, one.rule) in known:
            continue
        known.add((one.candidate, one.rule))
        row = {"candidate": one.candidate, "rule": one.rule, "reason": one.reason}
        rows.append(row | {"level": SEARCH_LEVEL, "promoted": transaction.time_s})
        transaction.add_event(PROMOTED, one.candidate, {"rule": one.rule, "reason": one.reason})
    if rows:
        transaction.connection.execute(insert(promotion), rows)
    return len(rows)

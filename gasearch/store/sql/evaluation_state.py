"""What a transaction knows of evaluations, and which of a candidate's evaluations counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, select

from gasearch.relax.audit import Verdict
from gasearch.store.records import Lease, Purpose, State
from gasearch.store.schema import SEARCH_LEVEL, candidate, evaluation, selected, structure

Key: TypeAlias = tuple[int, Purpose]
REFUTING: tuple[Verdict, ...] = ("order_lost", "broken")
"""Verdicts of a tight relaxation that take the first one's away."""
_CHUNK = 500


@dataclass
class EvaluationState:
    """One evaluation, changed as the transaction goes on."""

    id: int
    candidate: int
    purpose: Purpose
    state: State
    attempt: int
    n_crashes: int
    verdict: Verdict | None
    energy: float | None
    composition: str
    counts: bool


def load_states(connection: Connection, candidates: Iterable[int]) -> dict[Key, EvaluationState]:
    """Return the evaluations of the candidates, of every purpose, oldest first."""
    counts = structure.c.counts_for.is_not(None).label("counts")
    states: dict[Key, EvaluationState] = {}
    for chunk in chunks(sorted(set(candidates))):
        query = (
            select(*selected(EvaluationState, evaluation, candidate), counts)
            .join(candidate, candidate.c.id == evaluation.c.candidate)
            .outerjoin(structure, structure.c.id == evaluation.c.id)
            .where(evaluation.c.level == SEARCH_LEVEL, evaluation.c.candidate.in_(chunk))
            .order_by(evaluation.c.id)
        )
        for row in connection.execute(query):
            states[row.candidate, row.purpose] = EvaluationState(**row._asdict())
    return states


def best_evaluation(done: Sequence[EvaluationState]) -> EvaluationState:
    """Return the one that counts: the lowest with verdict ok, else that of the search.

    A tight relaxation that lost the order or broke the crystal counts whatever the first one said:
    that one had only stopped too early.
    """
    for found in done:
        if found.purpose == "tight" and found.verdict in REFUTING:
            return found

    def order(found: EvaluationState) -> tuple[bool, float, int]:
        if found.verdict == "ok" and found.energy is not None:
            return (False, found.energy, found.id)
        return (True, 0.0, found.id)

    return min(done, key=order)


def uncounted_refutations(connection: Connection) -> list[int]:
    """Return the candidates whose tight verdict does not count though it should.

    Earlier versions let the first one stand.
    """
    query = (
        select(evaluation.c.candidate)
        .join(structure, structure.c.id == evaluation.c.id)
        .where(
            evaluation.c.purpose == "tight",
            evaluation.c.verdict.in_(REFUTING),
            evaluation.c.level == SEARCH_LEVEL,
            structure.c.counts_for.is_(None),
        )
        .order_by(evaluation.c.candidate)
    )
    return list(connection.scalars(query))


def leases_in_flight(connection: Connection, ended_by_s: float | None = None) -> list[Lease]:
    """Return the leases that are out, oldest evaluation first; of all, or of those overdue."""
    query = (
        select(*selected(Lease, evaluation))
        .where(evaluation.c.state == "relaxing")
        .order_by(evaluation.c.id)
    )
    if ended_by_s is not None:
        query = query.where(evaluation.c.lease_ends <= ended_by_s)
    return [Lease(*row) for row in connection.execute(query)]


def chunks(values: Sequence[Any]) -> list[Sequence[Any]]:
    """Return the values in parts that are small enough for one query."""
    return [values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK)]

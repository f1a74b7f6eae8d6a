"""What can be read from a population database; every answer has an order."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, case, func, select

from gasearch.relax.audit import Verdict
from gasearch.relax.relaxed import Relaxed
from gasearch.store.errors import CorruptedBlobError, UnknownCandidateError
from gasearch.store.records import (
    FIRST_OUTSIDE,
    CompositionRow,
    Counts,
    EvaluationRow,
    Event,
    ExtraRow,
    Lease,
    LevelRecord,
    Outcome,
    Proposal,
    Purpose,
    Queued,
    RunRecord,
    from_columns,
)
from gasearch.store.schema import (
    HOST_STRUCTURE,
    RUN,
    SEARCH_LEVEL,
    candidate,
    evaluation,
    event,
    extra,
    level,
    parent,
    run,
    selected,
    structure,
)
from gasearch.store.sql import blobs
from gasearch.store.sql.evaluation_state import leases_in_flight
from gasearch.store.storage import now_s

T = TypeVar("T")
_X_TOLERANCE = 1e-6
_NAN = float("nan")
_id: Column[int] = candidate.c.id


class Queries(ABC):
    """The questions that a search, its reports and its user ask of a population database.

    Each answer shows the database at one moment. Questions that only one module asks are put there,
    through `read`.
    """

    @abstractmethod
    def read(self, work: Callable[[Connection], T]) -> T:
        """Return `work(connection)` on one snapshot."""

    def _rows(self, *queries: Select[Any]) -> list[Sequence[Any]]:
        """Return the rows of each query, all on one snapshot."""
        return self.read(lambda connection: [connection.execute(one).all() for one in queries])

    def _value(self, query: Select[Any]) -> Any:
        return self.read(lambda connection: connection.execute(query).scalar_one_or_none())

    @property
    def run(self) -> RunRecord:
        """What defines the search, with its operational settings as they are now."""
        (row,), (host,) = self._rows(
            select(run).where(run.c.id == RUN),
            select(structure).where(structure.c.id == HOST_STRUCTURE),
        )
        return RunRecord(
            host=row.host,
            host_atoms=blobs.structure(host._asdict(), "the host"),
            settings=json.loads(row.settings),
            operational=json.loads(row.operational),
            seed=int(row.seed),
            n_formula_units=row.n_formula_units,
            versions=json.loads(row.versions),
        )

    @property
    def uuid(self) -> str:
        """What distinguishes this run from all others; a copy has the same."""
        return str(self._value(select(run.c.uuid).where(run.c.id == RUN)))

    @property
    def level(self) -> LevelRecord:
        """The level of theory of the search."""
        ((row,),) = self._rows(select(level).where(level.c.id == SEARCH_LEVEL))
        probes = tuple(json.loads(row.probe_energies))
        return from_columns(LevelRecord, row._asdict(), probe_energies=probes)

    @property
    def n_candidates(self) -> int:
        """How many candidates the search has numbered: the number of the last one."""
        number = candidate.c.id
        return self._value(select(func.max(number)).where(number < FIRST_OUTSIDE)) or 0

    @property
    def n_events(self) -> int:
        """How long the record is."""
        return self._value(select(func.max(event.c.id))) or 0

    def outcomes(self, after: int = 0) -> list[Outcome]:
        """Return the results of the search from number `after` + 1 on, in their order."""
        query = (
            select(*selected(Outcome, evaluation, candidate))
            .join(evaluation, evaluation.c.candidate == candidate.c.id)
            .where(evaluation.c.result > after)
            .order_by(evaluation.c.result)
        )
        (rows,) = self._rows(query)
        return [from_columns(Outcome, row._asdict()) for row in rows]

    def proposals(self, after: int = 0) -> list[Proposal]:
        """Return the numbered candidates from `after` + 1 on, in order."""
        found = self._proposals(lambda key: key.between(after + 1, FIRST_OUTSIDE - 1))
        return [proposal for _, proposal in found]

    def outside(self, after: int = 0) -> list[tuple[int, Proposal]]:
        """Return the candidates from elsewhere whose key is above `after`, with their keys."""
        return self._proposals(lambda key: key >= max(FIRST_OUTSIDE, after + 1))

    def proposal(self, candidate: int) -> Proposal:
        """Return one candidate, from the search or from elsewhere."""
        for _, found in self._proposals(lambda key: key == candidate):
            return found
        raise UnknownCandidateError(candidate, "decoration")

    def number_of(self, fingerprint: str) -> int | None:
        """Return the candidate of a decoration; None where this run has none."""
        number: int | None = self._value(select(_id).where(candidate.c.fingerprint == fingerprint))
        return number

    def lineage(self, candidate: int) -> list[tuple[int, Proposal]]:
        """Return a candidate and all that it descends from, with their keys, in order."""
        first = select(_id).where(_id == candidate).cte("line", recursive=True)
        line = first.union(select(parent.c.parent).join(first, parent.c.child == first.c.id))
        found = self._proposals(lambda key: key.in_(select(line.c.id)))
        if not found:
            raise UnknownCandidateError(candidate, "decoration")
        return found

    def _proposals(
        self, choose: Callable[[Column[int]], ColumnElement[bool]]
    ) -> list[tuple[int, Proposal]]:
        """Return the candidates for whose key the condition of `choose` holds, in order."""
        links, rows = self._rows(
            select(parent.c.child, parent.c.parent)
            .where(choose(parent.c.child))
            .order_by(parent.c.child, parent.c.position),
            select(_id, candidate.c.occupation_sha256, *selected(Proposal, candidate))
            .where(choose(_id))
            .order_by(_id),
        )
        parents: dict[int, tuple[int, ...]] = {}
        for child, number in links:
            parents[child] = (*parents.get(child, ()), number)
        found = []
        for row in rows:
            if blobs.digest(row.occupation) != row.occupation_sha256:
                raise CorruptedBlobError(f"candidate {row.id}", "occupation")
            number = row.id if row.id < FIRST_OUTSIDE else None
            own = {"number": number, "parents": parents.get(row.id, ())}
            found.append((row.id, from_columns(Proposal, row._asdict(), **own)))
        return found

    def queued(self, limit: int | None = None) -> list[Queued]:
        """Return what waits for its relaxation, oldest first."""
        query = (
            select(*selected(Queued, evaluation))
            .where(evaluation.c.state == "queued")
            .order_by(evaluation.c.id)
            .limit(limit)
        )
        (rows,) = self._rows(query)
        return [Queued(*row) for row in rows]

    def overdue(self) -> list[Lease]:
        """Return the leases whose time is over; to be requeued by whoever knows their workers.

        Their time is that of the database.
        """
        return self.read(lambda connection: leases_in_flight(connection, now_s(connection)))

    def asked_for(self, purpose: Purpose) -> list[int]:
        """Return the candidates that were ever to be relaxed for a purpose, in order."""
        query = (
            select(evaluation.c.candidate)
            .where(evaluation.c.purpose == purpose, evaluation.c.level == SEARCH_LEVEL)
            .order_by(evaluation.c.candidate)
        )
        (rows,) = self._rows(query)
        return [number for (number,) in rows]

    def counts(self) -> Counts:
        """Return where the search stands."""
        state = (evaluation.c.purpose, evaluation.c.state, evaluation.c.verdict)
        totals, states, late = self._rows(
            select(func.count(_id), func.coalesce(func.sum(candidate.c.n_rejected), 0)),
            select(*state, func.count(), func.coalesce(func.sum(evaluation.c.n_calls), 0))
            .group_by(*state)
            .order_by(*state),
            select(func.count(extra.c.id)),
        )
        by_state: dict[str, int] = {}
        by_verdict: dict[Verdict, int] = {}
        n_calls = 0
        for purpose, found, verdict, n, calls in states:
            n_calls += 0 if purpose == "dft" else calls
            if purpose == "search" or found in ("queued", "relaxing"):
                by_state[found] = by_state.get(found, 0) + n
            if purpose == "search" and verdict is not None:
                by_verdict[verdict] = n
        return Counts(
            candidates=totals[0][0],
            relaxed=by_state.get("relaxed", 0),
            failed=by_state.get("failed", 0),
            duplicates=totals[0][1],
            in_flight=by_state.get("relaxing", 0),
            queued=by_state.get("queued", 0),
            n_calls=n_calls,
            by_verdict=by_verdict,
            extra=late[0][0],
        )

    def by_composition(self) -> list[CompositionRow]:
        """Return the compositions, by x and then by name."""
        lowest, failures, rows = self._rows(_LOWEST, _NOT_VALID, _COMPOSITIONS)
        best = {row.composition: row for row in lowest}
        not_valid: dict[str, list[tuple[int, Verdict]]] = {}
        for composition, number, verdict in failures:
            not_valid.setdefault(composition, []).append((number, verdict))
        return [
            CompositionRow(
                **row._asdict(),
                best=best[row.composition].id if row.composition in best else None,
                best_energy=best[row.composition].energy if row.composition in best else _NAN,
                not_valid=tuple(not_valid.get(row.composition, ())),
            )
            for row in rows
        ]

    def evaluations(
        self,
        verdict: Verdict | None = "ok",
        x: float | None = None,
        composition: str | None = None,
        limit: int | None = None,
        *,
        tight: bool = True,
    ) -> list[EvaluationRow]:
        """Return one row per relaxed candidate, by x, then energy, then candidate.

        A candidate's row is its lowest evaluation with verdict "ok", or that of the search where
        none is ok; a tight one that lost the order or broke the crystal stands before both. Failed
        ones come last within their x.

        Parameters
        ----------
        verdict
            Only candidates whose row has it; None for all.
        tight
            Whether tight relaxations count; the search itself looks at its own alone.
        """
        conditions = [evaluation.c.verdict.is_not(None), evaluation.c.level == SEARCH_LEVEL]
        conditions.append(structure.c.counts_for > 0 if tight else evaluation.c.purpose == "search")
        if verdict is not None:
            conditions.append(evaluation.c.verdict == verdict)
        if x is not None:
            conditions.append(candidate.c.x.between(x - _X_TOLERANCE, x + _X_TOLERANCE))
        if composition is not None:
            conditions.append(candidate.c.composition == composition)
        energy = evaluation.c.energy
        query = (
            evaluation_rows()
            .where(*conditions)
            .order_by(candidate.c.x, energy.is_(None), energy, _id)
            .limit(limit)
        )
        (rows,) = self._rows(query)
        return [from_columns(EvaluationRow, row._asdict()) for row in rows]

    def evaluation(self, candidate: int) -> EvaluationRow:
        """Return the row of one candidate."""
        (rows,) = self._rows(evaluation_rows().where(structure.c.counts_for == candidate))
        for row in rows:
            return from_columns(EvaluationRow, row._asdict())
        raise UnknownCandidateError(candidate, "result")

    def relaxed(self, candidate: int, purpose: Purpose | None = None) -> Relaxed:
        """Return a structure after verifying its bytes; by default the evaluation that counts."""
        own = structure.c.counts_for == candidate
        if purpose is not None:
            own = (evaluation.c.candidate == candidate) & (evaluation.c.purpose == purpose)
        query = relaxed_rows().where(own, evaluation.c.level == SEARCH_LEVEL)
        (rows,) = self._rows(query)
        for row in rows:
            return blobs.relaxed(row._asdict(), f"candidate {candidate}, {row.purpose} relaxation")
        raise UnknownCandidateError(candidate, f"{purpose or 'relaxed'} structure")

    def extras(self, candidate: int | None = None) -> list[ExtraRow]:
        """Return the late results, which count nowhere, in the order in which they came."""
        query = select(*selected(ExtraRow, extra)).order_by(extra.c.id)
        if candidate is not None:
            query = query.where(extra.c.candidate == candidate)
        (rows,) = self._rows(query)
        return [from_columns(ExtraRow, row._asdict()) for row in rows]

    def extra_relaxed(self, key: int) -> Relaxed:
        """Return the structure of a late result after verifying its bytes."""
        (rows,) = self._rows(select(extra).where(extra.c.id == key))
        for row in rows:
            return blobs.relaxed(row._asdict(), f"late result {key}")
        raise UnknownCandidateError(key, "late result under this number")

    def events(
        self,
        after: int = 0,
        kind: str | None = None,
        candidate: int | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return the record from event `after` + 1 on, of one kind or candidate if named."""
        query = select(event).where(event.c.id > after).order_by(event.c.id).limit(limit)
        if kind is not None:
            query = query.where(event.c.kind == kind)
        if candidate is not None:
            query = query.where(event.c.candidate == candidate)
        (rows,) = self._rows(query)
        return [_event(row) for row in rows]

    def newest_event(self, kind: str) -> Event | None:
        """Return the last event of a kind, or None where there is none."""
        query = select(event).where(event.c.kind == kind).order_by(event.c.id.desc()).limit(1)
        (rows,) = self._rows(query)
        return _event(rows[0]) if rows else None


def _counted(condition: ColumnElement[bool], name: str) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0)).label(name)


_SEARCHED = evaluation.c.purpose == "search", evaluation.c.level == SEARCH_LEVEL

_COMPOSITIONS = (
    select(
        candidate.c.composition,
        candidate.c.x,
        func.count().label("candidates"),
        _counted(evaluation.c.state == "relaxed", "relaxed"),
        _counted(evaluation.c.state == "failed", "failed"),
        _counted(evaluation.c.verdict == "ok", "valid"),
    )
    .join(evaluation, evaluation.c.candidate == _id)
    .where(*_SEARCHED)
    .group_by(candidate.c.composition, candidate.c.x)
    .order_by(candidate.c.x, candidate.c.composition)
)

# The candidates of each composition whose search relaxation ended without an ok.
_NOT_VALID = (
    select(candidate.c.composition, _id, evaluation.c.verdict)
    .join(evaluation, evaluation.c.candidate == _id)
    .where(*_SEARCHED, evaluation.c.verdict != "ok")
    .order_by(_id)
)


def _lowest() -> Select[Any]:
    """Return the query for the lowest ok candidate of each composition."""
    place = func.row_number().over(
        partition_by=candidate.c.composition, order_by=(evaluation.c.energy, _id)
    )
    ranked = (
        select(candidate.c.composition, _id, evaluation.c.energy, place.label("place"))
        .join(structure, structure.c.counts_for == _id)
        .join(evaluation, evaluation.c.id == structure.c.id)
        .where(evaluation.c.verdict == "ok")
        .subquery()
    )
    return select(ranked).where(ranked.c.place == 1).order_by(ranked.c.composition)


_LOWEST = _lowest()


def evaluation_rows() -> Select[Any]:
    """Return the query for an `EvaluationRow` of each evaluation that has ended."""
    return (
        select(*selected(EvaluationRow, evaluation, candidate))
        .join(evaluation, evaluation.c.candidate == _id)
        .join(structure, structure.c.id == evaluation.c.id)
    )


def relaxed_rows() -> Select[Any]:
    """Return the query for what `blobs.relaxed` makes results of."""
    columns = (evaluation.c.purpose, *selected(Relaxed, evaluation))
    return select(structure, *columns).join(evaluation, evaluation.c.id == structure.c.id)


def _event(row: Row[Any]) -> Event:
    return Event(row.id, row.time, row.kind, row.candidate, json.loads(row.data))

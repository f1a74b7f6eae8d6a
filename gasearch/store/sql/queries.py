"""What can be read from a population database; every answer has an order."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

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
    LevelRecord,
    Outcome,
    Proposal,
    Purpose,
    Queued,
    RunRecord,
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
    structure,
)
from gasearch.store.sql import blobs

_X_TOLERANCE = 1e-6
_NAN = float("nan")
_PROPOSAL_COLUMNS = (
    "id",
    "occupation_sha256",
    "occupation",
    "fingerprint",
    "orbit_size",
    "composition",
    "x",
    "operator",
    "known",
    "n_rejected",
    "origin",
    "generation",
    "budget",
    "details",
)


def read_run(connection: Connection) -> RunRecord:
    """Return what defines the run, with its operational settings as they are now."""
    row = connection.execute(select(run).where(run.c.id == RUN)).one()
    query = select(structure).where(structure.c.id == HOST_STRUCTURE)
    columns = connection.execute(query).one()._asdict()
    blobs.verify(columns, "the host")
    return RunRecord(
        host=row.host,
        host_atoms=blobs.structure(columns),
        settings=json.loads(row.settings),
        operational=json.loads(row.operational),
        seed=int(row.seed),
        n_formula_units=row.n_formula_units,
        versions=json.loads(row.versions),
    )


def read_uuid(connection: Connection) -> str:
    """Return what tells a run from all others."""
    return str(connection.execute(select(run.c.uuid).where(run.c.id == RUN)).scalar_one())


def n_events(connection: Connection) -> int:
    """Return the number of the last event."""
    return connection.execute(select(func.max(event.c.id))).scalar_one() or 0


def read_level(connection: Connection) -> LevelRecord:
    """Return the level of theory of the search."""
    row = connection.execute(select(level).where(level.c.id == SEARCH_LEVEL)).one()
    return LevelRecord(
        name=row.name,
        potential=row.potential,
        weights_hash=row.weights_hash,
        probe_energies=tuple(json.loads(row.probe_energies)),
        ranks_only=row.ranks_only,
    )


def outcomes(connection: Connection, after: int) -> list[Outcome]:
    """Return the results of the search from number `after` + 1 on, in their order."""
    columns = [
        evaluation.c[name]
        for name in ("result", "candidate", "energy", "verdict", "n_calls", "purpose")
    ]
    query = (
        select(candidate.c.composition, *columns)
        .join(evaluation, evaluation.c.candidate == candidate.c.id)
        .where(evaluation.c.result > after)
        .order_by(evaluation.c.result)
    )
    return [
        Outcome(result, number, composition, _number(energy), verdict, n_calls, purpose)
        for composition, result, number, energy, verdict, n_calls, purpose in connection.execute(
            query
        )
    ]


def proposals(connection: Connection, after: int) -> list[Proposal]:
    """Return the numbered candidates from `after` + 1 on, in order."""
    return [found for _, found in _proposals(connection, after + 1, FIRST_OUTSIDE - 1)]


def outside(connection: Connection, after: int) -> list[tuple[int, Proposal]]:
    """Return the candidates from elsewhere whose key is above `after`, with their keys."""
    return _proposals(connection, max(FIRST_OUTSIDE, after + 1), 2 * FIRST_OUTSIDE)


def proposal(connection: Connection, number: int) -> Proposal:
    """Return one candidate."""
    for _, found in _proposals(connection, number, number):
        return found
    raise UnknownCandidateError(number, "decoration")


def lineage(connection: Connection, number: int) -> list[tuple[int, Proposal]]:
    """Return a candidate and all that it descends from, with their keys, in order."""
    line = select(candidate.c.id).where(candidate.c.id == number).cte("line", recursive=True)
    line = line.union(select(parent.c.parent).join(line, parent.c.child == line.c.id))
    found = _chosen_proposals(connection, lambda column: column.in_(select(line.c.id)))
    if not found:
        raise UnknownCandidateError(number, "decoration")
    return found


def _proposals(connection: Connection, first: int, last: int) -> list[tuple[int, Proposal]]:
    return _chosen_proposals(connection, lambda column: column.between(first, last))


def _chosen_proposals(
    connection: Connection, choose: Callable[[Column[int]], ColumnElement[bool]]
) -> list[tuple[int, Proposal]]:
    """Return the candidates for whose key the condition of `choose` holds, in order."""
    parents: dict[int, tuple[int, ...]] = {}
    lines = (
        select(parent.c.child, parent.c.parent)
        .where(choose(parent.c.child))
        .order_by(parent.c.child, parent.c.position)
    )
    for child, number in connection.execute(lines):
        parents[child] = (*parents.get(child, ()), number)
    query = (
        select(*(candidate.c[name] for name in _PROPOSAL_COLUMNS))
        .where(choose(candidate.c.id))
        .order_by(candidate.c.id)
    )
    found = []
    for row in connection.execute(query):
        columns = row._asdict()
        number, sha256 = columns.pop("id"), columns.pop("occupation_sha256")
        if blobs.digest(row.occupation) != sha256:
            raise CorruptedBlobError(f"candidate {number}", "occupation")
        columns |= {
            "number": number if number < FIRST_OUTSIDE else None,
            "parents": parents.get(number, ()),
            "details": json.loads(row.details) if row.details else {},
        }
        found.append((number, Proposal(**columns)))
    return found


def queued(connection: Connection, limit: int | None) -> list[Queued]:
    """Return what waits for its relaxation, oldest first."""
    query = (
        select(evaluation.c.candidate, evaluation.c.purpose, evaluation.c.n_crashes)
        .where(evaluation.c.state == "queued")
        .order_by(evaluation.c.id)
        .limit(limit)
    )
    return [Queued(*row) for row in connection.execute(query)]


def asked_for(connection: Connection, purpose: Purpose) -> list[int]:
    """Return the candidates that have an evaluation of a purpose, whatever became of it."""
    query = (
        select(evaluation.c.candidate)
        .where(evaluation.c.purpose == purpose, evaluation.c.level == SEARCH_LEVEL)
        .order_by(evaluation.c.candidate)
    )
    return list(connection.execute(query).scalars())


def n_candidates(connection: Connection) -> int:
    """Return how many candidates the search has numbered."""
    query = select(func.max(candidate.c.id)).where(candidate.c.id < FIRST_OUTSIDE)
    return connection.execute(query).scalar_one() or 0


def counts(connection: Connection) -> Counts:
    """Return where the search stands."""
    total, duplicates = connection.execute(
        select(func.count(), func.coalesce(func.sum(candidate.c.n_rejected), 0)).select_from(
            candidate
        )
    ).one()
    columns = (evaluation.c.purpose, evaluation.c.state, evaluation.c.verdict)
    query = (
        select(*columns, func.count(), func.coalesce(func.sum(evaluation.c.n_calls), 0))
        .group_by(*columns)
        .order_by(*columns)
    )
    by_state: dict[str, int] = {}
    by_verdict: dict[Verdict, int] = {}
    n_calls = 0
    for purpose, state, verdict, n, calls in connection.execute(query):
        n_calls += 0 if purpose == "dft" else calls
        if purpose == "search" or state in ("queued", "relaxing"):
            by_state[state] = by_state.get(state, 0) + n
        if purpose == "search" and verdict is not None:
            by_verdict[verdict] = n
    n_extra = connection.execute(select(func.count()).select_from(extra)).scalar_one()
    return Counts(
        candidates=total,
        relaxed=by_state.get("relaxed", 0),
        failed=by_state.get("failed", 0),
        duplicates=duplicates,
        in_flight=by_state.get("relaxing", 0),
        queued=by_state.get("queued", 0),
        n_calls=n_calls,
        by_verdict=by_verdict,
        extra=n_extra,
    )


def by_composition(connection: Connection) -> list[CompositionRow]:
    """Return the niches, by x and then by name."""
    lowest = {row.composition: row for row in _lowest(connection)}
    not_valid = _not_valid(connection)
    state, verdict = evaluation.c.state, evaluation.c.verdict
    query = (
        select(
            candidate.c.composition,
            candidate.c.x,
            func.count(),
            func.sum(case((state == "relaxed", 1), else_=0)),
            func.sum(case((state == "failed", 1), else_=0)),
            func.sum(case((verdict == "ok", 1), else_=0)),
        )
        .join(evaluation, evaluation.c.candidate == candidate.c.id)
        .where(evaluation.c.purpose == "search", evaluation.c.level == SEARCH_LEVEL)
        .group_by(candidate.c.composition, candidate.c.x)
        .order_by(candidate.c.x, candidate.c.composition)
    )
    rows = []
    for composition, x, n, n_relaxed, n_failed, n_valid in connection.execute(query):
        best = lowest.get(composition)
        rows.append(
            CompositionRow(
                composition=composition,
                x=x,
                candidates=n,
                relaxed=n_relaxed,
                failed=n_failed,
                best=best.candidate if best else None,
                best_energy=best.energy if best else _NAN,
                valid=n_valid,
                not_valid=tuple(not_valid.get(composition, ())),
            )
        )
    return rows


def _not_valid(connection: Connection) -> dict[str, list[tuple[int, Verdict]]]:
    """Return the candidates of each composition whose search relaxation ended without an ok."""
    query = (
        select(candidate.c.composition, candidate.c.id, evaluation.c.verdict)
        .join(evaluation, evaluation.c.candidate == candidate.c.id)
        .where(evaluation.c.purpose == "search", evaluation.c.level == SEARCH_LEVEL)
        .where(evaluation.c.verdict != "ok")
        .order_by(candidate.c.id)
    )
    found: dict[str, list[tuple[int, Verdict]]] = {}
    for composition, number, verdict in connection.execute(query):
        found.setdefault(composition, []).append((number, verdict))
    return found


def _lowest(connection: Connection) -> list[Any]:
    """Return (composition, candidate, energy) of the lowest ok candidate of each composition."""
    number = candidate.c.id
    place = func.row_number().over(
        partition_by=candidate.c.composition, order_by=(evaluation.c.energy, number)
    )
    ranked = (
        select(
            candidate.c.composition,
            number.label("candidate"),
            evaluation.c.energy,
            place.label("place"),
        )
        .join(structure, structure.c.counts_for == number)
        .join(evaluation, evaluation.c.id == structure.c.id)
        .where(evaluation.c.verdict == "ok")
        .subquery()
    )
    query = select(ranked).where(ranked.c.place == 1).order_by(ranked.c.composition)
    return list(connection.execute(query))


def evaluations(
    connection: Connection,
    *,
    verdict: Verdict | None,
    x: float | None,
    composition: str | None,
    limit: int | None,
    tight: bool,
) -> list[EvaluationRow]:
    """Return one row per relaxed candidate; see `PopulationStore.evaluations`."""
    conditions = [evaluation.c.verdict.is_not(None), evaluation.c.level == SEARCH_LEVEL]
    conditions.append(structure.c.counts_for > 0 if tight else evaluation.c.purpose == "search")
    if verdict is not None:
        conditions.append(evaluation.c.verdict == verdict)
    if x is not None:
        conditions.append(candidate.c.x.between(x - _X_TOLERANCE, x + _X_TOLERANCE))
    if composition is not None:
        conditions.append(candidate.c.composition == composition)
    query = (
        _evaluation_rows()
        .where(*conditions)
        .order_by(candidate.c.x, evaluation.c.energy.is_(None), evaluation.c.energy, candidate.c.id)
        .limit(limit)
    )
    return [_evaluation_row(row) for row in connection.execute(query)]


def evaluation_row(connection: Connection, number: int) -> EvaluationRow:
    """Return the evaluation that counts of one candidate."""
    query = _evaluation_rows().where(structure.c.counts_for == number)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownCandidateError(number, "result")
    return _evaluation_row(row)


def _evaluation_rows() -> Select[Any]:
    own = ("composition", "x", "fingerprint", "orbit_size", "operator", "origin", "generation")
    names = ("candidate", "energy", "verdict", "purpose", "n_calls", "fmax", "smax", "reason")
    more = ("audit", "wall_s", "result")
    return (
        select(
            *(candidate.c[name] for name in own), *(evaluation.c[name] for name in (*names, *more))
        )
        .join(evaluation, evaluation.c.candidate == candidate.c.id)
        .join(structure, structure.c.id == evaluation.c.id)
    )


def _evaluation_row(row: Row[Any]) -> EvaluationRow:
    columns = row._asdict()
    numbers = {name: _number(columns[name]) for name in ("energy", "fmax", "smax")}
    return EvaluationRow(**columns | numbers)


def relaxed(connection: Connection, number: int, purpose: Purpose | None) -> Relaxed:
    """Return a relaxed structure after verifying its bytes; by default the one that counts."""
    own = ("verdict", "energy", "fmax", "smax", "n_calls", "converged", "reason", "audit", "wall_s")
    query = (
        select(structure, *(evaluation.c[name] for name in (*own, "purpose")))
        .join(evaluation, evaluation.c.id == structure.c.id)
        .where(evaluation.c.candidate == number, evaluation.c.level == SEARCH_LEVEL)
    )
    if purpose is None:
        chosen = structure.c.counts_for == number
    else:
        chosen = evaluation.c.purpose == purpose

    row = connection.execute(query.where(chosen)).one_or_none()
    if row is None:
        raise UnknownCandidateError(number, f"{purpose or 'relaxed'} structure")
    columns = row._asdict()
    blobs.verify(columns, f"candidate {number}, {row.purpose} relaxation")
    return blobs.relaxed(columns)


def events(
    connection: Connection, after: int, *, kind: str | None, number: int | None, limit: int | None
) -> list[Event]:
    """Return the record from event `after` + 1 on."""
    conditions = [event.c.id > after]
    if kind is not None:
        conditions.append(event.c.kind == kind)
    if number is not None:
        conditions.append(event.c.candidate == number)
    query = select(event).where(*conditions).order_by(event.c.id).limit(limit)
    return [_event(row) for row in connection.execute(query)]


def newest_event(connection: Connection, kind: str) -> Event | None:
    """Return the last event of a kind."""
    query = select(event).where(event.c.kind == kind).order_by(event.c.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _event(row)


def _event(row: Row[Any]) -> Event:
    return Event(row.id, row.time, row.kind, row.candidate, json.loads(row.data))


def _number(value: float | None) -> float:
    return _NAN if value is None else value

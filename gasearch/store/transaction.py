"""The state machine of evaluations: every change of the database, inside one transaction.

    queued -> relaxing -> relaxed | failed
                 |
                 +-> queued

Each change is a compare-and-set on (state, attempt), and its event is written with it. A result or
a return that comes with an old attempt changes nothing: it is an event, and refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, Update, bindparam, func, insert, select, update

from gasearch.relax.relaxed import Relaxed
from gasearch.store.blobs import EVALUATION_BLOBS, digest, relaxed_columns
from gasearch.store.errors import (
    DuplicateCandidateError,
    IllegalTransitionError,
    InvalidRecordError,
    UnknownCandidateError,
)
from gasearch.store.records import (
    FIRST_OUTSIDE,
    Committed,
    JsonValue,
    Lease,
    Outcome,
    Proposal,
    Purpose,
    State,
)
from gasearch.store.schema import candidate, evaluation, event, parent, run

RUN, SEARCH_LEVEL = 1, 1
_CHUNK = 500

# What the events are called; kinds that the search adds must differ from these.
CREATED, PROPOSED, QUEUED, LEASED = "created", "proposed", "queued", "leased"
RECORDED, REQUEUED, OPERATIONAL = "recorded", "requeued", "operational"
LATE_RESULT, LATE_REQUEUE = "late_result", "late_requeue"
KINDS = frozenset(
    (CREATED, PROPOSED, QUEUED, LEASED, RECORDED, REQUEUED, OPERATIONAL, LATE_RESULT, LATE_REQUEUE)
)

Key = tuple[int, Purpose]


@dataclass
class EvaluationState:
    """What a transaction knows of one evaluation, its own changes included."""

    id: int
    candidate: int
    purpose: Purpose
    state: State
    attempt: int
    n_crashes: int
    verdict: str | None
    energy: float | None
    best: bool
    composition: str


def to_json(value: Any, what: str) -> str:
    """Return canonical JSON; numbers that JSON lacks are refused."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidRecordError(what, f"it cannot be written as JSON ({error})") from error


class Transaction:
    """One transaction on the database, and what it will have made true."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.time_s = time.time()
        self._events: list[dict[str, Any]] = []
        self._n_events = _last(connection, event.c.id)
        self._n_results = _last(connection, evaluation.c.result)
        self._leases: list[Lease] = []
        self._outcomes: list[Outcome] = []
        self._tight: list[Outcome] = []
        self._refused: list[Lease] = []
        self._outside: list[int] = []

    def finish(self) -> Committed:
        """Write the events, and return what holds once the transaction is committed."""
        self._insert(event, self._events)
        return Committed(
            leases=tuple(self._leases),
            outcomes=tuple(self._outcomes),
            tight=tuple(self._tight),
            refused=tuple(self._refused),
            outside=tuple(self._outside),
        )

    def add_event(self, kind: str, number: int | None, data: Mapping[str, JsonValue]) -> None:
        """Append to the record, in the order of the calls."""
        self._n_events += 1
        self._events.append(
            {
                "id": self._n_events,
                "time": self.time_s,
                "kind": kind,
                "candidate": number,
                "data": to_json(dict(data), f"event {kind!r}"),
            }
        )

    def propose(self, proposals: Sequence[Proposal]) -> None:
        """Add candidates, each with a search evaluation that is queued."""
        numbers = self._number(proposals)
        self._refuse_known(proposals)
        present = self._present({known for proposal in proposals for known in proposal.parents})
        rows, parents, evaluations = [], [], []
        for number, proposal in zip(numbers, proposals, strict=True):
            self._validate(number, proposal, present)
            present.add(number)
            row = _candidate_row(number, proposal)
            rows.append(row)
            parents += [
                {"child": number, "position": position, "parent": known}
                for position, known in enumerate(proposal.parents)
            ]
            evaluations.append(_evaluation_row(number, "search"))
            self.add_event(PROPOSED, number, proposed_data(row, proposal.parents))
        self._insert(candidate, rows)
        self._insert(parent, parents)
        self._insert(evaluation, evaluations)

    def lease(
        self, candidates: Sequence[int], lease_s: float, purpose: Purpose | None = None
    ) -> None:
        """Hand out evaluations that are queued; each begins a new attempt."""
        states = self._load(candidates)
        changes = []
        for number in candidates:
            found = _queued(states, number, purpose)
            changes.append(_guard(found))
            found.state, found.attempt = "relaxing", found.attempt + 1
            changes[-1] |= {"attempt": found.attempt, "lease_ends": self.time_s + lease_s}
            self._leases.append(Lease(number, found.attempt, found.purpose, found.n_crashes))
            data = {"purpose": found.purpose, "attempt": found.attempt, "lease_s": lease_s}
            self.add_event(LEASED, number, data)
        self._change(_LEASE, changes)

    def requeue(self, returns: Sequence[tuple[Lease, str, bool]]) -> None:
        """Take leases back; `(lease, reason, whether the worker crashed)`."""
        states = self._load([lease.candidate for lease, _, _ in returns])
        changes = []
        for lease, reason, crashed in returns:
            found = _leased(states, lease)
            data: dict[str, JsonValue] = {
                "purpose": lease.purpose,
                "attempt": lease.attempt,
                "reason": reason,
                "crashed": crashed,
            }
            if found is None:
                self._refuse(LATE_REQUEUE, lease, data)
                continue
            changes.append(_guard(found))
            found.state, found.n_crashes = "queued", found.n_crashes + crashed
            changes[-1]["n_crashes"] = found.n_crashes
            self.add_event(REQUEUED, lease.candidate, data)
        self._change(_REQUEUE, changes)

    def requeue_stale(self) -> list[int]:
        """Take every lease back, for its driver is dead; return the candidates."""
        leases = leases_in_flight(self.connection)
        self.requeue([(lease, "its driver is gone", False) for lease in leases])
        return [lease.candidate for lease in leases]

    def queue_tight(self, candidates: Sequence[int]) -> None:
        """Ask for a second relaxation of candidates whose first one is done."""
        states = self._load(candidates)
        rows = []
        for number in candidates:
            search = states.get((number, "search"))
            if search is None:
                raise UnknownCandidateError(number, "search relaxation")
            if search.state != "relaxed" or (number, "tight") in states:
                at_hand = states.get((number, "tight"), search)
                raise IllegalTransitionError(number, at_hand.purpose, at_hand.state, "queued again")
            states[number, "tight"] = search
            rows.append(_evaluation_row(number, "tight"))
            self.add_event(QUEUED, number, {"purpose": "tight"})
        self._insert(evaluation, rows)

    def record(self, results: Sequence[tuple[Lease, Relaxed]]) -> None:
        """Write results; those of the search get the next numbers."""
        states = self._load([lease.candidate for lease, _ in results])
        changes = []
        for lease, relaxed in results:
            found = _leased(states, lease)
            energy = relaxed.energy if np.isfinite(relaxed.energy) else None
            data: dict[str, JsonValue] = {
                "purpose": lease.purpose,
                "attempt": lease.attempt,
                "verdict": relaxed.verdict,
                "energy": energy,
                "n_calls": relaxed.n_calls,
            }
            if found is None:
                self._refuse(LATE_RESULT, lease, data)
                continue
            change = _guard(found) | relaxed_columns(relaxed, f"the result of {lease}")
            found.state = "failed" if relaxed.verdict == "failed" else "relaxed"
            found.verdict, found.energy = relaxed.verdict, change["energy"]
            outcome = self._outcome(found, relaxed)
            data |= {"energy": found.energy, "result": outcome.result or None}
            change |= {
                "state": found.state,
                "result": outcome.result or None,
                "finished": self.time_s,
            }
            changes.append(change)
            self.add_event(RECORDED, lease.candidate, data)
        self._mark_best(states, {change["b_id"]: change for change in changes})
        self._change(_RECORD, changes)

    def set_operational(self, changes: Mapping[str, JsonValue]) -> None:
        """Change settings that do not define the search."""
        text = self.connection.execute(select(run.c.operational)).scalar_one()
        operational = json.loads(text) | dict(changes)
        text = to_json(operational, "operational settings")
        self.connection.execute(update(run).values(operational=text))
        self.add_event(OPERATIONAL, None, changes)

    def _number(self, proposals: Sequence[Proposal]) -> list[int]:
        """Return the key of each proposal: its number, or the next one outside of the stream."""
        column = candidate.c.id
        number = _last(self.connection, column, column < FIRST_OUTSIDE)
        outside = max(FIRST_OUTSIDE - 1, _last(self.connection, column))
        keys = []
        for proposal in proposals:
            if proposal.number is None:
                outside += 1
                self._outside.append(outside)
                keys.append(outside)
                continue
            number += 1
            if proposal.number != number:
                problem = f"the next number is {number}: candidates are numbered without gaps"
                raise InvalidRecordError(f"candidate {proposal.number}", problem)
            keys.append(number)
        return keys

    def _validate(self, number: int, proposal: Proposal, present: set[int]) -> None:
        what = f"candidate {number}"
        if not 0 <= proposal.known <= self._n_results:
            problem = f"it used result {proposal.known} of {self._n_results}"
            raise InvalidRecordError(what, problem)
        if not np.isfinite(proposal.x):
            raise InvalidRecordError(what, f"x is {proposal.x}, expected a finite number")
        if proposal.number is None and proposal.origin == "search":
            raise InvalidRecordError(what, "a candidate without a number needs another origin")
        for known in proposal.parents:
            if known not in present:
                raise InvalidRecordError(what, f"its parent {known} is not in the database yet")

    def _refuse_known(self, proposals: Sequence[Proposal]) -> None:
        fingerprints = [proposal.fingerprint for proposal in proposals]
        known = {
            row.fingerprint: f"candidate {row.id}"
            for chunk in _chunks(fingerprints)
            for row in self.connection.execute(
                select(candidate.c.fingerprint, candidate.c.id).where(
                    candidate.c.run == RUN, candidate.c.fingerprint.in_(chunk)
                )
            )
        }
        for proposal in proposals:
            if proposal.fingerprint in known:
                raise DuplicateCandidateError(
                    f"candidate {proposal.number}",
                    f"it is the same crystal as {known[proposal.fingerprint]}",
                )
            known[proposal.fingerprint] = f"candidate {proposal.number} of the same batch"

    def _present(self, candidates: set[int]) -> set[int]:
        """Return those of the candidates that the database has."""
        queries = (
            select(candidate.c.id).where(candidate.c.id.in_(chunk))
            for chunk in _chunks(sorted(candidates))
        )
        return {number for query in queries for number in self.connection.scalars(query)}

    def _insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self.connection.execute(insert(table), rows)

    def _load(self, candidates: Iterable[int]) -> dict[Key, EvaluationState]:
        table = evaluation.join(candidate, candidate.c.id == evaluation.c.candidate)
        names = ("id", "candidate", "purpose", "state", "attempt", "n_crashes", "verdict", "energy")
        columns = [evaluation.c[name] for name in (*names, "best")] + [candidate.c.composition]
        states: dict[Key, EvaluationState] = {}
        for chunk in _chunks(sorted(set(candidates))):
            query = (
                select(*columns)
                .select_from(table)
                .where(evaluation.c.level == SEARCH_LEVEL, evaluation.c.candidate.in_(chunk))
                .order_by(evaluation.c.id)
            )
            for row in self.connection.execute(query):
                states[row.candidate, row.purpose] = EvaluationState(*row)
        return states

    def _change(self, statement: Update, changes: list[dict[str, Any]]) -> None:
        """Apply a compare-and-set to each row, and make sure that each one was as expected."""
        if changes and self.connection.execute(statement, changes).rowcount != len(changes):
            first = changes[0]
            raise IllegalTransitionError(
                first["b_id"], "evaluation", "changed by another process", "anything"
            )

    def _refuse(self, kind: str, lease: Lease, data: Mapping[str, JsonValue]) -> None:
        self._refused.append(lease)
        self.add_event(kind, lease.candidate, data)

    def _outcome(self, found: EvaluationState, relaxed: Relaxed) -> Outcome:
        is_search = found.purpose == "search"
        self._n_results += is_search
        outcome = Outcome(
            result=self._n_results if is_search else 0,
            candidate=found.candidate,
            composition=found.composition,
            energy=float("nan") if found.energy is None else found.energy,
            verdict=relaxed.verdict,
            n_calls=relaxed.n_calls,
            purpose=found.purpose,
        )
        (self._outcomes if is_search else self._tight).append(outcome)
        return outcome

    def _mark_best(
        self, states: Mapping[Key, EvaluationState], changes: Mapping[int, dict[str, Any]]
    ) -> None:
        """Say in each change whether it is the one that counts, and take the mark off others."""
        done: dict[int, list[EvaluationState]] = {}
        for found in states.values():
            if found.verdict is not None:
                done.setdefault(found.candidate, []).append(found)
        others = []
        for evaluations in done.values():
            best = best_evaluation(evaluations)
            for found in evaluations:
                is_best = found is best
                if found.id in changes:
                    changes[found.id]["best"] = is_best
                elif found.best is not is_best:
                    others.append({"b_id": found.id, "best": is_best})
        if others:
            self.connection.execute(_MARK, others)


def best_evaluation(done: Sequence[EvaluationState]) -> EvaluationState:
    """Return the one that counts: the lowest with verdict ok, else that of the search."""

    def order(found: EvaluationState) -> tuple[bool, float, int]:
        is_ok = found.verdict == "ok" and found.energy is not None
        return (not is_ok, found.energy if is_ok and found.energy is not None else 0.0, found.id)

    return min(done, key=order)


def leases_in_flight(connection: Connection, ended_by_s: float | None = None) -> list[Lease]:
    """Return the leases that are out, oldest evaluation first; of all, or of those overdue."""
    query = (
        select(
            evaluation.c.candidate,
            evaluation.c.attempt,
            evaluation.c.purpose,
            evaluation.c.n_crashes,
        )
        .where(evaluation.c.state == "relaxing")
        .order_by(evaluation.c.id)
    )
    if ended_by_s is not None:
        query = query.where(evaluation.c.lease_ends <= ended_by_s)
    return [Lease(*row) for row in connection.execute(query)]


def proposed_data(row: Mapping[str, Any], parents: Sequence[int]) -> dict[str, JsonValue]:
    """Return the data of the event of a new candidate: all of it but the decoration's bytes."""
    left_out = ("id", "run", "occupation")
    return {name: row[name] for name in row if name not in left_out} | {"parents": list(parents)}


def _candidate_row(number: int, proposal: Proposal) -> dict[str, Any]:
    return {
        "id": number,
        "run": RUN,
        "composition": proposal.composition,
        "x": float(proposal.x),
        "orbit_size": int(proposal.orbit_size),
        "operator": proposal.operator,
        "origin": proposal.origin,
        "generation": int(proposal.generation),
        "known": int(proposal.known),
        "n_rejected": int(proposal.n_rejected),
        "fingerprint": proposal.fingerprint,
        "occupation_sha256": digest(proposal.occupation),
        "occupation": proposal.occupation,
    }


def _evaluation_row(number: int, purpose: Purpose) -> dict[str, Any]:
    return {
        "candidate": number,
        "level": SEARCH_LEVEL,
        "purpose": purpose,
        "state": "queued",
        "attempt": 0,
        "n_crashes": 0,
        "best": False,
    }


def _queued(
    states: Mapping[Key, EvaluationState], number: int, purpose: Purpose | None
) -> EvaluationState:
    """Return the evaluation to lease: of that purpose, or the one that waits."""
    purposes: tuple[Purpose, ...] = ("search", "tight") if purpose is None else (purpose,)
    mine = [states[number, name] for name in purposes if (number, name) in states]
    if not mine:
        raise UnknownCandidateError(number, f"{purpose or 'search'} relaxation")
    for found in mine:
        if found.state == "queued":
            return found
    raise IllegalTransitionError(number, mine[-1].purpose, mine[-1].state, "relaxing")


def _leased(states: Mapping[Key, EvaluationState], lease: Lease) -> EvaluationState | None:
    """Return the evaluation of a lease that is still the current one, else None."""
    found = states.get((lease.candidate, lease.purpose))
    if found is None:
        raise UnknownCandidateError(lease.candidate, f"{lease.purpose} relaxation")
    is_current = found.state == "relaxing" and found.attempt == lease.attempt
    return found if is_current else None


def _guard(found: EvaluationState) -> dict[str, Any]:
    """Return the parameters that name an evaluation, and what it must still be."""
    return {"b_id": found.id, "b_state": found.state, "b_attempt": found.attempt}


def _compare_and_set(**values: Any) -> Update:
    return (
        update(evaluation)
        .where(
            evaluation.c.id == bindparam("b_id"),
            evaluation.c.state == bindparam("b_state"),
            evaluation.c.attempt == bindparam("b_attempt"),
        )
        .values(**values)
    )


def _bound(*names: str) -> dict[str, Any]:
    return {name: bindparam(name) for name in names}


_LEASE = _compare_and_set(state="relaxing", **_bound("attempt", "lease_ends"))
_REQUEUE = _compare_and_set(state="queued", lease_ends=None, **_bound("n_crashes"))
_RECORD = _compare_and_set(
    lease_ends=None,
    **_bound("state", "best", "result", "verdict", "energy", "n_calls", "fmax", "smax"),
    **_bound("converged", "wall_s", "finished", "n_atoms", "volume", "mass", "charge"),
    **_bound("total_moment", "elements", "audit", "reason", "pbc", "sha256", *EVALUATION_BLOBS),
)
_MARK = (
    update(evaluation).where(evaluation.c.id == bindparam("b_id")).values(best=bindparam("best"))
)


def _last(connection: Connection, column: Any, *where: Any) -> int:
    return connection.execute(select(func.max(column)).where(*where)).scalar_one() or 0


def _chunks(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK)]

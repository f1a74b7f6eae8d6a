"""The state machine of evaluations: every change of the database, inside one transaction.

    queued -> relaxing -> relaxed | failed
                 |
                 +-> queued

Each change is a compare-and-set on (state, attempt), and its event is written with it. A result or
a return that comes with an old attempt changes no evaluation: it is an event, and refused; the
result itself is kept beside the evaluations, once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, Update, bindparam, func, insert, select, update

from gasearch.relax.relaxed import Relaxed
from gasearch.store.errors import (
    IllegalTransitionError,
    UnknownCandidateError,
    WentBackError,
)
from gasearch.store.records import (
    FIRST_OUTSIDE,
    Committed,
    JsonValue,
    Lease,
    Outcome,
    Proposal,
    Purpose,
    plain_fields,
)
from gasearch.store.schema import (
    SEARCH_LEVEL,
    candidate,
    evaluation,
    event,
    extra,
    parent,
    run,
    structure,
)
from gasearch.store.sql import events as kinds
from gasearch.store.sql.adoption import give_way, take_over
from gasearch.store.sql.ase_rows import AseRows
from gasearch.store.sql.blobs import Columns, hashes, result_columns, stated, to_json
from gasearch.store.sql.candidate_rows import (
    candidate_row,
    event_data,
    new_keys,
    parent_rows,
    queued_evaluation,
    validate,
)
from gasearch.store.sql.evaluation_state import (
    EvaluationState,
    Key,
    best_evaluation,
    leases_in_flight,
    load_states,
    uncounted_refutations,
)
from gasearch.store.storage import Storage, now_s

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """A relaxation as columns; making one validates it."""

    lease: Lease
    row: Columns
    structure: Columns

    @classmethod
    def of(cls, lease: Lease, relaxed: Relaxed) -> Result:
        """Encode a result, or raise `InvalidRecordError`."""
        row, columns = result_columns(relaxed, f"the result of candidate {lease.candidate}")
        return cls(lease, row, columns | {"sha256": hashes(columns)})


def transact(storage: Storage, work: Callable[[Transaction], T]) -> tuple[T, Committed]:
    """Run `work` in one transaction that goes on from the last one of this process.

    Raises `WentBackError` where the database does not have that any more: numbers that are given
    anew would pass for those that were given before.
    """

    def whole(connection: Connection) -> tuple[T, Committed, tuple[int, str]]:
        _refuse_older(connection, storage)
        transaction = Transaction(connection)
        result = work(transaction)
        return result, transaction.finish(), transaction.newest

    result, committed, storage.newest = storage.write(whole)
    return result, committed


def _refuse_older(connection: Connection, storage: Storage) -> None:
    if storage.newest is None:
        return
    had, sha256 = storage.newest
    found = select(event.c.sha256).where(event.c.id == had)
    if connection.execute(found).scalar_one_or_none() != sha256:
        has = _last(connection, event.c.id)
        number = _last(connection, candidate.c.id, candidate.c.id < FIRST_OUTSIDE)
        raise WentBackError(storage.place, had, has, number)


class Transaction:
    """One transaction on the database, and what it will have made true."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.time_s = now_s(connection)
        self._events: list[dict[str, Any]] = []
        before = select(event.c.id, event.c.sha256).order_by(event.c.id.desc()).limit(1)
        last = connection.execute(before).one_or_none()
        self._n_events: int = last.id if last else 0
        self._chain: str = last.sha256 if last else ""
        self._n_results = _last(connection, evaluation.c.result)
        self._leases: list[Lease] = []
        self._outcomes: list[Outcome] = []
        self._tight: list[Outcome] = []
        self._refused: list[Lease] = []
        self._late: list[Lease] = []
        self._outside: list[int] = []

    def finish(self) -> Committed:
        """Write the events, and return what holds once the transaction is committed."""
        for row in self._events:
            self._chain = row["sha256"] = kinds.chained(self._chain, row)
        self._insert(event, self._events)
        return Committed(
            leases=tuple(self._leases),
            outcomes=tuple(self._outcomes),
            tight=tuple(self._tight),
            refused=tuple(self._refused),
            late=tuple(self._late),
            outside=tuple(self._outside),
        )

    @property
    def newest(self) -> tuple[int, str]:
        """The last event, with its hash."""
        return self._n_events, self._chain

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
        keys = new_keys(self.connection, proposals)
        moved = give_way(self.connection, keys, proposals)
        for old, new in moved.items():
            self.add_event(kinds.ADOPTED, None, {"candidate": new, "was": old})
        for key, data in zip(keys, self.add_candidates(keys, proposals), strict=True):
            self.add_event(kinds.PROPOSED, key, data)
        self._outside += [key for key in keys if key >= FIRST_OUTSIDE]
        take_over(self.connection, moved)
        self._insert(evaluation, [queued_evaluation(key, "search") for key in keys])

    def add_candidates(
        self, keys: Sequence[int], proposals: Sequence[Proposal]
    ) -> list[dict[str, JsonValue]]:
        """Add candidates that nobody is to relax; return what their events say."""
        validate(self.connection, keys, proposals, self._n_results)
        pairs = list(zip(keys, proposals, strict=True))
        rows = [candidate_row(key, proposal) for key, proposal in pairs]
        self._insert(candidate, rows)
        self._insert(parent, [row for pair in pairs for row in parent_rows(*pair)])
        return [event_data(row, one.parents) for row, one in zip(rows, proposals, strict=True)]

    def lease(
        self, candidates: Sequence[int], lease_s: float, purpose: Purpose | None = None
    ) -> None:
        """Hand out evaluations that are queued; each begins a new attempt."""
        states = load_states(self.connection, candidates)
        changes = []
        for number in candidates:
            found = _queued(states, number, purpose)
            changes.append(_guard(found))
            found.state, found.attempt = "relaxing", found.attempt + 1
            changes[-1] |= {"attempt": found.attempt, "lease_ends": self.time_s + lease_s}
            self._leases.append(Lease(number, found.attempt, found.purpose, found.n_crashes))
            data = {"purpose": found.purpose, "attempt": found.attempt, "lease_s": lease_s}
            self.add_event(kinds.LEASED, number, data)
        self._change(_LEASE, changes)

    def requeue(self, returns: Sequence[tuple[Lease, str, bool]]) -> None:
        """Take leases back; `(lease, reason, whether the worker crashed)`."""
        states = load_states(self.connection, [lease.candidate for lease, _, _ in returns])
        changes = []
        for lease, reason, crashed in returns:
            found = _leased(states, lease)
            data: dict[str, JsonValue] = {"reason": reason, "crashed": crashed, **_fence(lease)}
            if found is None:
                self._refuse(kinds.LATE_REQUEUE, lease, data)
                continue
            changes.append(_guard(found))
            found.state, found.n_crashes = "queued", found.n_crashes + crashed
            changes[-1]["n_crashes"] = found.n_crashes
            self.add_event(kinds.REQUEUED, lease.candidate, data)
        self._change(_REQUEUE, changes)

    def requeue_stale(self) -> list[int]:
        """Take every lease back, for its driver is dead; return the candidates."""
        leases = leases_in_flight(self.connection)
        self.requeue([(lease, "its driver is gone", False) for lease in leases])
        return [lease.candidate for lease in leases]

    def recount(self) -> None:
        """Correct which evaluations count where a version before wrote it by another rule."""
        self._mark_best(load_states(self.connection, uncounted_refutations(self.connection)), {})

    def queue_tight(self, candidates: Sequence[int]) -> None:
        """Ask for a second relaxation of candidates whose first one is done."""
        states = load_states(self.connection, candidates)
        rows = []
        for number in candidates:
            search = states.get((number, "search"))
            if search is None:
                raise UnknownCandidateError(number, "search relaxation")
            if search.state != "relaxed" or (number, "tight") in states:
                at_hand = states.get((number, "tight"), search)
                raise IllegalTransitionError(number, at_hand.purpose, at_hand.state, "queued again")
            states[number, "tight"] = search
            rows.append(queued_evaluation(number, "tight"))
            self.add_event(kinds.QUEUED, number, {"purpose": "tight"})
        self._insert(evaluation, rows)

    def record(self, results: Sequence[Result]) -> None:
        """Write results; those of the search get the next numbers."""
        candidates = [result.lease.candidate for result in results]
        states = load_states(self.connection, candidates)
        ase_rows = AseRows(self.connection, candidates)
        changes: list[dict[str, Any]] = []
        structures: list[dict[str, Any]] = []
        for result in results:
            found = _leased(states, result.lease)
            names = ("verdict", "energy", "n_calls")
            data = {name: result.row[name] for name in names} | _fence(result.lease)
            data["sha256"] = stated(result.row | result.structure)
            if found is None:
                self._keep(states, result, data, {row["id"]: row for row in structures})
                continue
            change = _guard(found) | result.row
            found.verdict, found.energy = result.row["verdict"], result.row["energy"]
            found.state = "failed" if found.verdict == "failed" else "relaxed"
            number = self._outcome(found, result.row["n_calls"]).result or None
            changes.append(
                change | {"state": found.state, "result": number, "finished": self.time_s}
            )
            shown = ase_rows.columns(found.candidate, result.row | {"purpose": found.purpose})
            structures.append({"id": found.id, **result.structure, **shown})
            self.add_event(kinds.RECORDED, found.candidate, data | {"result": number})
        self._mark_best(states, {row["id"]: row for row in structures})
        self._change(_RECORD, changes)
        self._insert(structure, structures)

    def set_operational(self, changes: Mapping[str, JsonValue]) -> None:
        """Change settings that do not define the search."""
        text = self.connection.execute(select(run.c.operational)).scalar_one()
        operational = json.loads(text) | dict(changes)
        text = to_json(operational, "operational settings")
        self.connection.execute(update(run).values(operational=text))
        self.add_event(kinds.OPERATIONAL, None, changes)

    def _insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self.connection.execute(insert(table), rows)

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

    def _keep(
        self,
        states: Mapping[Key, EvaluationState],
        result: Result,
        data: Mapping[str, JsonValue],
        new: Mapping[int, Mapping[str, Any]],
    ) -> None:
        """Keep a late result beside the evaluations, unless it is stored already."""
        lease, columns = result.lease, result.structure
        current = states[lease.candidate, lease.purpose]
        key = None
        if current.attempt != lease.attempt or columns["sha256"] != self._sha256(current, new):
            key = self._keep_extra(result)
        if key is None:
            self._refuse(kinds.REPEATED_RESULT, lease, data)
            return
        self._late.append(lease)
        self._refuse(kinds.LATE_RESULT, lease, {**data, "extra": key})

    def _sha256(self, found: EvaluationState, new: Mapping[int, Mapping[str, Any]]) -> str | None:
        """Return the hashes of the structure in which an evaluation has ended."""
        if found.id in new:
            return str(new[found.id]["sha256"])
        query = select(structure.c.sha256).where(structure.c.id == found.id)
        return self.connection.execute(query).scalar_one_or_none()

    def _keep_extra(self, result: Result) -> int | None:
        """Store a late result and return its key; None where the same one was stored before."""
        head = {"candidate": result.lease.candidate, "level": SEARCH_LEVEL} | _fence(result.lease)
        identity = {"verdict": result.row["verdict"], "sha256": result.structure["sha256"]} | head
        same = [extra.c[name] == value for name, value in identity.items()]
        if self.connection.execute(select(extra.c.id).where(*same)).first() is not None:
            return None
        columns = {**head, **result.row, **result.structure, "finished": self.time_s}
        added = self.connection.execute(insert(extra).values(**columns)).inserted_primary_key
        return int(added[0]) if added else None

    def _outcome(self, found: EvaluationState, n_calls: int) -> Outcome:
        """Give a result its number, if it is one of the search."""
        is_search = found.purpose == "search"
        self._n_results += is_search
        outcome = Outcome(
            result=self._n_results if is_search else 0,
            candidate=found.candidate,
            composition=found.composition,
            energy=float("nan") if found.energy is None else found.energy,
            verdict=found.verdict or "failed",
            n_calls=n_calls,
            purpose=found.purpose,
        )
        (self._outcomes if is_search else self._tight).append(outcome)
        return outcome

    def _mark_best(
        self, states: Mapping[Key, EvaluationState], rows: Mapping[int, dict[str, Any]]
    ) -> None:
        """Say in the row of each new structure whether it counts, and correct the older ones."""
        done: dict[int, list[EvaluationState]] = {}
        for found in states.values():
            if found.verdict is not None:
                done.setdefault(found.candidate, []).append(found)
        older = []
        for evaluations in done.values():
            best = best_evaluation(evaluations)
            for found in evaluations:
                counts_for = found.candidate if found is best else None
                if found.id in rows:
                    rows[found.id]["counts_for"] = counts_for
                elif found.counts is not (found is best):
                    older.append({"b_id": found.id, "counts_for": counts_for})
        if older:
            self.connection.execute(_MARK, older)


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


def _fence(lease: Lease) -> dict[str, JsonValue]:
    return {"purpose": lease.purpose, "attempt": lease.attempt}


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
    **_bound("state", "result", "finished", "elements"),
    **_bound(*(one.name for one in plain_fields(Relaxed))),
)
_MARK = (
    update(structure)
    .where(structure.c.id == bindparam("b_id"))
    .values(counts_for=bindparam("counts_for"))
)


def _last(connection: Connection, column: Any, *where: Any) -> int:
    return connection.execute(select(func.max(column)).where(*where)).scalar_one() or 0

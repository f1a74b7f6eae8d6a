"""A batch of changes that becomes true in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from gasearch.relax.relaxed import Relaxed
from gasearch.store.errors import InvalidRecordError
from gasearch.store.records import Committed, JsonValue, Lease, Proposal, Purpose
from gasearch.store.sql.events import KINDS
from gasearch.store.sql.transaction import Result, Transaction, transact
from gasearch.store.storage import Storage

Apply = Callable[[Transaction, list[Any]], None]


class Batch:
    """Changes in the order in which they were called; nothing counts until `commit` returned.

    Each call returns the batch, so that `store.batch().propose(proposals).commit()` is one line.

    A commit costs about 20 ms, mostly for the disk, and locks readers out as long: put the results,
    proposals and leases of a moment into one batch.
    """

    def __init__(self, database: Storage) -> None:
        self._database = database
        # Runs of the same change go to the database together.
        self._runs: list[tuple[Apply, list[Any]]] = []
        self._is_committed = False

    def propose(self, proposals: Iterable[Proposal]) -> Self:
        """Add candidates and queue their search relaxation."""
        return self._add(Transaction.propose, proposals)

    def lease(
        self, candidates: Iterable[int], lease_s: float = 86_400, purpose: Purpose | None = None
    ) -> Self:
        """Hand candidates out to be relaxed.

        Parameters
        ----------
        lease_s
            When the lease is overdue, in seconds from the commit; see `PopulationStore.overdue`.
        purpose
            Which relaxation; by default the one that is queued.
        """
        return self._add(_lease, [(number, float(lease_s), purpose) for number in candidates])

    def record(self, lease: Lease, relaxed: Relaxed) -> Self:
        """Write a result; it counts if `lease` is still the current one of its candidate.

        Raises `InvalidRecordError` for one that may not be stored, such as an energy that is not a
        number without the verdict "failed"; the batch then is as before.
        """
        return self._add(Transaction.record, [Result.of(lease, relaxed)])

    def requeue(self, lease: Lease, reason: str, crashed: bool = False) -> Self:
        """Take a lease back; `crashed` says that the candidate took its worker down."""
        return self._add(Transaction.requeue, [(lease, reason, bool(crashed))])

    def queue_tight(self, candidates: Iterable[int]) -> Self:
        """Ask for a second, tighter relaxation of candidates that are relaxed."""
        return self._add(Transaction.queue_tight, candidates)

    def event(
        self, kind: str, candidate: int | None = None, data: Mapping[str, JsonValue] | None = None
    ) -> Self:
        """Write a line of the record that changes no state."""
        if kind in KINDS:
            raise InvalidRecordError(f"event {kind!r}", "the store itself writes events so named")
        return self._add(_event, [(kind, candidate, dict(data or {}))])

    def set_operational(self, changes: Mapping[str, JsonValue]) -> Self:
        """Change settings that do not define the search; others keep their values."""
        return self._add(_set_operational, [dict(changes)])

    def commit(self) -> Committed:
        """Make all changes true in one transaction; after an error, none of them is.

        The batch can be committed again when the cause of the error is gone, such as a full disk.
        """
        if self._is_committed:
            raise InvalidRecordError("a batch", "it is committed already, make a new one")
        committed = transact(self._database, self.apply)[1] if self._runs else Committed()
        self._is_committed = True
        return committed

    def apply(self, transaction: Transaction) -> None:
        """Make the changes in the caller's transaction; see `commit`."""
        for apply, items in self._runs:
            apply(transaction, items)

    def _add(self, apply: Apply, items: Iterable[Any]) -> Self:
        new = list(items)
        if self._runs and self._runs[-1][0] is apply:
            self._runs[-1][1].extend(new)
        elif new:
            self._runs.append((apply, new))
        return self


def _lease(transaction: Transaction, items: list[tuple[int, float, Purpose | None]]) -> None:
    start = 0
    for end in range(1, len(items) + 1):
        if end == len(items) or items[end][1:] != items[start][1:]:
            _, lease_s, purpose = items[start]
            transaction.lease([number for number, _, _ in items[start:end]], lease_s, purpose)
            start = end


def _event(
    transaction: Transaction, items: list[tuple[str, int | None, dict[str, JsonValue]]]
) -> None:
    for kind, number, data in items:
        transaction.add_event(kind, number, data)


def _set_operational(transaction: Transaction, items: list[dict[str, JsonValue]]) -> None:
    for changes in items:
        transaction.set_operational(changes)

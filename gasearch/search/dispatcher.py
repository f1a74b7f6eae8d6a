"""The dispatcher: leases of what waits go out to the executor, its results into the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.execution.contract import (
    Crashed,
    Executor,
    Finished,
    Missing,
    RelaxationTask,
    Slow,
    TaskEvent,
)
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSection, RelaxSettings
from gasearch.relax.working_sites import WorkingSites
from gasearch.run.execution_section import ExecutionSection
from gasearch.seeding import named_rng
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import JsonValue, Lease, Outcome, Proposal, Purpose, Queued

_COMMIT_INTERVAL_S = 0.2  # readers starve where a writer commits much more often
_CHECKS_PER_LEASE = 5  # how often overdue leases are searched for
_LONGEST_CHECK_S = 30.0


@dataclass(frozen=True)
class DispatchSettings:
    """How candidates are relaxed.

    Parameters
    ----------
    seed
        Of the search; the random displacements of a start structure follow from it.
    """

    seed: int
    relax: RelaxSection
    execution: ExecutionSection


class Dispatcher:
    """Hands candidates out under leases, and records what comes back, each in one transaction.

    Parameters
    ----------
    stop
        Once set, `collect` returns at once.
    """

    def __init__(
        self,
        host: Host,
        store: PopulationStore,
        executor: Executor,
        settings: DispatchSettings,
        stop: threading.Event,
    ) -> None:
        self._host = host
        self._store = store
        self._executor = executor
        self._settings = settings
        relax = RelaxSettings.of(settings.relax, WorkingSites.of(host))
        self._relax: dict[Purpose, RelaxSettings] = {"search": relax, "tight": relax.tight}
        self._lease_s = settings.execution.lease_in_s
        self._stop = stop
        self._waiting: list[Queued] = []
        self._under_way: dict[tuple[int, Purpose], RelaxationTask] = {}
        self._leases: dict[tuple[int, Purpose], Lease] = {}
        self._last_commit = 0.0
        self._last_check_s = time.monotonic()

    @property
    def is_stopped(self) -> bool:
        """Whether the search is to end now."""
        return self._stop.is_set()

    @property
    def n_busy(self) -> int:
        """Relaxations that wait or are under way."""
        return len(self._waiting) + len(self._under_way)

    def resume(self) -> None:
        """Take back the leases of a driver that died; its candidates are relaxed first."""
        self._store.requeue_stale()
        self._waiting = self._store.queued()

    def queue_tight(self, candidates: Sequence[int]) -> None:
        """Queue candidates for a second, tighter relaxation."""
        batch = self._store.batch()
        batch.queue_tight(candidates)
        batch.commit()
        self._waiting.extend(Queued(candidate, "tight", 0) for candidate in candidates)

    def record_event(self, kind: str, data: Mapping[str, JsonValue]) -> None:
        """Commit an event that changes no state."""
        batch = self._store.batch()
        batch.event(kind, data=data)
        batch.commit()

    def hand_out(
        self,
        proposals: Sequence[Proposal] = (),
        events: Sequence[tuple[str, Mapping[str, JsonValue]]] = (),
    ) -> None:
        """Commit proposals together with the leases of all that waits, then start them.

        Parameters
        ----------
        events
            Kinds and data of events for the same commit; dropped where nothing else is committed.
        """
        new = [Queued(p.number, "search", 0) for p in proposals if p.number is not None]
        waiting, self._waiting = [*self._waiting, *new], []
        if not waiting:
            return
        batch = self._store.batch()
        batch.propose(proposals)
        for kind, data in events:
            batch.event(kind, data=data)
        for queued in waiting:
            batch.lease([queued.candidate], self._lease_s, queued.purpose)
        occupations = {p.number: p.occupation for p in proposals}
        for lease in batch.commit().leases:
            atoms = self._start_structure(lease, occupations.get(lease.candidate))
            task = RelaxationTask(lease, atoms, self._relax[lease.purpose])
            self._under_way[lease.candidate, lease.purpose] = task
            self._leases[lease.candidate, lease.purpose] = lease
            self._executor.submit(task)

    def _start_structure(self, lease: Lease, occupation: bytes | None) -> Atoms:
        if lease.purpose == "tight":
            return self._store.relaxed(lease.candidate, "search").atoms
        stored = occupation or self._store.proposal(lease.candidate).occupation
        decoration = Decoration.from_bytes(self._host, stored)
        return start_structure(decoration, self._settings.relax.rattle, self._settings.seed)

    def collect(self) -> list[TaskEvent]:
        """Wait for events, and for more of them where commits would follow too fast."""
        events: list[TaskEvent] = []
        while self._under_way and not events and not self.is_stopped:
            events.extend(self._executor.wait(0.5))
            events.extend(self._overdue())
        while 0 < _n_ended(events) < len(self._under_way) and not self.is_stopped:
            left_s = self._last_commit + _COMMIT_INTERVAL_S - time.monotonic()
            if left_s <= 0:
                break
            events.extend(self._executor.wait(left_s))
        return events

    def _overdue(self) -> list[TaskEvent]:
        """Return relaxations that did not come back in time, by the clock of the database.

        The lease of what waits for a worker, or has been with one for less than a lease, begins
        anew; its result counts as that of any other.
        """
        lease_s = self._lease_s
        now_s = time.monotonic()
        if now_s < self._last_check_s + min(lease_s / _CHECKS_PER_LEASE, _LONGEST_CHECK_S):
            return []
        self._last_check_s = now_s
        missing: list[TaskEvent] = []
        renewed = self._store.batch()
        for lease in self._store.overdue():
            key = lease.candidate, lease.purpose
            if self._leases.get(key) != lease:
                continue
            task = self._under_way[key]
            age_s = self._executor.age_s(task)
            if age_s is None or age_s < lease_s:
                renewed.requeue(lease, "it waits for a worker: its lease begins anew")
                renewed.lease([lease.candidate], lease_s, lease.purpose)
                continue
            reason = f"no result within {lease_s:g} s"
            alone = self._executor.abandon(task)
            missing.append(Crashed(task, reason, 0) if alone else Missing(task, reason))
        for lease in renewed.commit().leases:
            self._leases[lease.candidate, lease.purpose] = lease
        return missing

    def record(self, events: Iterable[TaskEvent]) -> Sequence[Outcome]:
        """Commit what ended in one transaction, and return the outcomes that count now."""
        batch = self._store.batch()
        ended = [h for h in events if not isinstance(h, Slow)]
        for event in ended:
            key = event.task.lease.candidate, event.task.lease.purpose
            if self._under_way.get(key) is not event.task:
                if isinstance(event, Finished):  # late: kept, and counted nowhere
                    batch.record(event.task.lease, event.relaxed)
                continue
            del self._under_way[key]
            lease = self._leases.pop(key)
            if isinstance(event, Finished):
                batch.record(lease, event.relaxed)
            elif isinstance(event, Missing):
                batch.requeue(lease, event.reason)
                self._waiting.append(Queued(lease.candidate, lease.purpose, lease.n_crashes))
            elif lease.n_crashes + 1 < self._settings.execution.max_crashes:
                batch.requeue(lease, event.reason, crashed=True)
                self._waiting.append(Queued(lease.candidate, lease.purpose, lease.n_crashes + 1))
            else:
                batch.record(lease, _given_up(event, lease.n_crashes + 1))
        outcomes = batch.commit().outcomes if ended else ()
        self._last_commit = time.monotonic()
        return outcomes

    def give_up(self) -> None:
        """End what is under way and take its leases back; without effect where nothing is."""
        self._executor.close()
        if self._under_way:
            batch = self._store.batch()
            for lease in self._leases.values():
                batch.requeue(lease, "the search was stopped")
            self._under_way.clear()
            self._leases.clear()
            batch.commit()


def start_structure(decoration: Decoration, rattle: float, seed: int) -> Atoms:
    """Return the standard start of a crystal: the same for all its equivalent decorations.

    It is the decoration that the fingerprint names, with small random displacements.

    Parameters
    ----------
    rattle
        Standard deviation of each coordinate's displacement, in Å.
    """
    return rattled(
        Decoration.from_fingerprint(decoration.host, decoration.fingerprint), rattle, seed
    )


def rattled(decoration: Decoration, rattle: float, seed: int) -> Atoms:
    """Return a decoration, as it is, with displacements that follow from its fingerprint.

    They let a relaxation leave the symmetry of the undistorted host.
    """
    atoms = decoration.to_atoms()
    rng = named_rng(seed, decoration.fingerprint)
    atoms.positions += rng.normal(0.0, rattle, atoms.positions.shape)
    return atoms


def _n_ended(events: Iterable[TaskEvent]) -> int:
    return sum(not isinstance(h, Slow) for h in events)


def _given_up(crashed: Crashed, attempts: int) -> Relaxed:
    reason = f"{attempts} attempts failed; the last: {crashed.reason}"
    return Relaxed.failed(crashed.task.atoms, reason, n_calls=crashed.n_calls)

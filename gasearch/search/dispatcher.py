"""Between the database and the executor: what waits, what is under way, what came back."""

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
from gasearch.relax.settings import RelaxSettings
from gasearch.seeding import named_rng
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import JsonValue, Lease, Outcome, Proposal, Purpose, Queued

_COMMIT_INTERVAL_S = 0.2  # readers starve where a writer commits much more often
_LOOKS_PER_LEASE = 5  # how often overdue leases are looked for
_LONGEST_LOOK_S = 30.0


@dataclass(frozen=True)
class DispatchSettings:
    """How candidates are relaxed.

    Parameters
    ----------
    seed
        Of the search; the random displacements of a start structure follow from it.
    rattle
        Standard deviation of these displacements, in Å.
    relax
        Thresholds for the search, and for the tight relaxations near the hull.
    lease_s
        Time after which a lease is overdue.
    max_crashes
        Crashes of its worker after which a candidate is marked as failed.
    """

    seed: int
    rattle: float
    relax: Mapping[Purpose, RelaxSettings]
    lease_s: float
    max_crashes: int


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
        self._stop = stop
        self._waiting: list[Queued] = []
        self._under_way: dict[tuple[int, Purpose], RelaxationTask] = {}
        self._leases: dict[tuple[int, Purpose], Lease] = {}
        self._last_commit = 0.0
        self._last_look_s = time.monotonic()

    @property
    def n_busy(self) -> int:
        """Relaxations that wait or are under way."""
        return len(self._waiting) + len(self._under_way)

    def resume(self) -> None:
        """Take back what a dead driver had handed out, to be relaxed first."""
        self._store.requeue_stale()
        self._waiting = self._store.queued()

    def queue_tight(self, candidates: Sequence[int]) -> None:
        """Let candidates be relaxed a second time, more tightly."""
        batch = self._store.batch()
        batch.queue_tight(candidates)
        batch.commit()
        self._waiting.extend(Queued(candidate, "tight", 0) for candidate in candidates)

    def tell(self, kind: str, data: Mapping[str, JsonValue]) -> None:
        """Write a line of the record that changes no state."""
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
            Kinds and data of lines of the record that go into the same commit; dropped where there
            is nothing else to commit.
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
            batch.lease([queued.candidate], self._settings.lease_s, queued.purpose)
        occupations = {p.number: p.occupation for p in proposals}
        for lease in batch.commit().leases:
            atoms = self._start_structure(lease, occupations.get(lease.candidate))
            task = RelaxationTask(lease, atoms, self._settings.relax[lease.purpose])
            self._under_way[lease.candidate, lease.purpose] = task
            self._leases[lease.candidate, lease.purpose] = lease
            self._executor.submit(task)

    def _start_structure(self, lease: Lease, occupation: bytes | None) -> Atoms:
        if lease.purpose == "tight":
            return self._store.relaxed(lease.candidate, "search").atoms
        stored = occupation or self._store.proposal(lease.candidate).occupation
        decoration = Decoration.from_bytes(self._host, stored)
        return start_structure(decoration, self._settings.rattle, self._settings.seed)

    def collect(self) -> list[TaskEvent]:
        """Wait for something to happen, and gather more where commits would come too fast."""
        happenings: list[TaskEvent] = []
        while self._under_way and not happenings and not self._stop.is_set():
            happenings.extend(self._executor.wait(0.5))
            happenings.extend(self._overdue())
        while 0 < _n_ended(happenings) < len(self._under_way) and not self._stop.is_set():
            left_s = self._last_commit + _COMMIT_INTERVAL_S - time.monotonic()
            if left_s <= 0:
                break
            happenings.extend(self._executor.wait(left_s))
        return happenings

    def _overdue(self) -> list[TaskEvent]:
        """Return what did not come back in time, by the clock of the database.

        The lease of what waits for a worker, or has been with one for less than a lease, begins
        anew; its result counts as that of any other.
        """
        lease_s = self._settings.lease_s
        now_s = time.monotonic()
        if now_s < self._last_look_s + min(lease_s / _LOOKS_PER_LEASE, _LONGEST_LOOK_S):
            return []
        self._last_look_s = now_s
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

    def record(self, happenings: Iterable[TaskEvent]) -> Sequence[Outcome]:
        """Commit what ended in one transaction, and return the outcomes that count now."""
        batch = self._store.batch()
        ended = [h for h in happenings if not isinstance(h, Slow)]
        for happening in ended:
            key = happening.task.lease.candidate, happening.task.lease.purpose
            if self._under_way.get(key) is not happening.task:
                if isinstance(happening, Finished):  # late: kept, and counted nowhere
                    batch.record(happening.task.lease, happening.relaxed)
                continue
            del self._under_way[key]
            lease = self._leases.pop(key)
            if isinstance(happening, Finished):
                batch.record(lease, happening.relaxed)
            elif isinstance(happening, Missing):
                batch.requeue(lease, happening.reason)
                self._waiting.append(Queued(lease.candidate, lease.purpose, lease.n_crashes))
            elif lease.n_crashes + 1 < self._settings.max_crashes:
                batch.requeue(lease, happening.reason, crashed=True)
                self._waiting.append(Queued(lease.candidate, lease.purpose, lease.n_crashes + 1))
            else:
                batch.record(lease, _given_up(happening, lease.n_crashes + 1))
        outcomes = batch.commit().outcomes if ended else ()
        self._last_commit = time.monotonic()
        return outcomes

    def give_up(self) -> None:
        """End what is under way and take its leases back; without effect where all is done."""
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


def _n_ended(happenings: Iterable[TaskEvent]) -> int:
    return sum(not isinstance(h, Slow) for h in happenings)


def _given_up(crashed: Crashed, attempts: int) -> Relaxed:
    reason = f"{attempts} attempts failed; the last: {crashed.reason}"
    return Relaxed.failed(crashed.task.atoms, reason, n_calls=crashed.n_calls)

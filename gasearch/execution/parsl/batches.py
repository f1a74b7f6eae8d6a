"""Relaxations of one search on their way through an engine that takes batches."""

from __future__ import annotations

import math
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gasearch.execution.contract import Crashed, ExecutionError, Finished, Order, Task, TaskEvent
from gasearch.execution.parsl.worker import BatchResult
from gasearch.execution.shares import Share
from gasearch.store.records import Purpose

_MOST_IN_BATCH = 5000
_FREE_LOSSES = 2  # of a manager or a node, which anything may have ended
_TRIED_IN_BATCHES = 2
_NEWEST = 0.3  # weight of the newest batch in the mean time of a relaxation
Blame: TypeAlias = Literal["nobody", "manager", "worker"]
Key: TypeAlias = tuple[int, Purpose]


@dataclass(eq=False)
class Job:
    """A task on its way.

    Parameters
    ----------
    n_lost
        Times that a batch was lost which held this task.
    limit
        Tasks that its next batch may hold; None for as many as fit.
    is_abandoned
        Whether the search has given it up, and proposed it again.
    """

    task: Task
    n_lost: int = 0
    limit: int | None = None
    is_abandoned: bool = False


@dataclass(eq=False)
class Batch:
    """Jobs that go to a worker together.

    Parameters
    ----------
    began_s
        When a worker got it, by the monotonic clock; None before.
    """

    owner: BatchExecutor
    jobs: Sequence[Job]
    began_s: float | None = None


@dataclass(frozen=True, eq=False)
class Returned:
    """A batch that came back, with its results, or without.

    Parameters
    ----------
    blame
        Who may be to blame where it was lost: what it held, its manager too, or nobody in it.
    """

    batch: Batch
    result: BatchResult | None
    reason: str = ""
    blame: Blame = "nobody"


@dataclass
class _Suspicion:
    n_lost: int
    limit: int


class BatchExecutor:
    """Puts relaxations into batches that take about `batch_s`, and finds out what kills workers.

    A batch that is lost is tried again; lost a second time, what it held is tried in halves, apart
    from all else, until what takes its worker down is alone: only that has crashed.

    Parameters
    ----------
    send
        Takes a batch; False where none can be sent just now. What comes of it is given to
        `deliver`, from any thread.
    share
        How many batches may be out at once.
    forget
        Told at the end: what comes back later is of no interest.
    """

    def __init__(
        self,
        order: Order,
        batch_s: float,
        share: Share,
        send: Callable[[Batch], bool],
        forget: Callable[[BatchExecutor], None],
    ) -> None:
        self.order = order
        self._batch_s = batch_s
        self._share = share
        self._send = send
        self._forget = forget
        self._waiting: deque[Job] = deque()
        self._suspects: deque[Job] = deque()
        self._out: dict[int, tuple[Batch, Job]] = {}
        self._n_out = 0
        self._suspicions: dict[Key, _Suspicion] = {}
        self._inbox: queue.SimpleQueue[Returned | ExecutionError] = queue.SimpleQueue()
        self._seconds_each: float | None = None

    def submit(self, task: Task) -> None:
        """Take a task; it goes into a batch when the search waits."""
        job = Job(task)
        known = self._suspicions.get(_key(task))
        if known is not None:
            job.n_lost, job.limit = known.n_lost, known.limit
        if task.lease.n_crashes > 0:
            job.limit = 1
        self._put([job])

    def wait(self, timeout_s: float) -> Sequence[TaskEvent]:
        """Return what happened, waiting at most so long for the first of it."""
        self._dispatch()
        happenings: list[TaskEvent] = []
        deadline = time.monotonic() + timeout_s
        try:
            while not happenings:
                left_s = max(0.0, deadline - time.monotonic())
                happenings += self._understand(self._inbox.get(timeout=left_s))
                self._dispatch()
            while True:
                happenings += self._understand(self._inbox.get_nowait())
        except queue.Empty:
            self._dispatch()
        return happenings

    def close(self) -> None:
        """Give up everything."""
        self._waiting.clear()
        self._suspects.clear()
        self._out.clear()
        self._share.leave()
        self._forget(self)

    def age_s(self, task: Task) -> float | None:
        """Return for how long a worker has had a task; None where none has."""
        batch, _ = self._out.get(id(task), (None, None))
        if batch is None or batch.began_s is None:
            return None
        return time.monotonic() - batch.began_s

    def abandon(self, task: Task) -> bool:
        """Expect a task no more; return whether it was alone in its batch.

        Its result, should it come, is told of all the same.
        """
        batch, job = self._out[id(task)]
        job.is_abandoned = True
        half = max(1, math.ceil(len(batch.jobs) / 2))
        self._suspicions[_key(task)] = _Suspicion(max(job.n_lost + 1, _TRIED_IN_BATCHES), half)
        return len(batch.jobs) == 1

    def deliver(self, returned: Returned | ExecutionError) -> None:
        """Hand in a batch that came back, or an error that ends the search; from any thread."""
        self._inbox.put(returned)

    @property
    def n_waiting(self) -> int:
        """Tasks that are in no batch yet."""
        return len(self._waiting) + len(self._suspects)

    def _dispatch(self) -> None:
        """Send batches while there is room; suspects first, apart from the others."""
        while self._waiting or self._suspects:
            room = self._share.limit(self._n_out + self.n_waiting) - self._n_out
            if room <= 0:
                return
            jobs = self._take(room)
            batch = Batch(self, jobs)
            self._out |= {id(job.task): (batch, job) for job in jobs}
            self._n_out += 1
            if not self._send(batch):
                self._take_back(batch)
                self._put(jobs, first=True)
                return

    def _take(self, room: int) -> list[Job]:
        if self._suspects:
            limit = self._suspects[0].limit or 1
            jobs = [self._suspects.popleft()]
            while self._suspects and len(jobs) < limit and self._suspects[0].limit == limit:
                jobs.append(self._suspects.popleft())
            return jobs
        size = min(self._size(), math.ceil(len(self._waiting) / room))
        return [self._waiting.popleft() for _ in range(size)]

    def _size(self) -> int:
        """Return how many relaxations take about `batch_s`."""
        if self._seconds_each is None:
            return max(1, self.order.places)
        return max(1, min(_MOST_IN_BATCH, int(self._batch_s / max(self._seconds_each, 1e-6))))

    def _put(self, jobs: Sequence[Job], *, first: bool = False) -> None:
        trusted = [job for job in jobs if job.limit is None]
        suspects = [job for job in jobs if job.limit is not None]
        if first:
            self._waiting.extendleft(reversed(trusted))
            self._suspects.extendleft(reversed(suspects))
        else:
            self._waiting.extend(trusted)
            self._suspects.extend(suspects)

    def _take_back(self, batch: Batch) -> None:
        self._n_out -= 1
        for job in batch.jobs:
            self._out.pop(id(job.task), None)

    def _understand(self, returned: Returned | ExecutionError) -> list[TaskEvent]:
        if isinstance(returned, ExecutionError):
            raise returned
        self._take_back(returned.batch)
        result = returned.result
        if result is None:
            return self._lost(returned)
        if result.unusable:
            raise ExecutionError(f"a worker cannot load the potential: {result.unusable}")
        jobs = returned.batch.jobs
        self._learn(result.wall_s / len(jobs))
        for job in jobs:
            self._suspicions.pop(_key(job.task), None)
        return [
            Finished(job.task, relaxed) for job, relaxed in zip(jobs, result.relaxed, strict=True)
        ]

    def _learn(self, seconds_each: float) -> None:
        before = self._seconds_each
        mixed = seconds_each if before is None else before + _NEWEST * (seconds_each - before)
        self._seconds_each = mixed

    def _lost(self, returned: Returned) -> list[TaskEvent]:
        """Try again what was lost, or tell that it has crashed, where it was alone."""
        n_jobs = len(returned.batch.jobs)
        jobs = [job for job in returned.batch.jobs if not job.is_abandoned]
        if returned.blame == "nobody":
            self._put(jobs, first=True)
            return []
        if jobs:
            self._note(f"{returned.reason}; {len(jobs)} relaxations are repeated")
        for job in jobs:
            job.n_lost += 1
        if n_jobs == 1 and jobs:
            free = _FREE_LOSSES if returned.blame == "manager" else 0
            if jobs[0].n_lost > free:
                return [Crashed(jobs[0].task, returned.reason, 0)]
        for job in jobs:
            if job.n_lost >= _TRIED_IN_BATCHES or n_jobs == 1:
                job.limit = max(1, math.ceil(n_jobs / 2))
        self._put(jobs, first=True)
        return []

    def _note(self, line: str) -> None:
        with self.order.log.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")


def _key(task: Task) -> Key:
    return task.lease.candidate, task.lease.purpose

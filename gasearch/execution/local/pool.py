"""Relaxations in worker processes, which may crash, hang and be killed without loss.

An own pool: once a single worker is killed, loky's executor (3.7.0, tried) fails the tasks of all
its workers, and every later one.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from gasearch.execution.contract import (
    Crashed,
    ExecutionError,
    Finished,
    PotentialSource,
    Slow,
    Task,
    TaskEvent,
)
from gasearch.execution.local.process import Job, WorkerProcess
from gasearch.execution.shares import Share

_MAX_STARTS = 3  # in a row, without a worker that became ready


@dataclass(frozen=True)
class PoolCount:
    """What a pool has: workers that are ready, those with work, and relaxations."""

    ready: int
    busy: int
    waiting: int
    under_way: int


class WorkerPool:
    """Worker processes of one thread each, started when needed and replaced when they die.

    A worker that is lost costs only what it had under way. That is tried again, in batches as
    before. What is lost a second time is suspect, and relaxed half by half, apart from all else,
    each half that is lost again in halves of its own: the one of n that is guilty is found with
    log2(n) more crashes. Only what takes a worker down all alone has crashed.

    Parameters
    ----------
    source
        The potential, which each worker loads once and keeps.
    n_workers
        Processes at the most; or a share of those of an engine, which may grow and shrink.
    wall_limit_s
        A relaxation that takes longer is killed, with all that its worker has under way.
    log
        File that the workers' warnings and tracebacks are appended to.
    places
        Relaxations that a worker is handed at once; it refills its batch from them.
    """

    def __init__(
        self,
        source: PotentialSource,
        n_workers: int | Share,
        wall_limit_s: float,
        log: Path,
        places: int = 1,
    ) -> None:
        self._source = source
        self._n_workers = n_workers
        self._wall_limit_s = wall_limit_s
        self._log = log
        self._places = places
        self._waiting: deque[Job] = deque()
        self._suspects: deque[list[Job]] = deque()
        self._workers: list[WorkerProcess] = []
        self._numbers = itertools.count()
        self._failed_starts = 0

    def submit(self, task: Task) -> None:
        """Hand a task to a free worker, or keep it until one is free."""
        job = Job(task)
        if job.is_suspect:
            self._suspects.append([job])
        else:
            self._waiting.append(job)
        self._dispatch()

    def wait(self, timeout_s: float) -> Sequence[TaskEvent]:
        """Return what happened, waiting at most so long for the first of it."""
        if not self._workers:
            return []
        first = min(worker.deadline_s(self._wall_limit_s) for worker in self._workers)
        patience = max(0.0, min(timeout_s, first - time.monotonic()))
        ready = wait([worker.connection for worker in self._workers], patience)
        happenings: list[TaskEvent] = []
        for worker in list(self._workers):
            if worker.connection in ready:
                happenings += self._listen(worker)
            if worker in self._workers and self._is_overdue(worker):
                worker.kill()
                happenings += self._lost(worker, f"no end within {self._wall_limit_s:g} s: killed")
        self._dispatch()
        return happenings

    def age_s(self, task: Task) -> float | None:  # noqa: ARG002
        """Return None: a worker is killed at the time limit."""
        return None

    def abandon(self, task: Task) -> bool:  # noqa: ARG002
        """Return False: nothing is abandoned."""
        return False

    def close(self) -> None:
        """Kill all workers."""
        if isinstance(self._n_workers, Share):
            self._n_workers.leave()
        self._waiting.clear()
        self._suspects.clear()
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def pids(self) -> list[int]:
        """Return the processes of the workers."""
        return [worker.pid for worker in list(self._workers)]

    def count(self) -> PoolCount:
        """Return what there is at this moment; may be asked from another thread."""
        workers = list(self._workers)
        under_way = [len(worker.jobs) for worker in workers]
        waiting = len(self._waiting) + sum(map(len, list(self._suspects)))
        ready = sum(worker.is_ready for worker in workers)
        return PoolCount(ready, sum(map(bool, under_way)), waiting, sum(under_way))

    def _dispatch(self) -> None:
        """Fill the workers evenly; while suspects wait, they drain until one is free for each."""
        limit = self._resize()
        while self._suspects or self._waiting:
            free = [worker for worker in self._workers[:limit] if worker.has_room(self._places)]
            worker = min(free, key=lambda free: len(free.jobs), default=None)
            if worker is None or (self._suspects and worker.jobs):
                return
            group = self._suspects.popleft() if self._suspects else [self._waiting.popleft()]
            for job in group:
                worker.hand(next(self._numbers), job)

    def _resize(self) -> int:
        """Start workers for what is there to do, and end those that others have a right to."""
        under_way = sum(len(worker.jobs) for worker in self._workers)
        n_jobs = under_way + len(self._waiting) + sum(map(len, self._suspects))
        share = self._n_workers
        limit = share.limit(math.ceil(n_jobs / self._places)) if isinstance(share, Share) else share
        while len(self._workers) < min(limit, n_jobs):
            self._workers.append(WorkerProcess(self._source, self._log))
        for worker in [worker for worker in self._workers[limit:] if not worker.jobs]:
            worker.kill()
            self._workers.remove(worker)
        return limit

    def _is_overdue(self, worker: WorkerProcess) -> bool:
        return time.monotonic() > worker.deadline_s(self._wall_limit_s)

    def _listen(self, worker: WorkerProcess) -> list[TaskEvent]:
        happenings: list[TaskEvent] = []
        try:
            for kind, content in worker.messages():
                happenings += self._understand(worker, kind, content)
        except (EOFError, OSError):
            happenings += self._lost(worker, f"its worker {worker.kill()}")
        return happenings

    def _understand(self, worker: WorkerProcess, kind: str, content: Any) -> list[TaskEvent]:
        """Note one message, and return what happened."""
        worker.heard()
        if kind == "unusable":
            self.close()
            raise ExecutionError(f"a worker cannot load the potential: {content}")
        if kind == "ready":
            worker.is_ready, self._failed_starts = True, 0
            return []
        if kind == "started":
            for number in content:
                worker.jobs[number].started_s = time.monotonic()
            return []
        for number in content.slow:
            worker.jobs[number].is_slow = True
        slow = [Slow(worker.jobs[number].task) for number in content.slow]
        ended = [Finished(worker.jobs.pop(n).task, relaxed) for n, relaxed in content.ended]
        return [*slow, *ended]

    def _lost(self, worker: WorkerProcess, reason: str) -> Sequence[TaskEvent]:
        """Account for a dead worker: what it had is tried again, or has crashed."""
        self._workers.remove(worker)
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts == _MAX_STARTS:
                self.close()
                raise ExecutionError(f"a worker does not start ({reason}): see {self._log}.")
            return []
        suspects = worker.suspects()
        self._wait_again([job for job in worker.jobs.values() if job not in suspects])
        if len(suspects) == 1:
            (job,) = suspects
            n_calls = job.task.settings.long_calls + 1 if job.is_slow else 0
            return [Crashed(job.task, reason, n_calls)]
        for job in suspects:
            job.n_lost += 1
        middle = len(suspects) // 2
        self._wait_again(suspects[middle:])
        self._wait_again(suspects[:middle])
        if suspects:
            self._note(f"worker {worker.pid}: {reason}; {len(suspects)} relaxations are repeated")
        return []

    def _wait_again(self, jobs: Sequence[Job]) -> None:
        """Put jobs in front of the others, suspects as a group of their own."""
        self._waiting.extendleft(job for job in reversed(jobs) if not job.is_suspect)
        if group := [job for job in jobs if job.is_suspect]:
            self._suspects.appendleft(group)

    def _note(self, line: str) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")

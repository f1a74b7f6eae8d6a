"""Relaxations in worker processes, which may crash, hang and be killed without loss.

An own pool: once a single worker is killed, loky's executor (3.7.0, tried) fails the tasks of all
its workers, and every later one.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from gasearch.execution.contract import (
    Crashed,
    ExecutionError,
    Executor,
    Finished,
    PotentialSource,
    RelaxationTask,
    Slow,
    TaskEvent,
    Workers,
)
from gasearch.execution.local.process import WorkerProcess
from gasearch.execution.shares import Share
from gasearch.execution.waiting import WaitingTasks

_ENDING_S = 5.0  # that a process takes to end after it has closed its pipe
_MAX_STARTS = 3  # in a row, without a worker that became ready


class WorkerPool(Executor):
    """Worker processes of one thread each, started when needed and replaced when they die.

    A worker that is lost costs only what it had under way; that is tried again, as
    `gasearch.execution.waiting` says.

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
        self._waiting = WaitingTasks()
        self._workers: list[WorkerProcess] = []
        self._numbers = itertools.count()
        self._failed_starts = 0

    def submit(self, task: RelaxationTask) -> None:
        """Hand a task to a free worker, or keep it until one is free."""
        self._waiting.add(task)
        self._dispatch()

    def wait(self, timeout_s: float) -> Sequence[TaskEvent]:
        """Return what happened, waiting at most so long for the first of it."""
        if not self._workers:
            return []
        first = min(worker.deadline_s(self._wall_limit_s) for worker in self._workers)
        patience = max(0.0, min(timeout_s, first - time.monotonic()))
        ready = wait([worker.connection for worker in self._workers], patience)
        events: list[TaskEvent] = []
        for worker in list(self._workers):
            if worker.connection in ready:
                events += self._listen(worker)
            if worker in self._workers and self._is_overdue(worker):
                worker.kill()
                events += self._lost(worker, f"no end within {self._wall_limit_s:g} s: killed")
        self._dispatch()
        return events

    def close(self) -> None:
        """Kill all workers."""
        if isinstance(self._n_workers, Share):
            self._n_workers.leave()
        self._waiting.clear()
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def pids(self) -> list[int]:
        """Return the processes of the workers."""
        return [worker.pid for worker in list(self._workers)]

    def count(self) -> Workers:
        """Return what there is at this moment; may be asked from another thread."""
        workers = list(self._workers)
        under_way = [len(worker.attempts) for worker in workers]
        return Workers(
            "local",
            "local",
            connected=sum(worker.is_ready for worker in workers),
            busy=sum(map(bool, under_way)),
            waiting=len(self._waiting),
            under_way=sum(under_way),
        )

    def _dispatch(self) -> None:
        """Fill the workers evenly; while suspects wait, they drain until one is free for each."""
        limit = self._resize()
        while self._waiting:
            free = [worker for worker in self._workers[:limit] if worker.has_room(self._places)]
            worker = min(free, key=lambda free: len(free.attempts), default=None)
            if worker is None or (self._waiting.has_suspects and worker.attempts):
                return
            for attempt in self._waiting.take(1):
                worker.hand(next(self._numbers), attempt)

    def _resize(self) -> int:
        """Start workers for what is there to do, and end those that others have a right to."""
        n_tasks = len(self._waiting) + sum(len(worker.attempts) for worker in self._workers)
        limit = self._n_workers
        if isinstance(limit, Share):
            limit = limit.limit(math.ceil(n_tasks / self._places))
        while len(self._workers) < min(limit, n_tasks):
            self._workers.append(WorkerProcess(self._source, self._log))
        for worker in [worker for worker in self._workers[limit:] if not worker.attempts]:
            worker.kill()
            self._workers.remove(worker)
        return limit

    def _is_overdue(self, worker: WorkerProcess) -> bool:
        return time.monotonic() > worker.deadline_s(self._wall_limit_s)

    def _listen(self, worker: WorkerProcess) -> list[TaskEvent]:
        events: list[TaskEvent] = []
        try:
            for kind, content in worker.messages():
                events += self._take_note(worker, kind, content)
        except (EOFError, OSError):
            events += self._lost(worker, f"its worker {worker.kill(_ENDING_S)}")
        return events

    def _take_note(self, worker: WorkerProcess, kind: str, content: Any) -> list[TaskEvent]:
        """Note one message, and return what happened."""
        worker.note_alive()
        if kind == "unusable":
            self.close()
            raise ExecutionError(f"a worker cannot load the potential: {content}")
        if kind == "ready":
            worker.is_ready, self._failed_starts = True, 0
            return []
        if kind == "started":
            for number in content:
                worker.attempts[number].started_s = time.monotonic()
            return []
        slow, ended = content
        for number in slow:
            worker.attempts[number].is_slow = True
        events: list[TaskEvent] = [Slow(worker.attempts[number].task) for number in slow]
        return events + [Finished(worker.attempts.pop(n).task, relaxed) for n, relaxed in ended]

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
        others = [one for one in worker.attempts.values() if one not in suspects]
        self._waiting.put_back(others)
        crashed = self._waiting.lose(suspects)
        if crashed is not None:
            n_calls = crashed.task.settings.long_calls + 1 if crashed.is_slow else 0
            return [Crashed(crashed.task, reason, n_calls)]
        if suspects:
            self._note(f"worker {worker.pid}: {reason}; {len(suspects)} relaxations are repeated")
        return []

    def _note(self, line: str) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")

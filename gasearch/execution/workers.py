"""Relaxations in worker processes, which may crash, hang and be killed without loss."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from gasearch.execution.contract import (
    Crashed,
    ExecutionError,
    Finished,
    Happening,
    PotentialSource,
    Slow,
    Task,
)

_START_LIMIT_S = 600.0
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    deadline: float
    is_ready: bool = False
    task: Task | None = None
    is_slow: bool = False

    def kill(self) -> str:
        """End the process and return how it ended."""
        self.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        code = self.process.wait()
        return f"ended by signal {-code}" if code < 0 else f"ended with exit status {code}"


class WorkerPool:
    """Worker processes of one thread each, started when needed and replaced when they die.

    Parameters
    ----------
    source
        The potential, which each worker loads once and keeps.
    n_workers
        Processes at the most.
    wall_limit_s
        A relaxation that takes longer is killed.
    log
        File that the workers' warnings and tracebacks are appended to.
    """

    def __init__(
        self, source: PotentialSource, n_workers: int, wall_limit_s: float, log: Path
    ) -> None:
        self._source = source
        self._n_workers = n_workers
        self._wall_limit_s = wall_limit_s
        self._log = log
        self._tasks: deque[Task] = deque()
        self._workers: list[_Worker] = []

    def submit(self, task: Task) -> None:
        """Hand a task to a free worker, or keep it until one is free."""
        self._tasks.append(task)
        n_busy = sum(worker.task is not None for worker in self._workers)
        if n_busy + len(self._tasks) > len(self._workers) < self._n_workers:
            self._workers.append(self._start())
        self._dispatch()

    def wait(self, timeout_s: float) -> Sequence[Happening]:
        """Return what happened, waiting at most so long for the first of it."""
        if not self._workers:
            return []
        now = time.monotonic()
        first_deadline = min(worker.deadline for worker in self._workers)
        patience = max(0.0, min(timeout_s, first_deadline - now))
        ready = wait([worker.connection for worker in self._workers], patience)
        happenings: list[Happening] = []
        for worker in list(self._workers):
            if worker.connection in ready:
                happenings.extend(self._listen(worker))
            elif time.monotonic() > worker.deadline:
                worker.kill()
                limit = f"no end within {self._wall_limit_s:g} s: killed"
                happenings.extend(self._lost(worker, limit))
        self._dispatch()
        return happenings

    def close(self) -> None:
        """Kill all workers."""
        self._tasks.clear()
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "gasearch.execution.worker", str(theirs.fileno())]
        with theirs, self._log.open("ab") as log:
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **_ONE_THREAD},
                start_new_session=True,  # Ctrl-C is for the driver, which then ends its workers
            )
        ours.send(self._source)
        return _Worker(process, ours, time.monotonic() + _START_LIMIT_S)

    def _dispatch(self) -> None:
        for worker in self._workers:
            if worker.is_ready and worker.task is None and self._tasks:
                worker.task, worker.is_slow = self._tasks.popleft(), False
                worker.deadline = time.monotonic() + self._wall_limit_s
                try:
                    worker.connection.send(worker.task)
                except OSError:
                    continue  # it is dead; `wait` will notice and say so

    def _listen(self, worker: _Worker) -> Sequence[Happening]:
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            return self._lost(worker, f"its worker {worker.kill()}")
        if kind == "unusable":
            worker.kill()
            self.close()
            raise ExecutionError(f"a worker cannot load the potential: {content}")
        if kind == "slow" and worker.task is not None:
            worker.is_slow = True
            return [Slow(worker.task)]
        worker.deadline = float("inf")
        worker.is_ready = True
        task, worker.task = worker.task, None
        return [] if task is None else [Finished(task, content)]

    def _lost(self, worker: _Worker, reason: str) -> Sequence[Happening]:
        """Account for a dead worker: its task is reported, a replacement starts when needed."""
        self._workers.remove(worker)
        if not worker.is_ready:
            self.close()
            raise ExecutionError(f"a worker does not start ({reason}): see {self._log}.")
        if self._tasks or worker.task is not None:
            self._workers.append(self._start())
        if worker.task is None:
            return []
        n_calls = worker.task.settings.long_calls + 1 if worker.is_slow else 0
        return [Crashed(worker.task, reason, n_calls)]

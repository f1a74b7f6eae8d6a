"""One worker process, seen from its parent, and the relaxations that were handed to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from gasearch.execution.contract import PotentialSource, Task

_START_LIMIT_S = 600.0
_TRIED_IN_BATCHES = 2
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


@dataclass(eq=False)
class Job:
    """A task on its way through the pool.

    Parameters
    ----------
    n_lost
        Times that a worker was lost which relaxed this task among others.
    started_s
        When its first evaluation began, by the monotonic clock; None before.
    is_slow
        Whether it took more than `long_calls` force calls.
    """

    task: Task
    n_lost: int = 0
    started_s: float | None = None
    is_slow: bool = False

    @property
    def is_suspect(self) -> bool:
        """Whether to keep it apart from all but its fellow suspects, so that no other is lost."""
        return self.n_lost >= _TRIED_IN_BATCHES or self.task.lease.n_crashes > 0


class WorkerProcess:
    """A process of one thread that relaxes what it is handed.

    Parameters
    ----------
    source
        The potential, which it loads once and keeps.
    log
        File that its warnings and tracebacks are appended to.
    """

    def __init__(self, source: PotentialSource, log: Path) -> None:
        self.connection, theirs = Pipe()
        command = [sys.executable, "-m", "gasearch.execution.local.worker", str(theirs.fileno())]
        with theirs, log.open("ab") as log_file:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                env={**os.environ, **_ONE_THREAD},
                start_new_session=True,  # Ctrl-C is for the driver, which then ends its workers
            )
        self.jobs: dict[int, Job] = {}
        self.is_ready = False
        self._heard_s = time.monotonic()
        self._outbox: SimpleQueue[Any] = SimpleQueue()
        self._sender = threading.Thread(target=_send_all, args=(self.connection, self._outbox))
        self._sender.daemon = True
        self._sender.start()
        self._outbox.put(source)

    @property
    def pid(self) -> int:
        """Its number in the process table."""
        return self._process.pid

    def has_room(self, places: int) -> bool:
        """Return whether it may be handed one more; not beside suspects, which are among them."""
        first = next(iter(self.jobs.values()), None)
        has_suspect = first is not None and first.is_suspect
        return self.is_ready and len(self.jobs) < places and not has_suspect

    def hand(self, number: int, job: Job) -> None:
        """Send a task; the sending itself goes on in the background, whatever the worker does."""
        if not self.jobs:
            self._heard_s = time.monotonic()
        job.started_s = None
        self.jobs[number] = job
        self._outbox.put((number, job.task.atoms, job.task.settings))

    def messages(self) -> Iterator[tuple[str, Any]]:
        """Yield what it sent, at least one; EOFError or OSError where it is dead."""
        yield self.connection.recv()
        while self.connection.poll():
            yield self.connection.recv()

    def heard(self) -> None:
        """Note that it is alive."""
        self._heard_s = time.monotonic()

    def deadline_s(self, wall_limit_s: float) -> float:
        """Return when it is overdue, by the monotonic clock: each relaxation has so much time."""
        if not self.is_ready:
            return self._heard_s + _START_LIMIT_S
        if not self.jobs:
            return float("inf")
        started = [job.started_s for job in self.jobs.values() if job.started_s is not None]
        return min(started, default=self._heard_s) + wall_limit_s

    def suspects(self) -> list[Job]:
        """Return the jobs one of which took it down: those under way."""
        under_way = [job for job in self.jobs.values() if job.started_s is not None]
        return under_way or list(self.jobs.values())

    def kill(self) -> str:
        """End the process and return how it ended."""
        if self._process.poll() is None:
            self._process.kill()
        code = self._process.wait()
        self._outbox.put(None)
        self._sender.join()
        self.connection.close()
        return f"ended by signal {-code}" if code < 0 else f"ended with exit status {code}"


def _send_all(connection: Connection, outbox: SimpleQueue[Any]) -> None:
    """Send until None comes; a worker that died is noticed where it is listened to."""
    for message in iter(outbox.get, None):
        try:
            connection.send(message)
        except OSError:
            return

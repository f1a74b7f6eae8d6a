"""One worker process, seen from its parent, and the tasks that were handed to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from gasearch.execution.contract import PotentialSource
from gasearch.execution.waiting import Attempt
from gasearch.processes import ONE_THREAD, ending_in_words

_START_LIMIT_S = 600.0


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
        with theirs:
            self._process = start_process(theirs, log)
        self.attempts: dict[int, Attempt] = {}
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
        first = next(iter(self.attempts.values()), None)
        has_suspect = first is not None and first.is_suspect
        return self.is_ready and len(self.attempts) < places and not has_suspect

    def hand(self, number: int, attempt: Attempt) -> None:
        """Send a task; the sending itself goes on in the background, whatever the worker does."""
        if not self.attempts:
            self._heard_s = time.monotonic()
        attempt.started_s = None
        self.attempts[number] = attempt
        self._outbox.put((number, attempt.task.atoms, attempt.task.settings))

    def messages(self) -> Iterator[tuple[str, Any]]:
        """Yield what it sent, at least one; EOFError or OSError where it is dead."""
        yield self.connection.recv()
        while self.connection.poll():
            yield self.connection.recv()

    def note_alive(self) -> None:
        """Note that it is alive."""
        self._heard_s = time.monotonic()

    def deadline_s(self, wall_limit_s: float) -> float:
        """Return when it is overdue, by the monotonic clock: each relaxation has so much time."""
        if not self.is_ready:
            return self._heard_s + _START_LIMIT_S
        if not self.attempts:
            return float("inf")
        started = [one.started_s for one in self.attempts.values() if one.started_s is not None]
        return min(started, default=self._heard_s) + wall_limit_s

    def suspects(self) -> list[Attempt]:
        """Return the attempts one of which took it down: those under way."""
        under_way = [one for one in self.attempts.values() if one.started_s is not None]
        return under_way or list(self.attempts.values())

    def kill(self, patience_s: float = 0.0) -> str:
        """End the process, unless it ends by itself within so long, and return how it ended."""
        until_s = time.monotonic() + patience_s
        while self._process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.01)
        if self._process.poll() is None:
            self._process.kill()
        status = self._process.wait()
        self._outbox.put(None)
        self._sender.join()
        self.connection.close()
        return ending_in_words(status)


def start_process(theirs: Connection, log: Path) -> subprocess.Popen[bytes]:
    """Start a worker that listens to a connection."""
    descriptor = theirs.fileno()
    with log.open("ab") as log_file:
        return subprocess.Popen(
            [sys.executable, "-m", "gasearch.execution.local.worker", str(descriptor)],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            env={**os.environ, **ONE_THREAD},
            start_new_session=True,  # Ctrl-C is for the driver, which then ends its workers
        )


def _send_all(connection: Connection, outbox: SimpleQueue[Any]) -> None:
    """Send until None comes; a worker that died is noticed where it is listened to."""
    for message in iter(outbox.get, None):
        try:
            connection.send(message)
        except OSError:
            return

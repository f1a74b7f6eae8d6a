"""Workers that sleep as long as a relaxation takes: processes, pipes and messages of the real pool.

They are forked from one small process that has loaded ASE and numpy, so that hundreds of them fit
onto a small machine: what is measured is the driver, not the start of workers.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from free import relaxed

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["scale_workers"])


def serve(connection: Connection, sleep_s: float, seed: int) -> None:
    """Answer as `gasearch.execution.local.worker` does, one task at a time."""
    rng = np.random.default_rng(seed)
    connection.recv()  # the potential
    connection.send(("ready", None))
    while True:
        try:
            number, atoms, _ = connection.recv()
            connection.send(("started", [number]))
            time.sleep(sleep_s)
            connection.send(("progress", ([], [(number, relaxed(atoms, rng))])))
        except (EOFError, OSError):
            return


class _AsPopen:
    """A forked process with the part of Popen that a pool asks of it."""

    def __init__(self, forked: Any) -> None:
        self._forked = forked
        self.pid = forked.pid

    def poll(self) -> int | None:
        """Return its exit status, or None."""
        code: int | None = self._forked.exitcode
        return code

    def kill(self) -> None:
        """Kill it."""
        self._forked.kill()

    def wait(self) -> int:
        """Return how it ends; hundreds of them are not waited for one by one."""
        return -signal.SIGKILL


@contextmanager
def _no_script() -> Iterator[None]:
    """Let a child not load the script of this process, as it would: it needs this module alone."""
    script = sys.modules["__main__"]
    path = script.__file__
    del script.__file__
    try:
        yield
    finally:
        script.__file__ = path


def sleeping_processes(sleep_s: float) -> Callable[[Connection, Path], Any]:
    """Return what starts a worker that sleeps so many seconds per relaxation."""

    def start(theirs: Connection, log: Path) -> _AsPopen:  # noqa: ARG001
        arguments = (theirs, sleep_s, theirs.fileno())
        forked = _CONTEXT.Process(target=serve, args=arguments, daemon=True)
        with _no_script():
            forked.start()
        return _AsPopen(forked)

    return start

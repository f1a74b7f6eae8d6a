"""A worker process: `python -m gasearch.execution.worker FD` relaxes what comes through a pipe.

It knows the potential and nothing of the search, and ends when its parent does.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from gasearch.execution.contract import PotentialSource, Task

if TYPE_CHECKING:
    from gasearch.potentials.contract import Batch, Evaluated, Potential


class _Counted:
    """A potential that tells when a relaxation took more than so many calls."""

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self._left = 0
        self._tell: Callable[[], None] = lambda: None

    def begin(self, n_calls: int, tell: Callable[[], None]) -> None:
        """Count anew; call `tell` once, at call number `n_calls` + 1."""
        self._left, self._tell = n_calls, tell

    def evaluate(self, batch: Batch) -> Evaluated:
        """Evaluate, counted."""
        if self._left == 0:
            self._tell()
        self._left -= 1
        return self._potential.evaluate(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._potential, name)


def main(descriptor: int) -> None:
    """Serve relaxations until the pipe closes."""
    connection = Connection(descriptor)
    _end_with_parent(os.getppid())
    source: PotentialSource = connection.recv()
    try:
        potential = _Counted(_load(source))
    except Exception as error:  # noqa: BLE001 -- whatever it is, the parent must hear of it
        connection.send(("unusable", f"{type(error).__name__}: {error}"))
        return
    connection.send(("ready", None))
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(("done", _relax(potential, task, connection)))


def _load(source: PotentialSource) -> Potential:
    import torch

    from gasearch.potentials.registry import load_potential

    torch.set_num_threads(1)
    return load_potential(source.name, source.folder, species=source.species or None)


def _relax(potential: Any, task: Task, connection: Connection) -> Any:
    from gasearch.relax.reference import ReferenceRelaxer

    potential.begin(task.settings.long_calls, lambda: connection.send(("slow", None)))
    return ReferenceRelaxer(potential, task.settings).relax_one(task.atoms)


def _end_with_parent(parent: int) -> None:
    """End this process soon after its parent died, in the middle of a relaxation too."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""Relaxations in this process, one after another: for tests, small potentials and debugging."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gasearch.execution.contract import Finished, Happening, Slow, Task

if TYPE_CHECKING:
    from gasearch.potentials.contract import Potential


class InProcessExecutor:
    """Relaxes during `wait`. A candidate that hangs or kills the process takes the search along.

    Parameters
    ----------
    potential
        Loaded already.
    """

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self._tasks: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._tasks.append(task)

    def wait(self, timeout_s: float) -> Sequence[Happening]:  # noqa: ARG002
        """Relax the oldest task and return its end; nothing where there is none."""
        if not self._tasks:
            return []
        from gasearch.relax.reference import ReferenceRelaxer

        task = self._tasks.popleft()
        relaxed = ReferenceRelaxer(self._potential, task.settings).relax_one(task.atoms)
        ended = Finished(task, relaxed)
        return [Slow(task), ended] if relaxed.n_calls > task.settings.long_calls else [ended]

    def close(self) -> None:
        """Forget what is queued."""
        self._tasks.clear()

"""Relaxations in this process: for tests, small potentials and debugging."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from gasearch.execution.contract import Executor, Finished, RelaxationTask, Slow, TaskEvent
from gasearch.execution.stream import Stream
from gasearch.potentials.contract import Potential
from gasearch.relax.moment_reader import MomentReader


class InProcessExecutor(Executor):
    """Relaxes during `wait`. A candidate that hangs or kills the process takes the search along.

    Parameters
    ----------
    potential
        Loaded already.
    places
        Structures in flight.
    limits
        File that remembers how much fits into a batch.
    reader
        Reads moments off the relaxed structures; the potential's own count without one.
    """

    def __init__(
        self,
        potential: Potential,
        places: int = 1,
        limits: Path | None = None,
        reader: MomentReader | None = None,
    ) -> None:
        self._stream = Stream(potential, limits, reader=reader)
        self._places = places
        self._waiting: deque[RelaxationTask] = deque()
        self._under_way: dict[int, RelaxationTask] = {}
        self._numbers = itertools.count()

    def submit(self, task: RelaxationTask) -> None:
        """Queue a task."""
        self._waiting.append(task)

    def wait(self, timeout_s: float) -> Sequence[TaskEvent]:
        """Relax until something happens or the time is over; nothing where there is no task."""
        deadline = time.monotonic() + timeout_s
        events: list[TaskEvent] = []
        while not events and (self._waiting or self._under_way):
            self._fill()
            slow, ended = self._stream.step()
            events += [Slow(self._under_way[number]) for number in slow]
            events += [Finished(self._under_way.pop(number), relaxed) for number, relaxed in ended]
            if time.monotonic() >= deadline:
                break
        return events

    def close(self) -> None:
        """Forget what is queued and what is under way."""
        self._waiting.clear()
        self._under_way.clear()

    def _fill(self) -> None:
        while self._waiting and len(self._under_way) < self._places:
            task, number = self._waiting.popleft(), next(self._numbers)
            self._under_way[number] = task
            self._stream.submit(number, task.atoms, task.settings)

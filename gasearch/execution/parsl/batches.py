"""Relaxations of one search on their way through an engine that takes batches."""

from __future__ import annotations

import functools
import math
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from gasearch.execution.contract import (
    Crashed,
    ExecutionError,
    Executor,
    ExecutorRequest,
    Finished,
    RelaxationTask,
    TaskEvent,
)
from gasearch.execution.parsl.worker import BatchResult
from gasearch.execution.shares import Share
from gasearch.execution.waiting import Attempt, WaitingTasks

_MOST_IN_BATCH = 5000
_FREE_LOSSES = {"worker": 0, "manager": 2}  # of a manager or a node, which anything may have ended
_NEWEST = 0.3  # weight of the newest batch in the mean time of a relaxation


@dataclass(eq=False)
class TaskBatch:
    """Tasks that go to a worker together.

    Parameters
    ----------
    began_s
        When a worker got it, by the monotonic clock; None before.
    """

    owner: BatchExecutor
    attempts: Sequence[Attempt]
    began_s: float | None = None


class BatchExecutor(Executor):
    """Puts relaxations into batches that take about `batch_s`, and finds out what kills workers.

    What is lost is tried again, as `gasearch.execution.waiting` says.

    Parameters
    ----------
    send
        Takes a batch; False where none can be sent just now. What becomes of it is reported by
        `deliver`, `lose` or `fail`, from any thread.
    share
        How many batches may be out at once.
    forget
        Called at the end: what comes back later is of no interest.
    """

    def __init__(
        self,
        request: ExecutorRequest,
        batch_s: float,
        share: Share,
        send: Callable[[TaskBatch], bool],
        forget: Callable[[BatchExecutor], None],
    ) -> None:
        self.request = request
        self._batch_s = batch_s
        self._share = share
        self._send = send
        self._forget = forget
        self._waiting = WaitingTasks()
        self._out: dict[int, tuple[TaskBatch, Attempt]] = {}
        self._n_out = 0
        self._inbox: queue.SimpleQueue[Callable[[], list[TaskEvent]]] = queue.SimpleQueue()
        self._seconds_each: float | None = None

    def submit(self, task: RelaxationTask) -> None:
        """Take a task; it goes into a batch when the search waits."""
        self._waiting.add(task)

    def wait(self, timeout_s: float) -> Sequence[TaskEvent]:
        """Return what happened, waiting at most so long for the first of it."""
        self._dispatch()
        events: list[TaskEvent] = []
        deadline = time.monotonic() + timeout_s
        try:
            while not events:
                left_s = max(0.0, deadline - time.monotonic())
                events += self._inbox.get(timeout=left_s)()
                self._dispatch()
            while True:
                events += self._inbox.get_nowait()()
        except queue.Empty:
            self._dispatch()
        return events

    def close(self) -> None:
        """Give up everything."""
        self._waiting.clear()
        self._out.clear()
        self._share.leave()
        self._forget(self)

    def age_s(self, task: RelaxationTask) -> float | None:
        """Return for how long a worker has had a task; None where none has."""
        batch, _ = self._out.get(id(task), (None, None))
        if batch is None or batch.began_s is None:
            return None
        return time.monotonic() - batch.began_s

    def abandon(self, task: RelaxationTask) -> bool:
        """Expect a task no more; return whether it was alone in its batch."""
        batch, attempt = self._out[id(task)]
        self._waiting.abandon(attempt, len(batch.attempts))
        return len(batch.attempts) == 1

    def deliver(self, batch: TaskBatch, result: BatchResult) -> None:
        """Hand in a batch that came back."""
        self._inbox.put(functools.partial(self._ended, batch, result))

    def lose(
        self, batch: TaskBatch, reason: str, blame: Literal["nobody", "manager", "worker"]
    ) -> None:
        """Hand in a batch that was lost.

        Parameters
        ----------
        blame
            Who may be to blame: what it held ("worker"), its manager too, or nobody in it.
        """
        self._inbox.put(functools.partial(self._lost, batch, reason, _FREE_LOSSES.get(blame)))

    def fail(self, error: ExecutionError) -> None:
        """End the search with an error."""
        self._inbox.put(functools.partial(_raise, error))

    @property
    def n_waiting(self) -> int:
        """Tasks that are in no batch yet."""
        return len(self._waiting)

    def _dispatch(self) -> None:
        """Send batches while there is room; suspects first, apart from the others."""
        while self._waiting:
            room = self._share.limit(self._n_out + self.n_waiting) - self._n_out
            if room <= 0:
                return
            most = min(self._size(), math.ceil(self.n_waiting / room))
            attempts = self._waiting.take(most)
            batch = TaskBatch(self, attempts)
            self._out |= {id(attempt.task): (batch, attempt) for attempt in attempts}
            self._n_out += 1
            if not self._send(batch):
                self._take_back(batch)
                self._waiting.put_back(attempts)
                return

    def _size(self) -> int:
        """Return how many relaxations take about `batch_s`."""
        if self._seconds_each is None:
            return max(1, self.request.places)
        return max(1, min(_MOST_IN_BATCH, int(self._batch_s / max(self._seconds_each, 1e-6))))

    def _take_back(self, batch: TaskBatch) -> None:
        self._n_out -= 1
        for attempt in batch.attempts:
            self._out.pop(id(attempt.task), None)

    def _ended(self, batch: TaskBatch, result: BatchResult) -> list[TaskEvent]:
        self._take_back(batch)
        if result.unusable:
            raise ExecutionError(f"a worker cannot load the potential: {result.unusable}")
        seconds_each = result.wall_s / len(batch.attempts)
        before = seconds_each if self._seconds_each is None else self._seconds_each
        self._seconds_each = before + _NEWEST * (seconds_each - before)
        self._waiting.acquit(batch.attempts)
        pairs = zip(batch.attempts, result.relaxed, strict=True)
        return [Finished(attempt.task, relaxed) for attempt, relaxed in pairs]

    def _lost(self, batch: TaskBatch, reason: str, n_free: int | None) -> list[TaskEvent]:
        """Try again what was lost, or return that it has crashed, where it was alone."""
        self._take_back(batch)
        expected = [attempt for attempt in batch.attempts if not attempt.is_abandoned]
        if n_free is None:
            self._waiting.put_back(expected)
            return []
        if expected:
            with self.request.log.open("a", encoding="utf-8") as log:
                log.write(f"{reason}; {len(expected)} relaxations are repeated\n")
        crashed = self._waiting.lose(batch.attempts, n_free)
        return [] if crashed is None else [Crashed(crashed.task, reason, 0)]


def _raise(error: ExecutionError) -> NoReturn:
    raise error

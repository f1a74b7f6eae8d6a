"""Tasks that wait for a worker, and how the one that kills its workers is found.

What was lost once is tried again as before. What was lost a second time is suspect: relaxed apart
from all else, half by half, each half that is lost again in halves of its own, so that the guilty
one of n is found with log2(n) more losses. Only what takes its worker down all alone has crashed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gasearch.execution.contract import RelaxationTask
from gasearch.store.records import Purpose

_SUSPECT_AFTER = 2


@dataclass(eq=False)
class Attempt:
    """A task on its way through an executor.

    Parameters
    ----------
    n_lost
        Times that a worker was lost which had this task.
    together
        Suspects, itself among them, that a worker may have at once; None where it is no suspect.
    started_s
        When its first evaluation began, by the monotonic clock; None where that is not known.
    is_slow
        Whether it took more than `long_calls` force calls.
    is_abandoned
        Whether the search has given it up, and submitted it again.
    """

    task: RelaxationTask
    n_lost: int = 0
    together: int | None = None
    started_s: float | None = None
    is_slow: bool = False
    is_abandoned: bool = False

    @property
    def is_suspect(self) -> bool:
        """Whether to keep it apart from all but its fellow suspects, so that no other is lost."""
        return self.together is not None

    @property
    def key(self) -> tuple[int, Purpose]:
        """The same for all leases of a candidate."""
        return self.task.lease.candidate, self.task.lease.purpose


class WaitingTasks:
    """A queue of attempts: suspects first, in groups of their own."""

    def __init__(self) -> None:
        self._trusted: deque[Attempt] = deque()
        self._suspects: deque[Attempt] = deque()
        self._abandoned: dict[tuple[int, Purpose], tuple[int, int]] = {}

    def __len__(self) -> int:
        """Return how many tasks wait."""
        return len(self._trusted) + len(self._suspects)

    @property
    def has_suspects(self) -> bool:
        """Whether the next group needs a worker of its own."""
        return bool(self._suspects)

    def add(self, task: RelaxationTask) -> None:
        """Take a task, behind the others; one that has crashed before is alone from the start."""
        attempt = Attempt(task)
        attempt.n_lost, attempt.together = self._abandoned.get(attempt.key, (0, None))
        if task.lease.n_crashes > 0:
            attempt.together = 1
        self._queue_of(attempt).append(attempt)

    def put_back(self, attempts: Sequence[Attempt]) -> None:
        """Put attempts in front of the others, as if they had never been taken."""
        for attempt in reversed(attempts):
            self._queue_of(attempt).appendleft(attempt)

    def take(self, most: int) -> list[Attempt]:
        """Return the next group of suspects, or else at most so many others."""
        if not self._suspects:
            return [self._trusted.popleft() for _ in range(min(most, len(self._trusted)))]
        together = self._suspects[0].together or 1
        group: list[Attempt] = []
        while self._suspects and len(group) < together == self._suspects[0].together:
            group.append(self._suspects.popleft())
        return group

    def lose(self, attempts: Sequence[Attempt], n_free: int = 0) -> Attempt | None:
        """Put back what a lost worker had, but for the one that has crashed, which is returned.

        Parameters
        ----------
        n_free
            Losses of this kind that a task may have all alone before it is to blame.
        """
        n_lost_now = len(attempts)
        attempts = [attempt for attempt in attempts if not attempt.is_abandoned]
        for attempt in attempts:
            attempt.n_lost += 1
            if n_lost_now == 1 and attempt.n_lost > n_free:
                return attempt
            if n_lost_now == 1 or attempt.n_lost >= _SUSPECT_AFTER:
                attempt.together = _half(n_lost_now)
        self.put_back(attempts)
        return None

    def abandon(self, attempt: Attempt, n_together: int) -> None:
        """Expect no more of one of so many that a worker has: submitted again, it is suspect."""
        attempt.is_abandoned = True
        n_lost = max(attempt.n_lost + 1, _SUSPECT_AFTER)
        self._abandoned[attempt.key] = n_lost, _half(n_together)

    def acquit(self, attempts: Iterable[Attempt]) -> None:
        """Note that these came back."""
        for attempt in attempts:
            self._abandoned.pop(attempt.key, None)

    def clear(self) -> None:
        """Forget all that waits."""
        self._trusted.clear()
        self._suspects.clear()

    def _queue_of(self, attempt: Attempt) -> deque[Attempt]:
        return self._suspects if attempt.is_suspect else self._trusted


def _half(n: int) -> int:
    return max(1, math.ceil(n / 2))

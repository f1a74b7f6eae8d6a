"""Visibility: which results a proposal may use. The search sees results through here alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from gasearch.store.records import Outcome


class Visibility(Protocol):
    """When results become visible to proposals: the same live, on resume and on replay."""

    def add(self, outcome: Outcome) -> None:
        """Take a committed result."""
        ...

    def mark_long(self, number: int) -> None:
        """Note that candidate `number`, still relaxing, took more than `long_calls` force calls."""
        ...

    def is_ready(self, number: int) -> bool:
        """Return whether all is known that the proposal of candidate `number` has to use."""
        ...

    def release(self, number: int, known: int | None = None) -> Iterator[Outcome]:
        """Yield, once each, the results that become visible with the proposal of a candidate.

        `known`, on replay, is the number of the last result that the recorded proposal had seen.
        """
        ...


class Immediate:
    """A result is visible as soon as it is committed: no proposal waits for a long relaxation."""

    def __init__(self) -> None:
        self._waiting: deque[Outcome] = deque()

    def add(self, outcome: Outcome) -> None:
        """Take a committed result; they come in the order of their numbers."""
        self._waiting.append(outcome)

    def mark_long(self, number: int) -> None:
        """Nothing depends on it here."""

    def is_ready(self, number: int) -> bool:  # noqa: ARG002
        """Return True: the next proposal uses what is there."""
        return True

    def release(self, number: int, known: int | None = None) -> Iterator[Outcome]:  # noqa: ARG002
        """Yield all results that were committed, up to `known` where that is given."""
        while self._waiting and (known is None or self._waiting[0].result <= known):
            yield self._waiting.popleft()


class Lagged:
    """Candidate k sees the outcomes of candidates up to k - lag, whatever finished when.

    The path of the search then does not depend on timing. An outcome that took more than
    `long_calls` force calls becomes visible only `16 x slots` candidates later, or one long
    relaxation would idle all slots.

    Parameters
    ----------
    slots
        Candidates in flight; the lag is twice that.
    long_calls
        Force calls above which a relaxation counts as long.
    """

    def __init__(self, slots: int, long_calls: int) -> None:
        self._lag = 2 * slots
        self._long_lag = 16 * slots
        self._long_calls = long_calls
        self._outcomes: dict[int, Outcome] = {}
        self._running_long: set[int] = set()
        self._held: list[int] = []  # candidates whose short lag is over, not yet visible
        self._next = 1

    def add(self, outcome: Outcome) -> None:
        """Take a committed result, in any order."""
        self._outcomes[outcome.candidate] = outcome

    def mark_long(self, number: int) -> None:
        """Let proposals go on without this candidate until its long lag is over."""
        self._running_long.add(number)

    def is_ready(self, number: int) -> bool:
        """Return whether every outcome that this proposal uses, or may ignore, is settled."""
        pending = [*self._held, *range(self._next, number - self._lag + 1)]
        return all(
            c in self._outcomes or (c in self._running_long and c > number - self._long_lag)
            for c in pending
        )

    def release(self, number: int, known: int | None = None) -> Iterator[Outcome]:  # noqa: ARG002
        """Yield outcomes in the order of their candidates."""
        due = max(self._next, number - self._lag + 1)
        self._held.extend(range(self._next, due))
        self._next = due
        visible = [c for c in self._held if c <= number - self._long_lag or not self._is_long(c)]
        self._held = [c for c in self._held if c not in set(visible)]
        for candidate in visible:
            yield self._outcomes.pop(candidate)

    def _is_long(self, candidate: int) -> bool:
        outcome = self._outcomes.get(candidate)
        return outcome is None or outcome.n_calls > self._long_calls

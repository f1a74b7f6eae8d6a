"""How a running search shows that it runs: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from gasearch.store.records import Outcome

_FIRST_LINES_EVERY_S = 10.0
_LINES_PER_RUN = 200  # so that the log of a search of days stays readable


class Watch(Protocol):
    """Shows how a search proceeds."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def __call__(self, outcomes: Sequence[Outcome]) -> None:
        """Take the results of one commit."""
        ...


def watch(console: Console, n_done: int, budget: int) -> Watch:
    """Return a progress bar on a terminal, plain lines elsewhere."""
    return (BarWatch if _is_screen(console) else LineWatch)(console, n_done, budget)


@contextmanager
def watch_several(
    console: Console, searches: Sequence[tuple[str, int, int]]
) -> Iterator[list[Watch]]:
    """Yield one watch for each search; bars below each other on a terminal.

    Parameters
    ----------
    searches
        Name, results so far, and budget of each.
    """
    if not _is_screen(console):
        yield [LineWatch(console, n_done, budget, name=name) for name, n_done, budget in searches]
        return
    with _bars(console) as bars:
        yield [BarWatch(console, n_done, budget, bars, name) for name, n_done, budget in searches]


def _is_screen(console: Console) -> bool:
    return console.file.isatty() and not console.is_dumb_terminal


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
    )


class _Tally:
    """Counts results since the start and keeps the last one in words."""

    def __init__(self, n_done: int) -> None:
        self.n_done = n_done
        self.n_not_ok = 0
        self.last = ""

    def add(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self.n_done += 1
            self.n_not_ok += outcome.verdict != "ok"
            energy = "" if outcome.verdict == "failed" else f" {outcome.energy:.3f} eV"
            self.last = f"{outcome.composition}{energy} {outcome.verdict}"


class BarWatch:
    """A progress bar, for a terminal.

    Parameters
    ----------
    bars
        Where it is one of several; a display of its own if None.
    """

    def __init__(
        self,
        console: Console,
        n_done: int,
        budget: int,
        bars: Progress | None = None,
        name: str = "relaxed",
    ) -> None:
        self._tally = _Tally(n_done)
        self._progress = bars or _bars(console)
        self._task = self._progress.add_task("", total=budget, completed=n_done, name=name)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def __call__(self, outcomes: Sequence[Outcome]) -> None:
        """Show the newest results."""
        self._tally.add(outcomes)
        if outcomes:
            self._progress.update(
                self._task, completed=self._tally.n_done, description=self._tally.last
            )


class LineWatch:
    """A line now and then, for a log file."""

    def __init__(
        self,
        console: Console,
        n_done: int,
        budget: int,
        clock: Callable[[], float] = time.monotonic,
        name: str = "",
    ) -> None:
        self._console = console
        self._tally = _Tally(n_done)
        self._budget = budget
        self._clock = clock
        self._lead = f"{name}: " if name else ""
        self._start = clock()
        self._last_line = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __call__(self, outcomes: Sequence[Outcome]) -> None:
        """Show the newest results, unless there was a line a moment ago."""
        self._tally.add(outcomes)
        now = self._clock()
        every_s = max(_FIRST_LINES_EVERY_S, (now - self._start) / _LINES_PER_RUN)
        if outcomes and now - self._last_line >= every_s:
            self._last_line = now
            self._console.print(
                f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {self._lead}{self._tally.n_done} of "
                f"{self._budget} candidates, {self._tally.n_not_ok} not ok; "
                f"last: {self._tally.last}"
            )

"""How something that runs for long shows that it runs: a bar on a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from gasearch.display.terminal import is_screen
from gasearch.store.records import Outcome

_FIRST_LINES_EVERY_S = 10.0
_LINES_PER_RUN = 200  # so that the log of a search of days stays readable


@dataclass(frozen=True)
class Step:
    """Where something stands, in two forms.

    Parameters
    ----------
    line
        For a log.
    lead, text
        Before and behind a bar; None leaves the text as it was.
    done, total
        The part of the bar that is filled.
    is_last
        Whether its line is printed even shortly after another one.
    """

    line: str
    lead: str
    done: int
    total: int
    text: str | None
    is_last: bool = False


class Bar:
    """A progress bar, for a terminal."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def show(self, step: Step) -> None:
        """Fill the bar; a new one begins where something stands that is continued."""
        if self._task is None:
            self._task = self._bars.add_task("", total=step.total, completed=step.done, lead="")
        self._bars.update(self._task, completed=step.done, description=step.text, lead=step.lead)


class Log:
    """A line now and then, for a log file."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._start_s: float | None = None
        self._last_line_s = float("-inf")

    def show(self, step: Step) -> None:
        """Print a line, unless there was one a moment ago."""
        now_s = self._clock()
        if self._start_s is None:
            self._start_s = now_s
        every_s = max(_FIRST_LINES_EVERY_S, (now_s - self._start_s) / _LINES_PER_RUN)
        if step.is_last or now_s - self._last_line_s >= every_s:
            self._last_line_s = now_s
            self._console.print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {step.line}")


@contextmanager
def displays(
    console: Console, number: int = 1, *, with_counts: bool = False
) -> Iterator[list[Bar | Log]]:
    """Yield so many bars below each other, or logs where there is no terminal."""
    if not is_screen(console):
        yield [Log(console) for _ in range(number)]
        return
    columns = (
        TextColumn("{task.fields[lead]}", markup=False),
        BarColumn(),
        *([MofNCompleteColumn()] if with_counts else []),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console) as bars:
        yield [Bar(bars) for _ in range(number)]


class SearchProgress:
    """Counts the results of a search, and shows the last one.

    Parameters
    ----------
    name
        Of the search, where there are several.
    """

    def __init__(self, display: Bar | Log, n_done: int, budget: int, name: str = "") -> None:
        self._display = display
        self._n_done, self._n_not_ok = n_done, 0
        self._budget = budget
        self._name = name

    def __call__(self, outcomes: Sequence[Outcome]) -> None:
        """Take the results of one commit."""
        self._n_done += len(outcomes)
        self._n_not_ok += sum(outcome.verdict != "ok" for outcome in outcomes)
        if outcomes:
            last = outcomes[-1]
            energy = "" if last.verdict == "failed" else f" {last.energy:.3f} eV"
            self.show(f"{last.composition}{energy} {last.verdict}")

    def show(self, last: str) -> None:
        """Show the counts, and the last result in words."""
        lead = f"{self._name}: " if self._name else ""
        counts = f"{self._n_done} of {self._budget} candidates, {self._n_not_ok} not ok"
        line = f"{lead}{counts}; last: {last}"
        step = Step(line, self._name or "relaxed", self._n_done, self._budget, last)
        self._display.show(step)


@contextmanager
def watch_searches(
    console: Console, searches: Sequence[tuple[int, int, str]]
) -> Iterator[list[SearchProgress]]:
    """Yield what shows the progress of each search.

    Parameters
    ----------
    searches
        Results so far, budget, and name of each; "" for a single search.
    """
    with displays(console, len(searches), with_counts=True) as shown:
        found = [SearchProgress(one, *each) for one, each in zip(shown, searches, strict=True)]
        for one, display in zip(found, shown, strict=True):
            if isinstance(display, Bar):
                one.show("")
        yield found

"""A log gets a line now and then, a terminal a bar."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from gasearch.display.progress import Bar, Log, SearchProgress, Step, displays, watch_searches
from gasearch.store.records import Outcome


class Screen(io.StringIO):
    def isatty(self):
        return True


def outcome(number, verdict="ok"):
    energy = float("nan") if verdict == "failed" else -10.0 - number
    return Outcome(number, number, "NaFePO4", energy, verdict, 5)


def log(file, n_done, budget, clock):
    return SearchProgress(Log(Console(file=file, width=200), lambda: clock[0]), n_done, budget)


def test_a_log_gets_a_line_now_and_then():
    now, file = [0.0], io.StringIO()
    observe = log(file, 5, 20, now)
    observe([outcome(1)])
    observe([outcome(2, "failed")])
    assert len(file.getvalue().splitlines()) == 1
    now[0] = 10.0
    observe([])
    observe([outcome(3, "order_lost")])
    first, second = file.getvalue().splitlines()
    assert first.endswith("6 of 20 candidates, 0 not ok; last: NaFePO4 -11.000 eV ok")
    assert second.endswith("8 of 20 candidates, 2 not ok; last: NaFePO4 -13.000 eV order_lost")


def test_the_log_of_days_stays_short():
    now, file = [0.0], io.StringIO()
    observe = log(file, 0, 10**6, now)
    for number in range(20_000):
        now[0] = 60.0 * number
        observe([outcome(number)])
    assert 100 < len(file.getvalue().splitlines()) < 2000


def test_a_file_gets_lines_whatever_colours_are_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with displays(Console(file=io.StringIO())) as (display,):
        assert isinstance(display, Log)


def test_each_search_is_named(capsys):
    with watch_searches(Console(width=200), [(0, 10, "a"), (7, 20, "b")]) as (one, two):
        one([outcome(1)])
        two([outcome(1)])
    first, second = capsys.readouterr().out.splitlines()
    assert "a: 1 of 10 candidates" in first
    assert "b: 8 of 20 candidates" in second


def test_a_last_line_is_printed_even_shortly_after_another():
    file = io.StringIO()
    display = Log(Console(file=file, width=200), lambda: 0.0)
    for line, is_last in (("one", False), ("two", False), ("three", True)):
        display.show(Step(line, "", 1, 3, None, is_last))
    assert [line.rpartition(" ")[2] for line in file.getvalue().splitlines()] == ["one", "three"]


def test_a_bar_of_what_is_continued_starts_where_it_was():
    with Progress(console=Console(file=io.StringIO())) as bars:
        Bar(bars).show(Step("", "epoch 3/4", 5, 8, None))
        (task,) = bars.tasks
    assert (task.completed, task.total) == (5, 8)


def test_a_terminal_gets_a_bar():
    file = Screen()
    out = Console(file=file, width=100, force_terminal=True, _environ={"TERM": "xterm"})
    with watch_searches(out, [(2, 10, "")]) as (observe,):
        observe([outcome(1), outcome(2, "failed")])
        observe([])
    text = file.getvalue()
    assert "4/10" in text
    assert "NaFePO4 failed" in text


@pytest.mark.parametrize(("terminal", "kind"), [("xterm", Bar), ("dumb", Log)])
def test_a_dumb_terminal_gets_lines(terminal, kind):
    out = Console(file=Screen(), force_terminal=True, _environ={"TERM": terminal})
    with displays(out, 2) as found:
        assert [type(one) for one in found] == [kind, kind]

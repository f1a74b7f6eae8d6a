"""Consoles print text as it is, in files and terminals of any width."""

import io
import json

from rich.table import Table

from gasearch.display.tables import as_json
from gasearch.display.terminal import make_console


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_a_file_has_no_width(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert make_console().width >= 1000


def test_a_terminal_has_its_own_width_down_to_what_numbers_need(monkeypatch):
    monkeypatch.setattr("sys.stdout", Screen())
    monkeypatch.setenv("COLUMNS", "93")
    assert make_console().width == 93
    monkeypatch.setenv("COLUMNS", "20")
    assert make_console().width == 80


def test_text_is_printed_as_it_is(monkeypatch):
    monkeypatch.setattr("sys.stdout", file := io.StringIO())
    make_console().print("./a.py:fire:x [bold]b[/bold] " + "long " * 100)
    assert file.getvalue() == "./a.py:fire:x [bold]b[/bold] " + "long " * 100 + "\n"


def test_a_closed_stdout_does_no_harm(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    make_console().print("a")


def test_a_terminal_obeys_nothing_that_stands_in_data(monkeypatch):
    monkeypatch.setattr("sys.stdout", file := io.StringIO())
    table = Table("name\x1b[2J")
    table.add_row("\x1b]0;owned\x07\x9b2J\u202eabc")
    console = make_console()
    console.print(table)
    console.print("\x1b[31mred", "two\nlines\rover")
    text = file.getvalue()
    assert not set(text) & set("\x1b\x07\x9b\r\u202e")
    assert "abc" in text
    assert "[31mred two\nlines" in text
    assert json.loads(as_json("\x9b\x1b")) == "\x9b\x1b"
    assert not set(as_json("\x9b\x1b")) & set("\x9b\x1b")

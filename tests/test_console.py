"""What is shown: nothing is cut off, and JSON is JSON."""

import io
import json

import pytest
from rich.console import Console

from gasearch import console
from gasearch.enumerating import host_of
from gasearch.inspection import CompositionStatus, Findings, Ranked, Status
from gasearch.progress import BarWatch, LineWatch, watch
from gasearch.run_folder import RunFolder
from gasearch.session import Session
from gasearch.store.records import Counts, Outcome
from gasearch.terminal import make_console

LONG = "0123456789abcdef" * 8


def shown(content, width=10_000):
    file = io.StringIO()
    Console(file=file, width=width, soft_wrap=True, highlight=False).print(content)
    return file.getvalue()


def ranked(number=1234567, **keys):
    given = {
        "x": 2 / 3,
        "energy_eV": -12345.67891,
        "formation_energy_eV_per_fu": -0.1234,
        "above_hull_eV_per_fu": 0.0,
        "fingerprint": LONG,
        "orbit_size": 48,
        "verdict": "ok",
        "formula": "Na32Fe24Mn24P48O192",
        "operator": "./my_operators.py:RandomOperation",
    }
    return Ranked(number, **(given | keys))


def composition(**keys):
    given = {
        "x": 2 / 3,
        "formula": "Na32Fe24Mn24P48O192",
        "searched": 1234,
        "total": 11_269_366_602,
        "relaxed": 1230,
        "failed": 4,
        "best": 1234567,
        "best_energy_eV": -12345.67891,
        "best_formation_energy_eV_per_fu": 0.25,
    }
    return CompositionStatus(**(given | keys))


def status(**keys):
    counts = Counts(10, 7, 2, 3, 1, 0, 275, {"ok": 7, "failed": 2})
    given = {"by_composition": (composition(),), "done": False, "ending": None, "running": None}
    return Status(counts, **(given | keys))


@pytest.mark.parametrize("width", [80, 100, 10_000])
class TestTables:
    def test_no_candidate_loses_a_digit(self, width):
        text = shown(console.ranked_table([ranked()]), width)
        assert "…" not in text
        for word in ("1234567", "0.6667", "-12345.6789", "-123.4", "0.0"):
            assert word in text

    def test_a_fingerprint_is_whole_even_where_it_is_folded(self, width):
        text = shown(console.ranked_table([ranked(number=1, operator="rule")]), width)
        rows = [line.rstrip().split(" ")[-1] for line in text.splitlines()[2:]]
        assert "".join(rows) == LONG

    def test_no_composition_loses_a_digit(self, width):
        text = shown(console.composition_table([composition()]), width)
        assert "…" not in text
        for word in ("0.6667", "1,234 / 11,269,366,602", "1234567", "-12345.6789", "250.0"):
            assert word in text

    def test_no_decoration_is_cut(self, width):
        row = {"x": 0.5, "orbit_size": 8, "fingerprint": "3f", "species": "vacancy Na+ Fe3+ " * 12}
        text = shown(console.decoration_table([row]), width)
        assert text.count("vacancy") == 12


def test_a_count_of_any_size_is_whole():
    rows = [{"x": 0.5, "raw": 10**50 + 7, "distinct": 10**48 + 3}]
    text = shown(console.count_table(rows)).replace(",", "")
    assert str(10**50 + 7) in text
    assert str(10**48 + 3) in text


def test_what_is_unknown_is_a_dash():
    unknown = {"formation_energy_eV_per_fu": None, "above_hull_eV_per_fu": None}
    assert shown(console.ranked_table([ranked(**unknown)])).count(" - ") == 2
    none = {"best": None, "best_energy_eV": None, "best_formation_energy_eV_per_fu": None}
    assert shown(console.composition_table([composition(**none)])).count("-") == 3


class TestStatusLines:
    def test_they_count(self):
        first, second, *_ = console.status_lines(status(), "run")
        assert first.startswith("10 candidates: 7 relaxed, 2 failed, 1 in flight, 0 queued; 3 dupl")
        assert second == "verdicts: 2 failed, 7 ok"

    @pytest.mark.parametrize(
        ("keys", "line"),
        [
            ({"running": "process 7 on here"}, "running: process 7 on here"),
            ({"done": True, "ending": "budget"}, "done (budget)"),
            ({"ending": "stopped"}, "not running (stopped); resume with: gasearch run 'a b'"),
            ({}, "not running (ended without a word: killed, or by an error); resume with"),
        ],
    )
    def test_they_say_what_to_do(self, keys, line):
        assert console.status_lines(status(**keys), "'a b'")[-1].startswith(line)


def test_a_status_is_json():
    document = json.loads(console.as_json(console.status_document(status())))
    names = {"candidates", "relaxed", "failed", "duplicates", "in_flight", "by_composition", "done"}
    assert names <= document.keys()
    assert document["by_composition"][0]["best_energy_eV"] == -12345.67891


def test_no_document_holds_what_json_does_not_have():
    with pytest.raises(ValueError, match="JSON"):
        console.as_json({"a": float("nan")})


def test_a_host_is_shown_with_its_group_and_symprec():
    lines = "\n".join(console.host_lines(host_of("nafepo4-olivine", (1, 2, 1))))
    assert "56 sites, 8 x NaFePO4" in lines
    assert "Pnma (62) at symprec = 0.01 Å, 16 operations in the supercell" in lines
    assert "working ion   8 sites: Na+, vacancy" in lines
    assert "x = 0 to 1 in 9 compositions, 874 distinct decorations" in lines


def test_the_first_failures_are_shown_and_the_others_counted(tmp_path, make_run):
    options = {"supercell": (1, 2, 1), "budget": 8, "search": {"x": ["3/8"], "budget": 8}}
    folder = make_run(tmp_path / "run", "./toy.py:Raising", **options)
    Session(RunFolder(folder)).run()
    with RunFolder(folder).open_store() as store:
        findings = Findings(store)
        lines, n_failed = console.failure_lines(findings), len(findings.failures())
    assert n_failed == 6
    assert len(lines) == 4
    assert "the calculator gave up" in lines[0]
    assert lines[-1] == "and 3 more failed"


class Screen(io.StringIO):
    def isatty(self):
        return True


class TestConsole:
    def test_a_file_has_no_width(self, monkeypatch):
        monkeypatch.setattr("sys.stdout", io.StringIO())
        assert make_console().width >= 1000

    def test_a_terminal_has_its_own_width_down_to_what_numbers_need(self, monkeypatch):
        monkeypatch.setattr("sys.stdout", Screen())
        monkeypatch.setenv("COLUMNS", "93")
        assert make_console().width == 93
        monkeypatch.setenv("COLUMNS", "20")
        assert make_console().width == 80

    def test_text_is_printed_as_it_is(self, monkeypatch):
        monkeypatch.setattr("sys.stdout", file := io.StringIO())
        make_console().print("./a.py:fire:x [bold]b[/bold] " + "long " * 100)
        assert file.getvalue() == "./a.py:fire:x [bold]b[/bold] " + "long " * 100 + "\n"

    def test_a_closed_stdout_does_no_harm(self, monkeypatch):
        monkeypatch.setattr("sys.stdout", None)
        make_console().print("a")


def outcome(number, verdict="ok"):
    energy = float("nan") if verdict == "failed" else -10.0 - number
    return Outcome(number, number, "NaFePO4", energy, verdict, 5)


class TestProgress:
    def lines(self, file):
        return file.getvalue().splitlines()

    def test_a_log_gets_a_line_now_and_then(self):
        now, file = [0.0], io.StringIO()
        out = Console(file=file, width=200)
        with LineWatch(out, 5, 20, clock=lambda: now[0]) as observe:
            observe([outcome(1)])
            observe([outcome(2, "failed")])
            assert len(self.lines(file)) == 1
            now[0] = 10.0
            observe([])
            observe([outcome(3, "order_lost")])
        first, second = self.lines(file)
        assert first.endswith("6 of 20 candidates, 0 not ok; last: NaFePO4 -11.000 eV ok")
        assert second.endswith("8 of 20 candidates, 2 not ok; last: NaFePO4 -13.000 eV order_lost")

    def test_the_log_of_days_stays_short(self):
        now, file = [0.0], io.StringIO()
        observe = LineWatch(Console(file=file, width=200), 0, 10**6, clock=lambda: now[0])
        for number in range(20_000):
            now[0] = 60.0 * number
            observe([outcome(number)])
        assert 100 < len(self.lines(file)) < 2000

    def test_a_log_has_no_control_characters(self, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")
        file = io.StringIO()
        out = Console(file=file, width=200)
        with watch(out, 0, 10) as observe:
            assert isinstance(observe, LineWatch)
            observe([outcome(1)])

    def test_a_terminal_gets_a_bar(self):
        file = Screen()
        out = Console(file=file, width=100, force_terminal=True, _environ={"TERM": "xterm"})
        with watch(out, 2, 10) as observe:
            assert isinstance(observe, BarWatch)
            observe([outcome(1), outcome(2, "failed")])
            observe([])
        text = file.getvalue()
        assert "4/10" in text
        assert "NaFePO4 failed" in text

    def test_a_dumb_terminal_gets_lines(self):
        out = Console(file=Screen(), force_terminal=True, _environ={"TERM": "dumb"})
        assert isinstance(watch(out, 0, 10), LineWatch)

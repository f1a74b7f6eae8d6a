"""What is shown: nothing is cut off, and JSON is JSON."""

import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from gasearch.analysis.enumerate import host_of
from gasearch.analysis.findings import (
    CompositionStatus,
    Findings,
    NotValid,
    Ranked,
    RefinedMember,
    RefinedStatus,
    Status,
    SurrogateStatus,
)
from gasearch.display import search_tables as console
from gasearch.display.progress import BarWatch, LineWatch, watch
from gasearch.display.terminal import make_console
from gasearch.execution.engine_file import EngineRecord
from gasearch.processes import identity
from gasearch.relax.audit import VERDICTS
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store.activity import Activity, OldestLease
from gasearch.store.records import Counts, Outcome

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
        "valid": 1228,
        "open": 11_269_365_368,
        "not_valid": (),
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


PROVEN = {"total": 64, "searched": 64, "open": 0, "valid": 61}
LOST = (NotValid(17, "order_lost"), NotValid(31, "order_lost"))
WHERE = "from the standard start, for this host, supercell and level"


class TestProof:
    def test_what_is_open_is_counted(self):
        line = console.proof_line(composition(total=64, open=12))
        assert line == "not proven: 12 of 64 distinct decorations are open"
        assert console.proof_line(composition(total=64, open=1)).endswith("decorations is open")

    def test_what_does_not_count_is_listed(self):
        row = composition(**PROVEN, not_valid=(*LOST, NotValid(40, "failed")))
        assert console.proof_line(row) == (
            f"proven among 61 of 64 distinct decorations with valid energies {WHERE}; "
            "2 lost their order: 17, 31; 1 failed: 40"
        )

    def test_every_verdict_but_ok_has_words(self):
        for verdict in set(VERDICTS) - {"ok"}:
            line = console.proof_line(composition(**PROVEN, not_valid=(NotValid(7, verdict),)))
            assert re.search(r"; 1 [a-z ]+: 7$", line), verdict

    def test_nothing_valid_proves_nothing(self):
        row = composition(total=2, open=0, valid=0, not_valid=LOST)
        assert console.proof_line(row) == (
            f"nothing to prove: none of 2 distinct decorations has a valid energy {WHERE}; "
            "2 lost their order: 17, 31"
        )

    def test_the_table_has_the_number_where_there_is_a_proof(self):
        rows = [composition(**PROVEN), composition(total=64, open=1, valid=63)]
        _, _, proven, not_proven = shown(console.composition_table(rows)).splitlines()
        assert proven.split()[-1] == "61"
        assert not_proven.split()[-1] == "250.0"

    def test_notes_are_of_proofs_with_exceptions_alone(self):
        rows = [
            composition(**PROVEN),
            composition(**PROVEN, not_valid=LOST),
            composition(not_valid=LOST),
        ]
        (line,) = console.proof_notes(rows)
        assert line == f"x = 0.6667: {console.proof_line(rows[1])}"


class TestStatusLines:
    @pytest.mark.parametrize(
        ("errors", "used", "line"),
        [
            ((0.0123, 0.041), True, "over 240 results (mean of each composition: 41.0), used"),
            ((0.05, 0.041), False, "not used: it predicts no better than the mean of each comp"),
            ((0.0123, 0.041), False, "41.0), not used: too few results"),
            ((None, None), False, "surrogate: not used: 240 results are too few to tell its error"),
        ],
    )
    def test_they_say_how_well_the_surrogate_predicts(self, errors, used, line):
        found = status(surrogate=SurrogateStatus(300, 240, *errors, used))
        assert line in console.status_lines(found, "run")[-1]

    def test_they_say_what_lies_around_the_hull_members(self):
        members = (
            RefinedMember(14, 0.5, 24, 18, 6, 0, 0.0123, 4.08),
            RefinedMember(2, 1.0, 0, 0, 0, 0, None, None),
            RefinedMember(9, 0.25, 5, 3, 0, 2, None, None),
        )
        *_, first, second = console.status_lines(status(refined=RefinedStatus(members)), "run")
        assert first == (
            "around candidate 14 (x = 0.5): 24 neighbours by one exchange: 18 evaluated, 0 open, "
            "6 screened out, the nearest predicted 12.3 meV/f.u. above it (4.1 standard deviations)"
        )
        assert second.endswith("5 neighbours by one exchange: 3 evaluated, 2 open, 0 screened out")

    def test_they_count(self):
        first, second, *_ = console.status_lines(status(), "run")
        assert first.startswith("10 candidates: 7 relaxed, 2 failed, 1 in flight, 0 queued; 3 dupl")
        assert second == "verdicts: 2 failed, 7 ok"

    def test_they_say_how_the_search_proceeds(self):
        lease = OldestLease(57, 7265.0, is_overdue=True)
        found = Activity(412.4, 3.25, lease, attempts=5, crashes=2, late_results=1)
        lines = console.status_lines(status(activity=found), "run")
        assert lines[-4:] == [
            "throughput: 412 in the last hour, 3.2 in all (relaxations per hour of running)",
            "oldest lease: candidate 57, 2 h 1 min, overdue",
            "tried again: 5 leases, 2 after a crash",
            "late: 1 result kept, and not counted",
        ]

    def test_they_tell_the_workers_of_a_driver_that_runs(self):
        workers = {"connected": 3, "busy": 2, "most": 8, "waiting": 5, "under_way": 12}
        record = EngineRecord("parsl", "slurm", identity(), workers=workers, updated=1000.0)
        (line,) = console.engine_lines(record, 1005.0)
        assert line == (
            "workers: 3 connected, 2 busy, of 8 at most (parsl, slurm); 12 relaxations under way, "
            "5 waiting"
        )
        record = replace(record, workers={**workers, "note": "squeue: error"})
        (line,) = console.engine_lines(record, 1130.0)
        assert line.endswith("5 waiting, as of 2 min 10 s ago; squeue: error")
        document = console.status_document(status(engine=record))["workers"]
        assert (document["connected"], document["note"], document["left_behind"]) == (
            3,
            "squeue: error",
            0,
        )

    def test_they_tell_what_a_dead_driver_left(self):
        dead = {**identity(), "started": "another:1"}
        record = EngineRecord("local", "local", dead, [{"role": "worker"}], ["4711"])
        (line,) = console.engine_lines(record, 0.0)
        assert line.startswith(
            "workers: 2 processes or jobs of a dead driver may be left; the next"
        )
        assert console.engine_lines(EngineRecord("local", "local", dead), 0.0) == []

    def test_they_are_silent_about_what_did_not_happen(self):
        nothing = Activity(None, None, None, attempts=0, crashes=0, late_results=0)
        expected = console.status_lines(status(), "run")
        assert console.status_lines(status(activity=nothing), "run") == expected

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
    assert document["by_composition"][0]["proven"] is False
    assert document["surrogate"] is document["refined"] is None


def test_what_the_search_says_is_in_the_status_document():
    member = RefinedMember(14, 0.5, 24, 18, 6, 0, 0.0123, 4.1)
    lost = composition(open=0, not_valid=(NotValid(17, "order_lost"),))
    found = status(
        by_composition=(lost,),
        surrogate=SurrogateStatus(300, 240, 0.0123, 0.041, True),
        refined=RefinedStatus((member,)),
    )
    document = json.loads(console.as_json(console.status_document(found)))
    assert document["surrogate"] == {
        "candidate": 300,
        "n_results": 240,
        "error_eV_per_fu": 0.0123,
        "mean_error_eV_per_fu": 0.041,
        "used": True,
    }
    assert document["refined"]["members"][0]["nearest_margin_sigmas"] == 4.1
    (row,) = document["by_composition"]
    assert row["proven"] is True
    assert row["not_valid"] == [{"id": 17, "verdict": "order_lost"}]


def test_how_the_search_proceeds_is_in_the_status_document():
    found = status(activity=Activity(412.4, None, OldestLease(57, 7.5, False), 5, 2, 1))
    document = json.loads(console.as_json(console.status_document(found)))
    assert document["throughput"] == {"last_hour_per_h": 412.4, "overall_per_h": None}
    assert document["oldest_lease"] == {"candidate": 57, "age_s": 7.5, "is_overdue": False}
    assert (document["attempts"], document["crashes"], document["late_results"]) == (5, 2, 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (90_061, "1 d 1 h")],
)
def test_a_stretch_of_time_is_told_in_its_two_largest_units(seconds, text):
    assert console.age(seconds) == text


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

    def test_a_terminal_obeys_nothing_that_stands_in_data(self, monkeypatch):
        monkeypatch.setattr("sys.stdout", file := io.StringIO())
        table = Table("name\x1b[2J")
        table.add_row("\x1b]0;owned\x07\x9b2J\u202eabc")
        console_ = make_console()
        console_.print(table)
        console_.print("\x1b[31mred", "two\nlines\rover")
        text = file.getvalue()
        assert not set(text) & set("\x1b\x07\x9b\r\u202e")
        assert "abc" in text
        assert "[31mred two\nlines" in text
        assert json.loads(console.as_json("\x9b\x1b")) == "\x9b\x1b"
        assert not set(console.as_json("\x9b\x1b")) & set("\x9b\x1b")

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

"""Where one looks: why candidates are not ok, what a charge-blind run says, what to type next."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from command_line import run_here

from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store.schema import run as run_table

BLIND = "charge-blind: where two sites swap oxidation states"


@pytest.fixture(scope="module")
def failing(tmp_path_factory, make_run):
    """A run of eight candidates: both ends, and six that the calculator gave up."""
    options = {"supercell": (1, 2, 1), "budget": 8, "search": {"x": ["3/8"], "budget": 8}}
    folder = make_run(tmp_path_factory.mktemp("failing") / "run", "./toy.py:Raising", **options)
    Session(RunFolder(folder)).run()
    return folder


@pytest.fixture(scope="module")
def blind(tmp_path_factory, make_run):
    folder = make_run(tmp_path_factory.mktemp("blind") / "run", "./toy.py:Blind", budget=4)
    started = run_here("run", folder)
    assert started.status == 0
    return folder, started


class TestReasons:
    def test_status_names_the_commonest_with_an_example(self, failing):
        answer = run_here("status", failing)
        (line,) = [line for line in answer.out.splitlines() if line.startswith("not ok: ")]
        assert re.match(r"not ok: 6 failed, such as candidate \d: .*the calculator gave up", line)
        (cause,) = run_here("status", failing, "--json").json["reasons"]
        assert cause["candidates"] == 6

    def test_best_has_them_all_if_asked(self, failing):
        assert len(run_here("best", failing, "--json").json) == 2
        every = run_here("best", failing, "--all", "--json").json
        assert len(every) == 8
        assert [row["verdict"] for row in every] == ["ok"] * 2 + ["failed"] * 6
        assert all("gave up" in row["reason"] for row in every[2:])
        assert [row["energy_eV"] for row in every[2:]] == [None] * 6
        shown = run_here("best", failing, "--all", "-n", "4").out
        assert shown.count("the calculator gave up") == 2
        assert "nan" not in shown

    def test_of_one_composition_too(self, failing):
        answer = run_here("best", failing, "--all", "-x", "3/8")
        assert answer.out.count("the calculator gave up") == 6
        assert "note: no candidate with verdict ok here yet" in answer.err


class TestChargeBlind:
    def test_run_status_hull_and_report_say_so(self, blind, tmp_path):
        folder, started = blind
        assert started.err.count(BLIND) == 2  # before it begins, and beside what it found
        assert BLIND in run_here("status", folder).out
        document = run_here("status", folder, "--json").json
        assert document["charge_blind"] is True
        assert 0 <= document["charge_awareness_eV"] < 0.005
        assert f"note: {BLIND}" in run_here("hull", folder).err
        page = tmp_path / "report.html"
        assert run_here("report", folder, "--output", page).status == 0
        assert page.read_text(encoding="utf-8").count(BLIND) >= 2
        assert BLIND in run_here("run", folder).err

    def test_an_aware_one_says_nothing(self, failing):
        document = run_here("status", failing, "--json").json
        assert document["charge_blind"] is False
        assert document["charge_awareness_eV"] > 0.005
        assert BLIND not in run_here("status", failing).out + run_here("hull", failing).err

    def test_of_an_older_run_nothing_is_claimed(self, failing, tmp_path):
        from sqlalchemy import update

        with RunFolder(failing).open_store() as store:
            store.backup(tmp_path / "search.db")
        with RunFolder(tmp_path).open_store(read_only=False) as store:
            change = update(run_table).values(settings='{"search.x": "all"}')
            store.write(lambda transaction: transaction.connection.execute(change))
        assert run_here("status", tmp_path, "--json").json["charge_blind"] is None


class TestWhatToTypeNext:
    def test_lineage_show_and_report_name_each_other(self, failing, tmp_path):
        folder = failing
        lineage = run_here("lineage", folder, "1")
        assert f"see also: gasearch show {folder} 1, gasearch report {folder}" in lineage.err
        show = run_here("show", folder, "1", "--output", tmp_path / "one.cif")
        assert f"see also: gasearch lineage {folder} 1, gasearch report {folder}" in show.err
        page = tmp_path / "a.html"
        report = run_here("report", folder, "--output", page)
        assert f"see also: gasearch show {folder} ID, gasearch lineage {folder} ID" in report.err
        text = page.read_text(encoding="utf-8")
        assert f"where it comes from: gasearch lineage {folder} " in text
        assert re.search(r'<section id="lineage">.*?<button class="show"', text, re.DOTALL)

    def test_json_stays_alone(self, failing):
        assert run_here("lineage", failing, "1", "--json").err == ""


class TestWatch:
    def test_it_goes_on_until_it_is_interrupted(self, failing):
        screen, ending, status = watched(failing, b"calculator gave up", 3)
        assert status == 0
        assert screen.count(b"\x1b[?1049h") == screen.count(b"\x1b[?1049l") == 1
        assert b"\x1b[2J" not in screen  # a screen that is cleared each time would flicker
        assert screen.count(b"Ctrl-C ends this") >= 3
        assert b"8 candidates: 2 relaxed, 6 failed" in ending
        assert b"not ok: 6 failed" in ending
        assert b"Traceback" not in ending

    def test_it_needs_a_terminal(self, failing):
        assert "--watch needs a terminal" in run_here("status", failing, "--watch").line
        assert "leave --watch out" in run_here("status", failing, "--watch", "--json").line


def watched(folder, awaited, n_times):
    """Run `status --watch` on a terminal; interrupt it after a text was shown so many times."""
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "gasearch", "status", str(folder), "--watch", "--every", "0.5"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": "40"}
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen, is_told = b"", False
    end_s = time.monotonic() + 120
    try:
        while time.monotonic() < end_s:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    new = os.read(ours, 1 << 16)
                except OSError:  # its last writer has gone
                    break
                seen += new
            if not is_told and seen.count(awaited) >= n_times:
                process.send_signal(signal.SIGINT)
                is_told = True
        status = process.wait(30)
    finally:
        process.kill()
        os.close(ours)
    return seen, seen.rpartition(b"\x1b[?1049l")[2], status

"""Several searches in one process: each as if it were alone, on workers that they share."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from rich.console import Console

from gasearch.analysis.findings import Findings
from gasearch.cli.run import NotOneEngineError, run_searches
from gasearch.display.status import status_document, status_entries
from gasearch.errors import GasearchError, UsageError
from gasearch.run.folder import RunFolder
from gasearch.search.check import check_run
from gasearch.search.session import Session
from gasearch.store.sqlite.lock import DriverLock

SLOW = """

class Slow(LabelEnergy):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(float(os.environ.get("SLOW_S", 0)))
"""
REPRODUCIBLE = {"reproducible": True, "in_flight": 2, "initial": 4}


@pytest.fixture
def run(capsys):
    """A function that runs searches, and returns what was printed."""

    def call(*folders):
        out, err = Console(width=300), Console(width=300, stderr=True)
        try:
            run_searches([RunFolder(folder) for folder in folders], out, err)
        finally:
            call.out, call.err = capsys.readouterr()

    return call


def recorded(folder):
    """Return the candidates in their order, and their results by candidate, to the last digit."""
    with RunFolder(folder).open_store() as store:
        candidates = [(p.fingerprint, p.operator, p.parents) for p in store.proposals()]
        outcomes = {o.candidate: (o.energy, o.verdict, o.n_calls) for o in store.outcomes()}
    return candidates, outcomes


def finished_at(folder):
    with RunFolder(folder).open_store() as store:
        events = store.events(kind="recorded")
    return [event.time_s for event in events if event.data["purpose"] == "search"]


def slow_run(folder, make_run, seed, **execution):
    search = REPRODUCIBLE | {"seed": seed}
    make_run(folder, "./toy.py:Slow", budget=10, search=search, execution=execution)
    with (folder / "toy.py").open("a") as file:
        file.write(SLOW)
    return folder


@pytest.mark.usefixtures("forked_workers")
def test_each_finds_what_it_finds_alone(tmp_path, make_run, run):
    relax = {"fmax": 3.0, "smax": 3.0}
    folders = []
    for seed in (1, 2):
        options = {"budget": 8, "search": REPRODUCIBLE | {"seed": seed}, "relax": relax}
        workers = {"execution": {"workers": 2}}
        folders.append(make_run(tmp_path / f"run{seed}", "pmmcs", **options, **workers))
        make_run(tmp_path / f"alone{seed}", "pmmcs", **options)
    run(*folders)
    for seed in (1, 2):
        Session(RunFolder(tmp_path / f"alone{seed}")).run()
        assert recorded(tmp_path / f"run{seed}") == recorded(tmp_path / f"alone{seed}")
    assert all(check_run(RunFolder(folder), replay=True) == [] for folder in folders)
    assert all(f"done (budget): {folder}/search.db" in run.out for folder in folders)


def test_none_waits_until_another_has_ended(tmp_path, make_run, run, monkeypatch):
    monkeypatch.setenv("SLOW_S", "0.4")
    folders = [slow_run(tmp_path / n, make_run, k, workers=2) for k, n in enumerate("ab", 1)]
    seen = []

    def look():
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.1)
            if (folders[1] / "search.db").exists():
                with RunFolder(folders[1]).open_store() as store:
                    findings = Findings(store)
                    entries = status_entries(findings, findings.status(), RunFolder(folders[1]))
                    status = status_document(entries)
                if status["relaxed"] and status["workers"] and status["workers"]["busy"]:
                    seen.append(status)
                    return

    looking = threading.Thread(target=look)
    looking.start()
    run(*folders)
    looking.join()
    first, second = map(finished_at, folders)
    assert len(first) == len(second) == 10
    middle = sorted([*first, *second])[10]
    assert 2 <= sum(time_s < middle for time_s in first) <= 8
    (status,) = seen
    assert status["running"]
    assert status["workers"]["most"] == 2
    assert 1 <= status["workers"]["busy"] <= status["workers"]["connected"] <= 2
    assert status["throughput"]["overall_per_h"] > 0
    assert not any((folder / "engine.json").exists() for folder in folders)


def test_one_that_fails_stops_no_other_and_is_named(tmp_path, make_run, run):
    blind = make_run(tmp_path / "blind", "./toy.py:Blind")
    text = (blind / "run.toml").read_text().replace('"allow_charge_blind" = true', "")
    (blind / "run.toml").write_text(text)
    wrong = make_run(tmp_path / "wrong", operators={"nonsense": 1})
    sound = make_run(tmp_path / "sound", budget=6)
    with pytest.raises(GasearchError, match=r"2 of 3 searches failed.*gasearch run \S+ \S+$"):
        run(blind, wrong, sound)
    assert len(recorded(sound)[1]) == 6
    lines = run.err.splitlines()
    assert [
        line for line in lines if line.startswith(f"gasearch: {wrong}: ") and "nonsense" in line
    ]
    assert [line for line in lines if line.startswith(f"gasearch: {blind}: ") and "blind" in line]
    assert not (blind / "search.db").exists()


def test_what_is_done_or_driven_elsewhere_is_named(tmp_path, make_run, run):
    folders = [make_run(tmp_path / name, budget=4) for name in "abc"]
    Session(RunFolder(folders[0])).run()
    with (
        DriverLock(folders[1] / "search.db"),
        pytest.raises(GasearchError, match="1 of 3 searches failed"),
    ):
        run(*folders)
    assert f"nothing to do in {folders[0]}" in run.out
    assert re.search(rf"gasearch: {folders[1]}: a search is already running here", run.err)
    assert len(recorded(folders[2])[1]) == 4


def test_different_engines_are_refused_before_anything_starts(tmp_path, make_run, run):
    one = make_run(tmp_path / "one", execution={"workers": 2})
    two = make_run(tmp_path / "two", execution={"workers": 3})
    with pytest.raises(NotOneEngineError, match=r"execution.workers is 2 in .*one and 3 in .*two"):
        run(one, two)
    assert not (one / "search.db").exists()


def test_a_folder_that_is_named_twice_is_refused(tmp_path, make_run, run):
    one = make_run(tmp_path / "one")
    with pytest.raises(UsageError, match="named twice"):
        run(one, tmp_path / "two" / ".." / "one")


@pytest.fixture(scope="module")
def pair(tmp_path_factory, make_run):
    """Two slow searches that were not started, and what each finds alone."""
    folder = tmp_path_factory.mktemp("pair")
    folders = [slow_run(folder / n, make_run, k, workers=2) for k, n in enumerate("ab", 1)]
    alone = [shutil.copytree(one, folder / f"alone-{one.name}") for one in folders]
    return folders, [finished_here(one) for one in alone]


def finished_here(folder):
    """Run a search to its end in this process; return what it found."""
    text = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(text.replace('"workers" = 2', '"workers" = 0'))
    Session(RunFolder(folder)).run()
    return recorded(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_all_of_them_and_each_can_be_resumed(tmp_path, pair, number):
    folders = [shutil.copytree(one, tmp_path / one.name) for one in pair[0]]
    process = subprocess.Popen(
        [sys.executable, "-m", "gasearch", "run", *map(str, folders)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SLOW_S": "0.5"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 120
    while not all((f / "search.db").exists() and recorded(f)[1] for f in folders):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    is_clean = number == signal.SIGINT
    assert process.returncode == (0 if is_clean else -number)
    assert "Traceback" not in err
    assert len(started) >= 2
    assert psutil.wait_procs(started, timeout=10)[1] == []
    for folder, alone in zip(folders, pair[1], strict=True):
        assert (f"Resume with: gasearch run {folder}" in out) == is_clean
        assert 0 < len(recorded(folder)[1]) < 10
        assert finished_here(folder) == alone

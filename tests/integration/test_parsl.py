"""Searches on Parsl whose parts are really killed, stopped and poisoned: nothing is lost or twice.

The processes are those of this machine, or of a scheduler that is a script of this folder.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from functools import partial

import psutil
import pytest
from searched import record
from waited import wait_for as wait_until

from gasearch import processes
from gasearch.execution.contract import ExecutionError
from gasearch.execution.engine_file import read_engine_file
from gasearch.execution.engines import open_engine
from gasearch.run.folder import RunFolder
from gasearch.search.check import check_run
from gasearch.search.session import Session

if "CI" not in os.environ:
    pytest.importorskip("parsl", reason="parsl is not installed")

MARK = "GASEARCH_TEST_RUN"
PARSL = {"engine": "parsl", "workers": 2, "poll_s": 0.3, "batch_s": 0.5}
DONE = "SELECT count(*) FROM evaluation WHERE state IN ('relaxed', 'failed')"
SEARCH = {"in_flight": 4, "reproducible": True}


wait_for = partial(wait_until, limit_s=500.0, every_s=0.1)


def n_done(folder):
    if not (folder / "search.db").exists():
        return 0
    with closing(sqlite3.connect(f"file:{folder / 'search.db'}?mode=ro", uri=True)) as database:
        return database.execute(DONE).fetchone()[0]


def of_run(mark):
    """Return the processes that carry a mark in the environment that they were started with."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """Mark all processes that a test starts; ten seconds after its end none is left."""
    monkeypatch.setenv(MARK, str(tmp_path))
    yield str(tmp_path)
    wait_for(lambda: not of_run(str(tmp_path)), limit_s=10.0)


class Driving(threading.Thread):
    """A search in a thread of this process."""

    def __init__(self, folder, engine=None):
        super().__init__(daemon=True)
        self.folder, self.stop, self.engine = folder, threading.Event(), engine
        self.ending = self.error = None
        self.start()

    def run(self):
        try:
            self.ending = Session(RunFolder(self.folder)).run(stop=self.stop, engine=self.engine)
        except BaseException as error:  # noqa: BLE001 -- told in the test
            self.error = error

    def end(self):
        self.join(timeout=500)
        assert not self.is_alive(), "the search does not end"
        if self.error is not None:
            raise self.error
        return self.ending


def drive(folder, engine=None):
    return Driving(folder, engine).end()


def roles(folder, role):
    """Return the processes of a role that the driver has recorded and that run."""
    found = read_engine_file(folder)
    recorded = [] if found is None else found.processes
    return [p["pid"] for p in recorded if p["role"] == role and processes.is_alive(p)]


def assert_whole(folder):
    assert check_run(RunFolder(folder), replay=True) == []


def make_runs(tmp_path, make_run, potential, budget, search=SEARCH, **execution):
    """Write two runs of one search: on Parsl, and in this process."""
    run = make_run(
        tmp_path / "run", potential, (1, 2, 1), budget, search=search, execution=PARSL | execution
    )
    calm = make_run(tmp_path / "calm", potential, (1, 2, 1), budget, search=search)
    return run, calm


def start(folder, mark):
    return subprocess.Popen(
        [sys.executable, "-m", "gasearch", "run", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, MARK: mark},
    )


def strike(folder, parts, n, is_alive, rng):
    """Kill parts of a search at random, once it has so many results."""
    wait_for(lambda: n_done(folder) >= n or not is_alive())
    victims = [wait_for(lambda part=part: roles(folder, part) or not is_alive()) for part in parts]
    time.sleep(rng.uniform(0, 0.4))
    assert is_alive(), "it ended before all were killed"
    for pids in victims:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(pids), signal.SIGKILL)


@pytest.mark.slow
def test_killed_in_turn_and_together_the_search_is_as_if_nothing_had_ever_been_killed(
    tmp_path, make_run, mark
):
    run, calm = make_runs(tmp_path, make_run, "./toy.py:Unhurried", 28, workers=1)
    rng = random.Random(5)
    process = start(run, mark)
    strike(run, ["worker"], 2, lambda: process.poll() is None, rng)
    strike(run, ["manager"], 5, lambda: process.poll() is None, rng)
    wait_for(lambda: n_done(run) >= 8)
    assert read_engine_file(run).is_current
    process.kill()
    process.communicate()
    assert not read_engine_file(run).is_current
    wait_for(lambda: not of_run(mark), limit_s=30.0)

    driving = Driving(run)
    strike(run, ["interchange"], 11, driving.is_alive, rng)
    strike(run, ["worker", "manager", "interchange"], 15, driving.is_alive, rng)
    assert driving.end() == "budget"
    drive(calm)
    assert record(run) == record(calm)
    assert_whole(run)
    assert not (run / "engine.json").exists()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, request):
    """One engine with two workers for several searches."""
    from gasearch.run.execution_section import ExecutionSection

    folder = tmp_path_factory.mktemp("engine")
    os.environ[MARK] = str(folder)
    engine = open_engine(ExecutionSection(**PARSL, min_blocks=1), folder)
    yield engine
    engine.close()
    del os.environ[MARK]
    wait_for(lambda: not of_run(str(folder)), limit_s=10.0)


@pytest.mark.slow
class TestShared:
    def test_several_searches_share_workers_and_find_what_each_would_alone(
        self, tmp_path, make_run, shared
    ):
        names = ("toy", "pmmcs")
        potentials = ("./toy.py:Unhurried", "pmmcs")
        runs = [
            make_run(tmp_path / name, potential, search=SEARCH, execution=PARSL)
            for name, potential in zip(names, potentials, strict=True)
        ]
        calm = [
            make_run(tmp_path / f"calm-{name}", potential, search=SEARCH)
            for name, potential in zip(names, potentials, strict=True)
        ]
        drivings = [Driving(run, shared) for run in runs]
        wait_for(lambda: all(map(n_done, runs)) or not all(d.is_alive() for d in drivings))
        assert shared.workers().connected == 2
        for driving in drivings:
            driving.end()
        for run, alone in zip(runs, calm, strict=True):
            drive(alone)
            assert record(run) == record(alone), "to the bit"
            assert_whole(run)
        assert (runs[0] / "engine.json").exists(), "the engine goes on"

    def test_a_worker_that_is_stopped_past_its_lease_and_goes_on(self, tmp_path, make_run, shared):
        patient = {"lease_s": 3.0, "max_crashes": 1000}  # others are overdue where all is slow
        run, calm = make_runs(tmp_path, make_run, "./toy.py:Unhurried", 16, **patient)
        driving = Driving(run, shared)
        wait_for(lambda: n_done(run) >= 3)
        victim = psutil.Process(wait_for(lambda: roles(run, "worker"))[0])
        victim.suspend()
        try:
            wait_for(lambda: "no result within 3 s" in reasons(run))
        finally:
            victim.resume()
        driving.end()
        drive(calm)
        assert record(run) == record(calm)
        assert_whole(run)
        with RunFolder(run).open_store() as store:
            late = {extra.candidate for extra in store.extras()}
            assert all(store.evaluation(c).energy is not None for c in late)
        assert late, "its result came after the lease, and was kept"

    def test_a_structure_that_kills_its_worker_each_time_is_marked_and_left(
        self, tmp_path, make_run, shared
    ):
        run = make_run(
            tmp_path / "run",
            "./toy.py:UnhurriedKiller",
            search={"in_flight": 4},
            execution=PARSL | {"max_crashes": 1, "batch_s": 30.0},
        )
        drive(run, shared)
        rows = record(run)
        assert len(rows) == 16
        failed = [row[0] for row in rows if row[-1] == "failed"]
        with RunFolder(run).open_store() as store:
            bad = store.evaluations(verdict="failed")
        assert len(failed) == 2
        assert {row.composition for row in bad} == {"Na3Fe4P4O16"}
        assert all("1 attempts failed; the last: its worker" in row.reason for row in bad)
        assert_whole(run)


def reasons(folder):
    with RunFolder(folder).open_store() as store:
        return " ".join(str(event.data) for event in store.events(kind="requeued"))


def test_blocks_that_never_bring_a_worker_end_the_search_with_one_line(tmp_path, make_run, mark):
    broken = {"worker_init": "echo no such module >&2; exit 1", "poll_s": 0.1}
    folder = make_run(tmp_path / "run", execution=PARSL | broken)
    with pytest.raises(ExecutionError, match="5 blocks ended and none brought a worker") as error:
        drive(folder)
    assert "\n" not in str(error.value)
    assert not (folder / "engine.json").exists()


def called(slurm, name):
    lines = (slurm / "calls").read_text().splitlines()
    return [line for line in lines if line.split()[0] == name]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # parsl's sockets
def test_a_scheduler_that_answers_errors_and_loses_a_job_and_ctrl_c_cost_only_time(
    tmp_path, make_run, mark, slurm
):
    (slurm / "plan").write_text(json.dumps({"sbatch": ["error", "lose"], "squeue": ["error"]}))
    scheduler = {"provider": "slurm", "partition": "gpu", "account": "me", "walltime": "01:00:00"}
    scheduler |= {"scheduler_options": "#SBATCH --qos=long", "worker_init": "export SAID=hello"}
    run, calm = make_runs(tmp_path, make_run, "./toy.py:Unhurried", 12, **scheduler)
    process = start(run, mark)
    wait_for(lambda: n_done(run) >= 2 or process.poll() is not None)
    wait_for(lambda: read_engine_file(run).jobs)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert f"Resume with: gasearch run {run}" in output
    assert not (run / "engine.json").exists()
    wait_for(lambda: not of_run(mark), limit_s=10.0)
    assert called(slurm, "scancel")

    drive(run)
    drive(calm)
    assert record(run) == record(calm)
    assert_whole(run)
    assert len(called(slurm, "sbatch")) >= 4
    script = next((slurm / "jobs").glob("*.script")).read_text()
    for line in (
        "--partition=gpu",
        "--account=me",
        "--qos=long",
        "--time=60",
        "SAID=hello",
        "per-task=2",
    ):
        assert line in script
    assert "OMP_NUM_THREADS=1" in script

"""Jobs one after another: the ladder, kills, and that none is ever started twice."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_dft import behave, search_with_fake_gpaw, starts
from gasearch.dft.jobs.ladder import next_rung, on_rung, rungs
from typer.testing import CliRunner

from gasearch import processes
from gasearch.cli.app import app
from gasearch.dft.errors import JobFolderError, JobRunningError, NoCodeError
from gasearch.dft.jobs.folders import JobFolder, Status, job_folders, one_runner
from gasearch.dft.jobs.prepare import Workplace, prepare_job
from gasearch.dft.jobs.run import run_jobs
from gasearch.run.folder import RunFolder
from gasearch.store import dft_jobs
from gasearch.store.checks.check import check_store

JOB = {"mixer": [0.1, 5, 50.0], "max_scf": 90, "surrogates": {"3": "Ga"}, "smearing_eV": 0.05}


@pytest.fixture(scope="module")
def searched(tmp_path_factory, make_run):
    return search_with_fake_gpaw(tmp_path_factory.mktemp("run"), make_run, 6)


@pytest.fixture
def folder(searched, tmp_path):
    """A run of six candidates, whose GPAW is a fake."""
    return shutil.copytree(searched, tmp_path / "run")


def compute(folder, *numbers, relax=True, surrogate=False):
    run = RunFolder(folder)
    lines = []
    with run.open_store(read_only=False) as store:
        place = Workplace.of(run, store)
        show = {"say": lines.append, "progress": lines.append}
        ended = run_jobs(place, numbers, relax=relax, surrogate=surrogate, **show)
    return [one.status for one in ended], lines


def rows(folder):
    with RunFolder(folder).open_store() as store:
        return [
            r for level in dft_jobs.dft_levels(store) for r in dft_jobs.dft_rows(store, level.name)
        ]


def holes(folder):
    """Return a candidate with Fe3+ in it."""
    with RunFolder(folder).open_store() as store:
        return next(r.candidate for r in store.evaluations() if r.x == 0.5)


class TestLadder:
    def test_mixing_slows_down_and_the_level_stays(self):
        first, second = on_rung(JOB, 0, 1), on_rung(JOB, 1, 2)
        assert (first["rung"], first["mixer"]) == ("as set", [0.1, 5, 50.0])
        assert (second["rung"], second["mixer"], second["max_scf"]) == (
            "mixing",
            [0.05, 5, 100],
            180,
        )
        assert all(on_rung(JOB, n, 1)["smearing_eV"] == 0.05 for n in range(4))

    def test_surrogates_come_last_and_only_for_oxidised_sites(self):
        assert rungs(JOB) == ["as set", "mixing", "smearing", "surrogate"]
        assert rungs({**JOB, "surrogates": {}}) == ["as set", "mixing", "smearing"]
        assert next_rung(JOB, 2) == 3
        assert next_rung(JOB, 3) is None


class TestJobs:
    def test_candidates_are_computed_and_collected_one_after_another(self, folder):
        behave(folder, "done")
        found, lines = compute(folder, 1, 2, 3)
        assert [s.state for s in found] == ["collected"] * 3
        assert [start[0] for start in starts(folder)] == ["1", "2", "3"]
        assert [r.candidate for r in sorted(rows(folder), key=lambda r: r.candidate)] == [1, 2, 3]
        assert any("1 of 3" in line and "charge order kept" in line for line in lines)
        assert check_store(RunFolder(folder).database) == []

    def test_what_is_collected_is_not_computed_again(self, folder):
        behave(folder, "done")
        compute(folder, 1)
        found, lines = compute(folder, 1)
        assert found[0].state == "collected"
        assert len(starts(folder)) == 1
        assert "collected already" in lines[-1]

    def test_electrons_that_do_not_converge_climb_the_ladder(self, folder):
        behave(folder, "scf", "scf", "done")
        (status,), _ = compute(folder, holes(folder))
        assert [start[1:] for start in starts(folder)] == [
            ["as", "set", "0.1", "scf"], ["mixing", "0.05", "scf"], ["smearing", "0.05", "done"],
        ]  # fmt: skip
        assert (status.state, status.attempt) == ("collected", 3)
        assert status.tried == ("as set: a fake scf", "mixing: a fake scf")

    def test_at_the_top_of_the_ladder_a_job_has_failed(self, folder):
        behave(folder, "scf")
        (status,), _ = compute(folder, holes(folder))
        assert (status.state, len(starts(folder))) == ("failed", 4)
        assert "nor on any rung" in status.reason
        assert rows(folder) == []
        with RunFolder(folder).open_store() as store:
            assert dft_jobs.jobs(store)[0].state == "failed"

    @pytest.mark.parametrize("what", ["steps", "error"])
    def test_other_failures_do_not_climb(self, folder, what):
        behave(folder, what)
        (status,), _ = compute(folder, 1)
        assert (status.state, status.reason) == ("failed", f"a fake {what}")
        assert len(starts(folder)) == 1

    def test_one_failure_does_not_keep_others_from_being_computed(self, folder):
        behave(folder, "error")
        compute(folder, 1)
        behave(folder, "error", "done")
        found, _ = compute(folder, 2, 1)
        assert [s.state for s in found] == ["failed", "collected"]

    def test_a_job_that_had_failed_is_tried_anew_when_it_is_named(self, folder):
        behave(folder, "scf", "scf", "scf", "scf", "done")
        compute(folder, holes(folder))
        (status,), _ = compute(folder, holes(folder))
        assert (status.state, status.attempt) == ("collected", 5)
        assert starts(folder)[-1][1:3] == ["as", "set"]

    def test_an_order_that_was_lost_is_tried_again_from_a_surrogates_geometry(self, folder):
        behave(folder, "lost", "done")
        number = holes(folder)
        (status,), _ = compute(folder, number)
        assert (status.state, status.charge_order) == ("collected", "delocalised")
        assert rows(folder) == []
        (status,), _ = compute(folder, number, surrogate=True)
        assert (status.state, status.charge_order, status.attempt) == ("collected", "kept", 2)
        assert starts(folder)[-1][1] == "surrogate"
        compute(folder, number, surrogate=True)  # what was kept is left alone
        assert len(starts(folder)) == 2
        assert len(rows(folder)) == 1
        assert check_store(RunFolder(folder).database) == []

    def test_single_points_are_another_level(self, folder):
        behave(folder, "done")
        (one,), _ = compute(folder, 1)
        (other,), _ = compute(folder, 1, relax=False)
        assert one.level != other.level
        assert len(rows(folder)) == 2


def hears_ctrl_c():
    """In a child of tests that run in the background, where a shell lets SIGINT be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class TestKills:
    def test_a_killed_job_goes_on_by_the_same_command(self, folder):
        behave(folder, "killed", "done")
        (status,), _ = compute(folder, 1)
        assert (status.state, status.attempt) == ("prepared", 1)
        assert "SIGKILL" in status.reason
        assert rows(folder) == []
        (status,), _ = compute(folder, 1)
        assert (status.state, status.attempt) == ("collected", 2)

    def test_a_time_limit_ends_a_job(self, folder):
        text = (folder / "run.toml").read_text()
        limit = text.replace("[dft.gpaw]", "[dft]\nwall_limit_s = 1.5\n[dft.gpaw]")
        (folder / "run.toml").write_text(limit)
        behave(folder, "hang")
        (status,), _ = compute(folder, 1)
        assert status.state == "prepared"
        assert "dft.wall_limit_s = 1.5" in status.reason

    def test_ctrl_c_ends_the_process_and_leaves_a_folder_that_goes_on(self, folder):
        behave(folder, "hang", "done")
        command = [sys.executable, "-m", "gasearch", "dft", "run", str(folder), "1"]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c
        )
        status = wait_for(folder, lambda s: s.state == "running" and s.process)
        assert processes.is_alive(status.process)
        process.send_signal(signal.SIGINT)
        assert "interrupted" in process.communicate(timeout=60)[1]
        assert process.returncode == 1
        assert not processes.is_alive(status.process)
        (job,) = job_folders(folder)
        assert (job.status().state, job.status().reason[:11]) == ("prepared", "interrupted")
        assert compute(folder, 1)[0][0].state == "collected"

    def test_a_job_outlives_its_runner_and_is_not_started_twice(self, folder):
        behave(folder, "hang")
        command = [sys.executable, "-m", "gasearch", "dft", "run", str(folder), "1"]
        runner = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        status = wait_for(folder, lambda s: s.state == "running" and s.process)
        wait_until(lambda: starts(folder))
        runner.kill()
        runner.wait()
        assert processes.is_alive(status.process)
        told = CliRunner().invoke(app, ["dft", "status", str(folder), "--json"]).stdout
        assert json.loads(told)[0]["state"] == "running"
        ending = threading.Timer(1.5, os.kill, [status.process["pid"], signal.SIGKILL])
        ending.start()
        behave(folder, "hang", "done")
        (found,), lines = compute(folder, 1)
        assert any("computes it already: waiting" in line for line in lines)
        assert (found.state, len(starts(folder))) == ("collected", 2)

    def test_a_dead_process_that_a_file_names_is_seen_to_be_dead(self, folder):
        run = RunFolder(folder)
        with run.open_store(read_only=False) as store:
            job = prepare_job(Workplace.of(run, store), 1, relax=True)
        dead = {**processes.identity(), "started": "boot:1"}  # this pid, in another life
        job.change(state="running", process=dead, attempt=1)
        told = CliRunner().invoke(app, ["dft", "status", str(folder)]).stdout
        assert "interrupted" in told

    def test_a_second_runner_is_refused(self, folder):
        with (
            one_runner(folder),
            pytest.raises(JobRunningError, match="computed already"),
            one_runner(folder),
        ):
            pass


def wait_until(condition, limit_s=60.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def wait_for(folder, condition):
    wait_until(lambda: any(condition(job.status()) for job in job_folders(folder)))
    return job_folders(folder)[0].status()


class TestFolders:
    status = Status(1, "gpaw-x", "gpaw", "relax", "prepared", {"code": "gpaw"})

    def test_a_status_comes_back_as_it_was_written(self, tmp_path):
        job = JobFolder.of(tmp_path, 1, "gpaw-x")
        job.make()
        written = job.write(self.status)
        assert job.status() == written
        assert job.change(state="failed", reason="why", tried=("a", "b")).tried == ("a", "b")
        assert job.status().reason == "why"
        assert sorted(path.name for path in job.path.iterdir()) == ["status.json"]

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 2, "state": "prepared"}'])
    def test_a_damaged_status_is_one_clear_line(self, tmp_path, text):
        job = JobFolder.of(tmp_path, 1, "gpaw-x")
        job.make()
        job.status_file.write_text(text)
        with pytest.raises(JobFolderError, match="cannot be used"):
            job.status()

    def test_jobs_are_listed_by_the_number_of_their_candidate(self, tmp_path):
        for number in (10, 9, 1):
            job = JobFolder.of(tmp_path, number, "gpaw-x")
            job.make()
            job.write(self.status)
        assert [job.path.name for job in job_folders(tmp_path)] == [
            "1-gpaw-x", "9-gpaw-x", "10-gpaw-x",
        ]  # fmt: skip


def test_a_process_is_known_by_its_id_and_its_start():
    own = processes.identity()
    assert processes.is_alive(own)
    assert not processes.is_alive({**own, "started": "another time"})
    assert not processes.is_alive(None)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = processes.identity(child.pid)
    assert processes.is_alive(known)
    child.kill()
    wait_until(lambda: not processes.is_alive(known))  # a zombie is dead
    child.communicate()
    assert processes.is_alive({**known, "host": "elsewhere"})  # nobody can tell from here


def test_a_missing_gpaw_is_one_line_with_what_to_do(folder):
    text = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(text.replace(str(sys.executable), "/no/python"))
    with pytest.raises(NoCodeError, match=r"pip install 'gasearch\[gpaw\]'"):
        compute(folder, 1)
    assert job_folders(folder) == []


def test_a_dry_run_changes_nothing(folder):
    result = CliRunner().invoke(app, ["dft", "run", str(folder), "1", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "candidate 1" in result.stdout
    assert not (folder / "dft").exists()


QUICK = """
import sys
from gasearch.cli.app import main
sys.argv = ["gasearch", *sys.argv[1:]]
try:
    main()
except SystemExit as ending:
    assert not ending.code, ending.code
print(" ".join(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["status"], ["dft", "status"], ["dft", "export"]])
def test_no_code_and_no_heavy_package_is_imported(folder, words):
    arguments = [*words, str(folder), *(["1"] if words[-1] == "export" else [])]
    done = subprocess.run(
        [sys.executable, "-c", QUICK, *arguments], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    for name in ("gpaw", "torch", "pymatgen", "matplotlib", "ase.calculators.vasp"):
        assert not any(module == name or module.startswith(f"{name}.") for module in loaded), name


def test_gpaw_is_imported_by_nothing_but_the_script_of_a_job():
    package = Path(dft_jobs.__file__).parents[1]
    plain = re.compile(r"^\s*(import|from) gpaw\b", re.MULTILINE)
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert [path for path, text in texts.items() if plain.search(text)] == []
    dft = {path.name: text for path, text in texts.items() if path.parent.name == "dft"}
    assert [name for name, text in dft.items() if "import_module(" in text] == ["gpaw_job.py"]

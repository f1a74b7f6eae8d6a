"""DFT jobs through the engine: several at once, found again after a driver died, on a cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from fake_dft import FAKE, behave, search_with_fake_gpaw, starts
from gasearch.dft.jobs.ladder import on_rung
from places import FAKE_SLURM

from gasearch import processes
from gasearch.dft.jobs.folders import job_folders
from gasearch.dft.jobs.prepare import JOB, Workplace, prepare_job
from gasearch.dft.jobs.run import run_jobs
from gasearch.dft.jobs.submit import command_line, is_computing
from gasearch.doctor.dft import dft as look_for_gpaw
from gasearch.run.config import RunFileError, run_settings
from gasearch.run.dft_section import DftSection
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store.checks.check import check_store


@pytest.fixture(scope="module")
def searched(tmp_path_factory, make_run):
    return search_with_fake_gpaw(tmp_path_factory.mktemp("run"), make_run, 4)


@pytest.fixture
def folder(searched, tmp_path):
    """A run of four candidates, whose GPAW is a fake."""
    return shutil.copytree(searched, tmp_path / "run")


def compute(folder, *numbers, at_once=None):
    run, lines = RunFolder(folder), []
    with run.open_store(read_only=False) as store:
        show = {"say": lines.append, "progress": lines.append}
        ended = run_jobs(Workplace.of(run, store), numbers, relax=True, at_once=at_once, **show)
    assert check_store(run.database) == []
    return [one.status for one in ended], lines


def set_keys(folder, section, **keys):
    text = (folder / "run.toml").read_text()
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    if f"[{section}]" in text:
        text = text.replace(f"[{section}]\n", f"[{section}]\n{lines}\n")
    else:
        text += f"\n[{section}]\n{lines}\n"
    (folder / "run.toml").write_text(text)


def start_driver(folder, *words, stdout=subprocess.DEVNULL):
    command = [sys.executable, "-m", "gasearch", "dft", "run", str(folder), *words]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL)


def wait_until(condition, limit_s=120.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def states(folder):
    return [job.status().state for job in job_folders(folder)]


class TestHere:
    @pytest.mark.parametrize(("at_once", "most"), [(1, 1), (3, 3)])
    def test_so_many_run_at_once(self, folder, monkeypatch, at_once, most):
        monkeypatch.setenv("FAKE_GPAW_S", "0.6")
        behave(folder, "slow")
        found, lines = compute(folder, 1, 2, 3, at_once=at_once)
        assert [status.state for status in found] == ["collected"] * 3
        assert [status.candidate for status in found] == [1, 2, 3]
        assert max(line.count(" of 3: ") for line in lines) == most
        assert len(starts(folder)) == 3

    def test_run_toml_says_how_many(self, folder, monkeypatch):
        monkeypatch.setenv("FAKE_GPAW_S", "0.6")
        set_keys(folder, "dft", jobs=2)
        behave(folder, "slow")
        _, lines = compute(folder, 1, 2, 3)
        assert max(line.count(" of 3: ") for line in lines) == 2

    def test_jobs_outlive_a_driver_that_is_killed_and_are_not_started_twice(
        self, folder, monkeypatch
    ):
        monkeypatch.setenv("FAKE_GPAW_S", "8")
        behave(folder, "slow")
        driver = start_driver(folder, "1", "2", "--jobs", "2")
        wait_until(lambda: states(folder) == ["running"] * 2 and len(starts(folder)) == 2)
        driver.kill()
        driver.wait()
        recorded = [job.status().process for job in job_folders(folder)]
        assert all(processes.is_alive(process) for process in recorded)
        found, lines = compute(folder, 1, 2, at_once=2)
        assert [(s.state, s.attempt) for s in found] == [("collected", 1)] * 2
        assert len(starts(folder)) == 2
        assert any("computes it already: waiting" in line for line in lines)

    @pytest.mark.parametrize("has_ended", [True, False])
    def test_a_start_that_was_not_recorded_is_found_too(self, folder, monkeypatch, has_ended):
        """Its driver was killed between the start and the status file."""
        monkeypatch.setenv("FAKE_GPAW_S", "0" if has_ended else "3")
        behave(folder, "slow")
        run = RunFolder(folder)
        with run.open_store(read_only=False) as store:
            job = prepare_job(Workplace.of(run, store), 1, relax=True)
        job.write_json(JOB, on_rung(job.read_json("settings.json"), 0, 1))
        command = [sys.executable, str(FAKE), "gpaw_job.py"]
        program = subprocess.Popen(command, cwd=job.path)
        wait_until(lambda: job.read_json("outcome.json") if has_ended else is_computing(job))
        (status,), _ = compute(folder, 1)
        assert (status.state, status.attempt, len(starts(folder))) == ("collected", 1, 1)
        assert program.wait() == 0


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder of a scheduler whose jobs are processes of this machine."""
    pytest.importorskip("parsl")
    programs, root = tmp_path / "bin", tmp_path / "slurm"
    programs.mkdir()
    root.mkdir()
    for name in ("sbatch", "squeue", "scancel", "sacct"):
        script = f'#!/bin/sh\nexec {sys.executable} {FAKE_SLURM} {name} "$@"\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(root))
    return root


def scripts(slurm):
    return [path.read_text() for path in sorted((slurm / "jobs").glob("*.script"))]


class TestScheduler:
    @pytest.fixture(autouse=True)
    def _cluster(self, folder, slurm):
        set_keys(folder, "execution", engine="parsl", provider="slurm", poll_s=0.2)
        text = (folder / "run.toml").read_text().replace('"workers" = 0', '"workers" = 1')
        (folder / "run.toml").write_text(text)

    def test_a_job_is_one_of_the_scheduler_with_resources_of_its_own(self, folder, slurm):
        needs = {"nodes": 2, "ranks": 8, "cpus_per_rank": 2, "walltime": "03:00:00"}
        set_keys(folder, "dft", **needs, prefix=["env", "RANKS={ranks}"])
        behave(folder, "done")
        (status,), _ = compute(folder, 1)
        assert (status.state, status.charge_order) == ("collected", "kept")
        (script,) = scripts(slurm)
        assert "--nodes=2" in script
        assert "--time=180" in script  # minutes
        assert "env RANKS=8" in script
        assert "OMP_NUM_THREADS=2" in script
        assert not any((folder / "parsl").glob("*/interchange*"))

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_it_outlives_its_driver_and_is_found_by_its_number(
        self, folder, slurm, monkeypatch, number
    ):
        monkeypatch.setenv("FAKE_GPAW_S", "8")
        behave(folder, "slow")
        driver = start_driver(folder, "1", stdout=subprocess.PIPE)
        wait_until(lambda: states(folder) == ["running"] and starts(folder))
        driver.send_signal(number)
        told = driver.communicate()[0].decode()
        if number == signal.SIGTERM:
            assert "goes on; the same command finds it" in told
        record = job_folders(folder)[0].status().process
        assert (record["kind"], record["job"]) == ("scheduler", "1000")
        (status,), _ = compute(folder, 1)
        assert (status.state, status.attempt) == ("collected", 1)
        assert len(scripts(slurm)) == len(starts(folder)) == 1

    def test_one_that_the_scheduler_refuses_stops_no_other(self, folder, slurm):
        (slurm / "plan").write_text(json.dumps({"sbatch": ["error"]}))
        behave(folder, "done")
        (first, second), _ = compute(folder, 1, 2)
        assert (first.state, second.state) == ("prepared", "collected")
        assert "takes no job" in first.reason
        assert "Unable to contact slurm controller" in first.reason

    def test_one_that_the_scheduler_forgets_goes_on_by_the_same_command(self, folder, slurm):
        (slurm / "plan").write_text(json.dumps({"sbatch": ["lose"]}))
        behave(folder, "done")
        (status,), _ = compute(folder, 1)
        assert status.state == "prepared"
        assert "the same command goes on" in status.reason
        (status,), _ = compute(folder, 1)
        assert (status.state, status.attempt, len(starts(folder))) == ("collected", 2, 1)


class TestCommand:
    def test_ranks_are_started_by_mpiexec_or_by_what_the_user_says(self):
        own = {"command": ("/its/python",)}
        assert command_line(DftSection(gpaw=own)) == ["/its/python", "gpaw_job.py"]
        assert command_line(DftSection(gpaw=own, ranks=8)) == [
            *("mpiexec", "-n", "8"),
            *("/its/python", "gpaw_job.py"),
        ]
        words = ("srun", "-N{nodes}", "-n", "{ranks}")
        assert command_line(DftSection(gpaw=own, ranks=8, nodes=2, prefix=words))[:4] == [
            *("srun", "-N2", "-n", "8"),
        ]

    @pytest.mark.parametrize(
        ("keys", "text"),
        [
            ({"prefix": ["srun", "{rank}"]}, "{rank} is unknown; known: {ranks}, {nodes}"),
            ({"walltime": "3 days"}, "hours, minutes and seconds"),
            ({"jobs": 0}, "dft.jobs = 0"),
        ],
    )
    def test_wrong_keys_are_one_line(self, keys, text):
        base = {"host": {"structure": "a", "supercell": [1, 1, 1]}, "potential": {"name": "pmmcs"}}
        with pytest.raises(RunFileError) as refused:
            run_settings(base | {"dft": keys}, "run.toml")
        assert text in str(refused.value)


class TestDoctor:
    def test_it_tells_which_gpaw_would_compute(self, folder):
        (check,) = look_for_gpaw(Session(RunFolder(folder)))
        assert (check.state, "GPAW 25.7.0" in check.found) == ("pass", True)

    def test_it_tells_where_there_is_none(self, folder):
        text = (folder / "run.toml").read_text()
        (folder / "run.toml").write_text(text.replace(str(sys.executable), "/no/python"))
        (check,) = look_for_gpaw(Session(RunFolder(folder)))
        assert (check.state, check.found) == ("fail", "there is no /no/python")

    def test_it_tells_what_starts_the_ranks(self, folder):
        set_keys(folder, "dft", ranks=4, prefix=["/no/srun"])
        (check,) = look_for_gpaw(Session(RunFolder(folder)))
        assert (check.state, check.found) == ("fail", "there is no /no/srun")
        assert check.advice == "name another in [dft] prefix"

"""Jobs one after another and at once: retries, kills, schedulers; none is ever started twice."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_dft import (
    FAKE,
    behave,
    compute,
    set_keys,
    start_driver,
    starts,
    statuses,
    wait_until,
)
from typer.testing import CliRunner

from gasearch import processes
from gasearch.cli.app import app
from gasearch.dft.codes.gpaw import GPAW, with_retry
from gasearch.dft.errors import NoCodeError
from gasearch.dft.jobs.folders import job_folders
from gasearch.dft.jobs.prepare import JOB, SETTINGS, Workplace, prepare_job
from gasearch.dft.jobs.submit import command_line, is_computing
from gasearch.doctor.dft import dft as look_for_gpaw
from gasearch.run.config import run_settings
from gasearch.run.dft_section import DftSection
from gasearch.run.folder import RunFolder
from gasearch.run.sections import RunFileError
from gasearch.search.session import Session
from gasearch.store import dft_jobs
from gasearch.store.checks.check import check_store


def rows(folder):
    with RunFolder(folder).open_store() as store:
        return [
            r for level in dft_jobs.dft_levels(store) for r in dft_jobs.dft_rows(store, level.name)
        ]


def with_holes(folder):
    """Return a candidate with Fe3+ in it."""
    with RunFolder(folder).open_store() as store:
        return next(r.candidate for r in store.evaluations() if r.x == 0.5)


def prepared(folder, number=1, relax=True):
    run = RunFolder(folder)
    with run.open_store(read_only=False) as store:
        return prepare_job(Workplace.of(run, store), number, "gpaw", relax=relax)


def test_what_jobs_of_a_level_share_is_computed_once(folder):
    first = prepared(folder)
    assert not (first.path / "basis.json").exists()
    (first.path / "basis.json").write_text('{"eV_per_ln_waves": -64.0}')
    later, other = prepared(folder, 2), prepared(folder, 3, relax=False)
    assert (later.path / "basis.json").read_text() == '{"eV_per_ln_waves": -64.0}'
    assert not (other.path / "basis.json").exists()  # another level


@pytest.mark.usefixtures("in_process")
class TestJobs:
    def test_candidates_are_computed_and_collected_one_after_another(self, folder):
        behave(folder, "done")
        found, lines = compute(folder, 1, 2, 3)
        assert [s.state for s in found] == ["collected"] * 3
        assert [start[0] for start in starts(folder)] == ["1", "2", "3"]
        assert sorted(r.candidate for r in rows(folder)) == [1, 2, 3]
        assert any("1 of 3" in line and "charge order kept" in line for line in lines)
        assert check_store(RunFolder(folder).database) == []
        (again,), lines = compute(folder, 1)
        assert (again.state, len(starts(folder))) == ("collected", 3)
        assert "collected already" in lines[-1]

    @pytest.mark.parametrize(("option", "key", "most"), [(1, 3, 1), (3, 1, 3), (None, 2, 2)])
    def test_so_many_run_at_once(self, folder, option, key, most):
        set_keys(folder, "dft", jobs=key)
        behave(folder, "slow")
        found, lines = compute(folder, 1, 2, 3, at_once=option)
        assert [status.state for status in found] == ["collected"] * 3
        assert [status.candidate for status in found] == [1, 2, 3]
        assert max(line.count(" of 3: ") for line in lines) == most
        assert len(starts(folder)) == 3

    def test_electrons_that_do_not_converge_are_tried_otherwise(self, folder):
        behave(folder, "scf", "scf", "done")
        (status,), _ = compute(folder, with_holes(folder))
        assert [start[1:] for start in starts(folder)] == [
            ["as", "set", "0.1", "scf"], ["mixing", "0.05", "scf"], ["smearing", "0.05", "done"],
        ]  # fmt: skip
        assert (status.state, status.attempt) == ("collected", 3)
        assert status.tried == ("as set: a fake scf", "mixing: a fake scf")

    def test_after_the_last_retry_a_job_has_failed_and_is_tried_anew_when_named(self, folder):
        behave(folder, "scf", "scf", "scf", "scf", "done")
        (status,), _ = compute(folder, with_holes(folder))
        assert (status.state, len(starts(folder))) == ("failed", 4)
        assert "nor with any retry" in status.reason
        assert rows(folder) == []
        with RunFolder(folder).open_store() as store:
            assert dft_jobs.jobs(store)[0].state == "failed"
        (status,), _ = compute(folder, with_holes(folder))
        assert (status.state, status.attempt) == ("collected", 5)
        assert starts(folder)[-1][1:3] == ["as", "set"]

    @pytest.mark.parametrize("what", ["steps", "error"])
    def test_other_failures_are_not_retried_and_stop_no_other_job(self, folder, what):
        behave(folder, what)
        (status,), _ = compute(folder, 1)
        assert (status.state, status.reason) == ("failed", f"a fake {what}")
        assert len(starts(folder)) == 1
        behave(folder, what, "done")
        found, _ = compute(folder, 2, 1)
        assert [s.state for s in found] == ["failed", "collected"]

    def test_an_order_that_was_lost_is_tried_again_from_a_surrogates_geometry(self, folder):
        behave(folder, "lost", "done")
        number = with_holes(folder)
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

    def test_a_killed_job_goes_on_by_the_same_command(self, folder):
        behave(folder, "killed", "done")
        (status,), _ = compute(folder, 1)
        assert (status.state, status.attempt) == ("prepared", 1)
        assert "SIGKILL" in status.reason
        assert rows(folder) == []
        (status,), _ = compute(folder, 1)
        assert (status.state, status.attempt) == ("collected", 2)

    def test_a_time_limit_ends_a_job(self, folder):
        set_keys(folder, "dft", wall_limit_s=0.3)
        behave(folder, "hang")
        (status,), _ = compute(folder, 1)
        assert status.state == "prepared"
        assert "dft.wall_limit_s = 0.3" in status.reason


def hears_ctrl_c():
    """In a child of tests that run in the background, where a shell lets SIGINT be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class TestProcesses:
    def test_ctrl_c_ends_the_process_and_leaves_a_folder_that_goes_on(self, folder):
        behave(folder, "slow", "done")
        driver = start_driver(
            folder, "1", stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c
        )
        wait_until(lambda: [s for s in statuses(folder) if s.state == "running" and s.process])
        (status,) = statuses(folder)
        assert processes.is_alive(status.process)
        driver.send_signal(signal.SIGINT)
        assert "interrupted" in driver.communicate(timeout=60)[1]
        assert driver.returncode == 1
        assert not processes.is_alive(status.process)
        (status,) = statuses(folder)
        assert (status.state, status.reason[:11]) == ("prepared", "interrupted")
        assert compute(folder, 1)[0][0].state == "collected"

    def test_jobs_outlive_a_driver_that_is_killed_and_are_not_started_twice(self, folder):
        """They are waited for; of two, one is killed while its new driver waits."""
        behave(folder, "slow")
        driver = start_driver(folder, "1", "2", "--jobs", "2")
        wait_until(lambda: len(starts(folder)) == 2)
        wait_until(lambda: [s.state for s in statuses(folder)] == ["running"] * 2)
        driver.kill()
        driver.wait()
        first, second = (status.process for status in statuses(folder))
        assert processes.is_alive(first)
        assert processes.is_alive(second)
        shown = CliRunner().invoke(app, ["dft", "status", str(folder), "--json"]).stdout
        assert [line["state"] for line in json.loads(shown)] == ["running"] * 2

        def kill_the_second(line):
            if line.count("computes it already: waiting") == 2:
                os.kill(second["pid"], signal.SIGKILL)
                (folder / "go_on").touch()

        found, _ = compute(folder, 1, 2, at_once=2, watch=kill_the_second)
        assert [(s.state, s.attempt) for s in found] == [("collected", 1), ("collected", 2)]
        assert len(starts(folder)) == 3
        assert check_store(RunFolder(folder).database) == []

    @pytest.mark.parametrize("has_ended", [True, False])
    def test_a_start_that_was_not_recorded_is_found_too(self, folder, has_ended):
        """Its driver was killed between the start and the status file."""
        behave(folder, "done" if has_ended else "slow")
        job = prepared(folder)
        job.write_json(JOB, with_retry(job.read_json(SETTINGS), 0, 1))
        program = subprocess.Popen([sys.executable, str(FAKE), "gpaw_job.py"], cwd=job.path)
        wait_until(lambda: job.read_json("outcome.json") if has_ended else is_computing(job))
        (status,), _ = compute(folder, 1, watch=lambda _: (folder / "go_on").touch())
        assert (status.state, status.attempt, len(starts(folder))) == ("collected", 1, 1)
        assert program.wait() == 0

    def test_a_dead_process_that_a_file_names_is_seen_to_be_dead(self, folder):
        dead = {**processes.identity(), "started": "boot:1"}  # this pid, in another life
        prepared(folder).change(state="running", process=dead, attempt=1)
        assert "interrupted" in CliRunner().invoke(app, ["dft", "status", str(folder)]).stdout


def scripts(slurm):
    return [path.read_text() for path in sorted((slurm / "jobs").glob("*.script"))]


class TestScheduler:
    @pytest.fixture(autouse=True)
    def _cluster(self, folder, slurm):
        pytest.importorskip("parsl")
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
        for text in ("--nodes=2", "--time=180", "env RANKS=8", "OMP_NUM_THREADS=2"):  # 180 minutes
            assert text in script
        assert not any((folder / "parsl").glob("*/interchange*"))

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_it_outlives_its_driver_and_is_found_by_its_number(self, folder, slurm, number):
        behave(folder, "slow")
        driver = start_driver(folder, "1", stdout=subprocess.PIPE)
        wait_until(lambda: starts(folder) and statuses(folder)[0].state == "running")
        driver.send_signal(number)
        said = driver.communicate()[0].decode()
        if number == signal.SIGTERM:
            assert "goes on; the same command finds it" in said
        record = statuses(folder)[0].process
        assert (record["kind"], record["job"]) == ("scheduler", "1000")
        (status,), _ = compute(folder, 1, watch=lambda _: (folder / "go_on").touch())
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
        words = ["/its/python", "gpaw_job.py"]
        prefix = ("srun", "-N{nodes}", "-n", "{ranks}")
        for keys, before in (
            ({}, []),
            ({"ranks": 8}, ["mpiexec", "-n", "8"]),
            ({"ranks": 8, "nodes": 2, "prefix": prefix}, ["srun", "-N2", "-n", "8"]),
        ):
            assert command_line(GPAW.program, DftSection(gpaw=own, **keys)) == [*before, *words]

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


class TestWithoutGpaw:
    def test_doctor_says_which_gpaw_would_compute(self, folder):
        (check,) = look_for_gpaw(Session(RunFolder(folder)))
        assert (check.state, "GPAW 25.7.0" in check.found) == ("pass", True)

    def test_a_missing_one_is_one_line_with_what_to_do(self, folder):
        text = (folder / "run.toml").read_text()
        (folder / "run.toml").write_text(text.replace(str(sys.executable), "/no/python"))
        (check,) = look_for_gpaw(Session(RunFolder(folder)))
        assert (check.state, check.found) == ("fail", "there is no /no/python")
        with pytest.raises(NoCodeError, match=r"pip install 'gasearch\[gpaw\]'"):
            compute(folder, 1)
        assert job_folders(folder) == []

    def test_doctor_says_what_would_start_the_ranks(self, folder):
        set_keys(folder, "dft", ranks=4, prefix=["/no/srun"])
        (check,) = look_for_gpaw(Session(RunFolder(folder)))
        assert (check.state, check.found) == ("fail", "there is no /no/srun")
        assert check.advice == "name another in [dft] prefix"


def test_a_dry_run_changes_nothing(folder):
    result = CliRunner().invoke(app, ["dft", "run", str(folder), "1", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "candidate 1" in result.stdout
    assert not (folder / "dft").exists()


def test_no_code_and_no_heavy_package_is_imported(folder):
    code = (
        "import sys\nfrom gasearch.cli.app import app\nfolder = sys.argv[1]\n"
        "app(['status', folder], standalone_mode=False)\n"
        "app(['dft', 'status', folder], standalone_mode=False)\n"
        "app(['dft', 'export', folder, '1'], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert "vasp-pbeu520" in done.stdout
    loaded = set(done.stderr.split())
    for name in ("gpaw", "torch", "pymatgen", "matplotlib", "ase.calculators.vasp"):
        assert not any(module == name or module.startswith(f"{name}.") for module in loaded), name


def test_gpaw_is_imported_by_nothing_but_the_script_of_a_job():
    package = Path(dft_jobs.__file__).parents[1]
    plain = re.compile(r"^\s*(import|from) gpaw\b", re.MULTILINE)
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert [path for path, text in texts.items() if plain.search(text)] == []
    dft = {path.name: text for path, text in texts.items() if package / "dft" in path.parents}
    importing = [name for name, text in dft.items() if "import_module(" in text]
    assert importing == ["gpaw_job.py"]

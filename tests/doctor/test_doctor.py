"""`gasearch doctor`: what it finds where all works, and where something is broken on purpose."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gasearch.cli import run as running
from gasearch.cli.app import app
from gasearch.doctor import database, engine, machine, potential
from gasearch.doctor.checks import guarded, passed
from gasearch.doctor.examine import examine
from gasearch.errors import GasearchError
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store.sqlite.locking_probe import LockingProbe

BROKEN = """

class Dying(LabelEnergy):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        os.abort()


class Infinite(LabelEnergy):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] = float("inf")


class Leaving(LabelEnergy):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        raise SystemExit("no licence here")


class KiloBar(LabelEnergy):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        from gasearch.potentials.calculator import PotentialCalculator
        from gasearch.potentials.pmmcs import Pmmcs

        inner = PotentialCalculator(Pmmcs())
        inner.calculate(atoms)
        self.atoms = atoms.copy()
        self.results = inner.results | {"stress": inner.results["stress"] * -1602.1766}


class Explosive(LabelEnergy):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["forces"] = np.full_like(self.results["forces"], 1e6)
"""


def found(folder, **options):
    return {check.name: check for check in examine(RunFolder(folder), **options)}


@pytest.fixture
def no_potential(monkeypatch):
    """Leave out the process that loads the potential, which takes seconds."""
    monkeypatch.setattr(potential, "potential", lambda session: iter(()))


@pytest.fixture
def potential_here(monkeypatch):
    """Load the potential in this process rather than in one of its own."""
    monkeypatch.setattr(potential, "run_program", lambda command, *_: potential.main(*command[3:]))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture
def make_broken(tmp_path, make_run):
    """A function that writes a run folder whose potential is one of `BROKEN`."""

    def make(name, **sections):
        folder = make_run(tmp_path / "run", f"./toy.py:{name}", **sections)
        with (folder / "toy.py").open("a") as file:
            file.write(BROKEN)
        return folder

    return make


class TestRunFolder:
    @pytest.mark.usefixtures("potential_here")
    def test_a_sound_folder_passes_and_is_left_as_it_was(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run")
        before = contents(folder)
        checks = found(folder, with_engine=False)
        names = ["run.toml", "run folder", "scratch", "locks", "host", "operators", "run"]
        assert [checks[name].state for name in [*names, "device", "potential"]] == ["pass"] * 9
        assert "16 distinct decorations" in checks["host"].found
        assert checks["run"].found == "not started yet"
        assert contents(folder) == before

    def test_a_wrong_run_file_is_all_that_is_said(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", search={"budgett": 3})
        (check,) = examine(RunFolder(folder))
        assert (check.name, check.state) == ("run.toml", "fail")
        assert "'search.budgett' (did you mean 'budget'?)" in check.found

    def test_a_host_that_cannot_be_built_is_reported(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", operators={"nonsense": 1})
        checks = found(folder, with_engine=False)
        assert checks["host"].state == "fail"
        assert "nonsense" in checks["host"].found

    @pytest.mark.usefixtures("no_potential")
    def test_a_run_that_was_started_is_reported_and_left_alone(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", budget=4)
        Session(RunFolder(folder)).run()
        before = contents(folder)
        resumed = "4 of 4 candidates; it can be resumed"
        assert found(folder, with_engine=False)["run"].found == resumed
        assert contents(folder) == before
        make_run(folder, budget=4, relax={"fmax": 0.5})
        check = found(folder, with_engine=False)["run"]
        assert check.state == "fail", "it defines another search now"
        assert "relax.fmax" in check.found

    @pytest.mark.usefixtures("no_potential")
    def test_a_device_that_is_not_there_is_found(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", execution={"device": "cuda:97"})
        check = found(folder, with_engine=False)["device"]
        assert (check.state, check.advice) == ("fail", 'use device = "auto" or "cpu"')


class TestPotential:
    def test_one_that_kills_its_process_is_found(self, make_broken):
        check = found(make_broken("Dying"), with_engine=False)["potential"]
        assert (check.state, check.found.split(":")[0]) == ("fail", "its process ended by signal 6")

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("NotThere", "NotThere"),
            ("Infinite", "no numbers"),
            ("Blind", "charge-blind"),
            ("KiloBar", "is -1602 times dE/d(strain)/volume (it is in kBar, with the sign of"),
            ("Leaving", "SystemExit: no licence here"),
        ],
    )
    def test_one_that_a_search_could_not_use_is_found(self, tmp_path, make_broken, name, text):
        folder = make_broken(name)
        run_file = (folder / "run.toml").read_text().replace('"allow_charge_blind" = true', "")
        (folder / "run.toml").write_text(run_file)
        potential.main(str(folder), str(tmp_path / "result.json"))
        (check,) = potential.judged(json.loads((tmp_path / "result.json").read_text()))
        assert check.state == "fail"
        assert text in f"{check.found} {check.advice}"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Parsl's own sockets
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestEngine:
    @pytest.fixture(autouse=True)
    def _quick(self, no_potential, forked_workers):
        pass

    def test_a_worker_relaxes_a_structure_and_nothing_is_left(
        self, tmp_path, make_run, monkeypatch
    ):
        monkeypatch.setattr(sys, "dont_write_bytecode", False)
        folder = make_run(tmp_path / "run", execution={"workers": 4})
        before = contents(folder)
        check = found(folder)["engine"]
        assert check.state == "pass"
        assert contents(folder) == before
        assert {path.name for path in folder.iterdir()} == {"run.toml", "toy.py"}

    def test_a_potential_that_kills_its_worker_is_found(self, make_broken):
        check = found(make_broken("Dying", execution={"workers": 1}))["engine"]
        assert (check.state, check.found) == ("fail", "its worker ended by signal 6")

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("Explosive", "3 steps broke the structure: it explodes"),
            ("Leaving", "SystemExit: no licence here"),
        ],
    )
    def test_a_structure_that_ends_broken_or_failed_is_no_pass(self, make_broken, name, told):
        check = found(make_broken(name, execution={"workers": 1}))["engine"]
        assert check.state == "fail"
        assert told in check.found

    def test_a_worker_that_does_not_come_is_reported_apart(self, tmp_path, make_run, monkeypatch):
        monkeypatch.setattr(engine, "_PATIENCE_S", 0.0)
        folder = make_run(tmp_path / "run", execution={"workers": 1})
        check = found(folder)["engine"]
        assert (check.state, "no worker gave a result" in check.found) == ("warn", True)

    def test_parsl_makes_a_provider_of_what_is_configured(self, tmp_path, make_run):
        pytest.importorskip("parsl")
        execution = {"engine": "parsl", "provider": "slurm", "workers": 8, "max_blocks": 2}
        folder = make_run(tmp_path / "run", execution=execution)
        checks = found(folder, with_engine=False)
        assert checks["parsl"].state == "pass"
        assert "SlurmProvider for slurm, 16 workers at most" in checks["parsl"].found
        if shutil.which("sbatch") is None:
            assert checks["sbatch"].state == "fail"

    def test_a_provider_of_the_users_that_is_wrong_is_reported(self, tmp_path, make_run):
        pytest.importorskip("parsl")
        execution = {"engine": "parsl", "provider": "./site.py:config", "workers": 1}
        folder = make_run(tmp_path / "run", execution=execution)
        (folder / "site.py").write_text("def config():\n    return 7\n")
        check = found(folder, with_engine=False)["parsl"]
        assert (check.state, "returned int, not a parsl.Config" in check.found) == ("fail", True)


class TestMachine:
    @pytest.fixture
    def look(self, tmp_path, monkeypatch):
        """A function that puts commands on PATH, and returns the checks of a scheduler."""

        def look(scheduler, **scripts):
            for name, script in scripts.items():
                path = tmp_path / name
                path.write_text(f"#!/bin/sh\n{script}\n")
                path.chmod(0o755)
            monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
            return {check.name: check for check in machine.scheduler_commands(scheduler)}

        return look

    @pytest.mark.parametrize(
        ("scheduler", "scripts"),
        [
            ("slurm", dict.fromkeys(("sbatch", "scancel", "squeue"), "echo ok")),
            (
                "lsf",
                {"bjobs": "echo 'No unfinished job found' >&2; exit 255"}
                | dict.fromkeys(("bsub", "bkill"), "echo lsf >&2"),
            ),
        ],
    )
    def test_a_scheduler_that_answers_passes_with_an_empty_queue_too(
        self, look, scheduler, scripts
    ):
        assert [check.state for check in look(scheduler, **scripts).values()] == ["pass"] * 3

    def test_each_command_that_is_missing_or_fails_is_named(self, look):
        error = "slurm_load_jobs error: Unable to contact slurm controller"
        checks = look("slurm", sbatch="echo slurm 24.05", squeue=f"echo '{error}' >&2; exit 1")
        states = {name: check.state for name, check in checks.items()}
        assert states == {"sbatch": "pass", "squeue": "fail", "scancel": "fail"}
        assert "Unable to contact slurm controller" in checks["squeue"].found
        assert checks["scancel"].found == "is not on PATH"

    def test_a_scheduler_that_hangs_is_not_waited_for(self, look, monkeypatch):
        monkeypatch.setattr(machine, "_PATIENCE_S", 0.3)
        checks = look("pbs", qstat="exec sleep 60", qsub="echo pbs", qdel="echo pbs")
        states = {name: check.state for name, check in checks.items()}
        assert states == {"qsub": "pass", "qstat": "fail", "qdel": "pass"}
        assert "no answer" in checks["qstat"].found

    def test_an_environment_that_is_not_on_path_is_reported(self, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        (check,) = machine.environment_on_path()
        assert (check.state, str(Path(sys.executable).parent) in check.found) == ("warn", True)
        monkeypatch.setenv("PATH", f"/nowhere{os.pathsep}{Path(sys.executable).parent}")
        (check,) = machine.environment_on_path()
        assert check.state == "pass"

    def test_a_folder_that_is_not_there_and_a_disk_that_is_full(self, tmp_path, monkeypatch):
        (check,) = machine.folder_is_usable("scratch", tmp_path / "no")
        assert (check.state, "No such file" in check.found) == ("fail", True)
        usage = type(shutil.disk_usage("/"))
        for free, state in ((10**7, "fail"), (10**9, "warn"), (10**10, "pass")):
            monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(1, 1, free))
            (check,) = machine.folder_is_usable("scratch", tmp_path)
            assert check.state == state
        assert list(tmp_path.iterdir()) == []


class TestLocks:
    @pytest.mark.parametrize(
        ("fs_type", "problems", "state"),
        [
            ("ext4", (), "pass"),
            ("nfs4", (), "warn"),
            ("nfs4", ("flock locks are given to two processes at once",), "fail"),
        ],
    )
    def test_network_file_systems_are_told_apart(
        self, tmp_path, monkeypatch, fs_type, problems, state
    ):
        monkeypatch.setattr(database, "probe", lambda path: LockingProbe(path, fs_type, problems))
        (check,) = database.locks(RunFolder(tmp_path))
        assert check.state == state
        if problems:
            assert "PostgreSQL" in check.advice
            assert problems[0] in check.found

    @pytest.mark.parametrize("fs_type", ["nfs4", "ext4"])
    def test_a_search_is_refused_only_where_a_network_file_system_fails(
        self, tmp_path, make_run, monkeypatch, fs_type
    ):
        problems = ("flock locks are refused: No locks available",)
        monkeypatch.setattr(running, "file_system", lambda path: fs_type)
        monkeypatch.setattr(running, "probe", lambda path: LockingProbe(path, fs_type, problems))
        folder = RunFolder(make_run(tmp_path / "run"))
        if fs_type == "nfs4":
            with pytest.raises(running.UnreliableLocksError, match=r"No locks.*PostgreSQL"):
                running.prepare(folder)
        else:
            assert running.prepare(folder).n_done == 0


class TestServer:
    @pytest.fixture
    def look(self, tmp_path, make_run):
        def look_at(url, **keys):
            folder = make_run(tmp_path / "run", store={"url": url, **keys})
            (check,) = database.server(RunFolder(folder))
            return check

        return look_at

    def test_one_that_answers_is_reported_with_its_version(self, look, postgresql):
        schemas = "SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace"
        before = postgresql.sql(schemas)
        check = look(postgresql.url)
        assert check.state in ("pass", "warn")
        assert f"user {postgresql.user}" in check.found
        assert postgresql.sql(schemas) == before

    def test_rights_that_are_missing_are_told_with_the_grant(self, look, postgresql):
        postgresql.sql("CREATE ROLE weak LOGIN")
        postgresql.sql("CREATE SCHEMA others")
        url = postgresql.url.replace(f"//{postgresql.user}@", "//weak@")
        check = look(url)
        assert (check.state, check.advice) == ("fail", "GRANT CREATE ON DATABASE postgres TO weak")
        check = look(url, schema_name="others")
        assert check.state == "fail"
        assert check.advice == "GRANT USAGE, CREATE ON SCHEMA others TO weak"

    def test_one_that_is_not_there_is_one_line(self, look):
        pytest.importorskip("psycopg")
        check = look("postgresql+psycopg://user@127.0.0.1:9/db")
        assert check.state == "fail"
        assert "refused" in check.found
        assert "PGPASSWORD" in check.advice
        assert "\n" not in check.found


class TestGuard:
    def test_an_error_of_ours_is_reported_with_its_advice(self):
        def look():
            yield passed("a", "b")
            raise GasearchError("the host is gone: put it back.")

        first, second = guarded("host", look)
        assert first.state == "pass"
        assert (second.state, second.found, second.advice) == (
            "fail",
            "the host is gone",
            "put it back",
        )

    def test_any_other_error_stops_nothing(self):
        def look():
            raise ZeroDivisionError("by\nzero")
            yield

        (check,) = guarded("a", look)
        assert (check.state, check.found) == ("fail", "ZeroDivisionError: by zero")


class TestCommand:
    @pytest.mark.usefixtures("no_potential")
    def test_it_prints_a_line_for_each_check_and_fails_where_one_does(self, tmp_path, make_run):
        sound, wrong = make_run(tmp_path / "a"), make_run(tmp_path / "b", search={"budget": 0})
        result = CliRunner().invoke(app, ["doctor", str(sound), "--no-engine"])
        assert result.exit_code == 0
        assert {line.split()[0] for line in result.stdout.splitlines()} <= {"pass", "warn"}
        result = CliRunner().invoke(app, ["doctor", str(wrong), "--no-engine"])
        assert (result.exit_code, result.stdout.split()[:2]) == (1, ["fail", "run.toml"])

    def test_json_is_one_document(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", operators={"nonsense": 1})
        result = CliRunner().invoke(app, ["doctor", str(folder), "--no-engine", "--json"])
        document = json.loads(result.stdout)
        assert result.exit_code == 1
        assert {"name", "state", "found", "advice"} == document[0].keys()
        assert [row["name"] for row in document if row["state"] == "fail"] == ["host"]

"""Samples of a job, and a potential in the place of a DFT code, by whose jobs they are tested."""

import json
import os
import shutil
import signal

import numpy as np
import oracle
import pytest
from fake_dft import PotentialProgram, compute, statuses, with_potential
from fake_vasp import outcar
from typer.testing import CliRunner

from gasearch.cli.app import app
from gasearch.dft.codes.outputs import read_output
from gasearch.dft.errors import NoCodeError
from gasearch.dft.jobs.export import export_jobs, training_frames
from gasearch.dft.jobs.folders import job_folders
from gasearch.dft.jobs.prepare import Workplace, prepare_job
from gasearch.errors import UsageError
from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.run.folder import RunFolder
from gasearch.store import dft_jobs
from gasearch.store.checks.check import check_store

VOLUMES = {"as it is": 305.0, "larger": 340.0, "lost": 250.0, "last": 300.0}
"""Of samples, by their tags, in Å^3; by them the oracle knows what shall become of them."""


@pytest.fixture
def mine(folder, request):
    """A run folder whose DFT is the oracle."""
    shutil.copy(oracle.__file__, folder / "oracle.py")
    with_potential(folder, f"./oracle.py:{getattr(request, 'param', 'Oracle')}")
    return folder


@pytest.fixture
def in_one_process(monkeypatch):
    monkeypatch.setattr("gasearch.execution.jobs.start_local_job", PotentialProgram)


def place_of(folder, read_only=False):
    run = RunFolder(folder)
    return Workplace.of(run, run.open_store(read_only=read_only))


def half_filled(folder):
    with RunFolder(folder).open_store() as store:
        return next(row.candidate for row in store.evaluations() if row.x == 0.5)


def structure(folder, number):
    with RunFolder(folder).open_store() as store:
        return store.relaxed(number).atoms


def samples_of(folder, tags=tuple(VOLUMES)):
    """Return what gives samples of a candidate, of those volumes."""

    def samples(number):
        found = []
        for tag in tags:
            atoms = structure(folder, number)
            atoms.set_cell(atoms.cell * (VOLUMES[tag] / atoms.cell.volume) ** (1 / 3), True)
            atoms.info["tag"] = tag
            found.append(atoms)
        return found

    return samples


def frames_of(folder, status):
    with RunFolder(folder).open_store() as store:
        return training_frames(Workplace.of(RunFolder(folder), store), status.level)


def calls(folder):
    """Return the volumes that the oracle was asked for."""
    return [float(line) for line in (folder / "calls.txt").read_text().split()]


@pytest.mark.usefixtures("in_one_process")
class TestPotentialAsCode:
    def test_a_single_point_is_what_the_potential_says(self, folder):
        with_potential(folder)
        number = half_filled(folder)
        (status,), lines = compute(folder, number, relax=False)
        atoms = structure(folder, number)
        atoms.calc = PotentialCalculator(Pmmcs())
        assert status.energy_eV == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        assert (status.charge_order, status.task) == ("kept", "single-point")
        assert not any("iterations" in line for line in lines)
        assert status.level.startswith("potential-pmmcs-")
        assert status.settings["weights_hash"] == Pmmcs().weights_hash
        assert "xc" not in status.settings
        result = read_output(job_folders(folder)[0].path / "result.traj")
        labels = {2: 4.0, 3: 5.0}
        charges = atoms.get_initial_charges() * (atoms.symbols == "Fe")
        assert result.moments.tolist() == [labels.get(q, 0.0) for q in charges]

    def test_a_relaxation_ends_where_the_forces_do(self, folder):
        with_potential(folder)
        number = half_filled(folder)
        start = structure(folder, number)
        (status,), _ = compute(folder, number)
        found = frames_of(folder, status)
        frames = found.frames
        assert found.left_out == {}
        assert [f.info["tag"] for f in frames] == [f"relax{n}" for n in range(len(frames))]
        assert np.linalg.norm(frames[-1].get_forces(), axis=1).max() <= 0.05
        assert np.array_equal(frames[0].cell, start.cell)
        assert check_store(RunFolder(folder).database) == []

    def test_a_job_is_not_computed_with_other_weights_than_its_level_has(self, mine):
        number = half_filled(mine)
        with place_of(mine).store as store:
            place = Workplace.of(RunFolder(mine), store)
            job = prepare_job(place, number, "potential", relax=False)
        settings = json.loads((job.path / "settings.json").read_text())
        job.write_json("settings.json", {**settings, "weights_hash": "0" * 64})
        (status,), _ = compute(mine, number, relax=False)
        assert status.state == "failed"
        assert "other weights than when this job was prepared" in status.reason

    def test_moments_of_its_own_tell_what_came_out(self, mine):
        number = half_filled(mine)
        (status,), _ = compute(mine, number, relax=False)
        assert status.settings["potential"] == "oracle.py:Oracle"
        assert status.settings["moments"] == {"Fe2+": [3.2, 3.9], "Fe3+": [4.1, 4.7]}
        result = read_output(job_folders(mine)[0].path / "result.traj")
        assert set(result.moments) == {0.0, *oracle.MOMENTS.values()}


@pytest.mark.parametrize(
    ("name", "told"),
    [("pmmc", "unknown (did you mean 'pmmcs'?)"), ("./no.py:Mine", "there is no file")],
)
def test_a_potential_that_is_not_there_is_one_line(folder, name, told):
    with_potential(folder, name)
    with pytest.raises(NoCodeError) as error:
        compute(folder, 1)
    assert told in str(error.value)
    said = CliRunner().invoke(app, ["dft", "run", str(folder), "1"])
    assert said.exit_code != 0
    assert not (folder / "dft").exists() or job_folders(folder) == []


@pytest.mark.usefixtures("in_one_process")
class TestSamples:
    def test_each_is_a_frame_by_its_own_moments_and_the_lost_one_is_counted(self, mine):
        number = half_filled(mine)
        (status,), _ = compute(mine, number, relax=False, samples=samples_of(mine))
        assert (status.state, status.charge_order) == ("collected", "kept")
        (job,) = job_folders(mine)
        outcome = job.read_json("outcome.json")["samples"]
        assert outcome["done"] == 3
        assert list(outcome["left_out"]) == ["3"]
        found = frames_of(mine, status)
        assert [frame.info["tag"] for frame in found.frames] == [
            "relax0", "as it is", "larger", "last",
        ]  # fmt: skip
        ((reason, count),) = found.left_out.items()
        assert ("not finite" in reason, count) == (True, 1)
        job_itself, same, moved, _ = found.frames
        asked = structure(mine, number).get_initial_charges()
        for frame in (job_itself, same):
            assert np.array_equal(frame.get_initial_charges(), asked)
        assert (moved.get_initial_charges() != asked).sum() == 2
        assert moved.get_initial_charges().sum() == 0
        assert moved.cell.volume == pytest.approx(340.0)
        with RunFolder(mine).open_store() as store:
            (row,) = dft_jobs.dft_rows(store, status.level)
            assert row.energy == pytest.approx(job_itself.get_potential_energy())

    def test_stress_and_forces_are_those_of_the_sample(self, mine):
        number = half_filled(mine)
        (status,), _ = compute(mine, number, relax=False, samples=samples_of(mine, ["larger"]))
        frame = frames_of(mine, status).frames[-1]
        (sample,) = samples_of(mine, ["larger"])(number)
        sample.calc = PotentialCalculator(Pmmcs())
        assert frame.get_potential_energy() == pytest.approx(sample.get_potential_energy())
        assert frame.get_forces() == pytest.approx(sample.get_forces(), abs=1e-8)
        assert frame.get_stress() == pytest.approx(sample.get_stress(), abs=1e-10)

    def test_a_job_that_is_there_keeps_its_samples(self, mine):
        number = half_filled(mine)
        asked = []

        def samples(number):
            asked.append(number)
            return samples_of(mine, ["as it is"])(number)

        for _ in range(2):
            (status,), _ = compute(mine, number, relax=False, samples=samples)
        assert asked == [number]
        assert len(frames_of(mine, status).frames) == 2

    def test_samples_of_another_order_are_refused(self, mine):
        one, other = half_filled(mine), 1
        with pytest.raises(UsageError, match="sample 1 is no geometry of the job in"):
            compute(mine, one, samples=lambda number: samples_of(mine)(other))


@pytest.mark.parametrize("mine", ["Slow"], indirect=True)
def test_a_job_that_is_killed_among_its_samples_computes_none_twice(mine):
    number, samples = half_filled(mine), samples_of(mine)

    def kill(line):
        volumes = calls(mine) if (mine / "calls.txt").exists() else []
        if volumes and volumes[-1] > 330 and not (mine / "go_on").exists():
            (mine / "go_on").touch()
            os.kill(statuses(mine)[0].process["pid"], signal.SIGKILL)

    (status,), _ = compute(mine, number, relax=False, samples=samples, watch=kill)
    assert (status.state, "SIGKILL" in status.reason) == ("prepared", True)
    (job,) = job_folders(mine)
    assert not (job.path / "outcome.json").exists()
    before = calls(mine)
    assert len(before) == 3  # the job, a sample, and the one in which it was killed
    (status,), _ = compute(mine, number, relax=False, samples=samples)
    assert (status.state, status.attempt) == ("collected", 2)
    assert calls(mine)[3:] == pytest.approx([340.0, 250.0, 300.0], abs=0.1)
    assert [frame.info["tag"] for frame in frames_of(mine, status).frames] == [
        "relax0", "as it is", "larger", "last",
    ]  # fmt: skip


def test_samples_for_another_code_have_folders_of_their_own(folder):
    number, tags = half_filled(folder), ["as it is", "larger", "last"]
    with place_of(folder).store as store:
        place = Workplace.of(RunFolder(folder), store)
        (job,) = export_jobs(
            place, [number], "vasp", relax=True, ferromagnetic=True,
            samples=samples_of(folder, tags),
        )  # fmt: skip
    for name in ("sample-1", "sample-2", "sample-3"):
        assert "NSW = 0" in (job.path / name / "INCAR").read_text()
        assert (job.path / name / "POTCAR.titles").is_file()
    (job.path / "OUTCAR").write_text(outcar(job.path))
    second, third = job.path / "sample-2", job.path / "sample-3"
    (second / "OUTCAR").write_text(outcar(second, iterations=(9,), energy=-160.0))
    (third / "OUTCAR").write_text(outcar(third, iterations=(9,), ENCUT=400))
    assert CliRunner().invoke(app, ["dft", "collect", str(folder)]).exit_code == 0
    found = frames_of(folder, job.status())
    assert [f.info["tag"] for f in found.frames] == ["relax0", "relax1", "relax2", "larger"]
    assert found.frames[-1].get_potential_energy() == -160.0
    assert found.frames[-1].cell.volume == pytest.approx(340.0, rel=1e-6)
    reasons = " ".join(found.left_out)
    assert found.left_out["samples without an output"] == 1
    assert "a cutoff of 400 eV" in reasons

"""Relaxations of `gpaw_job.py` on forces as DFT gives them: noisy, and now and then misleading."""

import importlib.util
import json
import types

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read, write
from ase.units import Bohr, Ha

from gasearch.dft.codes.gpaw import SCRIPT

TASK = {"fmax": 0.05, "max_steps": 60, "max_step_length": 0.08, "max_scf": 90}
STIFFNESS = np.geomspace(2.0, 60.0, 24).reshape(8, 3)  # eV/Å^2


class ElectronsLostError(Exception):
    """What GPAW raises where the electrons do not converge."""


class Springs(Calculator):
    """Eight atoms on springs; forces have noise, and some calls end in another state."""

    implemented_properties = ("energy", "forces", "magmoms", "magmom")

    def __init__(self, noise=0.0, other_state=(), lost=()):
        super().__init__()
        self.rng = np.random.default_rng(5)
        self.noise, self.other_state, self.lost = noise, other_state, lost
        self.n_calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.n_calls += 1
        if self.n_calls in self.lost:
            raise ElectronsLostError
        shift = self.atoms.positions - sites()
        energy = 0.5 * float((STIFFNESS * shift**2).sum())
        forces = -STIFFNESS * shift + self.noise * self.rng.normal(size=(8, 3)) / np.sqrt(3)
        if self.n_calls in self.other_state:
            energy, forces = energy + 0.4, 5 * self.rng.normal(size=(8, 3))
        self.results = {"energy": energy, "forces": forces, "magmoms": np.zeros(8), "magmom": 0.0}


def sites():
    return np.stack(np.meshgrid(*[[0.0, 2.0]] * 3), axis=-1).reshape(8, 3)


@pytest.fixture
def relax(tmp_path, monkeypatch):
    """A function that relaxes eight atoms by the script; returns steps, result and frames."""
    spec = importlib.util.spec_from_file_location("gpaw_job_here", SCRIPT)
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    world = types.SimpleNamespace(world=types.SimpleNamespace(barrier=lambda: None))
    program = types.SimpleNamespace(KohnShamConvergenceError=ElectronsLostError)
    monkeypatch.setattr(job, "load_gpaw", lambda name="gpaw": world if "mpi" in name else program)
    monkeypatch.chdir(tmp_path)

    def call(calculator, **task):
        atoms = Atoms("H8", sites(), cell=[4, 4, 4], pbc=True)
        atoms.rattle(0.05, seed=3)
        lowest = job.read_frame("relax.traj", lowest=True)
        if lowest is not None:
            atoms.positions = lowest.positions
        atoms.calc = calculator
        return job.relax(atoms, {**TASK, **task}, "relax", 0.0, is_first=True)

    call.job = job
    return call


def largest(frame):
    return np.linalg.norm(frame.get_forces(), axis=1).max()


def test_clean_forces_converge_as_asked(relax):
    n_steps, frame = relax(Springs())
    assert largest(frame) <= TASK["fmax"]
    assert 2 < n_steps < 30


def test_a_step_into_another_state_is_taken_back(relax):
    calculator = Springs(other_state=(4, 9))
    _, frame = relax(calculator)
    assert largest(frame) <= TASK["fmax"]
    assert frame.get_potential_energy() < 0.01
    assert calculator.n_calls < 40


def test_forces_that_only_fluctuate_end_at_the_lowest_geometry(relax):
    _, frame = relax(Springs(noise=0.09), fmax=0.01)
    assert frame.get_potential_energy() < 0.005
    assert largest(frame) > 0.01


def test_large_forces_are_no_end(relax):
    with pytest.raises(relax.job.NotConvergedError, match=r"after 3 steps, not 0\.05"):
        relax(Springs(), max_steps=3)


def test_a_single_point_is_one_call(relax):
    calculator = Springs()
    n_steps, frame = relax(calculator, max_steps=0, fmax=float("inf"))
    assert (n_steps, calculator.n_calls) == (0, 1)
    assert frame.get_potential_energy() > 0.01


def test_what_was_lost_goes_on_from_the_lowest_geometry(relax):
    with pytest.raises(relax.job.NotConvergedError, match="did not converge in 90") as failed:
        relax(Springs(other_state=(5,), lost=(6,)))
    assert failed.value.end == "scf"
    lowest = relax.job.read_frame("relax.traj", lowest=True)
    calculator = Springs()
    _, frame = relax(calculator)
    assert frame.get_potential_energy() < lowest.get_potential_energy()
    assert relax.job.read_frame("relax.traj").get_potential_energy() < 0.01


def test_a_trajectory_that_was_cut_off_is_no_frame(relax, tmp_path):
    (tmp_path / "relax.traj").write_bytes(b"- of UlmASE-Traj")
    assert relax.job.read_frame("relax.traj") is None
    assert relax.job.read_frame("missing.traj", lowest=True) is None


class TestPlaneWaves:
    def test_those_of_a_cube_are_counted(self, relax):
        cube = np.eye(3) * 2 * np.pi * Bohr  # reciprocal vectors of length 1 / Bohr
        for longest, point, number in ((1.2, 0.0, 7), (1.5, 0.0, 19), (0.6, 0.5, 2)):
            average = 4 / 3 * np.pi * longest**3
            cutoff_eV = 0.5 * longest**2 * Ha
            found = relax.job.plane_wave_excess(cube, [[point, 0, 0]], cutoff_eV)
            assert found == pytest.approx(np.log(number / average))

    def test_a_sheared_cell_and_several_k_points_have_their_mean(self, relax):
        cell = np.array([[4.0, 0, 0], [1.0, 5.0, 0], [0.5, -1.0, 6.0]])
        points = [[0.0, 0.25, 0.25], [0.5, 0.1, 0.0]]
        alone = [relax.job.plane_wave_excess(cell, [point], 300.0) for point in points]
        both = relax.job.plane_wave_excess(cell, points, 300.0)
        assert both == pytest.approx(np.mean(alone))
        other = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]]) @ cell  # the same lattice
        moved = [[a + b, b, c] for a, b, c in points]
        assert relax.job.plane_wave_excess(other, moved, 300.0) == pytest.approx(both)

    def test_many_are_close_to_the_average(self, relax):
        assert abs(relax.job.plane_wave_excess(np.eye(3) * 11.0, [[0, 0, 0.25]], 900.0)) < 0.003


class TestSamples:
    """Geometries after the job itself, from the electrons of before."""

    @pytest.fixture
    def compute(self, relax, tmp_path, monkeypatch):
        """A function that computes the job of a folder, with calculators that are kept."""
        atoms = Atoms("H8", sites(), cell=[4, 4, 4], pbc=True)
        samples = []
        for number, tag in enumerate(["near", "lost", "strained", "far"], start=1):
            sample = atoms.copy()
            sample.rattle(0.01 * number, seed=number)
            sample.set_cell(sample.cell * (1.01 if tag == "strained" else 1.0), scale_atoms=True)
            sample.info["tag"] = tag
            samples.append(sample)
        write(tmp_path / "start.traj", atoms)
        write(tmp_path / "samples.traj", samples)
        made = []

        class Program(Springs):
            density = types.SimpleNamespace(
                setups=[], nspins=2, D_asp={},
                gd=types.SimpleNamespace(comm=types.SimpleNamespace(sum=lambda array: None)),
            )  # fmt: skip

            def __init__(self, **settings):
                super().__init__(lost=(3,) if not made else ())
                self.text = settings["txt"]
                made.append(self)

        program = types.SimpleNamespace(
            KohnShamConvergenceError=ElectronsLostError, GPAW=Program, PW=float,
            FermiDirac=lambda *_, **__: None, MixerDif=lambda *_: None,
        )  # fmt: skip
        world = types.SimpleNamespace(world=types.SimpleNamespace(barrier=lambda: None, rank=0))
        monkeypatch.setattr(
            relax.job, "load_gpaw", lambda name="gpaw": world if "mpi" in name else program
        )
        job = {
            **TASK, "task": "single-point", "rung": "as set", "attempt": 1, "cutoff_eV": 450.0,
            "xc": "PBE", "kpoints": [[0, 0, 0]], "hubbard": {}, "smearing_eV": 0.05,
            "mixer": [0.1, 5, 50.0], "convergence": {}, "moments": [1.0] * 8,
        }  # fmt: skip
        (tmp_path / "job.json").write_text(json.dumps(job))

        def call():
            assert relax.job.main() == 0
            return json.loads((tmp_path / "outcome.json").read_text())

        call.made, call.job = made, relax.job
        return call

    def test_they_are_computed_by_the_jobs_own_calculator_and_a_lost_one_begins_afresh(
        self, compute, tmp_path
    ):
        outcome = compute()
        assert (outcome["end"], outcome["n_steps"]) == ("done", 0)
        reasons = {"2": "the electrons did not converge"}
        assert outcome["samples"] == {"done": 3, "left_out": reasons}
        first, second = compute.made
        assert (first.n_calls, second.n_calls) == (3, 2)
        assert (first.text, second.text) == ("gpaw-1.txt", "gpaw-1-afresh.txt")
        found = compute.job.read_frames("samples-result.traj")
        given = {sample.info["tag"]: sample for sample in read(tmp_path / "samples.traj", ":")}
        assert [frame.info["tag"] for frame in found] == ["near", "strained", "far"]
        for frame in found:
            sample = given[frame.info["tag"]]
            assert np.array_equal(frame.positions, sample.positions)
            assert np.array_equal(frame.cell, sample.cell)
            energy = 0.5 * (STIFFNESS * (sample.positions - sites()) ** 2).sum()
            assert frame.get_potential_energy() == pytest.approx(energy)
            assert frame.get_initial_magnetic_moments().tolist() == [1.0] * 8
        assert read(tmp_path / "result.traj").get_potential_energy() == 0.0

    def test_what_is_there_is_not_computed_again(self, compute, tmp_path):
        compute()
        frames = compute.job.read_frames("samples-result.traj")
        compute.job.write_frames("samples-result.traj", frames[:1])
        (tmp_path / "outcome.json").unlink()
        before = sum(one.n_calls for one in compute.made)
        assert compute()["samples"]["done"] == 3
        assert sum(one.n_calls for one in compute.made) == before + 2
        assert len(compute.job.read_frames("relax.traj")) == 1

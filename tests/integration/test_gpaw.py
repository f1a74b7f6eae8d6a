"""Real GPAW end to end, on NaFeF3 perovskite in its cell of five atoms: seconds instead of minutes.

The cut-off is too low for physics. What is tested is the machinery, and that the charge order
Fe3+ comes out of FeF3.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.units import Bohr, Ha
from fake_dft import compute, start_driver, wait_until
from places import SHIPPED_FRAMES, TOYS
from typer.testing import CliRunner

from gasearch.cli.app import app
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.dft.codes.gpaw import RETRIES, SCRIPT, job_input, with_retry
from gasearch.dft.jobs.export import training_frames
from gasearch.dft.jobs.folders import job_folders
from gasearch.dft.jobs.prepare import Workplace
from gasearch.run.dft_section import DftSection, GpawSection
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store import dft_jobs
from gasearch.store.checks.check import check_store
from gasearch.training.data.reading import read_frames

if importlib.util.find_spec("gpaw") is None and os.environ.get("CI") != "true":
    pytest.skip("no GPAW here: tools/gpaw.sh installs it", allow_module_level=True)

RUN = """\
[host]
structure = "nafef3.extxyz"
supercell = [1, 1, 1]
formula_unit = "NaFeF3"
[[host.sublattice]]
kind = "working_ion"
sites = ["Na"]
species = ["Na+", "vacancy"]
[[host.sublattice]]
kind = "redox"
sites = ["Fe"]
species = ["Fe2+", "Fe3+"]
[host.framework]
F = "F-"
[potential]
name = "./toy.py:LabelEnergy"
[search]
budget = 2
[relax]
rattle = 0.08
[execution]
workers = 0
device = "cpu"
[store]
backups = 0
[dft]
fmax = 0.8
hubbard_u_eV = { Fe = 4.0 }
[dft.gpaw]
cutoff_eV = 220.0
basis_correction = false
kpoints = [[0.0, 0.0, 0.0]]
max_scf = 60
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A run that knows FeF3 and NaFeF3."""
    folder = tmp_path_factory.mktemp("run")
    places = [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    atoms = Atoms("NaFeF3", cell=[3.95] * 3, pbc=True, scaled_positions=places)
    ase.io.write(folder / "nafef3.extxyz", atoms)
    shutil.copy(TOYS, folder / "toy.py")
    (folder / "run.toml").write_text(RUN)
    Session(RunFolder(folder)).run()
    return folder


@pytest.fixture
def folder(searched, tmp_path):
    return shutil.copytree(searched, tmp_path / "run")


def dft(folder, *words, expected=0):
    done = CliRunner().invoke(app, ["dft", words[0], str(folder), *map(str, words[1:])])
    assert done.exit_code == expected, done.output
    return f"{done.stdout}{done.exception or ''}"


def empty(folder):
    """Return the candidate FeF3."""
    with RunFolder(folder).open_store() as store:
        return next(row.candidate for row in store.evaluations() if row.x == 0)


def results(folder):
    with RunFolder(folder).open_store() as store:
        (level,) = dft_jobs.dft_levels(store)
        return level, dft_jobs.dft_rows(store, level.name)


def test_a_candidate_is_relaxed_collected_and_becomes_training_data(folder, tmp_path):
    number = empty(folder)
    told = dft(folder, "run", number)
    assert "charge order kept" in told
    level, (row,) = results(folder)
    assert (row.candidate, row.verdict) == (number, "ok")
    assert row.fmax < 0.8
    assert level.settings["hubbard_u_eV"] == {"Fe": 4.0}
    (job,) = job_folders(folder)
    text = (job.path / "gpaw-1.txt").read_text()
    points = [int(n) for n in re.search(r"Coarse grid: (\d+)\*(\d+)\*(\d+)", text).groups()]
    with RunFolder(folder).open_store() as store:
        lengths = store.relaxed(number).atoms.cell.lengths()
    assert all(lengths / points <= level.settings["grid_spacing_A"])
    extrapolated = [line.split()[-1] for line in text.splitlines() if "Extrapolated" in line]
    assert row.energy == pytest.approx(float(extrapolated[-1]), abs=2e-6)
    with RunFolder(folder).open_store() as store:
        relaxed = dft_jobs.dft_relaxed(store, number, level.name)
    iron = int(np.flatnonzero(relaxed.atoms.symbols == "Fe")[0])
    assert relaxed.atoms.get_initial_charges()[iron] == 3
    assert 4.1 < relaxed.moments[iron] < 4.7
    assert check_store(RunFolder(folder).database) == []
    dft(folder, "export", "--as-training", tmp_path / "new.xyz")
    frames = read_frames([tmp_path / "new.xyz"]).frames
    assert frames[-1].energy == pytest.approx(row.energy)
    assert frames[-1].charges[iron] == 3


def test_a_job_killed_in_the_middle_goes_on_from_its_last_step(folder):
    number = empty(folder)
    driver = start_driver(folder, str(number))
    wait_until(lambda: driver.poll() is not None or [*folder.glob("dft/*/progress.json")], 240)
    assert driver.poll() is None, "it ended before it could be killed"
    (trajectory,) = folder.glob("dft/*/relax.traj")
    (job,) = job_folders(folder)
    os.kill(job.status().process["pid"], signal.SIGKILL)
    assert driver.wait(60) == 1
    assert (job.status().state, job.status().attempt) == ("prepared", 1)
    assert "SIGKILL" in job.status().reason
    first = ase.io.read(trajectory, 0)
    assert "charge order kept" in dft(folder, "run", number)
    assert job.status().attempt == 2
    frames = ase.io.read(trajectory, ":")
    assert frames[0].positions == pytest.approx(first.positions, abs=0)
    assert len(frames) > 1
    _, (row,) = results(folder)
    assert row.energy == pytest.approx(frames[-1].get_potential_energy())
    assert row.energy < frames[0].get_potential_energy()


def test_electrons_that_need_more_patience_get_it_by_a_retry(folder):
    text = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(text.replace("max_scf = 60", "max_scf = 10"))
    number = empty(folder)
    dft(folder, "run", number, "--single-point")
    (job,) = job_folders(folder)
    status = job.status()
    assert status.state == "collected"
    assert status.tried[0].startswith("as set: the electrons did not converge in 10 iterations")
    _, (row,) = results(folder)
    assert row.verdict == "ok"


def test_electrons_that_never_converge_make_a_failed_job_with_its_reason(folder):
    text = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(text.replace("max_scf = 60", "max_scf = 2"))
    told = dft(folder, "run", empty(folder), "--single-point", expected=1)
    assert "nor with any retry" in told
    (job,) = job_folders(folder)
    assert [line.split(":")[0] for line in job.status().tried] == [*RETRIES]
    assert results(folder)[1] == []
    assert "failed" in json.loads(dft(folder, "status", "--json"))[0]["state"]


def test_samples_go_on_from_the_electrons_of_the_job(folder, tmp_path):
    number = empty(folder)
    with RunFolder(folder).open_store() as store:
        start = store.relaxed(number).atoms

    def samples(number):
        near, strained = start.copy(), start.copy()
        near.rattle(0.01, seed=1)
        strained.set_cell(1.01 * start.cell, scale_atoms=True)
        near.info["tag"], strained.info["tag"] = "near", "strained"
        return [near, strained]

    (status,), _ = compute(folder, number, relax=False, samples=samples)
    assert (status.state, status.charge_order) == ("collected", "kept")
    (job,) = job_folders(folder)
    texts = (job.path / "gpaw-1.txt").read_text().lower().split("converged after ")[1:]
    of_job, of_near, of_strained = (int(text.split()[0]) for text in texts)
    assert of_near < 0.8 * of_job
    assert of_strained > of_near  # another cell begins anew
    run = RunFolder(folder)
    with run.open_store() as store:
        found = training_frames(Workplace.of(run, store), status.level)
    assert [frame.info["tag"] for frame in found.frames] == ["relax0", "near", "strained"]
    assert found.left_out == {}
    near, strained = [frame.get_potential_energy() for frame in found.frames[1:]]
    again = tmp_path / "the other way round"
    again.mkdir()
    shutil.copy(SCRIPT, again)
    shutil.copy(job.path / "job.json", again)
    ase.io.write(again / "start.traj", samples(number)[1])
    ase.io.write(again / "samples.traj", samples(number)[:1])
    subprocess.run([sys.executable, SCRIPT.name], cwd=again, check=True, capture_output=True)
    found = ase.io.read(again / "result.traj").get_potential_energy()
    assert found == pytest.approx(strained, abs=2e-3)
    found = ase.io.read(again / "samples-result.traj").get_potential_energy()
    assert found == pytest.approx(near, abs=2e-3)


def test_energies_are_those_of_the_average_number_of_plane_waves(folder):
    text = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(text.replace("correction = false", "correction = true"))
    number = empty(folder)
    with RunFolder(folder).open_store() as store:
        start = store.relaxed(number).atoms
    strains = np.array([-0.02, -0.01, 0.01, 0.02])

    def samples(number):
        found = [start.copy() for _ in strains]
        for one, strain in zip(found, strains, strict=True):
            one.set_cell((1 + strain) * start.cell, scale_atoms=True)
            one.info["tag"] = f"{strain:+g}"
        return found

    (status,), _ = compute(folder, number, relax=False, samples=samples)
    assert status.state == "collected"
    (job,) = job_folders(folder)
    _, (row,) = results(folder)
    text = (job.path / "gpaw-1.txt").read_text()
    told = [float(line.split()[-1]) for line in text.splitlines() if "Extrapolated:" in line]
    numbers = [int(n) for n in re.findall(r"Number of coefficients: (\d+)", text)]
    frames = [ase.io.read(job.path / "result.traj")]
    frames += ase.io.read(job.path / "samples-result.traj", ":")
    volumes = np.array([frame.get_volume() for frame in frames])
    average = volumes / Bohr**3 * (2 * 220.0 / Ha) ** 1.5 / (6 * np.pi**2)
    slope = json.loads((job.path / "basis.json").read_text())["eV_per_ln_waves"]
    energies = [frame.get_potential_energy() for frame in frames]
    assert energies == pytest.approx(told - slope * np.log(numbers / average), abs=1e-4)
    assert row.energy == pytest.approx(energies[0])
    strains = np.array([0.0, *strains])

    def off_a_parabola(values):
        return np.std(values - np.polyval(np.polyfit(strains, values, 2), strains))

    assert slope < 0
    assert off_a_parabola(energies) < off_a_parabola(told) / 3


class TestOrbitals:
    """NaFeF3 in a flat cell, where the one electron of Fe2+ with the other spin is best in xy."""

    XY, YZ = 0, 1  # among GPAW's five d orbitals

    @pytest.fixture
    def compute(self, tmp_path):
        """A function that begins with yz; returns energies of job and sample, and orbitals."""
        sites = [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
        atoms = Atoms("NaFeF3", cell=[4.2, 4.2, 3.9], pbc=True, scaled_positions=sites)
        strained = atoms.copy()
        strained.set_cell(1.01 * atoms.cell, scale_atoms=True)
        written = {
            "task": "single-point", "rung": "as set", "attempt": 1, "fmax": 0.8, "max_steps": 1,
            "max_step_length": 0.1, "xc": "PBE", "cutoff_eV": 220.0, "kpoints": [[0, 0, 0]],
            "hubbard": {"Fe": ["d", 4.0]}, "smearing_eV": 0.05, "mixer": [0.1, 5, 50.0],
            "max_scf": 60, "moments": [0.0, 4.0, 0.0, 0.0, 0.0], "surrogates": {},
            "convergence": {"energy": 5e-5, "density": 6e-4, "eigenstates": 2e-6},
        }  # fmt: skip
        of_yz = {"energy_eV": 0.0, "occupied": {"1:1": [np.eye(5)[self.YZ].tolist()]}, "tried": []}

        def call(starts, tried=()):
            folder = tmp_path / f"{starts}-{len(tried)}"
            folder.mkdir()
            shutil.copy(SCRIPT, folder)
            ase.io.write(folder / "start.traj", atoms)
            ase.io.write(folder / "samples.traj", strained)
            (folder / "job.json").write_text(json.dumps({**written, "orbital_starts": starts}))
            (folder / "orbitals.json").write_text(json.dumps(of_yz | {"tried": list(tried)}))
            subprocess.run([sys.executable, SCRIPT.name], cwd=folder, check=True)
            found = [ase.io.read(folder / f"{name}.traj") for name in ("result", "samples-result")]
            kept = json.loads((folder / "orbitals.json").read_text())
            return [frame.get_potential_energy() for frame in found], kept

        return call

    def test_a_job_begins_with_those_of_its_folder_and_its_samples_go_on_with_them(self, compute):
        (of_yz, strained_yz), kept = compute(0)
        ((occupied,),) = kept["occupied"].values()
        assert abs(occupied[self.YZ]) > 0.99
        (of_xy, strained_xy), kept = compute(2)
        ((occupied,),) = kept["occupied"].values()
        assert abs(occupied[self.XY]) > 0.99
        assert of_yz - of_xy == pytest.approx(0.008, abs=0.003)
        assert strained_yz - strained_xy == pytest.approx(0.068, abs=0.01)
        zx, xy = [one["energy_eV"] for one in kept["tried"]]
        assert zx == pytest.approx(of_yz, abs=1e-5)  # by symmetry
        assert xy == pytest.approx(of_xy, abs=1e-3)
        assert kept["energy_eV"] == of_xy

    def test_what_was_tried_is_not_tried_again(self, compute):
        done = [{"shells": ["1:1"], "energy_eV": None}, {"shells": ["1:1"], "energy_eV": 99.0}]
        _, kept = compute(2, done)
        assert kept["tried"] == done


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("GASEARCH_SLOW"), reason="minutes; set GASEARCH_SLOW=1")
def test_a_frame_of_the_shipped_data_has_the_energy_that_it_says(tmp_path):
    frame = ase.io.read(SHIPPED_FRAMES, 0)
    host = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
    as_the_data_were = GpawSection(grid_spacing=0.0, basis_correction=False)
    section = DftSection(gpaw=as_the_data_were)
    written = with_retry(job_input(frame, host, section, relax=False), 0, 1)
    (tmp_path / "job.json").write_text(json.dumps(written))
    bare = frame.copy()
    bare.calc = None
    ase.io.write(tmp_path / "start.traj", bare)
    shutil.copy(SCRIPT, tmp_path / SCRIPT.name)
    subprocess.run([sys.executable, SCRIPT.name], cwd=tmp_path, check=True, capture_output=True)
    found = ase.io.read(tmp_path / "result.traj")
    jump_eV = -16.2 * 4 * frame.info["plane_wave_excess"]  # as data/average_waves.py has it
    as_computed = frame.get_potential_energy() + jump_eV
    assert found.get_potential_energy() == pytest.approx(as_computed, abs=1e-3)
    assert found.get_forces() == pytest.approx(frame.get_forces(), abs=5e-3)

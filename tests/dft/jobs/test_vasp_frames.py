"""Relaxations of VASP as training data: every step with energy, forces, stress, moments, labels."""

import shutil

import ase.io
import ase.units
import numpy as np
import pytest
from fake_vasp import outcar, vasprun
from typer.testing import CliRunner

from gasearch.cli.app import app
from gasearch.dft.jobs.collect import collect_job
from gasearch.dft.jobs.export import export_jobs
from gasearch.dft.jobs.prepare import Workplace
from gasearch.run.folder import RunFolder
from gasearch.training.data.reading import NoFramesError, read_frames

STEPS_kB = [[10.0 + k, 20.0, 30.0, 1.0, 2.0, 3.0] for k in range(4)]
"""xx, yy, zz, xy, yz, zx of each step, pressed together: as VASP prints them."""
LOST = {"iterations": (12, 200, 9, 7), "stress_kB": STEPS_kB, "hop_at": 2}
"""Four steps; the electrons of the second do not converge, and before the third the hole moves."""


@pytest.fixture
def place(whole, tmp_path):
    run = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    found = Workplace.of(run, run.open_store(read_only=False))
    yield found
    found.store.close()


@pytest.fixture
def job(place):
    rows = place.store.evaluations()
    number = min(row.candidate for row in rows if row.composition == "Na2Fe4P4O16")
    (job,) = export_jobs(place, [number], "vasp", relax=True, ferromagnetic=True)
    return job


def stress(step):
    """Return the stress (3, 3) of a step in eV/Å^3, tension positive."""
    xx, yy, zz, xy, yz, zx = STEPS_kB[step]
    return -0.1 * ase.units.GPa * np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])


def check(frames, steps=(0, 2, 3), exact=1e-9):
    """The frames are these steps, each with the labels of its own moments."""
    assert [frame.energy for frame in frames] == pytest.approx([-170.0 - 0.01 * k for k in steps])
    for frame, step in zip(frames, steps, strict=True):
        assert frame.stress == pytest.approx(stress(step), abs=exact)
        assert frame.forces[:, 0] == pytest.approx(0.01)
        irons = frame.atoms.symbols == "Fe"
        assert frame.moments[irons] == pytest.approx(
            [{2: 3.7, 3: 4.25}[q] for q in frame.charges[irons]]
        )
    first, *others = (frame.charges for frame in frames)
    assert [int((one != first).sum()) for one in others] == [2 * (step >= 2) for step in steps[1:]]
    assert all(one.sum() == 0 for one in (first, *others))


def test_a_collected_relaxation_is_exported_step_by_step(place, job, tmp_path):
    (job.path / "OUTCAR").write_text(outcar(job.path, **LOST))
    assert collect_job(place, job).charge_order == "moved"
    place.store.close()
    path = tmp_path / "new.xyz"
    words = ["dft", "export", str(place.folder.path), "--as-training", str(path)]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    assert "wrote 3 frames" in said.stdout
    assert "left out: 1 (the electrons did not converge)" in said.stdout
    check(read_frames([path]).frames, exact=1e-7)


def test_an_outcar_is_read_for_training_as_it_is(job, tmp_path):
    (tmp_path / "OUTCAR").write_text(outcar(job.path, **LOST))
    found = read_frames([tmp_path / "OUTCAR"])
    check(found.frames)
    assert found.dropped == {"electrons not converged": 1}
    assert any("stress in 3" in line for line in found.told())


def test_a_run_that_was_killed_gives_the_steps_that_are_whole(job, tmp_path):
    text = outcar(job.path, **LOST)
    (tmp_path / "OUTCAR").write_text(text[: text.rindex("TOTAL-FORCE")])
    check(read_frames([tmp_path / "OUTCAR"]).frames, (0, 2))


def test_a_vasprun_takes_its_moments_from_the_outcar_beside_it(job, tmp_path):
    same = {key: LOST[key] for key in ("iterations", "stress_kB")}
    (tmp_path / "vasprun.xml").write_text(vasprun(job.path, **same))
    with pytest.raises(NoFramesError):
        read_frames([tmp_path / "vasprun.xml"])
    (tmp_path / "OUTCAR").write_text(outcar(job.path, **LOST))
    found = read_frames([tmp_path / "vasprun.xml"]).frames
    check(found)
    given = ase.io.read(job.path / "POSCAR")
    assert found[0].atoms.positions == pytest.approx(given.positions, abs=1e-7)
    (tmp_path / "OUTCAR").write_text(outcar(job.path, **{**LOST, "energy": -171.0}))
    with pytest.raises(NoFramesError):  # of another run
        read_frames([tmp_path / "vasprun.xml"])


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml"])
def test_the_trace_alone_is_no_stress(job, tmp_path, name):
    flaws = {"iterations": (9,), "stress_kB": STEPS_kB[:1], "ISIF": 1}
    (tmp_path / "OUTCAR").write_text(outcar(job.path, **flaws))
    (tmp_path / "vasprun.xml").write_text(vasprun(job.path, **flaws))
    (frame,) = read_frames([tmp_path / name]).frames
    assert frame.stress is None
    assert frame.energy == -170.0


def test_steps_without_a_stress_are_frames_without_one(job, tmp_path):
    (tmp_path / "OUTCAR").write_text(outcar(job.path))
    assert [frame.stress for frame in read_frames([tmp_path / "OUTCAR"]).frames] == [None] * 3

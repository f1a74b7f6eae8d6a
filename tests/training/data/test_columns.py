"""Labels by their columns: every usual name is read, and none is taken for what it is not."""

from __future__ import annotations

import ase.io
import ase.units
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from crystals import olivine

from gasearch.training.data.reading import DataFileError, NoFramesError, read_frames

ENERGY = -170.0
FORCES = np.random.default_rng(0).normal(0, 0.1, (26, 3))
STRESS = np.array([[-0.01, -0.001, -0.002], [-0.001, -0.02, -0.003], [-0.002, -0.003, 0.03]])


def frame(energy="energy", forces="forces", /, **info):
    """Return a crystal with an energy and forces in columns of these names, and nothing else."""
    atoms = olivine()
    atoms.info["decoration"] = "a"
    if energy is not None:
        atoms.info[energy] = ENERGY
    if forces is not None:
        atoms.arrays[forces] = FORCES.copy()
    atoms.info.update(info)
    return atoms


def read(tmp_path, *frames):
    ase.io.write(tmp_path / "frames.extxyz", list(frames), format="extxyz", write_results=False)
    return read_frames([tmp_path / "frames.extxyz"])


@pytest.mark.parametrize("name", ["energy", "Energy", "REF_energy", "dft_energy", "DFT_Energy"])
def test_an_energy_is_read_by_its_usual_names(tmp_path, name):
    found = read(tmp_path, frame(name))
    assert found.frames[0].energy == ENERGY
    assert found.columns["energy"] == {name: 1}


@pytest.mark.parametrize(
    "name", ["forces", "force", "Forces", "REF_forces", "dft_force", "DFT_forces", "ref_Force"]
)
def test_forces_are_read_by_their_usual_names(tmp_path, name):
    found = read(tmp_path, frame("energy", name))
    assert found.frames[0].forces == pytest.approx(FORCES, abs=1e-7)
    assert not found.unread


def test_frames_that_name_a_label_differently_are_all_read_and_counted(tmp_path):
    found = read(tmp_path, frame("REF_energy"), frame("Energy"), frame("REF_energy", None))
    assert [one.energy for one in found.frames] == [ENERGY] * 3
    assert found.told()[0] == (
        "read 3 frames: energy in 3 (REF_energy (in 2), Energy (in 1)), forces in 2 (forces), "
        "stress in 0, moments in 0, partial charges in 0"
    )


def test_columns_without_a_meaning_are_named_with_the_names_that_have_one(tmp_path):
    strange = frame("energy", "f_total", e_total=-1.0)
    found = read(tmp_path, strange, frame())
    assert found.unread == {"f_total": 1, "e_total": 1}
    assert found.passed_over()[0] == "not read: f_total (in 1), e_total (in 1)"
    assert "REF_..." in found.passed_over()[1]
    del strange.info["energy"]
    with pytest.raises(NoFramesError, match=r"accepted names: energy, .* Not read: f_total, e_to"):
        read(tmp_path, strange)


def test_columns_of_gasearch_itself_are_no_strangers(tmp_path):
    info = {"gaid": 3, "x": 0.5, "orbit_size": 4, "verdict": "ok", "tag": "relax0", "relaxed": 1}
    assert not read(tmp_path, frame(**info)).passed_over()


@pytest.mark.parametrize("source", ["REF_", "dft_"])
def test_a_calculators_later_values_do_not_win_over_the_reference(tmp_path, source):
    atoms = frame(f"{source}energy", f"{source}forces", energy=-1.0)
    atoms.arrays["forces"] = np.zeros((26, 3))
    found = read(tmp_path, atoms)
    assert found.frames[0].energy == ENERGY
    assert found.frames[0].forces == pytest.approx(FORCES, abs=1e-7)
    assert found.stale == {"energy": 1, "forces": 1}
    assert found.passed_over()[0].startswith("not used: forces (in 1), energy (in 1)")


def test_where_one_label_is_stale_so_are_the_others_of_the_calculator(tmp_path):
    atoms = frame("REF_energy", None, energy=-1.0, stress=STRESS)
    atoms.arrays["forces"] = np.zeros((26, 3))
    (one,) = read(tmp_path, atoms).frames
    assert (one.energy, one.forces, one.stress) == (ENERGY, None, None)


def test_a_label_that_is_written_twice_alike_is_no_contradiction(tmp_path):
    atoms = frame("REF_energy", energy=ENERGY + 1e-6)
    found = read(tmp_path, atoms)
    assert found.frames[0].forces is not None
    assert not found.stale


@pytest.mark.parametrize(
    ("one", "other"), [("energy", "Energy"), ("REF_energy", "dft_energy"), ("Energy", "ENERGY")]
)
def test_two_equal_claims_that_differ_are_refused(tmp_path, one, other):
    with pytest.raises(DataFileError, match=r"frame 2: .* differ \(-1\d+ and -1\d+\): leave the r"):
        read(tmp_path, frame(), frame(one, **{other: ENERGY - 5}))


@pytest.mark.parametrize(
    ("factor", "unit"), [(-10 / ase.units.GPa, "kBar"), (1 / ase.units.GPa, "GPa")]
)
@pytest.mark.parametrize("name", ["REF_stress", "stress", "dft_stress"])
def test_a_stress_in_other_units_is_refused(tmp_path, factor, unit, name):
    with pytest.raises(DataFileError, match=rf"frame 1: {name} of .* more than .* {unit}"):
        read(tmp_path, frame(**{name: factor * STRESS}))


def test_the_refusal_says_what_the_stress_would_be(tmp_path):
    with pytest.raises(DataFileError, match=r"in kBar, .*, it would be 0.03 eV/Å\^3, in GPa 0.3;"):
        read(tmp_path, frame(REF_stress=-10 / ase.units.GPa * STRESS))


@pytest.mark.parametrize("name", ["stress", "REF_stress", "REF_stress as a list"])
def test_a_stress_is_read_as_a_matrix_however_it_is_written(tmp_path, name):
    written = STRESS.tolist() if name.endswith("list") else STRESS
    found = read(tmp_path, frame(**{name.split()[0]: written}))
    assert found.frames[0].stress == pytest.approx(STRESS)
    assert found.told()[1] == "largest stress component: 0.03 eV/Å^3, which is 4.81 GPa"


def test_six_numbers_are_a_stress_only_where_their_order_is_known(tmp_path):
    voigt = np.array([*np.diag(STRESS), STRESS[1, 2], STRESS[0, 2], STRESS[0, 1]])
    with pytest.raises(DataFileError, match="six numbers, whose order the file does not say"):
        read(tmp_path, frame(REF_stress=voigt))
    with pytest.raises(DataFileError, match="9-long"):  # ASE's own word
        read(tmp_path, frame(stress=" ".join(map(str, voigt))))
    straight = np.array([*voigt[:3], 0.0, 0.0, 0.0])
    (one,) = read(tmp_path, frame(REF_stress=straight)).frames
    assert one.stress == pytest.approx(np.diag(np.diag(STRESS)))
    atoms = frame(None, None)
    atoms.calc = SinglePointCalculator(atoms, energy=ENERGY, stress=voigt)
    ase.io.write(tmp_path / "one.traj", atoms)
    assert read_frames([tmp_path / "one.traj"]).frames[0].stress == pytest.approx(STRESS)


def test_a_stress_that_is_not_symmetric_is_refused(tmp_path):
    with pytest.raises(DataFileError, match="not symmetric"):
        read(tmp_path, frame(REF_stress=STRESS + np.triu(np.ones((3, 3)), 1) / 100))


@pytest.mark.parametrize("name", ["virial", "REF_virial", "dft_virials"])
def test_a_virial_is_minus_the_stress_times_the_volume(tmp_path, name):
    found = read(tmp_path, frame(**{name: -STRESS * olivine().get_volume()}))
    assert found.frames[0].stress == pytest.approx(STRESS)
    assert found.columns["stress"] == {name: 1}


def test_a_virial_of_the_other_sign_than_the_stress_beside_it_is_refused(tmp_path):
    with pytest.raises(DataFileError, match=r"stress and virial differ by up to 0\.06"):
        read(tmp_path, frame(virial=STRESS * olivine().get_volume(), stress=STRESS))


def test_the_total_moment_of_a_cell_is_no_moment_of_atoms(tmp_path):
    atoms = frame(None, None)
    atoms.calc = SinglePointCalculator(atoms, energy=ENERGY, magmom=18.0)
    ase.io.write(tmp_path / "one.traj", atoms)
    found = read_frames([tmp_path / "one.traj"])
    assert found.frames[0].moments is None
    assert not found.dropped


def test_words_for_numbers_leave_a_frame_out_and_are_counted(tmp_path):
    found = read(tmp_path, frame(), frame(None, REF_energy="failed"))
    assert found.dropped == {"REF_energy that are not numbers": 1}
    assert len(found.frames) == 1

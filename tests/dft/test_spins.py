"""Moments by label: totals, where a calculation starts, and alternating signs."""

import numpy as np
import pytest
from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.moments import usual_low_spin
from gasearch.crystal.species import Species
from gasearch.dft.spins import (
    alternating_signs,
    atomic_limit,
    bonded_anions,
    input_doubts,
    spin_of,
    spins,
    start_moments,
    total_moment,
)
from gasearch.run.dft_section import DftSection


def decorated(host, x):
    return Decoration.random(host, host.composition_at(x), np.random.default_rng(1)).to_atoms()


@pytest.mark.parametrize("x", [0, 0.25, 0.5, 0.75, 1])
def test_the_total_moment_is_five_per_iron_less_one_per_sodium(host, x):
    atoms = decorated(host, x)
    assert total_moment(atoms, {}) == 5 * 4 - 4 * x


def test_the_spin_state_table_overrides_high_spin():
    assert spin_of(Species("Co", 3), {}) == 4
    assert spin_of(Species("Co", 3), {"Co3+": 0.0}) == 0
    atoms = Atoms("CoNi", charges=[3, 3])
    assert total_moment(atoms, {"Co3+": 0.0, "Ni3+": 1.0}) == 1


@pytest.mark.parametrize(
    ("element", "limit"), [("V", 3), ("Mn", 5), ("Fe", 4), ("Co", 3), ("Ni", 2), ("O", 0), ("P", 0)]
)
def test_a_free_atom_takes_no_more_than_it_has(element, limit):
    assert atomic_limit(Species(element, 1).number) == limit


def test_the_spin_of_a_hole_starts_on_the_six_oxygens_around_it(host):
    atoms = decorated(host, 0.75)
    moments = start_moments(atoms, {})
    iron = atoms.symbols == "Fe"
    assert moments[iron] == pytest.approx(4)
    (hole,) = np.flatnonzero(iron & (atoms.get_initial_charges() == 3))
    around = bonded_anions(atoms, int(hole))
    assert len(around) == 6
    assert set(atoms.symbols[around]) == {"O"}
    assert moments[around] == pytest.approx(1 / 6)
    assert moments.sum() == pytest.approx(total_moment(atoms, {}))


def test_manganese_starts_with_its_own_moments():
    atoms = Atoms("MnMnO", positions=[[0, 0, 0], [4, 0, 0], [2, 0, 0]], cell=[8, 8, 8], pbc=True)
    atoms.set_initial_charges([2, 3, -2])
    assert start_moments(atoms, {}) == pytest.approx([5, 4, 0])


def test_neighbours_of_a_chain_point_up_and_down():
    atoms = Atoms("Fe4", positions=[[3 * n, 0, 0] for n in range(4)], cell=[12, 9, 9], pbc=True)
    atoms.set_initial_charges([2, 3, 3, 2])
    signs = alternating_signs(atoms, {})
    assert signs.tolist() in ([1, -1, 1, -1], [-1, 1, -1, 1])
    assert (signs * spins(atoms, {})).sum() == 0


def test_the_antiferromagnet_of_olivine_has_no_parallel_neighbours(host):
    atoms = decorated(host, 1)
    signs = alternating_signs(atoms, {})
    iron = np.flatnonzero(atoms.symbols == "Fe")
    distances = atoms[iron].get_all_distances(mic=True)
    np.fill_diagonal(distances, np.inf)
    nearest = distances < distances.min() + 0.1
    pairs = signs[iron][:, None] * signs[iron]
    assert (pairs[nearest] == -1).all()
    assert signs[iron].sum() == 0


def test_a_sum_of_alternating_moments_is_not_negative(host):
    atoms = decorated(host, 0.75)
    assert (alternating_signs(atoms, {}) * spins(atoms, {})).sum() >= 0


@pytest.mark.parametrize(
    ("ion", "moment"),
    [("Co3+", 0), ("Ni3+", 1), ("Ni4+", 0), ("Ru4+", 2), ("Ir5+", 2), ("Rh3+", 0), ("Mn3+", None),
     ("Fe3+", None), ("Fe2+", None), ("Co2+", None), ("Ni2+", None), ("Mo4+", None)],
)  # fmt: skip
def test_ions_that_are_usually_low_spin_are_known(ion, moment):
    assert usual_low_spin(Species.parse(ion)) == moment


def test_high_spin_of_an_ion_that_is_usually_low_spin_is_said():
    lithium_nickel_oxide = [Species.parse(ion) for ion in ("Li+", "Ni3+", "Ni4+", "O2-")]
    section = DftSection(hubbard_u_eV={"Ni": 6.2})
    third, fourth = input_doubts(lithium_nickel_oxide, section)
    assert "Ni3+ is taken as high spin, moment 3" in third
    assert 'set "Ni3+" = 1.0' in third
    assert 'set "Ni4+" = 0.0' in fourth
    said = DftSection(hubbard_u_eV={"Ni": 6.2}, spin_states={"Ni3+": 1.0, "Ni4+": 0.0})
    assert input_doubts(lithium_nickel_oxide, said) == []


def test_a_magnetic_element_without_u_is_said():
    species = [Species.parse(ion) for ion in ("Li+", "Fe2+", "Fe3+", "Mn2+", "Mn3+", "P5+", "O2-")]
    (doubt,) = input_doubts(species, DftSection())
    assert "no U on Mn (5.3 eV on Fe)" in doubt
    assert input_doubts(species, DftSection(hubbard_u_eV={"Fe": 5.3, "Mn": 3.9})) == []


def test_an_open_f_shell_has_its_moment():
    assert [spin_of(Species.parse(ion), {}) for ion in ("Ce3+", "Ce4+", "La3+", "Gd3+")] == [
        1, 0, 0, 7,
    ]  # fmt: skip
    assert spin_of(Species.parse("Ce3+"), {"Ce3+": 0.0}) == 0

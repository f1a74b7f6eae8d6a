"""Moments by label: totals, where a calculation starts, and alternating signs."""

import numpy as np
import pytest
from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.species import Species
from gasearch.dft.spins import (
    alternating_signs,
    atomic_limit,
    bonded_anions,
    spin_of,
    spins,
    start_moments,
    total_moment,
)


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

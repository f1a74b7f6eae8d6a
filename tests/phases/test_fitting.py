"""From energies to a Hamiltonian: what it recovers, what it misses, what is refused."""

import itertools

import numpy as np
import pytest
from declared_hosts import olivine
from phases_support import arranged

from gasearch.analysis.hull import NoEndMemberError
from gasearch.phases.energies.clusters import ClusterBasis, Reach
from gasearch.phases.energies.effective import effective
from gasearch.phases.energies.fitting import fit
from gasearch.phases.energies.hamiltonian import Hamiltonian
from gasearch.phases.energies.lattice import Supercell
from gasearch.phases.energies.training import (
    TooFewEnergiesError,
    energies_of,
    training_of,
)
from gasearch.phases.walks.monte_carlo import Cell


@pytest.fixture(scope="module")
def truth(lattice):
    """Nearest pairs, and charges screened by 20; the ends are free of both."""
    basis = ClusterBasis(lattice, Reach(4.0, 0.0))
    rng = np.random.default_rng(8)
    return Hamiltonian(basis, rng.normal(size=len(basis)) * 0.01, 1 / 20, -40.0)


def taught(lattice, truth, *cells, noise=0.0):
    """Energies of all distinct decorations of some cells."""
    rng = np.random.default_rng(9)
    parts = []
    for repeats in cells:
        host = olivine(*repeats)
        occupations = np.concatenate(
            [o for c in host.compositions for o, _ in host.enumerate_distinct(c)]
        )
        cell, numbers = Supercell.of(lattice, host)
        energies = truth.energies(cell, arranged(occupations, numbers))
        energies += noise * rng.normal(size=len(energies))
        name = "x".join(map(str, repeats))
        parts.append(energies_of(lattice, host, name, occupations, energies))
    return training_of(lattice, parts)


def test_a_fit_recovers_the_interactions_and_predicts_cells_that_it_did_not_see(lattice, truth):
    training = taught(lattice, truth, (1, 1, 1), (1, 2, 1))
    found = fit(training, ClusterBasis(lattice, Reach(6.0, 4.2)))
    assert found.crystals.error < 0.001
    assert found.crystals.explained > 0.99
    assert found.is_good
    other = taught(lattice, truth, (2, 1, 1)).cells[0]
    missed = found.hamiltonian.energies(other.cell, other.spins) - other.energy
    assert np.abs(missed).max() < 0.02
    assert 1 / found.hamiltonian.inverse_dielectric == pytest.approx(20, rel=0.1)
    (one, _) = found.cells
    assert (one.what, one.n) == ("1x1x1, not seen", 14)


def test_errors_of_left_out_energies_are_those_of_fits_without_them(lattice, truth):
    training = taught(lattice, truth, (1, 2, 1), noise=0.01)
    found = fit(training, ClusterBasis(lattice, Reach(5.0, 0.0)))
    assert 0.009 < found.crystals.error < 0.013
    assert 0 < found.deviation.mean() < 0.01


def test_noise_alone_is_not_worth_a_diagram(lattice, truth):
    flat = Hamiltonian(truth.basis, truth.interactions * 0, 0.0, -40.0)
    training = taught(lattice, flat, (1, 2, 1), noise=0.02)
    found = fit(training, ClusterBasis(lattice, Reach(6.0, 4.2)))
    assert found.crystals.explained < 0.2
    assert not found.is_worth_a_diagram


def test_too_few_energies_and_missing_ends_are_told_apart(lattice, truth):
    (whole,) = taught(lattice, truth, (1, 2, 1)).cells

    def part(chosen):
        occupations = ((1 - whole.spins[chosen]) // 2).astype(np.uint8)
        _, numbers = Supercell.of(lattice, olivine(1, 2, 1))
        cut = occupations[:, numbers]
        return energies_of(lattice, olivine(1, 2, 1), "1x2x1", cut, whole.energy[chosen])

    with pytest.raises(TooFewEnergiesError, match="19 valid energies at 3 compositions"):
        training_of(lattice, [part(np.arange(19))])
    with pytest.raises(NoEndMemberError, match="x = 1"):
        training_of(lattice, [part(whole.x < 0.9)])
    with pytest.raises(TooFewEnergiesError, match="at 1 composition:"):
        training_of(lattice, [part(np.isclose(whole.x, 0.5))])


def test_slaved_charges_are_the_lowest_of_each_ion_order(lattice, truth):
    training = taught(lattice, truth, (1, 1, 1), (1, 2, 1))
    full = fit(training, ClusterBasis(lattice, Reach(6.0, 0.0))).hamiltonian
    alone = effective(full, training, "ions", Reach(6.0, 4.2))
    cell, own = Cell(full, (1, 1, 1)), Cell(alone.hamiltonian, (1, 1, 1))
    assert set(np.flatnonzero(own.acts)) == set(range(4))
    lowest, fitted = [], []
    for ions in itertools.product((1, -1), repeat=4):
        n = sum(one > 0 for one in ions)
        charges = [c for c in itertools.product((1, -1), repeat=4) if sum(v > 0 for v in c) == n]
        lowest.append(min(cell.energy(np.array([*ions, *c], dtype=np.int8)) for c in charges))
        fitted.append(own.energy(np.array([*ions, *charges[0]], dtype=np.int8)))
    off = (np.array(fitted) - lowest) / 4
    assert np.sqrt(np.mean(off**2)) < 3 * alone.crystals.error + 1e-3
    assert np.ptp(lowest) / 4 > 10 * np.sqrt(np.mean(off**2))

"""One Hamiltonian has the same energy in every cell, whatever computes it."""

import numpy as np
import pytest
from declared_hosts import FE, NA, olivine, perovskite, sublattice
from phases_support import arranged

from gasearch.crystal.declaration import HostDeclaration
from gasearch.crystal.host import Host
from gasearch.crystal.species import Species
from gasearch.phases.energies.clusters import ClusterBasis, Reach
from gasearch.phases.energies.coulomb import ewald_table
from gasearch.phases.energies.hamiltonian import coulomb
from gasearch.phases.energies.lattice import Lattice, Supercell, UnsupportedHostError, spins_of
from gasearch.phases.walks.monte_carlo import Cell, Walk, random_spins
from gasearch.search.surrogate.coulomb import coulomb_energy, ewald_matrix


def random_occupations(host, n, seed=0):
    rng = np.random.default_rng(seed)
    chosen = [host.compositions[1 + k % (len(host.compositions) - 2)] for k in range(n)]
    return np.array([host.random_occupation(c, rng) for c in chosen])


def test_correlations_are_those_of_all_equivalent_decorations(lattice):
    host = olivine(1, 2, 1)
    basis = ClusterBasis(lattice, Reach(7.0, 5.0))
    cell, numbers = Supercell.of(lattice, host)
    occupations = random_occupations(host, 3)
    first = basis.sums(cell, arranged(occupations, numbers))
    for permutation in host.permutations:
        moved = np.empty_like(occupations)
        moved[:, permutation] = occupations
        assert basis.sums(cell, arranged(moved, numbers)) == pytest.approx(first)
    other = basis.sums(cell, arranged(random_occupations(host, 3, seed=1), numbers))
    assert np.abs(other - first).max() > 0.1


@pytest.mark.parametrize("repeats", [(1, 1, 1), (1, 2, 1), (2, 3, 1)])
def test_screened_charges_have_the_coulomb_energy_of_the_cell(lattice, repeats):
    host = olivine(*repeats)
    cell, numbers = Supercell.of(lattice, host)
    occupations = random_occupations(host, 3)
    spins = arranged(occupations, numbers)
    assert coulomb(cell, spins) == pytest.approx(coulomb_energy(host)(occupations), abs=1e-9)


def test_the_table_of_a_large_cell_is_its_ewald_matrix(lattice):
    host, repeats = olivine(2, 3, 1), np.array([2, 3, 1])
    matrix = ewald_matrix(host.atoms.cell.array, host.atoms.positions[host.sites])
    sites, cells = lattice.locate(host.atoms.positions[host.sites])
    apart = (cells[None] - cells[:, None]) % repeats
    table = ewald_table(lattice, repeats.tolist())
    found = table[(sites[:, None], sites[None], *np.moveaxis(apart, -1, 0))]
    assert found == pytest.approx(matrix, abs=1e-9)


def test_a_repeated_order_has_the_same_energy_per_formula_unit(hamiltonian):
    rng = np.random.default_rng(3)
    small = Cell(hamiltonian, (1, 2, 1))
    spins = random_spins(small, 5, rng)
    energy = small.energy(spins) / small.n_formula_units
    for repeats in ((1, 4, 1), (2, 2, 3)):
        large = Cell(hamiltonian, repeats)
        tiled = large.tiled(spins, small.repeats)
        assert large.energy(tiled) / large.n_formula_units == pytest.approx(energy, abs=1e-10)


@pytest.mark.parametrize("repeats", [(1, 1, 1), (1, 2, 1), (3, 2, 2)])
def test_energies_of_monte_carlo_are_those_of_the_clusters(hamiltonian, lattice, repeats):
    cell = Cell(hamiltonian, repeats)
    host = olivine(*repeats)
    of_host, numbers = Supercell.of(lattice, host)
    occupations = random_occupations(host, 3)
    energies = hamiltonian.energies(of_host, arranged(occupations, numbers))
    sites, cells = lattice.locate(host.atoms.positions[host.sites])
    for occupation, energy in zip(occupations, energies, strict=True):
        spins = np.empty(cell.n_sites, dtype=np.int8)
        spins[cell.number(sites, cells)] = spins_of(occupation)
        assert cell.energy(spins) / cell.n_formula_units == pytest.approx(energy, abs=1e-9)


@pytest.mark.parametrize("repeats", [(1, 1, 1), (1, 2, 1), (2, 3, 2)])
def test_energy_changes_equal_total_energies(hamiltonian, repeats):
    rng = np.random.default_rng(4)
    cell = Cell(hamiltonian, repeats)
    walk = Walk(cell, random_spins(cell, cell.n_working // 2, rng), rng)
    before = cell.energy(walk.spins)
    for trial in range(60):
        n = 1 + trial % 4
        sites = rng.choice(cell.n_sites, n, replace=False)
        if trial % 2:  # neighbours, which share triplets
            sites = (sites[0] + np.arange(n) * cell.n_cells) % cell.n_sites
        flipped = walk.spins.copy()
        flipped[sites] *= -1
        change = walk.energy_change(sites)
        assert change == pytest.approx(cell.energy(flipped) - before, abs=1e-9)


def test_fields_and_energy_are_kept_right_over_many_moves(hamiltonian):
    rng = np.random.default_rng(5)
    cell = Cell(hamiltonian, (2, 2, 2))
    walk = Walk(cell, random_spins(cell, 9, rng), rng)
    walk.run(20_000, 900.0, 0.5)
    assert walk.taken[:, 1].sum() > 1_000
    energy = walk.energy
    walk.refresh()
    assert walk.energy == pytest.approx(energy, abs=1e-9)
    charge = walk.spins @ np.repeat(cell.lattice.contrast, cell.n_cells)
    assert charge + cell.lattice.middle.sum() * cell.n_cells == 12 * cell.n_cells


def test_hosts_that_are_not_supported_are_refused_in_one_line():
    mixed = sublattice("redox", ("Fe",), ("Fe2+", "Fe3+", "Mn2+", "Mn3+"), "free", Mn=0.5, Fe=0.5)
    fluoride = {"F": Species("F", -1)}
    free = HostDeclaration("mixed", perovskite(1, 1, 2), (NA, mixed), fluoride, "NaFeF3")
    with pytest.raises(UnsupportedHostError, match=r"mixed: it has .*; supported are"):
        Lattice(free) if Host.build(free, (1, 1, 1)) else None
    three = sublattice("redox", ("Fe",), ("Fe2+", "Fe3+", "Fe4+"))
    with pytest.raises(UnsupportedHostError, match=r"Fe2\+, Fe3\+, Fe4\+"):
        Lattice(HostDeclaration("three", perovskite(), (NA, three), fluoride, "NaFeF3"))
    assert Lattice(HostDeclaration("two", perovskite(), (NA, FE), fluoride, "NaFeF3")).surplus == 0

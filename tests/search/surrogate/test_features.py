"""Features of decorations: what symmetry must leave alone, what they must be able to express."""

import itertools

import numpy as np
import pytest
from ase.build import bulk

from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.run.sections import GROUPS, ScreeningSection
from gasearch.search.surrogate.clusters import SiteBasis, Surroundings, cluster_orbits, contrasts
from gasearch.search.surrogate.coulomb import COULOMB, CoulombEnergy, ewald_matrix
from gasearch.search.surrogate.features import Features
from gasearch.testing import toy_host


@pytest.fixture(scope="module")
def mixed():
    """Four species on the redox sites: Fe and Mn exchange places."""
    return toy_host(mixed=True)


HOSTS = ["medium", "mixed"]


def drawn(host, composition, number, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([host.random_occupation(composition, rng) for _ in range(number)])


def moved(host, occupations, operation):
    found = np.empty_like(occupations)
    found[:, host.permutations[operation]] = occupations
    return found


@pytest.mark.parametrize("n_species", [2, 3, 4, 5])
def test_the_functions_of_a_site_are_orthogonal_to_each_other_and_to_a_constant(n_species):
    rows = np.vstack([np.ones(n_species), contrasts(n_species)])
    assert rows @ rows.T / n_species == pytest.approx(np.eye(n_species))


def test_two_species_are_plus_and_minus_one():
    assert contrasts(2).tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("name", HOSTS)
def test_equivalent_decorations_have_equal_features(name, request):
    host = request.getfixturevalue(name)
    features = Features(host, host.compositions)
    for composition in host.compositions[1:-1]:
        occupations = drawn(host, composition, 5)
        expected = features(occupations, composition)
        for operation in range(len(host.permutations)):
            found = features(moved(host, occupations, operation), composition)
            assert found == pytest.approx(expected, abs=1e-4)


def test_nearly_all_distinct_decorations_have_distinct_features(medium):
    """Four pairs of the 56-atom cell at x = 1/2 differ in larger clusters only."""
    composition = medium.composition_at(0.5)
    occupations = np.concatenate([c for c, _ in medium.enumerate_distinct(composition)])
    rows = Features(medium, medium.compositions)(occupations, composition)
    assert len(occupations) == 344
    assert len(np.unique(rows.round(4), axis=0)) == 340


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_correlations_are_means_of_products_over_orbits(name, size, request):
    """By brute force: over all operations, with the species of each site spelt out."""
    host = request.getfixturevalue(name)
    basis = SiteBasis(host)
    orbits = cluster_orbits(host, basis, size, 4.5)
    occupation = drawn(host, host.compositions[len(host.compositions) // 2], 1)[0]
    found = orbits.correlations(basis(occupation[None]))[:, 0]
    images = basis.permuted(host.permutations)
    values = basis(occupation[None])[:, 0]
    for start, correlation in zip(orbits.starts, found, strict=True):
        representative = orbits.clusters[start]
        expected = np.mean([values[image[representative]].prod() for image in images])
        assert correlation == pytest.approx(expected, abs=1e-5)


def test_clusters_are_all_those_within_reach(medium):
    basis = SiteBasis(medium)
    pairs = cluster_orbits(medium, basis, 2, 5.0)
    expected = {
        (i, j)
        for i, j in itertools.combinations(range(medium.n_sites), 2)
        if medium.distances[i, j] <= 5.0
    }
    assert set(map(tuple, pairs.clusters.tolist())) == expected
    assert pairs.sizes.sum() == len(expected)
    triplets = cluster_orbits(medium, basis, 3, 5.0)
    triangles = {
        t
        for t in itertools.combinations(range(medium.n_sites), 3)
        if all(pair in expected for pair in itertools.combinations(t, 2))
    }
    assert set(map(tuple, triplets.clusters.tolist())) == triangles


def test_surroundings_count_every_site_once(medium):
    surroundings = Surroundings(medium)
    occupations = drawn(medium, medium.composition_at(0.5), 20)
    counted = surroundings(occupations).sum(axis=0) * medium.n_formula_units
    assert counted == pytest.approx(np.full(20, medium.n_sites))


def test_surroundings_tell_neighbours_apart(medium):
    """A vacancy beside a hole is another surrounding than a vacancy far from it."""
    composition = medium.composition_at(0.875)
    columns = Surroundings(medium)
    occupations = np.concatenate([c for c, _ in medium.enumerate_distinct(composition)])
    seen = {tuple(column) for column in columns(occupations).T.round(4)}
    assert len(seen) > 1


def test_the_coulomb_energy_is_that_of_the_ewald_sum_over_all_atoms(medium):
    (occupation,) = drawn(medium, medium.composition_at(0.5), 1)
    atoms = medium.atoms
    charges = np.zeros(len(atoms))
    charges[medium.framework_sites] = [s.charge for s in medium.framework]
    charges[medium.sites] = medium.charges[np.arange(medium.n_sites), occupation]
    matrix = ewald_matrix(atoms.cell.array, atoms.positions)
    expected = charges @ matrix @ charges / 2 / medium.n_formula_units
    assert CoulombEnergy(medium)(occupation[None])[0] == pytest.approx(expected)


def test_what_the_composition_decides_is_no_feature(medium):
    features = Features(medium, medium.compositions)
    for end in (medium.compositions[0], medium.compositions[-1]):
        assert features(drawn(medium, end, 1), end) == pytest.approx(0, abs=1e-5)
    for composition in medium.compositions[1:-1]:
        mean = features(drawn(medium, composition, 400, seed=3), composition).mean(axis=0)
        assert np.abs(mean).max() < 0.6


@pytest.mark.parametrize("group", GROUPS[1:])
def test_each_group_alone_gives_features(medium, group):
    features = Features(medium, medium.compositions, ScreeningSection(features=(group,)))
    assert set(features.groups) == {group}


def test_a_large_cell_gets_fewer_triplets_not_more_time():
    host = Host.build(builtin_host("lifepo4-olivine"), (2, 3, 2))
    features = Features(host, host.compositions[10:12], ScreeningSection(triplet_reach=9.0))
    assert 0 < features.groups.count("triplets") <= 200


@pytest.mark.parametrize("name", HOSTS)
def test_features_are_the_same_to_the_last_bit_alone_and_among_others(name, request):
    """A search that is resumed computes those of all its candidates at once."""
    host = request.getfixturevalue(name)
    composition = host.compositions[len(host.compositions) // 2]
    features = Features(host, host.compositions)
    occupations = drawn(host, composition, 700)
    together = features(occupations, composition)
    alone = np.concatenate([features(o[None], composition) for o in occupations])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize(
    ("name", "madelung"), [("rocksalt", 1.7475645946), ("cesiumchloride", 1.7626747731)]
)
def test_the_ewald_matrix_gives_madelung_constants(name, madelung):
    a = 5.64
    atoms = bulk("NaCl", name, a=a)
    nearest = {"rocksalt": a / 2, "cesiumchloride": a * np.sqrt(3) / 2}[name]
    charges = np.where(atoms.symbols == "Na", 1.0, -1.0)
    matrix = ewald_matrix(atoms.cell.array, atoms.positions)
    energy = charges @ matrix @ charges / 2
    assert energy * nearest / -COULOMB == pytest.approx(madelung, abs=1e-9)


def test_the_ewald_matrix_does_not_depend_on_where_the_sums_are_split(medium):
    cell, positions = medium.atoms.cell.array, medium.atoms.positions
    one, other = (ewald_matrix(cell, positions, cutoff) for cutoff in (9, 13))
    np.testing.assert_allclose(one, other, atol=1e-9)

import functools
import itertools
import pickle
import warnings

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import make_supercell
from ase.spacegroup import crystal
from declared_hosts import perovskite
from hypothesis import given, settings
from hypothesis import strategies as st

from gasearch.crystal.declaration import supercell_matrix
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.symmetry import (
    Canonicalizer,
    FingerprintError,
    SpaceGroup,
    Superlattice,
    SymmetryError,
    find_space_group,
    site_permutations,
)

CRYSTALS = {
    "olivine": lambda: builtin_host("nafepo4-olivine").unit_cell,
    "perovskite": perovskite,
    "half-Heusler, face-centred": lambda: crystal(
        ["Na", "Fe", "N"],
        [(0, 0, 0), (0.25,) * 3, (0.5,) * 3],
        spacegroup=216,
        cellpar=[5, 5, 5, 90, 90, 90],
    ),
    "layered, rhombohedral": lambda: crystal(
        ["Na", "Fe", "O"],
        [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.233)],
        spacegroup=166,
        cellpar=[3.02, 3.02, 16.1, 90, 90, 120],
    ),
    "triclinic": lambda: Atoms(
        "NaFeO2",
        scaled_positions=[(0, 0, 0), (0.5, 0.52, 0.47), (0.2, 0.3, 0.6), (0.7, 0.1, 0.2)],
        cell=[[5, 0, 0], [1, 6, 0], [0.5, 1.5, 4]],
    ),
}


@functools.cache
def group_of(name: str) -> SpaceGroup:
    return space_group(CRYSTALS[name]())


def space_group(atoms: Atoms, symprec: float = 0.01) -> SpaceGroup:
    return find_space_group(
        atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers.astype(np.int64), symprec
    )


def permutations_of(group: SpaceGroup, unit: Atoms, matrix, symprec: float = 0.01):
    """All sites count, so that nothing but the symmetry decides."""
    atoms = make_supercell(unit, matrix, order="cell-major")
    unit_sites = np.arange(len(atoms)) % len(unit)
    return atoms, site_permutations(group, atoms.cell.array, atoms.positions, unit_sites, symprec)


def spglib_permutations(atoms: Atoms):
    """The same by brute force: spglib on the whole supercell, sites matched by distance."""
    scaled = atoms.get_scaled_positions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = spglib.get_symmetry_dataset((atoms.cell.array, scaled, atoms.numbers), 0.01)
    result = []
    for rotation, translation in zip(found.rotations, found.translations, strict=True):
        moved = scaled @ rotation.T + translation
        difference = moved[:, None] - scaled[None]
        distance = np.abs(difference - np.round(difference)).max(axis=2)
        assert distance.min(axis=1).max() < 0.01
        result.append(tuple(distance.argmin(axis=1).tolist()))
    return set(result)


matrices = (
    st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=3, max_size=3)
    .map(np.array)
    .filter(lambda m: 1 <= abs(round(np.linalg.det(m))) <= 5)
)


@pytest.mark.parametrize("name", list(CRYSTALS))
@settings(max_examples=40, deadline=None, derandomize=True)
@given(matrix=matrices)
def test_the_operations_of_any_supercell_are_those_spglib_finds_on_it(name, matrix):
    unit = CRYSTALS[name]()
    atoms, permutations = permutations_of(group_of(name), unit, supercell_matrix(matrix.tolist()))
    assert {tuple(p) for p in permutations.tolist()} == spglib_permutations(atoms)


@pytest.mark.parametrize(
    ("name", "symbol", "order"),
    [
        ("olivine", "Pnma (62)", 8),
        ("perovskite", "Pm-3m (221)", 48),
        ("half-Heusler, face-centred", "F-43m (216)", 24),
        ("layered, rhombohedral", "R-3m (166)", 12),
        ("triclinic", "P1 (1)", 1),
    ],
)
def test_the_group_is_named_and_complete(name, symbol, order):
    group = group_of(name)
    assert group.symbol == symbol
    assert len(group.rotations) == order
    assert np.linalg.det(group.primitive) > 0


@pytest.mark.parametrize("name", list(CRYSTALS))
@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 1), (2, 2, 1)])
def test_a_unit_cell_that_is_itself_a_supercell_hides_no_operation(name, repeats):
    small, large = CRYSTALS[name](), CRYSTALS[name]().repeat(repeats)
    _, expected = permutations_of(group_of(name), small, np.diag(repeats))
    atoms, found = permutations_of(space_group(large), large, np.eye(3, dtype=int))
    assert len(found) == len(expected)
    assert {tuple(p) for p in found.tolist()} == spglib_permutations(atoms)


@pytest.mark.parametrize("name", ["olivine", "perovskite", "layered, rhombohedral"])
def test_positions_rounded_as_in_files_lose_no_operation(name):
    unit = CRYSTALS[name]()
    rng = np.random.default_rng(0)
    unit.positions += rng.uniform(-0.003, 0.003, unit.positions.shape)
    unit.set_cell(unit.cell.array + rng.uniform(-0.002, 0.002, (3, 3)), scale_atoms=True)
    group = space_group(unit, symprec=0.05)
    for matrix in (np.diag((1, 2, 1)), np.array([[1, 1, 0], [-1, 1, 0], [0, 0, 2]])):
        _, noisy = permutations_of(group, unit, matrix, symprec=0.05)
        _, exact = permutations_of(group_of(name), CRYSTALS[name](), matrix)
        assert np.array_equal(noisy, exact)


@pytest.mark.parametrize("name", list(CRYSTALS))
def test_the_permutations_form_a_group(name):
    _, permutations = permutations_of(group_of(name), CRYSTALS[name](), np.diag((1, 2, 1)))
    known = {tuple(p) for p in permutations.tolist()}
    assert tuple(range(permutations.shape[1])) in known
    for a, b in itertools.product(permutations, repeat=2):
        assert tuple(a[b].tolist()) in known


def test_coinciding_atoms_are_one_clear_line():
    atoms = Atoms("Na2", positions=[(0, 0, 0), (0, 0, 0.001)], cell=[4, 4, 4])
    with pytest.raises(SymmetryError, match=r"no symmetry .* symprec = 0.01 Å: two sites may coin"):
        space_group(atoms)


def test_operations_that_miss_the_sites_are_one_clear_line():
    group = group_of("perovskite")
    shifted = SpaceGroup(
        group.symbol, group.primitive, group.rotations, group.translations,
        group.positions + 0.1 * np.eye(5, 3),
        group.site_of, group.kinds,
    )  # fmt: skip
    with pytest.raises(SymmetryError, match=r"Pm-3m .* does not map the sites .* host.symprec"):
        permutations_of(shifted, CRYSTALS["perovskite"](), np.eye(3, dtype=int))


@settings(max_examples=60, deadline=None)
@given(matrix=matrices)
def test_a_superlattice_has_as_many_points_as_cells_and_numbers_them_apart(matrix):
    lattice = Superlattice(supercell_matrix(matrix.tolist()))
    points = lattice.points()
    assert len(points) == lattice.n_cells == abs(round(np.linalg.det(matrix)))
    codes = lattice.codes(np.zeros(len(points), dtype=np.int64), points)
    assert len(set(codes.tolist())) == len(points)
    shifted = points + np.array([3, -2, 5]) @ lattice.matrix
    assert np.array_equal(lattice.codes(np.zeros(len(points), dtype=np.int64), shifted), codes)


# Canonical forms, on permutation groups that no crystal needs to have


def closure(generators, n_sites):
    """All products of some permutations."""
    known = {tuple(range(n_sites))}
    border = list(known)
    while border:
        grown = [tuple(g[i] for i in p) for p in border for g in generators]
        border = [p for p in dict.fromkeys(grown) if p not in known]
        known.update(border)
    return np.array(sorted(known))


def ring(n_sites):
    """The dihedral group on a ring of sites."""
    turn = tuple(np.roll(np.arange(n_sites), 1).tolist())
    flip = tuple(np.arange(n_sites)[::-1].tolist())
    return closure([turn, flip], n_sites)


def images(permutations, occupation):
    return {tuple(occupation[np.argsort(p)].tolist()) for p in permutations}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n_sites=st.integers(1, 9), n_species=st.integers(1, 5))
def test_canonical_words_agree_just_for_equivalent_occupations(data, n_sites, n_species):
    group = ring(n_sites)
    canonicalizer = Canonicalizer(group, np.full(n_sites, n_species))
    digits = st.lists(st.integers(0, n_species - 1), min_size=n_sites, max_size=n_sites)
    a, b = (np.array(data.draw(digits), dtype=np.uint8) for _ in range(2))
    words, orbit_sizes = canonicalizer.canonical_words(np.stack([a, b]))
    assert np.array_equal(words[0], words[1]) == (tuple(b.tolist()) in images(group, a))
    assert orbit_sizes.tolist() == [len(images(group, a)), len(images(group, b))]


WIDE = {
    "60 sites of two species, two words": (60, 2),
    "20 sites of five species, two words": (20, 5),
    "70 sites of three species, three words": (70, 3),
    "53 sites, one beyond a word": (53, 2),
    "7 sites of 200 species, two words": (7, 200),
}


@pytest.mark.parametrize(("n_sites", "n_species"), WIDE.values(), ids=WIDE)
def test_canonical_forms_are_exact_beyond_one_word_of_52_bits(n_sites, n_species):
    rng = np.random.default_rng(n_sites)
    group = ring(n_sites)
    canonicalizer = Canonicalizer(group, np.full(n_sites, n_species))
    assert canonicalizer.n_words > 1
    drawn = rng.integers(n_species, size=(20, n_sites)).astype(np.uint8)
    drawn[0] = 0
    drawn[1] = np.arange(n_sites) % 2
    words, orbit_sizes = canonicalizer.canonical_words(drawn)
    for occupation, word, size in zip(drawn, words, orbit_sizes, strict=True):
        equivalent = np.array(sorted(images(group, occupation)), dtype=np.uint8)
        assert size == len(equivalent)
        assert np.all(canonicalizer.canonical_words(equivalent)[0] == word)
        assert canonicalizer.is_canonical(equivalent)[0].sum() == 1
    assert len(np.unique(words, axis=0)) == len({frozenset(images(group, o)) for o in drawn})


def test_species_numbers_may_differ_from_site_to_site():
    n_species = np.array([2, 2, 2, 2, 5, 5, 5, 5])
    group = closure([(1, 2, 3, 0, 5, 6, 7, 4)], 8)
    canonicalizer = Canonicalizer(group, n_species)
    rng = np.random.default_rng(2)
    for _ in range(50):
        occupation = rng.integers(n_species).astype(np.uint8)
        text = canonicalizer.text(canonicalizer.canonical_words(occupation[None])[0][0])
        assert tuple(canonicalizer.occupation(text).tolist()) in images(group, occupation)


@pytest.mark.parametrize(("n_sites", "n_species"), [(8, 2), *WIDE.values()])
def test_a_fingerprint_names_the_canonical_occupation(n_sites, n_species):
    rng = np.random.default_rng(1)
    group = ring(n_sites)
    canonicalizer = Canonicalizer(group, np.full(n_sites, n_species))
    occupation = rng.integers(n_species, size=n_sites).astype(np.uint8)
    text = canonicalizer.text(canonicalizer.canonical_words(occupation[None])[0][0])
    canonical = canonicalizer.occupation(text)
    assert tuple(canonical.tolist()) in images(group, occupation)
    assert canonicalizer.is_canonical(canonical[None])[0].tolist() == [True]


@pytest.mark.parametrize("text", ["", "0", "000", "0g", "0F", " 1", "-1", "80"])
def test_a_text_that_is_no_fingerprint_is_refused(text):
    canonicalizer = Canonicalizer(ring(8), np.full(8, 2))
    with pytest.raises(FingerprintError, match="expected 2 hexadecimal digits") as caught:
        canonicalizer.occupation(text)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_many_occupations_give_the_same_words_as_one_by_one():
    canonicalizer = Canonicalizer(ring(12), np.full(12, 3))
    drawn = np.random.default_rng(0).integers(3, size=(20_000, 12)).astype(np.uint8)
    words, orbit_sizes = canonicalizer.canonical_words(drawn)
    for n in range(0, 20_000, 997):
        word, size = canonicalizer.canonical_words(drawn[n : n + 1])
        assert (words[n].tolist(), orbit_sizes[n]) == (word[0].tolist(), size[0])


def test_orbit_sizes_of_the_canonical_occupations_add_up_to_all():
    canonicalizer = Canonicalizer(ring(7), np.full(7, 3))
    every = np.array(list(itertools.product(range(3), repeat=7)), dtype=np.uint8)
    canonical, orbit_sizes = canonicalizer.is_canonical(every)
    assert orbit_sizes[canonical].sum() == 3**7
    assert canonical.sum() == 198  # necklaces that may be turned over, 7 beads of 3 colours

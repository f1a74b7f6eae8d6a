import itertools
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import make_supercell
from ase.spacegroup import crystal
from declared_hosts import FE, MIXED, NA, olivine, species
from declared_hosts import perovskite as perovskite_cell
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from gasearch.crystal.declaration import HostDeclaration, HostError, SublatticeDeclaration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species


def with_redox(declaration, texts, elements="fixed", **fractions) -> HostDeclaration:
    redox = SublatticeDeclaration("redox", ("Fe", "Mn"), species(*texts), elements, fractions)
    if "Mn" not in declaration.unit_cell.symbols:
        redox = replace(redox, sites=("Fe",))
    return replace(declaration, sublattices=(declaration.sublattices[0], redox))


def perovskite(*symbols) -> HostDeclaration:
    """NaFeF3, cubic; other metals on the Fe sites of repeats along a."""
    atoms = perovskite_cell(len(symbols) or 1, 1, 1)
    if symbols:
        atoms.symbols[atoms.symbols == "Fe"] = symbols
    return HostDeclaration("toy", atoms, (NA, FE), {"F": Species("F", -1)}, "NaFeF3")


def heusler() -> HostDeclaration:
    """Na2FeX, face-centred, with a tetravalent anion: x from 1/2 to 1."""
    atoms = crystal(
        ["Na", "Fe", "Si"],
        [(0.25,) * 3, (0, 0, 0), (0.5,) * 3],
        spacegroup=225,
        cellpar=[6, 6, 6, 90, 90, 90],
    )
    return HostDeclaration("toy", atoms, (NA, FE), {"Si": Species("Si", -4)}, "Na2FeSi")


DESIGN = {  # cell: (order of the group, {x: (raw, distinct)})
    (1, 1, 1): (8, {"3/4": (16, 2), "1/2": (36, 10)}),
    (1, 2, 1): (16, {"3/4": (784, 64), "1/2": (4900, 344)}),
    (1, 3, 1): (
        24,
        {"5/6": (4356, 210), "2/3": (245_025, 10_410), "1/2": (853_776, 35_948)},
    ),
    (1, 3, 2): (48, {"2/3": (540_917_591_841, 11_269_366_602)}),
}


@pytest.mark.parametrize("cell", DESIGN)
def test_the_counts_of_sodium_iron_phosphate_are_the_known_ones(cell):
    host = olivine(*cell)
    order, known = DESIGN[cell]
    assert len(host.permutations) == order
    for x, (raw, distinct) in known.items():
        composition = host.composition_at(x)
        assert (host.n_raw(composition), host.n_distinct(composition)) == (raw, distinct)


@pytest.mark.parametrize(
    ("cell", "xs"), [((1, 1, 1), ["0", "1/4", "1/2", "3/4", "1"]), ((1, 2, 1), ["3/4", "1/2"]),
                     ((1, 3, 1), ["5/6", "2/3"])]
)  # fmt: skip
def test_enumeration_finds_as_many_decorations_as_burnside_counts(cell, xs):
    host = olivine(*cell)
    for x in xs:
        composition = host.composition_at(x)
        chunks = list(host.enumerate_distinct(composition))
        rows = np.concatenate([occupations for occupations, _ in chunks])
        words, orbit_sizes = host.canonicalizer.canonical_words(rows)
        assert len(rows) == len(np.unique(words, axis=0)) == host.n_distinct(composition)
        assert np.array_equal(np.concatenate([sizes for _, sizes in chunks]), orbit_sizes)
        assert orbit_sizes.sum() == host.n_raw(composition)
        assert all(host.charge_of(row) == 0 for row in rows[:50])
        assert all(host.composition_of(row) == composition for row in rows[:50])


def test_the_space_group_is_that_of_the_undecorated_host():
    assert olivine(1, 1, 1).space_group.symbol == "Pnma (62)"
    assert Host.build(perovskite(), [1, 1, 1]).space_group.symbol == "Pm-3m (221)"


MIXED_HOSTS = {
    "free, perovskite 2x2x1": (perovskite(), {"Fe": 0.5, "Mn": 0.5}, "free", [2, 2, 1]),
    "free, perovskite 3x1x1": (perovskite(), {"Fe": 1 / 3, "Mn": 2 / 3}, "free", [3, 1, 1]),
    "free, in a sheared cell": (
        perovskite(), {"Fe": 0.5, "Mn": 0.5}, "free", [[1, 1, 0], [-1, 1, 0], [0, 0, 2]],
    ),
    "fixed, perovskite": (perovskite("Fe", "Mn"), {}, "fixed", [1, 2, 1]),
    "fixed, three to one": (perovskite("Fe", "Fe", "Fe", "Mn"), {}, "fixed", [1, 1, 1]),
    "free, as the file has them": (perovskite("Fe", "Mn", "Mn"), {}, "free", [1, 1, 1]),
    "free, olivine": (builtin_host("nafepo4-olivine"), {"Fe": 0.75, "Mn": 0.25}, "free", [1, 1, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED_HOSTS)
def test_mixed_redox_is_counted_as_brute_force_counts_it(name):
    declaration, fractions, elements, supercell = MIXED_HOSTS[name]
    host = Host.build(with_redox(declaration, MIXED, elements, **fractions), supercell)
    wanted = Counter(s for s in host.atoms.symbols if s in ("Fe", "Mn"))
    if fractions:
        n_redox = sum(wanted.values())
        wanted = Counter({e: round(share * n_redox) for e, share in fractions.items()})
    raw, distinct = Counter(), Counter()
    for digits in itertools.product(*map(range, host.n_species)):
        held = [s.species[d] for s in host.sublattices for d in digits[s.slice]]
        metals = Counter(s.element for s in held if s.element in ("Fe", "Mn"))
        charge = sum(s.charge for s in held) + sum(s.charge for s in host.framework)
        occupation = np.array(digits, dtype=np.uint8)
        if charge or metals != wanted:
            assert host.composition_of(occupation) is None
            continue
        n_na = sum(s.element == "Na" for s in held)
        raw[n_na] += 1
        distinct[n_na] += digits == min(tuple(occupation[p].tolist()) for p in host.permutations)
        assert host.composition_of(occupation).n_working == n_na
        assert host.composition_of(occupation).formula == host.formula_of(occupation)
    assert {c.n_working: host.n_raw(c) for c in host.compositions} == dict(raw)
    assert {c.n_working: host.n_distinct(c) for c in host.compositions} == dict(distinct)
    for composition in host.compositions:
        found = sum(len(rows) for rows, _ in host.enumerate_distinct(composition))
        assert found == host.n_distinct(composition)


def test_free_elements_count_as_alike_in_the_symmetry_and_fixed_ones_do_not():
    ordered = perovskite("Fe", "Mn")
    free = Host.build(with_redox(ordered, MIXED, "free"), [1, 1, 1])
    fixed = Host.build(with_redox(ordered, MIXED), [1, 1, 1])
    assert free.space_group.symbol == "Pm-3m (221)"
    assert fixed.space_group.symbol == "P4/mmm (123)"
    assert [s.name for s in free.sublattices] == ["Na", "Fe,Mn"]
    assert [s.name for s in fixed.sublattices] == ["Na", "Fe", "Mn"]
    assert free.free_counts == {"Fe": 1, "Mn": 1}
    assert fixed.free_counts == {}


def test_free_elements_exchange_places_but_keep_their_numbers():
    free = Host.build(with_redox(perovskite("Fe", "Mn"), MIXED, "free"), [1, 1, 1])
    filled = free.composition_at(1)
    rng = np.random.default_rng(0)
    drawn = {tuple(free.random_occupation(filled, rng)[2:].tolist()) for _ in range(30)}
    assert drawn == {(0, 2), (2, 0)}
    assert free.n_distinct(filled) == 1
    fixed = Host.build(with_redox(perovskite("Fe", "Mn"), MIXED), [1, 1, 1])
    assert fixed.n_raw(fixed.composition_at(1)) == 1


def test_working_ions_may_share_their_sites_with_a_kept_guest():
    declaration = perovskite()
    sites = SublatticeDeclaration(
        "working_ion", ("Na",), species("Na+", "K+", "vacancy"), "free", {"K": 0.25}
    )
    declaration = replace(declaration, sublattices=(sites, declaration.sublattices[1]))
    host = Host.build(declaration, [2, 2, 1])
    assert [c.formula for c in host.compositions] == [
        "KFe4F12", "NaKFe4F12", "Na2KFe4F12", "Na3KFe4F12"
    ]  # fmt: skip
    assert [c.x for c in host.compositions] == [0.25, 0.5, 0.75, 1.0]
    assert [host.n_raw(c) for c in host.compositions] == [4 * 4, 12 * 6, 12 * 4, 4]


def test_the_neutral_range_follows_from_the_charges():
    assert [c.x for c in olivine(1, 1, 1).compositions] == [0, 0.25, 0.5, 0.75, 1]
    host = Host.build(heusler(), [1, 1, 1])
    assert (host.compositions[0].x, host.compositions[-1].x) == (0.5, 1)
    assert [c.n_working for c in host.compositions] == [4, 5, 6, 7, 8]
    assert host.n_formula_units == 4
    wider = Host.build(with_redox(heusler(), ("Fe2+", "Fe3+", "Fe4+")), [1, 1, 1])
    assert wider.compositions[0].x == 0


def test_a_divalent_working_ion_takes_two_redox_sites_along():
    declaration = perovskite()
    atoms = declaration.unit_cell.repeat((2, 2, 1))
    symbols = np.array(atoms.symbols)
    ions = np.flatnonzero(symbols == "Na")
    del atoms[ions[:2]]
    atoms.symbols[atoms.symbols == "Na"] = "Mg"
    host = Host.build(
        HostDeclaration(
            "toy",
            atoms,
            (
                SublatticeDeclaration("working_ion", ("Mg",), species("Mg2+", "vacancy")),
                FE,
            ),
            {"F": Species("F", -1)},
            "MgFe2F6",
        ),
        [1, 1, 1],
    )
    assert [c.formula for c in host.compositions] == ["Fe4F12", "MgFe4F12", "Mg2Fe4F12"]


def test_a_composition_carries_its_formula():
    host = olivine(1, 1, 1)
    assert [c.formula for c in host.compositions] == [
        "Fe4P4O16", "NaFe4P4O16", "Na2Fe4P4O16", "Na3Fe4P4O16", "Na4Fe4P4O16"
    ]  # fmt: skip
    assert host.working_element == "Na"
    assert (host.n_formula_units, host.n_working_sites, host.n_sites) == (4, 4, 8)


@pytest.mark.parametrize("x", [0.75, "3/4", "0.75", 3 / 4, 0.7501, " 3/4 "])
def test_a_composition_is_found_by_its_x(x):
    assert olivine(1, 1, 1).composition_at(x).n_working == 3


def test_thirds_may_be_rounded():
    host = olivine(1, 3, 1)
    assert host.composition_at(0.667) == host.composition_at("2/3")


@pytest.mark.parametrize(
    ("x", "line"),
    [
        ("2/3", r"this cell cannot hold x = 2/3; it can hold 0, 0.25, 0.5, 0.75, 1\."),
        (1.5, "x = 1.5 is outside the neutral range of this host, 0 to 1"),
        (-0.1, "outside the neutral range"),
        ("half", "x = 'half' is not a number: write 0.75 or '2/3'"),
        ("1/0", "is not a number"),
        (float("nan"), "is not a number"),
        (float("inf"), "is not a number"),
    ],
)
def test_an_x_that_the_cell_cannot_hold_is_one_clear_line(x, line):
    with pytest.raises(HostError, match=line):
        olivine(1, 1, 1).composition_at(x)


@pytest.mark.parametrize(
    "same",
    [
        [[1, 0, 0], [0, -2, 0], [0, 0, 1]],
        [[1, 2, 0], [0, 2, 0], [0, 0, 1]],
        [[1, 0, 0], [3, 2, 0], [1, 4, 1]],
        [[0, 2, 0], [1, 0, 0], [0, 0, 1]],
    ],
)
def test_every_basis_of_a_lattice_gives_the_same_counts(same):
    host = Host.build(builtin_host("nafepo4-olivine"), same)
    assert [host.n_distinct(c) for c in host.compositions] == [1, 4, 64, 196, 344, 196, 64, 4, 1]


def test_a_unit_cell_may_be_a_supercell_itself():
    declaration = builtin_host("nafepo4-olivine")
    large = replace(declaration, unit_cell=declaration.unit_cell.repeat((1, 2, 1)))
    host = Host.build(large, [1, 1, 1])
    assert [host.n_distinct(c) for c in host.compositions] == [1, 4, 64, 196, 344, 196, 64, 4, 1]
    centred = Host.build(heusler(), [1, 1, 1])
    assert len(centred.permutations) == 192
    primitive = [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
    atoms = heusler().unit_cell
    small = make_primitive(atoms, np.array(primitive) @ atoms.cell.array)
    same = Host.build(replace(heusler(), unit_cell=small), [[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    assert len(same.permutations) == 192
    assert [same.n_distinct(c) for c in same.compositions] == [
        centred.n_distinct(c) for c in centred.compositions
    ]


def make_primitive(atoms, cell) -> Atoms:
    small = Atoms(atoms.symbols, positions=atoms.positions, cell=cell, pbc=True)
    scaled = np.round(small.get_scaled_positions(), 6) % 1
    _, first = np.unique(np.column_stack([atoms.numbers, scaled]), axis=0, return_index=True)
    return small[np.sort(first)]


@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=3, max_size=3
    ).filter(lambda m: 1 <= abs(round(np.linalg.det(m))) <= 4)
)
def test_any_matrix_makes_a_right_handed_host_of_that_volume(rows):
    host = Host.build(perovskite(), rows)
    n_cells = abs(round(np.linalg.det(rows)))
    assert host.atoms.cell.handedness > 0
    assert len(host.atoms) == 5 * n_cells
    assert host.n_formula_units == n_cells
    total = sum(host.n_distinct(c) for c in host.compositions)
    assert total == sum(
        len(found) for c in host.compositions for found, _ in host.enumerate_distinct(c)
    )
    moved = host.permutations[:, : host.n_working_sites]
    assert moved.max() < host.n_working_sites  # sublattices are not mixed


def test_sites_of_the_supercell_lie_where_ase_puts_them():
    declaration = builtin_host("nafepo4-olivine")
    matrix = [[1, 1, 0], [-1, 1, 0], [0, 0, 1]]
    host = Host.build(declaration, matrix)
    expected = make_supercell(declaration.unit_cell, matrix)
    assert host.atoms.cell.array == pytest.approx(expected.cell.array)
    assert Counter(host.atoms.symbols) == Counter(expected.symbols)
    for sublattice in host.sublattices:
        assert set(host.atoms.symbols[sublattice.sites]) == set(sublattice.elements)
    assert set(host.sites) | set(host.framework_sites) == set(range(len(host.atoms)))


def test_random_occupations_are_even_over_all_raw_decorations():
    host = Host.build(with_redox(perovskite(), MIXED, "free", Fe=0.5, Mn=0.5), [2, 2, 1])
    composition = host.composition_at("1/2")
    rng = np.random.default_rng(20)
    n_raw = host.n_raw(composition)
    seen = Counter(host.random_occupation(composition, rng).tobytes() for _ in range(40 * n_raw))
    assert len(seen) == n_raw
    assert chisquare(list(seen.values())).pvalue > 1e-3


def test_distances_between_sites_are_periodic_and_shortest():
    host = olivine(1, 2, 1)
    assert host.distances.shape == (16, 16)
    assert np.allclose(host.distances, host.distances.T)
    expected = host.atoms.get_all_distances(mic=True)[np.ix_(host.sites, host.sites)]
    assert host.distances == pytest.approx(expected, abs=1e-9)
    assert np.isclose(host.distances[np.nonzero(host.distances)].min(), 3.109, atol=1e-2)


def test_a_host_survives_the_way_between_processes():
    host = Host.build(with_redox(perovskite(), MIXED, "free", Fe=0.5, Mn=0.5), [2, 1, 1])
    host.n_distinct(host.compositions[0])
    copy = pickle.loads(pickle.dumps(host))
    assert copy.compositions == host.compositions
    assert np.array_equal(copy.permutations, host.permutations)
    assert copy.n_distinct(copy.composition_at(1)) == host.n_distinct(host.composition_at(1))
    assert not copy.permutations.flags.writeable
    assert len(pickle.dumps(host)) < 20_000
    fresh = pickle.loads(pickle.dumps(olivine(1, 1, 1)))
    assert fresh.n_distinct(fresh.composition_at("1/2")) == 10


def test_arrays_of_a_host_are_read_only():
    host = olivine(1, 1, 1)
    for array in (host.sites, host.permutations, host.n_species, host.charges, host.numbers):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_24_formula_units_of_mixed_redox_have_known_counts():
    declaration = with_redox(builtin_host("nafepo4-olivine"), MIXED, "free", Fe=0.5, Mn=0.5)
    host = Host.build(declaration, [1, 3, 2])
    counts = [host.n_distinct(c) for c in host.compositions]
    assert len(counts) == 25
    assert counts[12] == 411_958_997_919_988_428
    assert counts[0] == counts[24] == 57_235  # Fe and Mn on 24 sites of one valence


def test_a_supercell_of_absurd_size_is_refused_at_once():
    with pytest.raises(HostError, match=r"1,792,000 sites, more than 5,000"):
        Host.build(builtin_host("nafepo4-olivine"), (40, 40, 40))

"""Every class of host: counts against brute force, legality, and what survives the database."""

import functools
import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from declared_hosts import species, sublattice
from host_classes import CLASSES, disordered_rocksalt, magnetite, p2, vacant_redox

from gasearch.crystal.declaration import HostError, SublatticeDeclaration
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.hosts import host_from_json, host_to_json
from gasearch.crystal.repair import repair
from gasearch.crystal.species import NotNeutralError
from gasearch.errors import DecorationError
from gasearch.search.screening.exchanges import exchanges


@functools.cache
def host_of(name: str) -> Host:
    return CLASSES[name]()


every_class = pytest.mark.parametrize("name", CLASSES)


def brute_counts(host: Host) -> tuple[Counter[str], Counter[str]]:
    """Raw and distinct numbers by formula, from every choice of species that is legal.

    Distances, charges and element counts are taken from the structure itself.
    """
    raw: Counter[str] = Counter()
    distinct: Counter[str] = Counter()
    kept = Counter()
    for digits in itertools.product(*[range(n) for n in host.n_species]):
        occupation = np.array(digits, dtype=np.uint8)
        filled = np.flatnonzero(host.numbers[np.arange(host.n_sites), occupation])
        near = host.distances[np.ix_(filled, filled)] < 2.0
        if np.count_nonzero(near) > len(filled):
            continue
        charge = host.charges[np.arange(host.n_sites), occupation].sum()
        charge += sum(s.charge for s in host.framework)
        if charge and host.declaration.charges == "integer":
            continue
        text = host.formula_of(occupation)
        raw[text] += 1
        images = np.empty((len(host.permutations), host.n_sites), dtype=np.uint8)
        for image, permutation in zip(images, host.permutations, strict=True):
            image[permutation] = occupation
        distinct[text] += bytes(occupation) == min(map(bytes, images))
    kept.update(c.formula for c in host.compositions)
    return (
        Counter({text: n for text, n in raw.items() if text in kept}),
        Counter({text: n for text, n in distinct.items() if text in kept}),
    )


SMALL = {
    "P2, 1x1": lambda: p2((1, 1, 1)),
    "P2, 2x1": lambda: p2((2, 1, 1)),
    "P2, 2x1, delocalised": lambda: p2((2, 1, 1), charges="delocalised"),
    "disordered rocksalt": lambda: disordered_rocksalt((5, 1, 1)),
    "magnetite": magnetite,
    "vacancies on redox sites": vacant_redox,
}


@pytest.mark.parametrize("name", SMALL)
def test_counts_are_those_of_brute_force(name):
    host = SMALL[name]()
    raw, distinct = brute_counts(host)
    assert {c.formula: host.n_raw(c) for c in host.compositions} == raw
    assert {c.formula: host.n_distinct(c) for c in host.compositions} == distinct


@every_class
def test_what_is_listed_is_what_is_counted(name):
    host = host_of(name)
    for composition in host.compositions:
        n_listed = n_raw = 0
        for chunk, orbit_sizes in host.enumerate_distinct(composition):
            n_listed += len(chunk)
            n_raw += int(orbit_sizes.sum())
            assert host.is_legal(chunk).all()
            assert Decoration(host, chunk[0]).composition == composition
        assert (n_raw, n_listed) == (host.n_raw(composition), host.n_distinct(composition))


@every_class
def test_a_host_survives_as_text(name):
    host = host_of(name)
    again = host_from_json(host_to_json(host))
    assert host_to_json(again) == host_to_json(host)
    assert again.compositions == host.compositions


@every_class
def test_a_structure_tells_its_decoration(name):
    host, rng = host_of(name), np.random.default_rng(0)
    for composition in host.compositions:
        decoration = Decoration.random(host, composition, rng)
        assert Decoration.from_atoms(host, decoration.to_atoms()) == decoration


@every_class
def test_any_occupation_is_repaired_to_any_composition(name):
    host, rng = host_of(name), np.random.default_rng(1)
    for composition in host.compositions:
        for _ in range(10):
            wild = np.array([rng.integers(n) for n in host.n_species], dtype=np.uint8)
            assert repair(host, wild, composition, rng).composition == composition


@every_class
def test_repair_leaves_a_decoration_as_it_is(name):
    host, rng = host_of(name), np.random.default_rng(2)
    for composition in host.compositions:
        decoration = Decoration.random(host, composition, rng)
        assert repair(host, decoration.occupation, composition, rng) == decoration


@every_class
def test_exchanges_are_legal_and_keep_the_composition(name):
    host, rng = host_of(name), np.random.default_rng(3)
    for composition in host.compositions:
        for row in exchanges(host, Decoration.random(host, composition, rng).occupation):
            assert Decoration(host, row).composition == composition


def test_x_is_sodium_per_formula_unit():
    host = p2((2, 2, 1))
    assert host.x_range == (0.0, 1.0)
    assert host.may_be_vacant.sum() == 16
    assert [c.n_working for c in host.compositions] == list(range(9))
    assert host.composition_at("1/2").formula == "Na4Co8O16"


def test_full_p2_has_three_patterns():
    """All on one kind of site, all on the other, or one layer each."""
    host = p2((2, 2, 1), charges="delocalised")
    assert host.n_raw(host.compositions[-1]) == 4
    assert host.n_distinct(host.compositions[-1]) == 3


def test_a_forbidden_pair_is_one_clear_line():
    host = p2((1, 1, 1), charges="delocalised")
    one, other = host.exclusions[0]
    occupation = np.ones(host.n_sites, dtype=np.uint8)
    occupation[[one, other]] = 0
    with pytest.raises(DecorationError, match=rf"fills sites {one} and {other}, .* 1\.64 Å apart"):
        Decoration(host, occupation)


def test_charge_order_alone_has_one_composition():
    host = magnetite()
    assert [c.formula for c in host.compositions] == ["Fe6O8"]
    assert not host.has_axis
    assert host.has_charge_order
    assert host.working_element == ""


def test_delocalised_hosts_need_not_be_neutral():
    host = p2((1, 1, 1), charges="delocalised")
    empty = Decoration(host, np.ones(host.n_sites, dtype=np.uint8))
    assert empty.x == 0.0
    assert not host.has_charge_order


def test_a_charged_decoration_without_a_working_ion_says_what_to_oxidise():
    host = magnetite()
    with pytest.raises(NotNeutralError, match="oxidise Fe sites by 4 e in all"):
        Decoration(host, np.zeros(host.n_sites, dtype=np.uint8))


def test_antisites_keep_nickel_in_all_and_let_lithium_go():
    host = host_of("antisites")
    assert host.free_counts == {"Ni": 4}
    assert host.x_range == (0.0, 1.0)
    exchanged = {
        tuple(int((row[s.slice] == s.species.index(host.sublattices[0].species[2])).sum())
              for s in host.sublattices[:1])
        for chunk, _ in host.enumerate_distinct(host.compositions[-1]) for row in chunk
    }  # fmt: skip
    assert exchanged == {(0,), (1,), (2,)}


def test_every_legal_decoration_is_drawn():
    host, rng = p2((1, 1, 1)), np.random.default_rng(5)
    composition = host.composition_at("1/2")
    drawn = {Decoration.random(host, composition, rng) for _ in range(200)}
    assert len(drawn) == host.n_raw(composition) == 8


@pytest.mark.parametrize("formula_unit", ["Na0.5K0.5CoO2", "NaCoO2"])
def test_guests_on_exclusive_sites_count_in_x(formula_unit):
    sites = SublatticeDeclaration(
        "working_ion", ("Na",), species("Na+", "K+", "vacancy"), "free", {"K": 0.25}
    )
    declared = replace(p2((1, 1, 1)).declaration, formula_unit=formula_unit)
    declared = replace(declared, sublattices=(sites, declared.sublattices[1]))
    host = Host.build(declared, (2, 1, 1))
    assert host.free_counts["K"] == 2
    assert host.x_range == (0.5, 1.0)
    assert host.compositions[-1].formula == "Na2K2Co4O8"


def test_delocalised_charges_order_nothing():
    """Oxidation states that a host declares are one species then, as in the built-in P2."""
    own = replace(p2().declaration, charges="delocalised")
    host, plain = Host.build(own, (2, 2, 1)), p2(charges="delocalised")
    assert [s.name for s in host.sublattices] == ["Na"]
    assert [host.n_distinct(c) for c in host.compositions] == [
        plain.n_distinct(c) for c in plain.compositions
    ]
    assert host_to_json(host_from_json(host_to_json(host))) == host_to_json(host)


def test_a_large_cell_is_searched_without_exact_counts():
    host, rng = p2((8, 8, 1), charges="delocalised"), np.random.default_rng(6)
    assert not host.are_counted
    assert host.x_range == (0.0, 1.0)
    assert len(host.compositions) == 129
    for x in (0.25, 0.75, 1.0):
        drawn = [Decoration.random(host, host.composition_at(x), rng) for _ in range(3)]
        assert all(one.x == x for one in drawn)
    assert host.n_distinct_beyond(host.compositions[-1], 5) == 6


def test_a_kept_element_that_comes_and_goes_elsewhere_is_refused():
    na = sublattice("working_ion", (0, 1), ("Na+", "vacancy"))
    kept = SublatticeDeclaration("mixed", (2, 3), species("Na+", "vacancy"), fractions={"Na": 0.5})
    declared = p2(charges="delocalised").declaration
    with pytest.raises(HostError, match="fractions keep the number of Na, which comes and goes"):
        Host.build(replace(declared, sublattices=(na, kept)), (2, 2, 1))


def test_x_of_a_host_with_one_composition_is_one_clear_line():
    with pytest.raises(HostError, match="one composition, Fe6O8: leave x out"):
        magnetite().composition_at(0.5)

"""The contract of every registered operator on every kind of host, and what each one does."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from host_classes import CLASSES
from hypothesis import given, settings
from hypothesis import strategies as st

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.operators.contract import Operator, default_operators, load_operators
from gasearch.plugins import registered
from gasearch.testing import check_operator, toy_host
from gasearch_operators.coupled import CoupledSwap
from gasearch_operators.crossover import CutAndSplice, UniformCrossover
from gasearch_operators.insertion import InsertExtract
from gasearch_operators.redox import ChargeSwap, RedoxElementSwap
from gasearch_operators.symmetrise import Symmetrise
from gasearch_operators.working_ion import NaVacancySwap

NAMES = list(registered("operator"))


def species(text: str) -> tuple[Species, ...]:
    return tuple(Species.parse(word) for word in text.split())


def working(sites: tuple[str | int, ...], text: str, **more: object) -> SublatticeDeclaration:
    return SublatticeDeclaration("working_ion", sites, species(text), **more)  # type: ignore[arg-type]


def redox(sites: tuple[str | int, ...], text: str, **more: object) -> SublatticeDeclaration:
    return SublatticeDeclaration("redox", sites, species(text), **more)  # type: ignore[arg-type]


def olivine(*sublattices: SublatticeDeclaration, manganese: int = 0) -> HostDeclaration:
    declaration = builtin_host("nafepo4-olivine")
    atoms = declaration.unit_cell.copy()
    iron = [n for n, symbol in enumerate(atoms.symbols) if symbol == "Fe"]
    for n in iron[:manganese]:
        atoms.symbols[n] = "Mn"
    return dataclasses.replace(declaration, unit_cell=atoms, sublattices=sublattices)


def layered(formula: str, *sublattices: SublatticeDeclaration) -> HostDeclaration:
    """Return an invented crystal: all atoms of the formula on a low-symmetry grid, 3 Å apart."""
    atoms = Atoms(formula, cell=[9.0, 9.5, 10.0], pbc=True)
    grid = [(i, j, k) for i in range(3) for j in range(3) for k in range(3)]
    atoms.set_scaled_positions(np.array(grid[: len(atoms)]) / 3.0)
    return HostDeclaration("layered", atoms, sublattices, {"F": Species("F", -1)}, formula)


NA, FE = working(("Na",), "Na+ vacancy"), redox(("Fe",), "Fe2+ Fe3+")
MIXED = "Fe2+ Fe3+ Mn2+ Mn3+"
HALF = {"Fe": 0.5, "Mn": 0.5}
HOSTS = {
    "olivine 1x1x1": lambda: Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1)),
    "olivine 1x2x1": lambda: Host.build(builtin_host("nafepo4-olivine"), (1, 2, 1)),
    "olivine 1x3x2": lambda: Host.build(builtin_host("nafepo4-olivine"), (1, 3, 2)),
    "LiFePO4": lambda: Host.build(builtin_host("lifepo4-olivine"), (1, 2, 1)),
    "toy": toy_host,
    "Fe and Mn share sites": lambda: Host.build(
        olivine(NA, redox(("Fe",), MIXED, elements="free", fractions=HALF)), (1, 1, 1)
    ),
    "Fe and Mn have their sites": lambda: Host.build(
        olivine(NA, redox(("Fe", "Mn"), MIXED), manganese=2), (1, 2, 1)
    ),
    "a conserved guest": lambda: Host.build(
        olivine(working(("Na",), "Na+ K+ vacancy", elements="free", fractions={"K": 0.25}), FE),
        (1, 2, 1),
    ),
    "x from 0.5 to 1": lambda: Host.build(layered("Na2FeF4", NA, FE), (2, 2, 1)),
    "two working-ion sublattices": lambda: Host.build(
        layered("Na2FeF4", working((0,), "Na+ vacancy"), working((1,), "Na+ vacancy"), FE),
        (2, 2, 1),
    ),
    "three oxidation states": lambda: Host.build(
        layered("Na2FeF4", NA, redox(("Fe",), "Fe2+ Fe3+ Fe4+")), (2, 1, 1)
    ),
    "an ion of charge 2": lambda: Host.build(
        layered("MgFe2F6", working(("Mg",), "Mg2+ vacancy"), FE), (2, 2, 1)
    ),
    "ions in pairs": lambda: Host.build(layered("Na2VF5", NA, redox(("V",), "V3+ V5+")), (2, 2, 1)),
    "steps of one and two": lambda: Host.build(
        layered("Na3VFeF8", NA, redox(("V",), "V3+ V5+"), FE), (2, 1, 1)
    ),
}


@functools.cache
def host_of(name: str) -> Host:
    return HOSTS[name]()


@functools.cache
def class_of(name: str) -> Host:
    return CLASSES[name]()


def operator_of(name: str) -> Operator:
    (loaded,) = load_operators({name: {}}, Path())
    return loaded.operator


def random_parents(host: Host, operator: Operator, rng: np.random.Generator) -> list[Decoration]:
    compositions = host.compositions
    return [
        Decoration.random(host, compositions[int(rng.integers(len(compositions)))], rng)
        for _ in range(operator.n_parents)
    ]


def changed(child: Decoration, parent: Decoration) -> np.ndarray:
    return np.flatnonzero(child.occupation != parent.occupation)


# --- the contract ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_registered_operator_keeps_the_contract(name):
    check_operator(operator_of(name))


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_registered_operator_keeps_the_contract_on_every_kind_of_host(name, host):
    operator = operator_of(name)
    check_operator(operator, host_of(host), n=40, may_be_idle=True)


@pytest.mark.parametrize("host", CLASSES)
@pytest.mark.parametrize("name", NAMES)
def test_every_registered_operator_keeps_the_contract_on_every_class_of_host(name, host):
    check_operator(operator_of(name), class_of(host), n=15, may_be_idle=True)


MOVERS = {
    "exclusive sites": {"na_vacancy_swap", "insert_extract", "cut_and_splice", "coupled_swap"},
    "exclusive sites, delocalised charge": {"na_vacancy_swap", "insert_extract", "symmetrise"},
    "charge order alone": {"charge_swap", "cut_and_splice", "uniform_crossover"},
    "cations on one sublattice": {"redox_element_swap", "uniform_crossover"},
    "cations on one sublattice, Li comes and goes": {"na_vacancy_swap", "insert_extract"},
    "vacancies on redox sites": {"na_vacancy_swap", "charge_swap", "insert_extract"},
    "antisites": {"na_vacancy_swap", "redox_element_swap", "insert_extract"},
    "anion vacancies": {"na_vacancy_swap", "charge_swap", "insert_extract"},
}


@pytest.mark.parametrize("host", CLASSES)
def test_operators_that_should_do_something_on_a_class_of_host_do(host):
    own, rng = class_of(host), np.random.default_rng(4)
    for name in MOVERS[host]:
        operator = operator_of(name)
        children = [operator(random_parents(own, operator, rng), rng) for _ in range(25)]
        assert any(child is not None for child in children), name


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(NAMES), host=st.sampled_from(list(HOSTS)), seed=st.integers(0, 2**32))
def test_a_child_is_neutral_keeps_its_elements_and_depends_on_nothing_but_rng(name, host, seed):
    host, operator = host_of(host), operator_of(name)
    parents = random_parents(host, operator, np.random.default_rng(seed))
    before = [parent.occupation.tobytes() for parent in parents]
    child = operator(parents, np.random.default_rng(seed))
    assert before == [parent.occupation.tobytes() for parent in parents]
    assert child == operator_of(name)(parents, np.random.default_rng(seed))
    if child is None:
        return
    atoms = child.to_atoms()
    assert atoms.get_initial_charges().sum() == 0
    assert host.composition_of(child.occupation) == child.composition
    framework = [s for s in host.atoms.symbols if s in host.declaration.framework]
    assert [s for s in atoms.symbols if s in host.declaration.framework] == framework


@pytest.mark.parametrize("name", NAMES)
def test_names_are_the_classes_names_and_weights_are_positive(name):
    operator = operator_of(name)
    words = re.findall("[A-Z][a-z]*", type(operator).__name__)
    assert name == "_".join(words).lower()
    assert operator.default_weight > 0
    assert hash(operator) == hash(operator_of(name))
    assert operator == operator_of(name)


# --- reach ------------------------------------------------------------------------------------


def reached(host: Host, operators: list[Operator], first: Decoration, n_draws: int) -> set[str]:
    """Return the fingerprints that random draws reach from one decoration."""
    rng = np.random.default_rng(3)
    found = {first.fingerprint: first}
    wanted = sum(host.n_distinct(composition) for composition in host.compositions)
    known = [first]
    for _ in range(n_draws):
        operator = operators[int(rng.integers(len(operators)))]
        chosen = [known[int(n)] for n in rng.integers(len(known), size=operator.n_parents)]
        child = operator(chosen, rng)
        if child is not None and child.fingerprint not in found:
            found[child.fingerprint] = child
            known.append(child)
            if len(found) == wanted:
                break
    return set(found)


def test_all_operators_together_reach_the_16_decorations_of_one_cell():
    host = host_of("olivine 1x1x1")
    first = Decoration.random(host, host.compositions[0], np.random.default_rng(0))
    operators = [weighted.operator for weighted in default_operators()]
    assert len(reached(host, operators, first, 5_000)) == 16


def test_all_operators_together_reach_every_decoration_of_1x2x1():
    host = host_of("olivine 1x2x1")
    assert host.n_distinct(host.composition_at("1/2")) == 344
    first = Decoration.random(host, host.composition_at("1/2"), np.random.default_rng(0))
    operators = [weighted.operator for weighted in default_operators()]
    found = reached(host, operators, first, 50_000)
    by_x = [Decoration.from_fingerprint(host, f).composition for f in sorted(found)]
    assert all(by_x.count(c) == host.n_distinct(c) for c in host.compositions)


@pytest.mark.parametrize(
    "host",
    [
        "toy",
        "Fe and Mn share sites",
        "x from 0.5 to 1",
        "three oxidation states",
        "ions in pairs",
        "steps of one and two",
    ],
)
def test_the_swaps_and_insertion_alone_reach_every_decoration(host):
    host = host_of(host)
    first = Decoration.random(host, host.compositions[-1], np.random.default_rng(0))
    operators = [NaVacancySwap(), ChargeSwap(), RedoxElementSwap(), InsertExtract()]
    expected = sum(host.n_distinct(composition) for composition in host.compositions)
    assert len(reached(host, operators, first, 60_000)) == expected


# --- each operator ----------------------------------------------------------------------------


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def half(rng) -> Decoration:
    host = host_of("olivine 1x3x2")
    return Decoration.random(host, host.composition_at("1/2"), rng)


N_SODIUM = 24  # in 1x3x2: sites 0 to 23 are Na, 24 to 47 are Fe


def test_na_vacancy_swap_changes_two_sodium_sites(half, rng):
    sites = changed(NaVacancySwap()([half], rng), half)
    assert len(sites) == 2
    assert sites.max() < N_SODIUM


def test_charge_swap_changes_two_iron_sites(half, rng):
    sites = changed(ChargeSwap()([half], rng), half)
    assert len(sites) == 2
    assert sites.min() >= N_SODIUM


def test_coupled_swap_changes_two_sites_of_each(half, rng):
    sites = changed(CoupledSwap()([half], rng), half)
    assert np.count_nonzero(sites < N_SODIUM) == np.count_nonzero(sites >= N_SODIUM) == 2


@pytest.mark.parametrize(("operator", "n"), [(NaVacancySwap, 2), (ChargeSwap, 2), (CoupledSwap, 4)])
def test_several_swaps_never_undo_each_other(operator, n, half, rng):
    assert len(changed(operator(n_swaps=3)([half], rng), half)) == 3 * n


def test_more_swaps_than_sites_make_as_many_as_there_are(rng):
    host = host_of("olivine 1x1x1")
    parent = Decoration.random(host, host.composition_at("1/2"), rng)
    assert len(changed(NaVacancySwap(n_swaps=99)([parent], rng), parent)) == 4


def test_charge_moves_between_elements(rng):
    host = host_of("Fe and Mn have their sites")
    parent = Decoration.random(host, host.composition_at("1/2"), rng)
    iron, manganese = (s for s in host.sublattices if s.kind == "redox")
    counts = {ChargeSwap()([parent], rng).on(iron).sum() for _ in range(200)}
    assert len(counts) == 3  # Fe3+ goes up, stays, goes down
    assert parent.on(manganese).sum() + parent.on(iron).sum() == 4


@pytest.mark.parametrize("with_charge", [0.0, 1.0])
def test_elements_change_places_with_their_charge_or_without(with_charge, rng):
    host = host_of("Fe and Mn share sites")
    operator, n_charges_kept = RedoxElementSwap(with_charge=with_charge), 0
    for _ in range(50):
        parent = Decoration.random(host, host.composition_at("1/2"), rng)
        child = operator([parent], rng)
        pairs = list(zip(parent.species(), child.species(), strict=True))
        moved = [(old, new) for old, new in pairs if old != new]
        assert len(moved) == 2
        assert all(old.element != new.element for old, new in moved)
        n_charges_kept += all(old.charge == new.charge for old, new in pairs)
        if with_charge:
            assert sorted(parent.species()) == sorted(child.species())
    assert n_charges_kept == 50 if with_charge == 0 else n_charges_kept < 50


def test_element_swap_applies_only_where_elements_are_free(rng):
    operator = RedoxElementSwap()
    assert operator.applies_to(host_of("Fe and Mn share sites"))
    for name in ("olivine 1x1x1", "Fe and Mn have their sites"):
        host = host_of(name)
        assert not operator.applies_to(host)
        assert operator([Decoration.random(host, host.compositions[1], rng)], rng) is None


@pytest.mark.parametrize("operator", [NaVacancySwap(), ChargeSwap(), CoupledSwap(), Symmetrise()])
def test_end_members_allow_no_swap(operator, rng):
    host = host_of("olivine 1x2x1")
    for end in (host.compositions[0], host.compositions[-1]):
        assert operator([Decoration.random(host, end, rng)], rng) is None


@pytest.mark.parametrize(
    ("name", "step"), [("x from 0.5 to 1", 1), ("an ion of charge 2", 1), ("ions in pairs", 2)]
)
def test_insertion_goes_one_composition_up_or_down_and_only_inwards_at_an_end(name, step, rng):
    host, operator = host_of(name), InsertExtract()
    counts = [c.n_working for c in host.compositions]
    assert set(np.diff(counts)) == {step}
    for place, composition in enumerate(host.compositions):
        parent = Decoration.random(host, composition, rng)
        seen = {operator([parent], rng).composition.n_working for _ in range(30)}
        assert seen == {counts[n] for n in (place - 1, place + 1) if 0 <= n < len(counts)}


def test_insertion_returns_none_where_there_is_one_composition(rng):
    host = Host.build(layered("NaFeF3", NA, redox(("Fe",), "Fe2+ Fe4+")), (1, 1, 1))
    assert len(host.compositions) == 1
    parent = Decoration.random(host, host.compositions[0], rng)
    assert InsertExtract()([parent], rng) is None


def test_an_inserted_ion_is_never_the_guest(rng):
    host = host_of("a conserved guest")
    parent = Decoration.random(host, host.composition_at(0.5), rng)
    for _ in range(20):
        child = InsertExtract()([parent], rng)
        potassium = [s.element == "K" for s in parent.species()]
        assert [s.element == "K" for s in child.species()] == potassium


def payers(operator: InsertExtract, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how often the k-th nearest iron pays for an extraction, and its distance."""
    host, rng = host_of("olivine 1x2x1"), np.random.default_rng(5)
    full = Decoration.random(host, host.compositions[-1], rng)
    counts, n_sodium = np.zeros(8), 8
    order = np.argsort(host.distances[:n_sodium, n_sodium:], axis=1)
    for _ in range(n):
        sodium, iron = changed(operator([full], rng), full)
        counts[np.flatnonzero(order[sodium] == iron - n_sodium)] += 1
    return counts / n, np.sort(host.distances[0, n_sodium:])


def test_the_nearest_redox_sites_pay_most_often():
    shares, distances = payers(InsertExtract(random_payer=0.0), 3000)
    expected = np.exp(-distances)
    assert np.abs(shares - expected / expected.sum()).max() < 0.03
    assert shares[:2].sum() > 4 * shares[-2:].sum()


def test_any_redox_site_pays_alike_if_asked_for():
    shares, _ = payers(InsertExtract(random_payer=1.0), 3000)
    assert np.abs(shares - 1 / 8).max() < 0.03


def test_charge_moves_with_its_ion():
    host, rng = host_of("olivine 1x3x2"), np.random.default_rng(5)
    parent = Decoration.random(host, host.composition_at("1/2"), rng)
    lengths, all_lengths = [], []
    for _ in range(400):
        child = CoupledSwap()([parent], rng)
        sites = changed(child, parent)
        gains = (
            host.charges[sites, child.occupation[sites]]
            > (host.charges[sites, parent.occupation[sites]])
        )
        (left,) = sites[(sites < N_SODIUM) & ~gains]
        (oxidised,) = sites[(sites >= N_SODIUM) & gains]
        lengths.append(host.distances[left, oxidised])
        all_lengths.append(host.distances[left, N_SODIUM:].mean())
    assert np.mean(lengths) < 0.75 * np.mean(all_lengths)
    assert np.median(lengths) < 4.0  # the six nearest Fe are 3.4 to 3.7 Å away, half of them free


def test_a_child_of_two_parents_has_the_composition_of_one(rng):
    host = host_of("olivine 1x3x2")
    low, high = host.composition_at("1/4"), host.composition_at("3/4")
    for operator in (CutAndSplice(), UniformCrossover()):
        seen = set()
        for _ in range(60):
            parents = [Decoration.random(host, c, rng) for c in (low, high)]
            seen.add(operator(parents, rng).composition)
        assert seen == {low, high}


def test_a_crossover_may_go_between_its_parents_if_asked_to(rng):
    host = host_of("olivine 1x3x2")
    low, high = host.composition_at("1/4"), host.composition_at("3/4")
    operator = CutAndSplice(between=True)
    assert operator.changes_x
    assert not CutAndSplice().changes_x
    check_operator(operator)
    seen = set()
    for _ in range(60):
        seen.add(operator([Decoration.random(host, c, rng) for c in (low, high)], rng).x)
    assert min(seen) >= 0.25
    assert max(seen) <= 0.75
    assert len(seen) > 4


def test_a_slab_lies_between_two_parallel_planes_of_the_periodic_crystal(rng):
    host, operator = host_of("olivine 1x3x2"), CutAndSplice()
    inside = np.array([operator._cut(host, rng)[0] for _ in range(300)])
    shares = inside.mean(axis=1)
    assert shares.min() < 0.3 < 0.7 < shares.max()
    assert np.abs(inside.mean(axis=0) - 0.5).max() < 0.12  # no site is special
    near = host.distances < 3.5
    together = (inside[:, :, None] == inside[:, None, :]).mean(axis=0)
    assert together[near].mean() > together[~near].mean() + 0.1


def test_uniform_crossover_recombines_what_differs(rng):
    host = host_of("olivine 1x3x2")
    first = Decoration.random(host, host.composition_at("1/2"), rng)
    second = ChargeSwap()([NaVacancySwap()([first], rng)], rng)
    for _ in range(20):
        child = UniformCrossover()([first, second], rng)
        assert len(changed(child, first)) == len(changed(child, second)) == 2


def test_a_crossover_of_parents_that_cannot_differ_returns_none(rng):
    host = host_of("olivine 1x1x1")
    parents = [Decoration.random(host, host.compositions[0], rng) for _ in range(2)]
    assert CutAndSplice()(parents, rng) is None
    assert UniformCrossover()(parents, rng) is None


def test_symmetrising_always_raises_the_symmetry_at_equal_counts(rng):
    host, n_children = host_of("olivine 1x3x2"), 0
    for composition in host.compositions[::2]:
        for _ in range(5):
            parent = Decoration.random(host, composition, rng)
            child = Symmetrise()([parent], rng)
            while child is not None:
                n_children += 1
                assert child.orbit_size < parent.orbit_size
                assert sorted(child.species()) == sorted(parent.species())
                parent, child = child, Symmetrise()([child], rng)
    assert n_children > 60


def test_symmetrising_changes_little(rng):
    host = host_of("olivine 1x3x2")
    parent = Decoration.random(host, host.composition_at("1/2"), rng)
    distances = [len(changed(Symmetrise()([parent], rng), parent)) for _ in range(30)]
    unrelated = [
        len(changed(Decoration.random(host, parent.composition, rng), parent)) for _ in distances
    ]
    assert np.mean(distances) < 0.8 * np.mean(unrelated)


def test_odd_counts_allow_no_symmetry_in_one_olivine_cell(rng):
    host = host_of("olivine 1x1x1")
    parent = Decoration.random(host, host.composition_at("3/4"), rng)
    assert Symmetrise()([parent], rng) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"na_vacancy_swap": {"n_swaps": 0}}, "n_swaps = 0"),
        ({"charge_swap": {"n_swaps": -1}}, "n_swaps = -1"),
        ({"coupled_swap": {"reach": 0.0}}, "reach = 0.0"),
        ({"insert_extract": {"random_payer": 2}}, "random_payer = 2"),
        ({"redox_element_swap": {"with_charge": -0.1}}, "with_charge = -0.1"),
        ({"cut_and_splice": {"min_share": 0.6}}, "min_share = 0.6"),
    ],
)
def test_settings_without_meaning_are_refused(settings, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        load_operators(settings, Path())

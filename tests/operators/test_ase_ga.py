"""Stock operators on the lattice, and ours in stock hands."""

from __future__ import annotations

import re
from pathlib import Path

import ase.db
import numpy as np
import pytest
from ase_ga import cutandsplicepairing, slab_operators, standardmutations
from ase_ga.offspring_creator import CombinationMutation, OffspringCreator, OperationSelector
from host_classes import CLASSES

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.errors import DecorationError, UsageError
from gasearch.operators.ase_ga import (
    AseGaOperator,
    LatticeOperator,
    StockOperatorError,
    from_candidate,
    to_candidate,
)
from gasearch.operators.contract import OperatorError, default_operators, load_operators
from gasearch.operators.lattice_view import ForeignAtomsError, LatticeView, surrogates
from gasearch.testing import check_operator, toy_host
from gasearch_operators.coupled import CoupledSwap
from gasearch_operators.crossover import CutAndSplice
from gasearch_operators.insertion import InsertExtract
from gasearch_operators.redox import ChargeSwap
from gasearch_operators.working_ion import NaVacancySwap

WORKING = [
    "slab_operators:RandomSlabPermutation",
    "slab_operators:CutSpliceSlabCrossover",
    "slab_operators:RandomCompositionMutation",
    "slab_operators:SymmetrySlabPermutation",
    "standardmutations:PermutationMutation",
    "element_crossovers:OnePointElementCrossover",
    "element_mutations:RandomElementMutation",
    "particle_mutations:RandomPermutation",
    "particle_mutations:RandomSubstitute",
]
REFUSED = {
    "standardmutations:RattleMutation": "it moves atoms",
    "standardmutations:MirrorMutation": "it moves atoms",
    "standardmutations:StrainMutation": "it moves atoms",
    "soft_mutation:SoftMutation": "it moves atoms",
    "cutandsplicepairing:CutAndSplicePairing": "it moves atoms",
    "slab_operators:NeighborhoodElementMutation": "here the elements are given",
    "slab_operators:RandomElementMutation": "here the elements are given",
    "element_mutations:FullElementMutation": "here the elements are given",
    "particle_mutations:COM2surfPermutation": "without periodic boundaries",
    "particle_mutations:Rich2poorPermutation": "without periodic boundaries",
    "standardmutations:PermuStrainMutation": "name those one by one",
    "element_crossovers:TwoPointElementCrossover": "no run could be repeated",
    "slab_operators:SlabOperator": "base class",
}


def load(name: str, **arguments: object) -> LatticeOperator:
    (loaded,) = load_operators({f"ase_ga.{name}": arguments}, Path())
    assert isinstance(loaded.operator, LatticeOperator)
    return loaded.operator


@pytest.fixture(scope="module")
def host() -> Host:
    return Host.build(builtin_host("nafepo4-olivine"), (1, 2, 1))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2)


@pytest.fixture
def half(host, rng) -> Decoration:
    return Decoration.random(host, host.composition_at("1/2"), rng)


# --- stock operators on the lattice ----------------------------------------------------------


@pytest.mark.parametrize("name", WORKING)
def test_a_stock_operator_named_in_a_run_file_keeps_our_contract(name):
    check_operator(load(name), n=8 if "Symmetry" in name else 20)


@pytest.mark.parametrize("name", REFUSED)
def test_a_stock_operator_that_cannot_work_is_refused_in_one_line_that_says_why(name):
    with pytest.raises(UsageError, match=re.escape(REFUSED[name])) as caught:
        load(name)
    assert "\n" not in str(caught.value)
    assert "RandomSlabPermutation" in str(caught.value)


def test_what_is_no_operator_or_sets_its_own_rng_is_refused():
    with pytest.raises(StockOperatorError, match="no subclass of OffspringCreator"):
        LatticeOperator(OperationSelector)
    with pytest.raises(StockOperatorError, match="the seed of the run is"):
        LatticeOperator(slab_operators.RandomSlabPermutation, {"rng": np.random})

    class NeedsMore(slab_operators.SlabOperator):
        def __init__(self, temperature, rng=None):
            super().__init__(rng=rng)

    with pytest.raises(StockOperatorError, match="it needs the argument temperature"):
        LatticeOperator(NeedsMore)


def test_numbers_of_parents_and_changes_of_x_are_found_from_the_class():
    assert load("slab_operators:CutSpliceSlabCrossover").n_parents == 2
    assert load("element_crossovers:OnePointElementCrossover").n_parents == 2
    assert load("slab_operators:RandomSlabPermutation").n_parents == 1
    assert load("slab_operators:RandomCompositionMutation").changes_x
    assert not load("slab_operators:CutSpliceSlabCrossover").changes_x


def test_a_slab_permutation_swaps_ions_or_charges_but_never_one_for_the_other(half, rng):
    operator = load("slab_operators:RandomSlabPermutation")
    ions = charges = 0
    for _ in range(40):
        sites = np.flatnonzero(operator([half], rng).occupation != half.occupation)
        assert len(sites) == 2
        ions += sites.max() < 8
        charges += sites.min() >= 8
    assert ions + charges == 40
    assert min(ions, charges) > 8


def test_arguments_of_a_run_file_reach_the_stock_operator(half, rng):
    operator = load("slab_operators:RandomSlabPermutation", num_muts=30)
    assert (
        max(np.count_nonzero(operator([half], rng).occupation != half.occupation) for _ in range(9))
        > 2
    )


def test_a_composition_mutation_goes_to_all_compositions_and_the_iron_pays(host, rng):
    operator = load("slab_operators:RandomCompositionMutation")
    parent = Decoration.random(host, host.composition_at("3/4"), rng)
    children = [operator([parent], rng) for _ in range(60)]
    assert {child.x for child in children} >= {0.25, 0.375, 0.5, 0.625, 0.875}


def test_composition_limits_of_a_run_file_hold(host, rng):
    limits = {"element_pools": [["Na", "X"]], "allowed_compositions": [[6, 2], [5, 3]]}
    operator = load("slab_operators:RandomCompositionMutation", **limits)
    parent = Decoration.random(host, host.composition_at("3/4"), rng)
    assert {operator([parent], rng).x for _ in range(20)} == {0.625}


def test_pools_as_the_paper_writes_them_leave_the_other_sublattice_alone(host, half, rng):
    operator = load("slab_operators:CutSpliceSlabCrossover", element_pools=[["Na", "X"]])
    other = Decoration.random(host, half.composition, rng)
    for _ in range(20):
        child = operator([half, other], rng)
        assert np.array_equal(child.occupation[8:], half.occupation[8:])
    wrong = load("slab_operators:CutSpliceSlabCrossover", element_pools=[["Li", "X"]])
    with pytest.raises(StockOperatorError, match="no whole sublattice of X for vacancy, Fe"):
        wrong([half, other], rng)


def test_a_permutation_of_positions_is_read_back_by_site(half, rng):
    operator = load("standardmutations:PermutationMutation", probability=0.2)
    children = [operator([half], rng) for _ in range(10)]
    assert all(child != half for child in children)


def test_end_members_give_nothing(host, rng):
    for end in (host.compositions[0], host.compositions[-1]):
        parent = Decoration.random(host, end, rng)
        for name in ("slab_operators:RandomSlabPermutation", "particle_mutations:RandomSubstitute"):
            assert load(name)([parent], rng) is None


def test_each_species_is_an_element_of_its_own(host):
    assert {str(s): e for s, e in surrogates(host).items()} == {
        "vacancy": "X",
        "Fe2+": "Fe",
        "Fe3+": "Ga",
        "Na+": "Na",
    }
    mixed = toy_host(mixed=True)
    assert len(set(surrogates(mixed).values())) == 6
    assert {str(s): e for s, e in surrogates(mixed).items()}["Mn3+"] == "Al"


def test_a_view_writes_back_what_it_reads(half):
    view = LatticeView(half.host, half.host.sublattices)
    atoms = view.atoms(half.occupation, 1)
    assert atoms.symbols.formula.count() == {"Na": 4, "X": 4, "Fe": 4, "Ga": 4}
    blank = np.zeros_like(half.occupation)
    assert np.array_equal(view.write(blank, atoms), half.occupation)
    order = np.random.default_rng(0).permutation(len(atoms))
    assert np.array_equal(view.write(blank, atoms[order]), half.occupation)


class Rattles(OffspringCreator):
    """A stranger's operator that moves atoms, which only a call can show."""

    def get_new_individual(self, parents):
        child = self.initialize_individual(parents[0], parents[0])
        child.positions[0] += 0.5
        return self.finalize_individual(child), "mutation: rattle"


class AddsGold(Rattles):
    def get_new_individual(self, parents):
        child = self.initialize_individual(parents[0], parents[0])
        child.symbols[0] = "Au"
        return self.finalize_individual(child), "mutation: gold"


class SwapsTwice(Rattles):
    """A stranger's crossover that says so."""

    n_parents = 2
    changes_x = True

    def get_new_individual(self, parents):
        child = self.initialize_individual(parents[0], parents[1])
        child.symbols[0] = "X"
        return self.finalize_individual(child), "pairing: swaps"


@pytest.mark.parametrize(("stranger", "words"), [(Rattles, "moved atoms"), (AddsGold, "put Au")])
def test_a_strangers_operator_that_leaves_the_lattice_is_caught(stranger, words, half, rng):
    with pytest.raises(ForeignAtomsError, match=words):
        LatticeOperator(stranger)([half], rng)


def test_a_strangers_operator_from_a_file_works_and_says_what_it_does(tmp_path, half):
    (tmp_path / "mine.py").write_text(
        "from ase_ga.slab_operators import RandomSlabPermutation\n"
        "class Mine(RandomSlabPermutation):\n    pass\n"
        "class Broken(RandomSlabPermutation):\n"
        "    def operate(self, atoms):\n        atoms.rattle(0.3)\n        return atoms\n"
    )
    mine, broken = load_operators(
        {"./mine.py:Mine": {}, "./mine.py:Broken": {"weight": 2}}, tmp_path
    )
    assert isinstance(mine.operator, LatticeOperator)
    check_operator(mine.operator, n=10)
    check_operator(LatticeOperator(SwapsTwice), n=10)
    with pytest.raises(OperatorError, match=r"Broken' raised ForeignAtomsError: it moved atoms"):
        broken([half], np.random.default_rng(0))


# --- ours in stock hands ------------------------------------------------------------------------


@pytest.fixture
def parents(host, rng) -> list:
    decorations = [Decoration.random(host, host.composition_at("1/2"), rng) for _ in range(2)]
    made = [to_candidate(decoration) for decoration in decorations]
    for confid, atoms in enumerate(made, start=7):
        atoms.info["confid"] = confid
    return made


@pytest.mark.parametrize(
    ("operator", "kind", "confids"),
    [
        (CoupledSwap(), "mutation", [7]),
        (InsertExtract(), "mutation", [7]),
        (CutAndSplice(), "pairing", [7, 8]),
    ],
)
def test_a_child_carries_all_that_ase_ga_wants_to_know(host, parents, operator, kind, confids):
    child, description = AseGaOperator(operator, host, 0).get_new_individual(parents)
    name = type(operator).__name__
    assert description == f"{kind}: {name} of {' '.join(map(str, confids))}"
    assert child.info["data"]["parents"] == confids
    assert child.info["key_value_pairs"]["origin"] == name
    assert child.info["key_value_pairs"]["extinct"] == 0
    assert "confid" not in child.info
    assert child.get_initial_charges().sum() == 0
    assert set(child.get_initial_magnetic_moments()) == {0, 4, 5}
    assert from_candidate(host, child).to_atoms() == child


def test_the_same_seed_gives_the_same_children(host, parents):
    streams = []
    for source in (5, 5, np.random.default_rng(5), 6):
        operator = AseGaOperator(CoupledSwap(), host, source)
        children = [operator.get_new_individual(parents)[0] for _ in range(5)]
        streams.append([child.info["data"]["occupation"] for child in children])
    assert streams[0] == streams[1] == streams[2] != streams[3]


def test_no_child_is_none_and_a_description(host, rng):
    end = to_candidate(Decoration.random(host, host.compositions[0], rng))
    end.info["confid"] = 3
    child, description = AseGaOperator(ChargeSwap(), host, 0).get_new_individual([end])
    assert child is None
    assert description == "mutation: ChargeSwap of 3"


def test_ours_are_part_of_a_combination_mutation(host, parents):
    ours = [AseGaOperator(op, host, n) for n, op in enumerate((NaVacancySwap(), ChargeSwap()))]
    child, description = CombinationMutation(*ours).get_new_individual(parents)
    assert description == "mutation: CombinationMutation"
    assert child.info["data"] == {"parents": [7]}
    before, after = (from_candidate(host, atoms) for atoms in (parents[0], child))
    assert np.count_nonzero(before.occupation != after.occupation) == 4


def test_an_end_member_ends_a_combination_mutation(host, rng):
    end = to_candidate(Decoration.random(host, host.compositions[-1], rng))
    end.info["confid"] = 3
    ours = [AseGaOperator(op, host, 0) for op in (NaVacancySwap(), ChargeSwap())]
    assert CombinationMutation(*ours).get_new_individual([end])[0] is None


def test_a_crossover_in_a_combination_mutation_is_refused(host, parents):
    with pytest.raises(UsageError, match="CutAndSplice takes 2 parents"):
        AseGaOperator(CutAndSplice(), host, 0).mutate(parents[0])


def test_an_operation_selector_chooses_between_ours_and_a_wrapped_stock_operator(host, parents):
    wrapped = LatticeOperator(slab_operators.RandomSlabPermutation)
    ours = [AseGaOperator(op, host, 1) for op in (wrapped, CoupledSwap())]
    selector = OperationSelector([1, 1], ours, rng=np.random.RandomState(0))
    origins = [
        selector.get_new_individual(parents)[0].info["key_value_pairs"]["origin"] for _ in range(30)
    ]
    assert set(origins) == {"RandomSlabPermutation", "CoupledSwap"}


def test_a_relaxed_candidate_without_a_record_is_read_from_its_positions(host, half, rng):
    atoms = to_candidate(half)
    atoms.info = {}
    atoms.set_cell(atoms.cell.array * 1.03, scale_atoms=True)
    atoms.rattle(0.1, rng=rng)
    assert from_candidate(host, atoms) == half


def test_a_record_survives_the_database_and_lost_charges(tmp_path, host, half):
    atoms = to_candidate(half)
    with ase.db.connect(tmp_path / "x.db") as database:
        pairs = atoms.info["key_value_pairs"]
        number = database.write(atoms, key_value_pairs=pairs, data=atoms.info["data"])
        row = database.get_atoms(number, add_additional_information=True)
    row.set_initial_charges(None)
    assert from_candidate(host, row) == half


def test_a_record_that_the_atoms_contradict_is_not_believed(host, parents):
    first, second = (from_candidate(host, atoms) for atoms in parents)
    stale = to_candidate(second)
    stale.info["data"] = parents[0].info["data"]
    assert from_candidate(host, stale) == second != first


def test_a_candidate_without_record_and_charges_is_a_clear_error(host, half):
    atoms = to_candidate(half)
    atoms.info, atoms.arrays = {"confid": 12}, dict(atoms.arrays)
    atoms.set_initial_charges(None)
    with pytest.raises(DecorationError, match="candidate 12 has no decoration on record"):
        from_candidate(host, atoms)


def test_the_stock_operators_that_we_refuse_would_lose_the_charges(half):
    """Why wrapping is needed: the reason stated in the error of `from_candidate`."""
    atoms = to_candidate(half)
    atoms.info["confid"] = 1
    stock = standardmutations.PermutationMutation(len(atoms), rng=np.random.RandomState(0))
    child, _ = stock.get_new_individual([atoms])
    assert not child.get_initial_charges().any()
    assert cutandsplicepairing.CutAndSplicePairing is not None


# --- every class of host ----------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
def test_our_operators_run_inside_an_ase_ga_loop_on_every_class_of_host(name):
    host, rng = CLASSES[name](), np.random.default_rng(8)
    made = 0
    for composition in host.compositions[:3]:
        atoms = to_candidate(Decoration.random(host, composition, rng))
        for operator in default_operators():
            wrapped = AseGaOperator(operator.operator, host, rng)
            parents = [atoms.copy() for _ in range(wrapped.min_inputs)]
            for number, parent in enumerate(parents, 1):
                parent.info |= {"confid": number, "data": dict(atoms.info["data"])}
            child, _ = wrapped.get_new_individual(parents)
            if child is not None:
                assert host.is_legal(from_candidate(host, child).occupation)
                made += 1
    assert made > 0


@pytest.mark.parametrize("name", CLASSES)
def test_a_stock_permutation_keeps_what_every_class_of_host_keeps(name):
    check_operator(load("slab_operators:RandomSlabPermutation"), CLASSES[name](), n=6)

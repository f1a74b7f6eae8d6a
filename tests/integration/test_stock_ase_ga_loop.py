"""Our operators inside a stock `ase_ga` loop: the executed example.

Population, selection of parents and of operators, database, ranks within a composition: all of it
is `ase_ga`. From gasearch come the host, the first decorations, and the moves.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase_ga import set_raw_score, slab_operators
from ase_ga.data import DataConnection, PrepareDB
from ase_ga.offspring_creator import CombinationMutation, OperationSelector
from ase_ga.population import RankFitnessPopulation
from ase_ga.standard_comparators import StringComparator

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.operators.ase_ga import AseGaOperator, LatticeOperator, from_candidate, to_candidate
from gasearch_operators.coupled import CoupledSwap
from gasearch_operators.crossover import CutAndSplice
from gasearch_operators.insertion import InsertExtract
from gasearch_operators.redox import ChargeSwap
from gasearch_operators.working_ion import NaVacancySwap


def pair_energy(host: Host, occupations: np.ndarray) -> np.ndarray:
    """Return (n,) an invented energy of occupations (n, n_sites), in eV: screened point charges."""
    charges = host.charges[np.arange(host.n_sites), occupations]
    distances = host.distances + np.diag(np.full(host.n_sites, np.inf))
    interaction = 14.4 * np.exp(-distances / 3.0) / distances
    return 0.5 * np.einsum("ni,ij,nj->n", charges, interaction, charges)


def relax(host: Host, atoms: Atoms, rng: np.random.Generator) -> None:
    """Stand in for a relaxation: atoms move a little, and the energy is known."""
    decoration = from_candidate(host, atoms)
    (energy,) = pair_energy(host, decoration.occupation[None])
    atoms.rattle(0.05, rng=rng)
    atoms.calc = SinglePointCalculator(atoms, energy=float(energy))
    set_raw_score(atoms, -float(energy))


def run_loop(folder, host: Host, seed: int, n_children: int) -> DataConnection:
    rng, legacy = np.random.default_rng(seed), np.random.RandomState(seed)
    database = folder / "ga.db"
    PrepareDB(str(database), simulation_cell=Atoms(cell=host.atoms.cell, pbc=True))
    connection = DataConnection(str(database))

    searched = [host.composition_at(x) for x in ("3/8", "1/2", "5/8")]
    for number in range(20):
        start = to_candidate(Decoration.random(host, searched[number % 3], rng))
        connection.add_unrelaxed_candidate(start, "starting: random decoration")
        relax(host, start, rng)
        connection.add_relaxed_step(start)

    def ours(operator):
        return AseGaOperator(operator, host, rng)

    operators = OperationSelector(
        [3, 3, 1, 1, 1, 1],
        [
            ours(CutAndSplice()),
            ours(CoupledSwap()),
            ours(ChargeSwap()),
            ours(InsertExtract()),
            CombinationMutation(ours(NaVacancySwap()), ours(ChargeSwap())),
            ours(LatticeOperator(slab_operators.RandomSlabPermutation)),
        ],
        rng=legacy,
    )
    population = RankFitnessPopulation(
        connection,
        population_size=30,
        variable_function=lambda atoms: atoms.get_chemical_formula(),
        comparator=StringComparator("fingerprint"),
    )
    population.rng = legacy  # its constructor takes none
    for number in range(n_children):
        if number % 10 == 0:  # a generation
            population.update()
        child, description = operators.get_new_individual(population.get_two_candidates())
        if child is None or from_candidate(host, child).composition not in searched:
            continue
        # CombinationMutation knows no fingerprints: what to_candidate writes is written again
        keys = to_candidate(from_candidate(host, child)).info["key_value_pairs"]
        child.info["key_value_pairs"] = keys | child.info["key_value_pairs"]
        connection.add_unrelaxed_candidate(child, description)
        relax(host, child, rng)
        connection.add_relaxed_step(child)
    return connection


@pytest.fixture(scope="module")
def host() -> Host:
    return Host.build(builtin_host("nafepo4-olivine"), (1, 2, 1))


@pytest.fixture(scope="module")
def finished(host, tmp_path_factory) -> DataConnection:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return run_loop(tmp_path_factory.mktemp("stock"), host, seed=1, n_children=100)


def test_a_stock_loop_finds_one_of_the_lowest_of_344_after_few_of_them(host, finished):
    composition = host.composition_at("1/2")
    every = np.concatenate([chunk for chunk, _ in host.enumerate_distinct(composition)])
    energies = np.sort(pair_energy(host, every))
    assert len(energies) == 344
    keys = [atoms.info["key_value_pairs"] for atoms in finished.get_all_relaxed_candidates()]
    found = [own for own in keys if own["x"] == 0.5]
    best = -max(own["raw_score"] for own in found)
    assert np.searchsorted(energies, best - 1e-9) < 7
    assert len({own["fingerprint"] for own in found}) < 70


def test_every_candidate_of_a_stock_loop_is_neutral_and_labelled(host, finished):
    candidates = finished.get_all_relaxed_candidates()
    assert len(candidates) > 80
    for atoms in candidates:
        decoration = from_candidate(host, atoms)
        assert Decoration.from_atoms(host, atoms) == decoration
        assert atoms.get_initial_charges().sum() == 0
        assert atoms.info["key_value_pairs"]["fingerprint"].endswith(decoration.fingerprint)


def test_all_operators_took_part_and_parents_are_on_record(finished):
    candidates = finished.get_all_relaxed_candidates()
    origins = [atoms.info["key_value_pairs"]["origin"] for atoms in candidates]
    assert set(origins) == {
        "StartingCandidate",
        "CutAndSplice",
        "CoupledSwap",
        "ChargeSwap",
        "InsertExtract",
        "CombinationMutation",
        "RandomSlabPermutation",
    }
    pairs = finished.get_participation_in_pairing()[1]
    assert len(pairs) == origins.count("CutAndSplice")

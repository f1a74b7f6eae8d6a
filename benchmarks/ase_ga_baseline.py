"""The search of Petersen et al. 2026 (arXiv 2603.26471) with stock `ase_ga`, on joint decorations.

From `ase_ga`: `RankFitnessPopulation` (variable function: the formula; its default exponential
fitness and roulette), `OperationSelector` with the paper's weights, the operators
`CutSpliceSlabCrossover`, `RandomSlabPermutation` and `RandomCompositionMutation`. A candidate is
the lattice of sublattice sites with the symbols Na/X and Fe/Ga.

What differs from the paper's script, and why:

- The paper has no Fe2+/Fe3+ gene; here the crossover and the permutations act on both sublattices
  at once. They know nothing of sublattices or charges, so `Repair`, their own
  `distribution_correction_function`, puts every child right.
- The search is held at one composition, as all methods of this benchmark are. A mutated Na
  content is made neutral on the Fe sites and then brought back.
- `SymmetrySlabPermutation` with its defaults (goal 100, 50 tries each) tries at least 1,300
  structures that cannot succeed on an orthorhombic lattice, with a call of spglib for each. As
  nothing of the parent survives so long a walk, `SymmetricWalks` runs it from random decorations
  and from the highest goal that can be met, many walks at once, with tabulated space groups.
- `MemoryConnection` stands in for the SQLite file of `DataConnection` and shows the population
  only the candidates that can enter it, the best ones: `RankFitnessPopulation.update` is quadratic
  in what it is shown, and with one niche the result is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase_ga import set_raw_score
from ase_ga.offspring_creator import OffspringCreator, OperationSelector
from ase_ga.population import RankFitnessPopulation
from ase_ga.slab_operators import (
    CutSpliceSlabCrossover,
    RandomCompositionMutation,
    RandomSlabPermutation,
)
from ase_ga.standard_comparators import StringComparator
from energies import Digits, Integers
from landscapes import Landscape

from gasearch.crystal.host import Host

WEIGHTS = (3, 1, 1, 1)
"""Crossover, permutation, composition mutation, symmetric permutation."""
STALLED = 5_000
"""Exact duplicates in a row after which a run ends: the operators find nothing new."""


FOREIGN = 2
"""Stands in digits for a symbol that belongs to another sublattice."""


class Lattice:
    """The sublattice sites of a host as `ase_ga` sees them: symbols on fixed positions.

    The first sublattice holds Na and X (vacancies), the second Fe (2+) and Ga (3+).
    """

    def __init__(self, landscape: Landscape) -> None:
        self.host: Host = landscape.host
        self.atoms = self.host.atoms[self.host.sites]
        self.ions, self.redox = (np.arange(s.slice.start, s.slice.stop) for s in self._sublattices)
        pairs = [("Na", "X")] * len(self.ions) + [("Fe", "Ga")] * len(self.redox)
        self.numbers = np.array([[atomic_numbers[s] for s in pair] for pair in pairs])
        self.n_vacant = len(self.ions) - landscape.composition.n_working

    @property
    def _sublattices(self) -> tuple[Any, Any]:
        ions, redox = self.host.sublattices
        return ions, redox

    def decorated(self, occupation: Digits) -> Atoms:
        """Return atoms that show an occupation (n_sites,)."""
        atoms = self.atoms.copy()
        atoms.numbers = self.numbers[np.arange(len(atoms)), occupation]
        return atoms

    def occupation(self, atoms: Atoms) -> Digits:
        """Return the occupation (n_sites,) of atoms whose symbols all are on their sublattice."""
        return (atoms.numbers == self.numbers[:, 1]).astype(np.uint8)


class Repair:
    """Bring symbols back to their sublattices and to the composition, with random choices."""

    def __init__(self, lattice: Lattice, rng: np.random.RandomState) -> None:
        self.lattice = lattice
        self.rng = rng

    def __call__(self, atoms: Atoms) -> None:
        """Change the atoms in place."""
        self._set_count(atoms, self.lattice.ions, self.lattice.n_vacant)
        self._set_count(atoms, self.lattice.redox, self.lattice.n_vacant)

    def neutralise(self, atoms: Atoms) -> None:
        """Make as many Ga as there are X, in place."""
        n_vacant = np.count_nonzero(atoms.symbols[self.lattice.ions] == "X")
        self._set_count(atoms, self.lattice.redox, n_vacant)

    def _set_count(self, atoms: Atoms, sites: Integers, n_second: int) -> None:
        own = self.lattice.numbers[sites]
        digits = np.full(len(sites), FOREIGN)
        here, digit = np.nonzero(own == atoms.numbers[sites, None])
        digits[here] = digit
        settled = settle(digits[None], n_second, self.rng)[0]
        numbers = atoms.numbers.copy()
        numbers[sites] = own[np.arange(len(sites)), settled]
        atoms.numbers = numbers


def settle(digits: Integers, n_second: int, rng: np.random.RandomState) -> Digits:
    """Return (n, n_sites) the digits 0 and 1 of one sublattice, with `n_second` ones in each row.

    As few sites as possible change: foreign symbols first, then random ones of what is too many.
    """
    reluctance = np.array([2.0, 0.0, 1.0])[digits] + rng.random_sample(digits.shape)
    order = reluctance.argsort(axis=1)
    settled = np.zeros(digits.shape, dtype=np.uint8)
    np.put_along_axis(settled, order[:, :n_second], 1, axis=1)
    return settled


class NaContentMutation(RandomCompositionMutation):
    """`RandomCompositionMutation` on the Na sites, as in the paper; then neutrality, then x."""

    def __init__(self, lattice: Lattice, repair: Repair, rng: np.random.RandomState) -> None:
        size = len(lattice.ions)
        super().__init__(
            element_pools=[["Na", "X"]],
            allowed_compositions=[(n, size - n) for n in range(1, size)],
            rng=rng,
        )
        self.ions = lattice.ions
        self.repair = repair

    def operate(self, atoms: Atoms) -> Atoms:
        """Return the atoms with a few sites changed on both sublattices."""
        ions = super().operate(atoms[self.ions])
        numbers = atoms.numbers.copy()
        numbers[self.ions] = ions.numbers
        atoms.numbers = numbers
        self.repair.neutralise(atoms)
        self.repair(atoms)
        return atoms


class SymmetricWalks(OffspringCreator):
    """What `SymmetrySlabPermutation` gives, without the part of its walk that cannot succeed."""

    def __init__(self, landscape: Landscape, lattice: Lattice, rng: np.random.RandomState) -> None:
        super().__init__(rng=rng)
        self.descriptor = "SymmetrySlabPermutation"
        self.landscape = landscape
        self.lattice = lattice
        self._ready: list[Digits] = []

    def get_new_individual(self, parents: list[Atoms]) -> tuple[Atoms, str]:
        """Return the end of one walk; only the parent's name is used."""
        if not self._ready:
            self._ready = list(self._walks(128))
        child = self.initialize_individual(parents[0], self.lattice.decorated(self._ready.pop()))
        child.info["key_value_pairs"]["atoms_string"] = "".join(child.symbols)
        child.info["data"]["parents"] = [parents[0].info["confid"]]
        return self.finalize_individual(child), self.descriptor

    def _walks(self, n_walks: int, max_tries: int = 50) -> Digits:
        """Return (n_walks, n_sites): walks that went on until their symmetry met the goal."""
        walks = _random_occupations(self.landscape, n_walks, self.rng)
        moving = np.arange(n_walks)
        for goal in range(int(self.landscape.space_groups.max()), 0, -1):
            for _ in range(max_tries):
                walks[moving] = self._step(walks[moving])
                reached = self.landscape.space_groups[self.landscape.rows(walks[moving])]
                moving = moving[reached < goal]
                if not len(moving):
                    return walks
        return walks

    def _step(self, walks: Digits) -> Digits:
        """Return the walks after two exchanges of unlike symbols, on any sites, and a repair."""
        rows, n_sites = np.arange(len(walks)), walks.shape[1]
        start = self.lattice.redox[0]
        symbols = walks + 2 * (np.arange(n_sites) >= start)  # 0 Na, 1 X, 2 Fe, 3 Ga
        for _ in range(2):
            one = self.rng.randint(n_sites, size=len(walks))
            chances = self.rng.random_sample(walks.shape)
            chances[symbols == symbols[rows, one][:, None]] = -1
            two = chances.argmax(axis=1)
            symbols[rows, one], symbols[rows, two] = symbols[rows, two], symbols[rows, one]
        ions = np.minimum(symbols[:, :start], FOREIGN)
        redox = np.where(symbols[:, start:] < 2, FOREIGN, symbols[:, start:] - 2)
        n_vacant = self.lattice.n_vacant
        settled = [settle(digits, n_vacant, self.rng) for digits in (ions, redox)]
        return np.concatenate(settled, axis=1)


class MemoryConnection:
    """The part of `DataConnection` that a population reads, with the best candidates only."""

    def __init__(self, n_best: int) -> None:
        self.n_best = n_best
        self.best: list[Atoms] = []

    def add_relaxed(self, candidates: list[Atoms]) -> None:
        """Take candidates whose raw scores are set; none equals an earlier one."""
        ranked = [*self.best, *candidates]
        ranked.sort(key=lambda a: a.info["key_value_pairs"]["raw_score"], reverse=True)
        self.best = ranked[: self.n_best]

    def get_all_relaxed_candidates(
        self, only_new: bool = False, use_extinct: bool = False
    ) -> list[Atoms]:
        """Return the best candidates, best first; the arguments are those of `ase_ga`."""
        del only_new, use_extinct
        return list(self.best)

    def get_participation_in_pairing(self) -> tuple[dict[int, int], list[tuple[int, int]]]:
        """Return nothing: rank fitness does not count how often a candidate was a parent."""
        return {}, []


class AseGaRun:
    """One run: candidates in the order in which they would be relaxed."""

    def __init__(self, landscape: Landscape, seed: int, population_size: int) -> None:
        self.landscape = landscape
        self.population_size = population_size
        self.rng = np.random.RandomState(seed)
        self.lattice = Lattice(landscape)
        self.connection = MemoryConnection(population_size)
        self.seen: set[str] = set()
        self.selector = self._selector()

    def _selector(self) -> OperationSelector:
        repair = Repair(self.lattice, self.rng)
        operators = [
            CutSpliceSlabCrossover(distribution_correction_function=repair, rng=self.rng),
            RandomSlabPermutation(distribution_correction_function=repair, rng=self.rng),
            NaContentMutation(self.lattice, repair, self.rng),
            SymmetricWalks(self.landscape, self.lattice, self.rng),
        ]
        return OperationSelector(WEIGHTS, operators, rng=self.rng)

    def evaluations(self) -> Iterator[int]:
        """Yield the landscape's row of each structure that is evaluated, exact repeats left out."""
        generation = []
        for occupation in _random_occupations(self.landscape, self.population_size, self.rng):
            candidate = self.lattice.decorated(occupation)
            candidate.info = {"key_value_pairs": {}, "data": {}}
            candidate.info["key_value_pairs"]["atoms_string"] = "".join(candidate.symbols)
            if self._is_new(candidate):
                generation.append(candidate)
                yield self._evaluate(candidate)
        population = self._first_population(generation)
        while generation:
            generation = []
            while len(generation) < self.population_size:
                child = self._new_child(population)
                if child is None:
                    return
                generation.append(child)
                yield self._evaluate(child)
            self.connection.add_relaxed(generation)
            population.update()

    def _first_population(self, candidates: list[Atoms]) -> RankFitnessPopulation:
        self.connection.add_relaxed(candidates)
        population = RankFitnessPopulation(
            self.connection,
            self.population_size,
            variable_function=lambda _: self.landscape.composition.formula,
            comparator=StringComparator("atoms_string"),
        )
        population.rng = self.rng
        population.update()
        return population

    def _new_child(self, population: RankFitnessPopulation) -> Atoms | None:
        for _ in range(STALLED):
            child, _ = self.selector.get_new_individual(list(population.get_two_candidates()))
            if self._is_new(child):
                return child
        return None

    def _is_new(self, candidate: Atoms) -> bool:
        text = candidate.info["key_value_pairs"]["atoms_string"]
        if text in self.seen:
            return False
        self.seen.add(text)
        return True

    def _evaluate(self, candidate: Atoms) -> int:
        row = int(self.landscape.rows(self.lattice.occupation(candidate)[None])[0])
        candidate.info["confid"] = candidate.info["relax_id"] = len(self.seen)
        set_raw_score(candidate, -float(self.landscape.energies[row]))
        return row


def _random_occupations(landscape: Landscape, n: int, rng: np.random.RandomState) -> Digits:
    """Return (n, n_sites) drawn evenly from all raw decorations."""
    (filling,) = landscape.host.fillings(landscape.composition)
    parts = []
    for counts in filling:
        order = rng.random_sample((n, sum(counts))).argsort(axis=1)
        parts.append(np.repeat(np.arange(len(counts), dtype=np.uint8), counts)[order])
    return np.concatenate(parts, axis=1)

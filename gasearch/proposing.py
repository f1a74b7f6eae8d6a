"""What to relax next: a pure function of the seed, the candidate's number and known results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gasearch.decoration import Decoration
from gasearch.errors import UsageError
from gasearch.host import Composition, Host
from gasearch.operator import WeightedOperator
from gasearch.population import Member, Population
from gasearch.seeding import candidate_rng
from gasearch.store.records import Outcome, Proposal

_ENUMERATE_UP_TO = 2_000_000  # raw decorations; a few seconds, once per composition


@dataclass(frozen=True)
class ProposalSettings:
    """How proposals are drawn.

    Parameters
    ----------
    initial
        Candidates drawn at random before operators take over.
    population
        Members that may become parents, per composition.
    max_draws
        Operator draws before a random decoration is taken instead.
    end_members
        Whether the two ends of the neutral range come first.
    """

    initial: int = 20
    population: int = 20
    max_draws: int = 50
    end_members: bool = True


@dataclass(frozen=True, eq=False)
class Proposed:
    """A decoration that nobody proposed before.

    Parameters
    ----------
    number
        Of the candidate, from 1.
    operator
        "end_member", "random", or the name of the operator.
    parents
        Numbers of the parents.
    n_rejected
        Draws that repeated a known decoration.
    generation
        1 + the largest generation of its parents; 0 without parents.
    """

    number: int
    decoration: Decoration
    operator: str
    parents: tuple[int, ...]
    n_rejected: int
    generation: int

    def as_record(self, known: int) -> Proposal:
        """Return it as the store keeps it, with the number of the last result that it used."""
        decoration = self.decoration
        return Proposal(
            number=self.number,
            occupation=decoration.occupation.tobytes(),
            fingerprint=decoration.fingerprint,
            orbit_size=decoration.orbit_size,
            composition=decoration.formula,
            x=decoration.x,
            operator=self.operator,
            parents=self.parents,
            known=known,
            n_rejected=self.n_rejected,
            generation=self.generation,
        )


@dataclass
class _Draws:
    """How many draws of one proposal repeated a known decoration."""

    rejected: int = 0


class Proposer:
    """The state that proposals follow from: fingerprints of all candidates, results known so far.

    Parameters
    ----------
    host, operators
        What is searched, and by which moves.
    seed
        Of the search; candidate k draws from `candidate_rng(seed, k)` alone.
    compositions
        Those to search.
    """

    def __init__(
        self,
        host: Host,
        operators: Sequence[WeightedOperator],
        seed: int,
        compositions: Sequence[Composition],
        settings: ProposalSettings | None = None,
    ) -> None:
        self._host = host
        self._seed = seed
        self.settings = settings or ProposalSettings()
        ends = (host.compositions[0], host.compositions[-1]) if self.settings.end_members else ()
        self._ends = tuple(dict.fromkeys(ends))
        self.compositions = tuple(sorted({*compositions, *self._ends}))
        self._operators = self._useful(operators)
        weights = np.array([operator.weight for operator in self._operators])
        self._bounds = np.cumsum(weights / weights.sum())
        self.population = Population(self.settings.population)
        self._composition_of = {c.formula: c for c in host.compositions}
        self._candidates: dict[int, tuple[bytes, int]] = {}
        self._seen: set[str] = set()
        self._n_seen: Counter[Composition] = Counter()
        self._all_fingerprints: dict[Composition, list[str]] = {}
        self.n_results = 0
        self.last_improvement = 0

    def _useful(self, operators: Sequence[WeightedOperator]) -> tuple[WeightedOperator, ...]:
        """Leave out operators that could only waste draws here."""
        one_x = len(self.compositions) == 1
        useful = tuple(
            operator
            for operator in operators
            if operator.applies_to(self._host) and not (one_x and operator.changes_x)
        )
        if not useful:
            names = ", ".join(operator.name for operator in operators)
            raise UsageError(f"none of the operators {names} can do anything in this search.")
        return useful

    def register(
        self, number: int, occupation: bytes, fingerprint: str, formula: str, generation: int
    ) -> None:
        """Make a candidate known: it is not proposed again. Without effect on the results.

        Parameters
        ----------
        formula
            Of the whole cell; it names the composition.
        """
        self._candidates[number] = (occupation, generation)
        self._seen.add(fingerprint)
        self._n_seen[self._composition_of[formula]] += 1

    def add_outcome(self, outcome: Outcome) -> None:
        """Make a result known; only those with verdict "ok" become parents."""
        self.n_results += 1
        if outcome.verdict != "ok":
            return
        occupation, _ = self._candidates[outcome.candidate]
        decoration = Decoration.from_bytes(self._host, occupation)
        if self.population.add(Member(outcome.energy, outcome.candidate, decoration)):
            self.last_improvement = self.n_results

    @property
    def open_compositions(self) -> list[Composition]:
        """Compositions with decorations that nobody proposed yet."""
        return [c for c in self.compositions if not self._is_exhausted(c)]

    def _is_exhausted(self, composition: Composition) -> bool:
        """Count exactly only where the plain lower bound, raw / operations, does not decide."""
        host, n_seen = self._host, self._n_seen[composition]
        if n_seen * len(host.permutations) < host.n_raw(composition):
            return False
        return n_seen >= host.n_distinct(composition)

    def is_stagnant(self, n_candidates: int) -> bool:
        """Return whether no niche minimum improved in the last `n_candidates` results; 0: never."""
        return 0 < n_candidates <= self.n_results - self.last_improvement

    def propose(self, number: int) -> Proposed | None:
        """Return candidate `number` and register it, or None: every decoration was proposed."""
        rng = candidate_rng(self._seed, number)
        open_compositions = self.open_compositions
        if not open_compositions:
            return None
        draws = _Draws()
        drawn = (
            self._end_member(number, rng)
            or self._offspring(number, open_compositions, rng, draws)
            or self._random(number, open_compositions, rng, draws)
        )
        decoration = drawn.decoration
        self.register(
            number,
            decoration.occupation.tobytes(),
            decoration.fingerprint,
            decoration.formula,
            drawn.generation,
        )
        return drawn

    def _end_member(self, number: int, rng: np.random.Generator) -> Proposed | None:
        if number > len(self._ends):
            return None
        decoration = Decoration.random(self._host, self._ends[number - 1], rng)
        return Proposed(number, decoration, "end_member", (), 0, 0)

    def _offspring(
        self,
        number: int,
        open_compositions: list[Composition],
        rng: np.random.Generator,
        draws: _Draws,
    ) -> Proposed | None:
        """Return an unseen child of known results, or None after too many draws."""
        if self.n_results < self.settings.initial + len(self._ends):
            return None
        niches = self._productive(open_compositions)
        for _ in range(self.settings.max_draws):
            place = int(np.searchsorted(self._bounds, rng.random(), side="right"))
            operator = self._operators[min(place, len(self._operators) - 1)]
            parents = self.population.parents(operator.operator.n_parents, niches, rng)
            if parents is None:
                continue
            child = operator([parent.decoration for parent in parents], rng)
            if child is None or child.composition not in self.compositions:
                continue
            if child.fingerprint not in self._seen:
                numbers = tuple(parent.number for parent in parents)
                generation = 1 + max(self._candidates[n][1] for n in numbers)
                return Proposed(number, child, operator.name, numbers, draws.rejected, generation)
            draws.rejected += 1
        return None

    def _productive(self, open_compositions: list[Composition]) -> list[Composition]:
        """Return the niches whose children may be new: open ones, and their neighbours in x."""
        counts = {c.n_working for c in open_compositions}
        return [
            c for c in self.compositions if counts & {c.n_working - 1, c.n_working, c.n_working + 1}
        ]

    def _random(
        self,
        number: int,
        open_compositions: list[Composition],
        rng: np.random.Generator,
        draws: _Draws,
    ) -> Proposed:
        composition = self._least_visited(open_compositions, rng)
        decoration = Decoration.random(self._host, composition, rng)
        last = draws.rejected + self.settings.max_draws
        while decoration.fingerprint in self._seen:
            draws.rejected += 1
            if draws.rejected < last:
                decoration = Decoration.random(self._host, composition, rng)
            else:
                decoration = self._unseen(composition, rng)
        return Proposed(number, decoration, "random", (), draws.rejected, 0)

    def _least_visited(
        self, open_compositions: list[Composition], rng: np.random.Generator
    ) -> Composition:
        """Return one of the compositions with the fewest candidates, so that none is left out."""
        fewest = min(self._n_seen[c] for c in open_compositions)
        visited_least = [c for c in open_compositions if self._n_seen[c] == fewest]
        return visited_least[int(rng.integers(len(visited_least)))]

    def _unseen(self, composition: Composition, rng: np.random.Generator) -> Decoration:
        """Return one of the decorations that are left; enumerates them where that is cheap."""
        if self._host.n_raw(composition) > _ENUMERATE_UP_TO:
            while True:  # most of so many are unseen: this ends soon
                decoration = Decoration.random(self._host, composition, rng)
                if decoration.fingerprint not in self._seen:
                    return decoration
        if composition not in self._all_fingerprints:
            self._all_fingerprints[composition] = self._host.fingerprints(composition)
        left = [f for f in self._all_fingerprints[composition] if f not in self._seen]
        fingerprint = left[int(rng.integers(len(left)))]
        return Decoration.from_fingerprint(self._host, fingerprint)

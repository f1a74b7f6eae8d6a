"""What to relax next: a pure function of the seed, the candidate's number and known results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition, Host
from gasearch.errors import UsageError
from gasearch.operators.contract import WeightedOperator
from gasearch.run.sections import ScreeningSection, SearchSection
from gasearch.search.history import SearchHistory
from gasearch.search.screening.acquisition import Acquisition, expected_improvement
from gasearch.search.screening.coulomb_starts import CoulombStarts
from gasearch.search.screening.enumerated import EnumeratedCompositions, covered, is_their_turn
from gasearch.search.screening.hull_neighbours import NEIGHBOUR, HullRefinement
from gasearch.search.screening.operator_rates import OperatorRates
from gasearch.search.screening.pool import Children, Choice
from gasearch.search.screening.screen import Screen
from gasearch.search.surrogate.fitting import SurrogateSchedule
from gasearch.seeding import candidate_rng
from gasearch.store.records import Outcome, Proposal

_ENUMERATE_UP_TO = 2_000_000  # raw decorations; a few seconds, once per composition
_DRAWS = 500  # before a composition that cannot be counted counts as exhausted


NO_SCREENING = ScreeningSection(surrogate=False, exact=False, refine=0.0, adaptive=False)
"""The plain search: operators and rank fitness alone."""


@dataclass(frozen=True)
class ProposalSettings:
    """How proposals are drawn; without arguments, those of the plain search.

    Parameters
    ----------
    coulomb
        Whether every other one of the initial candidates has the lowest Coulomb energy.
    end_members
        Whether the two ends of the neutral range come first.
    hull_aware
        Whether the energies make a hull, so that compositions far above it get less.
    """

    search: SearchSection = field(default_factory=SearchSection)
    screening: ScreeningSection = NO_SCREENING
    coulomb: bool = False
    end_members: bool = True
    hull_aware: bool = True


@dataclass
class _Draw:
    """One proposal while it is drawn.

    Parameters
    ----------
    among
        Compositions that it may belong to.
    n_rejected
        How many draws repeated a known decoration.
    """

    number: int
    budget: int
    rng: np.random.Generator
    among: list[Composition]
    n_rejected: int = 0

    @property
    def remaining(self) -> int:
        """Candidates that the budget has left, this one included."""
        return self.budget - self.number + 1


class Proposer:
    """The state that proposals follow from: all candidates, and the results known so far.

    Parameters
    ----------
    host, operators
        What is searched, and by which moves.
    compositions
        Those to search.
    settings
        With the seed of the search; candidate k draws from `candidate_rng(seed, k)` alone.
    seeds
        Occupations (n_sites,) to begin with, as bytes.
    acquisition
        Scores what the surrogate predicts.
    """

    def __init__(
        self,
        host: Host,
        operators: Sequence[WeightedOperator],
        compositions: Sequence[Composition],
        settings: ProposalSettings | None = None,
        seeds: Sequence[bytes] = (),
        acquisition: Acquisition = expected_improvement,
    ) -> None:
        self._host = host
        self.settings = settings or ProposalSettings()
        screening = self.settings.screening
        ends = (host.compositions[0], host.compositions[-1]) if self.settings.end_members else ()
        self._ends = tuple(dict.fromkeys(ends))
        self.compositions = tuple(sorted({*compositions, *self._ends}))
        self._seeds = tuple(Decoration.from_bytes(host, occupation) for occupation in seeds)
        self.history = SearchHistory(host, self.compositions, self.settings.search.population)
        self._rates = OperatorRates(self._useful(operators), adaptive=screening.adaptive)
        self._children = Children(self.history, self._rates.draw)
        self.schedule = SurrogateSchedule(self.history, screening)
        self._enumerated = EnumeratedCompositions(self.history)
        self._coulomb = CoulombStarts(self.history, self._enumerated)
        hull_aware = self.settings.hull_aware
        self._screen = Screen(
            self.history,
            self.schedule,
            self._enumerated,
            self._children,
            screening,
            acquisition,
            hull_aware=hull_aware,
        )
        self.hull_refinement = HullRefinement(
            self.history, self.schedule, screening, hull_aware=hull_aware
        )

    def _useful(self, operators: Sequence[WeightedOperator]) -> tuple[WeightedOperator, ...]:
        """Return the operators that can make a new child in this search."""
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

    @property
    def operator_rates(self) -> dict[str, float]:
        """Share of each operator that can do something here, by name."""
        return self._rates.rates

    def register(self, proposal: Proposal) -> None:
        """Make a candidate known: it is not proposed again. Without effect on the results."""
        if proposal.number is None:
            raise ValueError("only the numbered stream is proposed")
        self.schedule.begin(proposal.number)
        self.history.register(proposal)
        composition = self.history.composition_of(proposal.number)
        self._enumerated.close(composition, proposal.fingerprint)

    def add_outcome(self, outcome: Outcome) -> None:
        """Make a result known; only those with verdict "ok" become parents."""
        rank = self.history.add_outcome(outcome)
        self._rates.add(self.history.candidates[outcome.candidate].operator, rank)

    def is_stagnant(self, n_candidates: int) -> bool:
        """Return whether no niche minimum improved in the last `n_candidates` results; 0: never."""
        return 0 < n_candidates <= self.history.n_results - self.history.last_improvement

    def propose(self, number: int, budget: int = 0) -> Proposal | None:
        """Return candidate `number` and register it, or None: every decoration was proposed.

        Parameters
        ----------
        budget
            Candidates that the search may make in all; 0: as many as there are.
        """
        draw = self._begin(number, budget)
        if not draw.among:
            return None
        choice = self._start(draw) or self._searched(draw) or self._random(draw)
        return None if choice is None else self._registered(draw, choice)

    def propose_neighbour(self, number: int, budget: int = 0) -> Proposal | None:
        """Return a neighbour of what was found to be lowest; None where none may lie lower."""
        draw = self._begin(number, budget)
        choice = self.hull_refinement.draw()
        return None if choice is None else self._registered(draw, choice)

    def _begin(self, number: int, budget: int) -> _Draw:
        self.schedule.begin(number)
        rng = candidate_rng(self.settings.search.seed, number)
        return _Draw(number, budget, rng, self.history.open_compositions)

    def _start(self, draw: _Draw) -> Choice | None:
        """Return an end member, a seed, or one of the initial candidates."""
        n_ends = len(self._ends)
        if draw.number <= n_ends:
            decoration = Decoration.random(self._host, self._ends[draw.number - 1], draw.rng)
            if decoration.fingerprint not in self.history.seen:
                return Choice(decoration, "end_member")
        for decoration in self._seeds:
            if decoration.fingerprint not in self.history.seen:
                return Choice(decoration, "seed")
        if self.history.n_results >= self.settings.search.initial + n_ends + len(self._seeds):
            return None
        composition = self._least_visited(draw)
        if self.settings.coulomb and self.history.n_seen[composition] % 2 == 0:
            found = self._coulomb.lowest_unseen(composition, draw.rng)
            if found is not None:
                return Choice(found, "coulomb")
        return self._random(draw, composition)

    def _searched(self, draw: _Draw) -> Choice | None:
        screening = self.settings.screening
        to_finish = self._covered(draw)
        n_open = sum(to_finish.values())
        is_late = bool(draw.budget) and draw.remaining <= screening.refine * draw.budget
        if is_late and n_open < draw.remaining:
            neighbour = self.hull_refinement.draw()
            if neighbour is not None:
                return neighbour
        is_covered = bool(to_finish) and is_their_turn(n_open, draw.remaining, draw.rng)
        if is_covered:
            draw.among = sorted(to_finish)
        surrogate = self.schedule.surrogate if screening.surrogate else None
        is_screened = is_covered or draw.rng.random() >= screening.unscreened
        if surrogate is not None and is_screened:
            choice = self._screen.draw(surrogate, draw.among, draw.rng)
            if choice is not None:
                return choice
        return self._offspring(draw)

    def _covered(self, draw: _Draw) -> dict[Composition, int]:
        """Return the compositions that the budget covers, with what is open of each."""
        if not (draw.budget and self.settings.screening.exact):
            return {}
        return covered(self.history, draw.among, draw.remaining)

    def _offspring(self, draw: _Draw) -> Choice | None:
        """Return an unseen child of known results, or None after too many draws."""
        niches = self._productive(draw.among)
        for _ in range(self.settings.search.max_draws):
            child = self._children.draw(niches, draw.rng)
            if child is None or child.decoration.composition not in self.compositions:
                continue
            if child.decoration.fingerprint not in self.history.seen:
                return child
            draw.n_rejected += 1
        return None

    def _productive(self, open_compositions: Sequence[Composition]) -> list[Composition]:
        """Return the niches whose children may be new: open ones, and their neighbours in x."""
        counts = {c.n_working for c in open_compositions}
        return [
            c for c in self.compositions if counts & {c.n_working - 1, c.n_working, c.n_working + 1}
        ]

    def _random(self, draw: _Draw, composition: Composition | None = None) -> Choice | None:
        """Return a random unseen decoration; None where the last ones could not be found."""
        chosen = composition or self._least_visited(draw)
        decoration = Decoration.random(self._host, chosen, draw.rng)
        last = draw.n_rejected + self.settings.search.max_draws
        while decoration.fingerprint in self.history.seen:
            draw.n_rejected += 1
            if draw.n_rejected < last:
                decoration = Decoration.random(self._host, chosen, draw.rng)
                continue
            found = self._unseen(chosen, draw.rng)
            if found is None:
                draw.among = [c for c in draw.among if c != chosen]
                return self._random(draw) if draw.among else None
            decoration = found
        return Choice(decoration, "random")

    def _least_visited(self, draw: _Draw) -> Composition:
        """Return one of the compositions with the fewest candidates, so that none is left out."""
        n_seen = self.history.n_seen
        fewest = min(n_seen[c] for c in draw.among)
        visited_least = [c for c in draw.among if n_seen[c] == fewest]
        return visited_least[int(draw.rng.integers(len(visited_least)))]

    def _unseen(self, composition: Composition, rng: np.random.Generator) -> Decoration | None:
        """Return a decoration that was not proposed yet; enumerates them where that is cheap.

        None where many draws found none and nobody knows how many there are.
        """
        if composition in self._enumerated:
            listed = self._enumerated[composition]
            left = np.flatnonzero(listed.is_open)
            return Decoration(self._host, listed.occupations[left[int(rng.integers(len(left)))]])
        if not self._host.are_counted:
            drawn = (Decoration.random(self._host, composition, rng) for _ in range(_DRAWS))
            return next((d for d in drawn if d.fingerprint not in self.history.seen), None)
        if self._host.n_raw(composition) <= _ENUMERATE_UP_TO:
            texts = self._host.fingerprints(composition)
            unseen = [text for text in texts if text not in self.history.seen]
            return Decoration.from_fingerprint(self._host, unseen[int(rng.integers(len(unseen)))])
        while True:  # most of so many are unseen: this ends soon
            decoration = Decoration.random(self._host, composition, rng)
            if decoration.fingerprint not in self.history.seen:
                return decoration

    def _registered(self, draw: _Draw, choice: Choice) -> Proposal:
        """Return the record of what was chosen, with all that it follows from; it is known now."""
        parents = tuple(parent.number for parent in choice.parents)
        generations = [self.history.candidates[number].generation for number in parents]
        details = dict(choice.details)
        if parents and self.settings.screening.adaptive and choice.operator != NEIGHBOUR:
            details["rates"] = dict(self.operator_rates)
        proposal = Proposal.of(
            draw.number,
            choice.decoration,
            choice.operator,
            parents=parents,
            known=self.history.known,
            n_rejected=draw.n_rejected,
            generation=1 + max(generations) if generations else 0,
            budget=draw.budget,
            details=details,
        )
        self.register(proposal)
        return proposal

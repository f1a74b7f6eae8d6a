"""All candidates proposed so far, and the results that the next proposal may use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gasearch.analysis.hull import lower_hull
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition, Host
from gasearch.search.population import Member, Population
from gasearch.store.records import Outcome, Proposal


class SearchHistory:
    """Candidates and results of a search in their order, with counts by composition.

    Parameters
    ----------
    compositions
        Those that are searched, in ascending order.
    niche_size
        Members that may become parents, per composition.

    Attributes
    ----------
    candidates
        By number, in the order in which they were proposed; without the details of their choice.
    known
        The largest number that any known result has.
    ended
        Numbers of the candidates whose results are known, in the order of their release.
    valid
        Numbers and energies (eV/f.u.) of those with verdict "ok", in the same order.
    n_seen
        Candidates by composition.
    last_served
        Number of the last candidate at a composition.
    last_improvement
        How many results were known when a niche last got a new minimum.
    improved_at
        The same by composition.
    """

    def __init__(self, host: Host, compositions: Sequence[Composition], niche_size: int) -> None:
        self.host = host
        self.compositions = tuple(compositions)
        self.population = Population(niche_size)
        self.candidates: dict[int, Proposal] = {}
        self.known = 0
        self.seen: set[str] = set()
        self.n_seen: Counter[Composition] = Counter()
        self.last_served: dict[Composition, int] = {}
        self.ended: list[int] = []
        self.valid: list[tuple[int, float]] = []
        self.last_improvement = 0
        self.improved_at: dict[Composition, int] = {}
        self._by_formula = {c.formula: c for c in host.compositions}

    @property
    def n_results(self) -> int:
        """Results that are known."""
        return len(self.ended)

    def composition_of(self, number: int) -> Composition:
        """Return the composition of a candidate."""
        return self._by_formula[self.candidates[number].composition]

    def register(self, proposal: Proposal) -> None:
        """Make a candidate known: it is not proposed again. Without effect on the results."""
        if proposal.number is None:
            raise ValueError("only the numbered stream is proposed")
        self.candidates[proposal.number] = replace(proposal, details={})
        composition = self._by_formula[proposal.composition]
        self.seen.add(proposal.fingerprint)
        self.n_seen[composition] += 1
        self.last_served[composition] = proposal.number

    def add_outcome(self, outcome: Outcome) -> int | None:
        """Make a result known; return its rank in its niche, None without a place there.

        Only those with verdict "ok" count.
        """
        self.ended.append(outcome.candidate)
        self.known = max(self.known, outcome.result)
        if outcome.verdict != "ok":
            return None
        self.valid.append((outcome.candidate, outcome.energy / self.host.n_formula_units))
        occupation = self.candidates[outcome.candidate].occupation
        decoration = Decoration.from_bytes(self.host, occupation)
        rank = self.population.add(Member(outcome.energy, outcome.candidate, decoration))
        if rank == 0:
            self.last_improvement = self.n_results
            self.improved_at[self.composition_of(outcome.candidate)] = self.n_results
        return rank

    @property
    def open_compositions(self) -> list[Composition]:
        """Compositions with decorations that were not proposed yet."""
        return [c for c in self.compositions if self.open_up_to(c, 0) is None]

    def open_up_to(self, composition: Composition, most: int) -> int | None:
        """Return how many decorations were not proposed yet; None where they are more than `most`.

        Counts exactly only where the plain lower bound, raw / operations, does not decide. None
        too where the host cannot count them.
        """
        host, n_seen = self.host, self.n_seen[composition]
        if not host.are_counted:
            return None
        if host.n_raw(composition) > (n_seen + most) * len(host.permutations):
            return None
        n_open = host.n_distinct(composition) - n_seen
        return n_open if n_open <= most else None

    def lowest_per_fu(self, composition: Composition) -> float | None:
        """Return the lowest energy at a composition, in eV/f.u."""
        member = self.population.minimum(composition)
        return None if member is None else member.energy / self.host.n_formula_units

    def hull_per_fu(self) -> dict[Composition, float]:
        """Return the lower hull over the niches' minima at all compositions, in eV/f.u.

        Empty until both ends of the range have a result.
        """
        found = {c: self.lowest_per_fu(c) for c in self.compositions}
        points = {c: energy for c, energy in found.items() if energy is not None}
        ends = (self.host.compositions[0], self.host.compositions[-1])
        if any(end not in points for end in ends):
            return {}
        x, energy = lower_hull(
            np.array([c.x for c in points]), np.array(list(points.values()), dtype=float)
        )
        return {c: float(np.interp(c.x, x, energy)) for c in self.compositions}

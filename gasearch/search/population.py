"""Niches by composition, rank fitness, and the choice of parents; in memory, from results."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition

_RANK_DECAY = 0.85  # each rank is drawn this much less often than the one above it
_SAME_NICHE = 0.75  # share of second parents from the first one's niche


@dataclass(frozen=True, order=True)
class Member:
    """A candidate that may become a parent; lower energies come first.

    Parameters
    ----------
    energy
        Of the whole cell, in eV.
    number
        Of the candidate; it breaks ties.
    """

    energy: float
    number: int
    decoration: Decoration = field(compare=False)


class Population:
    """The best candidates of each composition.

    Fitness is the rank within a niche (the idea of `ase_ga.RankFitnessPopulation`), so no
    composition competes with another, and energies of different compositions are never compared.
    Its state depends on the set of results, not on their order.
    """

    def __init__(self, niche_size: int) -> None:
        self._size = niche_size
        self._niches: dict[Composition, list[Member]] = {}

    def add(self, member: Member) -> int | None:
        """Add a candidate and return its rank in its niche, None without a place. O(log n)."""
        niche = self._niches.setdefault(member.decoration.composition, [])
        place = bisect.bisect(niche, member)
        niche.insert(place, member)
        del niche[self._size :]
        return place if place < self._size else None

    def members(self, composition: Composition) -> tuple[Member, ...]:
        """Return the members at a composition, the lowest first."""
        return tuple(self._niches.get(composition, ()))

    def minimum(self, composition: Composition) -> Member | None:
        """Return the lowest member at a composition."""
        niche = self._niches.get(composition)
        return niche[0] if niche else None

    def compositions(self) -> list[Composition]:
        """Return the compositions that have members, in ascending order."""
        return sorted(self._niches)

    def parents(
        self, number: int, among: Sequence[Composition], rng: np.random.Generator
    ) -> tuple[Member, ...] | None:
        """Return parents, the first from an evenly drawn niche among some; None if there are none.

        A second parent comes from the same niche three times out of four, else from any niche.
        """
        open_niches = [c for c in among if c in self._niches]
        if not open_niches:
            return None
        first_niche = self._niches[open_niches[int(rng.integers(len(open_niches)))]]
        chosen = [_draw(first_niche, rng)]
        while len(chosen) < number:
            niche = first_niche
            if len(niche) <= len(chosen) or rng.random() > _SAME_NICHE:
                compositions = self.compositions()
                niche = self._niches[compositions[int(rng.integers(len(compositions)))]]
            others = [member for member in niche if member not in chosen]
            if not others:
                others = [m for n in self._niches.values() for m in n if m not in chosen]
            if not others:
                return None
            chosen.append(_draw(others, rng))
        return tuple(chosen)


def _draw(niche: Sequence[Member], rng: np.random.Generator) -> Member:
    """Return a member by roulette over exponential rank fitness, by inversion: no array built."""
    share = rng.random() * (1 - _RANK_DECAY ** len(niche))
    rank = int(np.log1p(-share) / np.log(_RANK_DECAY))
    return niche[min(rank, len(niche) - 1)]

"""The working-ion order alone: exchange of the occupants of working-ion sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gasearch.crystal.decoration import Decoration
from gasearch_operators.sites import child_of, refuse_no_swaps, site_tables, swap, swappable


@dataclass(frozen=True)
class NaVacancySwap:
    """Exchange the occupants of two working-ion sites: an ion and a vacancy, or two unlike ions.

    Parameters
    ----------
    n_swaps
        Exchanges per call, each of other sites; fewer where the sites run out.
    """

    n_swaps: int = 1
    n_parents: ClassVar[int] = 1
    default_weight: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        refuse_no_swaps(self.n_swaps)

    def __call__(
        self, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration | None:
        """Return the child, or None where all working-ion sites are alike."""
        (parent,) = parents
        host, occupation = parent.host, parent.occupation.copy()
        sites = site_tables(host).working
        for _ in range(self.n_swaps):
            pairs = swappable(host, occupation, sites)
            if not len(pairs):
                break
            pair = pairs[rng.integers(len(pairs))]
            swap(host, occupation, *pair)
            sites = np.setdiff1d(sites, pair)
        return child_of(parent, occupation)

"""Working-ion and charge order together: an ion moves, and its charge moves along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch_operators.charges import nearness_cost, pay, refuse_no_reach
from gasearch_operators.sites import (
    Digits,
    Integers,
    child_of,
    occupants,
    refuse_no_swaps,
    site_tables,
    swap,
    swappable,
)


@dataclass(frozen=True)
class CoupledSwap:
    """Move a working ion into a vacancy, and the electron that belongs to it along with it.

    A redox site near the place that the ion leaves is oxidised, one near its new place is reduced:
    each with probability proportional to exp(-distance / reach) among those that can.

    Parameters
    ----------
    n_swaps
        Moves per call, each of other sites; fewer where the sites run out.
    reach
        How sharply near redox sites are preferred, in Å.
    """

    n_swaps: int = 1
    reach: float = 1.0
    n_parents: ClassVar[int] = 1
    default_weight: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        refuse_no_swaps(self.n_swaps)
        refuse_no_reach(self.reach)

    def __call__(
        self, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration | None:
        """Return the child, or None where no ion or no charge can move."""
        (parent,) = parents
        host, occupation = parent.host, parent.occupation
        barred = np.zeros(host.n_sites, dtype=bool)
        for _ in range(self.n_swaps):
            trial, used = occupation.copy(), barred.copy()
            if not self._move(host, trial, used, rng):
                break
            occupation, barred = trial, used
        return child_of(parent, occupation)

    def _move(
        self, host: Host, occupation: Digits, barred: NDArray[np.bool_], rng: np.random.Generator
    ) -> bool:
        """Move one ion and its charge, in place; mark the sites as used; say if it could."""
        pairs = _charged_pairs(host, occupation, barred)
        if not len(pairs):
            return False
        pair = pairs[rng.integers(len(pairs))]
        before = host.charges[pair, occupation[pair]]
        swap(host, occupation, *pair)
        barred[pair] = True
        gained = host.charges[pair, occupation[pair]] - before
        return all(
            pay(host, occupation, -int(gain), rng, barred, self._cost(host, site))
            for site, gain in zip(pair, gained, strict=True)
        )

    def _cost(self, host: Host, site: int) -> NDArray[np.float64]:
        return nearness_cost(host, np.array([site]), self.reach)


def _charged_pairs(host: Host, occupation: Digits, barred: NDArray[np.bool_]) -> Integers:
    """Return (n, 2) working-ion sites that can exchange occupants of different charge."""
    tables = site_tables(host)
    pairs = swappable(host, occupation, tables.working[~barred[tables.working]])
    charges = tables.charges[occupants(host, occupation, pairs)]
    return np.asarray(pairs[charges[:, 0] != charges[:, 1]])

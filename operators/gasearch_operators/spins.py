"""Spin states of one ion change places, or one site changes its own; charges stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.errors import UsageError
from gasearch_operators.sites import Digits, Integers, child_of, site_tables, swap, swappable


@dataclass(frozen=True)
class SpinFlip:
    """Exchange the spin states of two sites of one ion, or give one site the other state.

    Fe2+ and "Fe2+ ls" change places, or one becomes the other. Oxidation states and elements stay
    where they are.

    Parameters
    ----------
    exchange
        Share of the calls in which two sites exchange their states, where any can.
    """

    exchange: float = 0.5
    n_parents: ClassVar[int] = 1
    default_weight: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.exchange <= 1:
            raise UsageError(f"exchange = {self.exchange}: expected a share from 0 to 1.")

    def applies_to(self, host: Host) -> bool:
        """Return whether any site of this host may hold an ion in several spin states."""
        return any(
            len({species.ion for species in s.species}) < len(s.species) for s in host.sublattices
        )

    def is_default(self, host: Host) -> bool:
        """Return whether a search that names no operators takes this one."""
        return self.applies_to(host)

    def __call__(
        self, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration | None:
        """Return the child, or None where no site has an ion with another spin state."""
        (parent,) = parents
        host, occupation = parent.host, parent.occupation.copy()
        if not self.applies_to(host):
            return None
        sites, digits = _flips(host, occupation)
        if not len(sites):
            return None
        pairs = _exchanges(host, occupation, np.unique(sites))
        if len(pairs) and rng.random() < self.exchange:
            swap(host, occupation, *pairs[rng.integers(len(pairs))])
        else:
            step = rng.integers(len(sites))
            occupation[sites[step]] = digits[step]
        return child_of(parent, occupation)


def _flips(host: Host, occupation: Digits) -> tuple[Integers, Integers]:
    """Return sites and digits (n,): each site with each other spin state of its ion."""
    rows = np.arange(host.n_sites)
    alike = np.arange(host.numbers.shape[1]) != occupation[:, None]
    for values in (host.numbers, host.charges):
        alike &= values == values[rows, occupation][:, None]
    sites, digits = np.nonzero(alike & (site_tables(host).species >= 0))
    return sites, digits


def _exchanges(host: Host, occupation: Digits, sites: Integers) -> Integers:
    """Return (n, 2) pairs of `sites` that hold one ion in two spin states, and may swap them."""
    pairs = swappable(host, occupation, sites)
    alike = np.ones(len(pairs), dtype=bool)
    for values in (host.numbers, host.charges):
        first, second = (values[column, occupation[column]] for column in pairs.T)
        alike &= first == second
    return np.asarray(pairs[alike])

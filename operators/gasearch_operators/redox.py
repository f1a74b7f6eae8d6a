"""The redox sites alone: oxidation states change places, or elements where they are free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.errors import UsageError
from gasearch_operators.charges import pay, redox_steps
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
class ChargeSwap:
    """Move charge between redox sites: Fe2+ and Fe3+ exchange, or Fe3+ + Mn2+ -> Fe2+ + Mn3+.

    Every element stays on its site. One site changes its oxidation state, any others pay for it.

    Parameters
    ----------
    n_swaps
        Moves per call, each of other sites; fewer where the sites run out.
    """

    n_swaps: int = 1
    n_parents: ClassVar[int] = 1
    default_weight: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        refuse_no_swaps(self.n_swaps)

    def __call__(
        self, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration | None:
        """Return the child, or None where no charge can move, as at both ends of x."""
        (parent,) = parents
        occupation = parent.occupation
        barred = np.zeros(len(occupation), dtype=bool)
        for _ in range(self.n_swaps):
            moved = _move_charge(parent.host, occupation, barred, rng)
            if moved is None:
                break
            occupation, barred = moved
        return child_of(parent, occupation)


@dataclass(frozen=True)
class RedoxElementSwap:
    """Exchange two elements that share sites freely, such as Fe and Mn.

    Each takes its charge along (Fe3+ and Mn2+ change places), or leaves it behind (Fe3+ here and
    Mn2+ there become Mn3+ here and Fe2+ there).

    Parameters
    ----------
    with_charge
        Share of the calls in which the charges move along, where both are possible.
    n_swaps
        Exchanges per call, each of other sites; fewer where the sites run out.
    """

    with_charge: float = 0.5
    n_swaps: int = 1
    n_parents: ClassVar[int] = 1
    default_weight: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        refuse_no_swaps(self.n_swaps)
        if not 0 <= self.with_charge <= 1:
            raise UsageError(f"with_charge = {self.with_charge}: expected a share from 0 to 1.")

    def applies_to(self, host: Host) -> bool:
        """Return whether any two elements share sites freely in this host."""
        return any(s.kind != "working_ion" and len(s.elements) > 1 for s in host.sublattices)

    def __call__(
        self, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration | None:
        """Return the child, or None where no elements may exchange places."""
        (parent,) = parents
        if not self.applies_to(parent.host):
            return None
        occupation = parent.occupation.copy()
        sites = site_tables(parent.host).redox
        for _ in range(self.n_swaps):
            pair = self._exchange(parent.host, occupation, sites, rng)
            sites = np.setdiff1d(sites, pair)
        return child_of(parent, occupation)

    def _exchange(
        self, host: Host, occupation: Digits, sites: Integers, rng: np.random.Generator
    ) -> Integers:
        """Exchange the elements of two sites, in place; return these sites, none if none can."""
        tables = site_tables(host)
        here = occupants(host, occupation, sites)
        carried = _species_pairs(host, occupation, sites)
        relabelled = _element_pairs(host, here, sites)
        along = rng.random() < self.with_charge
        pairs = carried if (along and len(carried)) or not len(relabelled) else relabelled
        if not len(pairs):
            return sites[:0]
        pair = pairs[rng.integers(len(pairs))]
        if pairs is carried:
            swap(host, occupation, *pair)
        else:
            one, other = occupants(host, occupation, pair)
            new = [tables.recharged[other, one], tables.recharged[one, other]]
            occupation[pair] = tables.digits[pair, new]
        return np.asarray(pair)


def _species_pairs(host: Host, occupation: Digits, sites: Integers) -> Integers:
    """Return (n, 2) sites of different elements whose occupants can change places."""
    pairs = swappable(host, occupation, sites)
    elements = site_tables(host).elements[occupants(host, occupation, pairs)]
    return np.asarray(pairs[elements[:, 0] != elements[:, 1]])


def _element_pairs(host: Host, here: Integers, sites: Integers) -> Integers:
    """Return (n, 2) sites whose elements can change places while the charges stay.

    Parameters
    ----------
    here
        (n_sites,) numbers of the species on `sites`.
    """
    tables = site_tables(host)
    new = tables.recharged[here[None, :], here[:, None]]  # [i, j]: element of j, charge of i
    fits = (new >= 0) & (tables.digits[sites[:, None], new] >= 0)
    unlike = tables.elements[here][:, None] != tables.elements[here]
    return np.asarray(sites[np.argwhere(np.triu(fits & fits.T & unlike))])


def _move_charge(
    host: Host, occupation: Digits, barred: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Digits, NDArray[np.bool_]] | None:
    """Return the occupation after one move and the sites that are used up, or None."""
    steps = redox_steps(host, occupation)
    usable = np.flatnonzero(~barred[steps.sites])
    if not (np.any(steps.charges[usable] > 0) and np.any(steps.charges[usable] < 0)):
        return None
    for step in rng.permutation(usable):
        trial, used = occupation.copy(), barred.copy()
        trial[steps.sites[step]] = steps.digits[step]
        used[steps.sites[step]] = True
        if pay(host, trial, -int(steps.charges[step]), rng, used):
            return trial, used
    return None

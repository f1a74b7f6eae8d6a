"""Composition: working ions come and go, and redox sites pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.repair import repair
from gasearch.errors import UsageError
from gasearch_operators.charges import nearness_cost, pay, refuse_no_reach
from gasearch_operators.sites import Digits, Integers, occupants, site_tables


@dataclass(frozen=True)
class InsertExtract:
    """Insert or extract one working ion: x goes to the next composition that can be neutral.

    Where one ion cannot be paid for, as with V3+/V5+ alone, as many as it takes. Redox sites pay,
    with probability proportional to exp(-distance / reach), or any of them alike.

    Parameters
    ----------
    random_payer
        Share of the calls in which any redox site may pay.
    reach
        How sharply near redox sites are preferred in the other calls, in Å.
    """

    random_payer: float = 0.25
    reach: float = 1.0
    n_parents: ClassVar[int] = 1
    changes_x: ClassVar[bool] = True
    default_weight: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        refuse_no_reach(self.reach)
        if not 0 <= self.random_payer <= 1:
            raise UsageError(f"random_payer = {self.random_payer}: expected a share from 0 to 1.")

    def __call__(
        self, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration | None:
        """Return the child, one composition up or down; None if the host has only one."""
        (parent,) = parents
        target = _neighbour(parent, rng)
        if target is None:
            return None
        occupation = parent.occupation.copy()
        moved = _move_ions(parent, occupation, target, rng)
        if moved is None:
            return repair(parent.host, occupation, target, rng)
        sites, charge = moved
        barred = np.zeros(len(occupation), dtype=bool)
        barred[sites] = True
        cost = self._cost(parent, sites, rng)
        paid = occupation.copy()
        if pay(parent.host, paid, -charge, rng, barred, cost):
            return Decoration(parent.host, paid)
        cost[sites] = np.inf
        return repair(parent.host, occupation, target, rng, cost - rng.gumbel(size=len(cost)))

    def _cost(
        self, parent: Decoration, sites: Integers, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        if rng.random() < self.random_payer:
            return np.zeros(parent.host.n_sites)
        return nearness_cost(parent.host, sites, self.reach)


def _neighbour(parent: Decoration, rng: np.random.Generator) -> Composition | None:
    """Return the next composition above or below, at random; the only one at an end."""
    compositions = parent.host.compositions
    place = compositions.index(parent.composition)
    places = [n for n in (place - 1, place + 1) if 0 <= n < len(compositions)]
    return compositions[places[rng.integers(len(places))]] if places else None


def _move_ions(
    parent: Decoration, occupation: Digits, target: Composition, rng: np.random.Generator
) -> tuple[Integers, int] | None:
    """Fill or empty working-ion sites, in place; return them and the charge that the cell gains.

    None, and nothing changed, where there is no room for so many ions.
    """
    tables, host = site_tables(parent.host), parent.host
    number = target.n_working - parent.composition.n_working
    out, put = (tables.vacancy, tables.ion) if number > 0 else (tables.ion, tables.vacancy)
    fitting = tables.working[tables.digits[tables.working, put] >= 0]
    holders = fitting[occupants(host, occupation, fitting) == out]
    if number > 0 and len(host.exclusions):
        sites = _with_room(host, occupation, holders, number, rng)
    else:
        enough = len(holders) >= abs(number)
        sites = rng.choice(holders, abs(number), replace=False) if enough else None
    if sites is None:
        return None
    occupation[sites] = tables.digits[sites, put]
    charge = int(tables.charges[put] - tables.charges[out]) if host.is_neutral else 0
    return sites, abs(number) * charge


def _with_room(
    host: Host, occupation: Digits, vacant: Integers, number: int, rng: np.random.Generator
) -> Integers | None:
    """Return (number,) vacant sites that can all be filled, or None where that did not come off."""
    filled, chosen = host.is_filled(occupation), []
    for _ in range(number):
        room = vacant[~np.any(host.excluded[vacant] & filled, axis=1) & ~filled[vacant]]
        if not len(room):
            return None
        chosen.append(int(rng.choice(room)))
        filled[chosen[-1]] = True
    return np.array(chosen, dtype=np.int64)

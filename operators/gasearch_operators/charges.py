"""Changes of oxidation state on redox sites: which are possible, and paying a charge with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.host import Host
from gasearch.errors import UsageError
from gasearch_operators.sites import Digits, Integers, site_tables


@dataclass(frozen=True, eq=False)
class RedoxSteps:
    """Every change of one redox site to another oxidation state of the same element.

    Parameters
    ----------
    sites, digits
        (n,) where, and the digit that the site would get.
    charges
        (n,) what it adds to the charge of the cell, in e.
    """

    sites: Integers
    digits: Integers
    charges: Integers


def redox_steps(host: Host, occupation: Digits) -> RedoxSteps:
    """Return all steps that an occupation (n_sites,) allows, in the order of the sites."""
    sites = site_tables(host).redox
    numbers, charges = host.numbers[sites], host.charges[sites]
    rows = np.arange(len(sites))
    change = charges - charges[rows, occupation[sites]][:, None]
    same = numbers == numbers[rows, occupation[sites]][:, None]
    exists = site_tables(host).species[sites] >= 0
    where, digits = np.nonzero(same & exists & (change != 0))
    return RedoxSteps(sites[where], digits, change[where, digits])


def pay(
    host: Host,
    occupation: Digits,
    charge: int,
    rng: np.random.Generator,
    barred: NDArray[np.bool_],
    cost: NDArray[np.float64] | None = None,
) -> bool:
    """Change oxidation states, in place, until the cell has gained `charge`; say if it could.

    Sites are drawn without replacement with probabilities proportional to exp(-cost), each is
    changed at most once, and `barred` (n_sites,), which lists the changed ones too, are left alone.

    Parameters
    ----------
    cost
        (n_sites,) all alike by default.
    """
    steps = redox_steps(host, occupation)
    useful = np.flatnonzero((steps.charges * np.sign(charge) > 0) & ~barred[steps.sites])
    price = -rng.gumbel(size=len(useful))  # the smallest of cost - Gumbel is drawn as exp(-cost)
    if cost is not None:
        price += cost[steps.sites[useful]]
    for step in useful[np.argsort(price)]:
        site, change = steps.sites[step], int(steps.charges[step])
        if abs(change) <= abs(charge) and not barred[site]:
            occupation[site] = steps.digits[step]
            barred[site] = True
            charge -= change
        if charge == 0:
            break
    return charge == 0


def nearness_cost(host: Host, sites: Integers, reach: float) -> NDArray[np.float64]:
    """Return (n_sites,) distance to the nearest of `sites` over `reach`, an Å: a cost for `pay`."""
    return np.asarray(host.distances[sites].min(axis=0) / reach)


def refuse_no_reach(reach: float) -> None:
    """Refuse a preference for near sites that is no length."""
    if not reach > 0:
        raise UsageError(f"reach = {reach}: expected a length above 0, in Å.")

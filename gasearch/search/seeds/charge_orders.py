"""The charge order of lowest Coulomb energy, where a structure does not say which one it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.host import Host
from gasearch.errors import DecorationError
from gasearch.search.surrogate.coulomb import CoulombEnergy, coulomb_energy
from gasearch.seeding import named_rng

ENUMERATE_UP_TO = 20_000
"""Charge orders of which all are tried; of more, the lowest that descents find."""
_STARTS = 8
_SAME = 1e-7  # eV/f.u.; energies closer than this differ by rounding

Digits = NDArray[np.uint8]


def lowest_charge_order(
    host: Host, choices: Sequence[Sequence[int]], enumerate_up_to: int = ENUMERATE_UP_TO
) -> Digits:
    """Return the neutral occupation (n_sites,) of lowest Coulomb energy; equal ones: the first.

    Parameters
    ----------
    choices
        Digits that each site may hold; what has one only stays as it is.
    """
    space = _ChargeOrders(host, choices)
    energy = coulomb_energy(host)
    if space.n_orders == 0:
        raise DecorationError(space.not_neutral())
    if space.n_orders <= enumerate_up_to:
        found = space.all_orders()
    else:
        found = np.array([space.descend(energy, start) for start in range(_STARTS)])
    energies = energy(found)
    lowest = found[energies < energies.min() + _SAME]
    return np.array(min(lowest.tolist()), dtype=np.uint8)


def n_charge_orders(host: Host, choices: Sequence[Sequence[int]]) -> int:
    """Return how many neutral occupations there are; `choices` as in `lowest_charge_order`."""
    return _ChargeOrders(host, choices).n_orders


class _ChargeOrders:
    """Every neutral way to choose one digit per site."""

    def __init__(self, host: Host, choices: Sequence[Sequence[int]]) -> None:
        self._host = host
        self._choices = [tuple(sorted(own)) for own in choices]
        self._charges = [[int(host.charges[n, d]) for d in own] for n, own in enumerate(choices)]
        self._completions = self._count()
        self.n_orders = self._completions[0].get(-host.framework_charge, 0)
        self._open = [n for n, own in enumerate(self._choices) if len(own) > 1]

    def _count(self) -> list[dict[int, int]]:
        """Return, by site, how often the sites from there on have which charge together."""
        tables = [{0: 1}]
        for charges in reversed(self._charges):
            table: dict[int, int] = {}
            for total, n in tables[-1].items():
                for charge in charges:
                    table[total + charge] = table.get(total + charge, 0) + n
            tables.append(table)
        return tables[::-1]

    def not_neutral(self) -> str:
        charges = [total + self._host.framework_charge for total in self._completions[0]]
        low, high = self._host.x_range
        return (
            f"no charge order makes it neutral (its charge would lie between {min(charges):+d} and "
            f"{max(charges):+d} e): its working ions must fill between {low:.4g} and {high:.4g} "
            "of their sites."
        )

    def _fitting(self, site: int, left: int) -> Iterator[tuple[int, int, int]]:
        """Yield (digit, charge left, ways to go on) of the digits that can still be neutral."""
        for digit, charge in zip(self._choices[site], self._charges[site], strict=True):
            ways = self._completions[site + 1].get(left - charge, 0)
            if ways:
                yield digit, left - charge, ways

    def all_orders(self) -> Digits:
        """Return (n_orders, n_sites), each order once."""
        rows: list[tuple[tuple[int, ...], int]] = [((), -self._host.framework_charge)]
        for site in range(self._host.n_sites):
            rows = [
                ((*row, digit), rest)
                for row, left in rows
                for digit, rest, _ in self._fitting(site, left)
            ]
        return np.array([row for row, _ in rows], dtype=np.uint8)

    def _random(self, rng: np.random.Generator) -> Digits:
        """Return (n_sites,) one of all orders, each as likely."""
        result, left = np.zeros(self._host.n_sites, dtype=np.uint8), -self._host.framework_charge
        for site in range(len(result)):
            fitting = list(self._fitting(site, left))
            total = sum(ways for *_, ways in fitting)
            share = np.array([ways / total for *_, ways in fitting])
            chosen = fitting[int(rng.choice(len(fitting), p=share))]
            result[site], left = chosen[0], chosen[1]
        return result

    def descend(self, energy: CoulombEnergy, start: int) -> Digits:
        """Return (n_sites,) where exchanges between two sites lead, from one of the fixed starts.

        No exchange of charge between any two sites lowers the energy of what is returned.
        """
        order = self._random(named_rng(start, "charge order"))
        lowest = float(energy(order[None])[0])
        improved = True
        while improved:
            improved = False
            for site in self._open:
                others = self._exchanges(order, site)
                if not len(others):
                    continue
                energies = energy(others)
                best = int(energies.argmin())
                if energies[best] < lowest - _SAME:
                    order, lowest, improved = others[best], float(energies[best]), True
        return order

    def _exchanges(self, order: Digits, site: int) -> Digits:
        """Return (n, n_sites) all orders in which a site has exchanged charge with one other."""
        charges = self._host.charges
        found = []
        for digit in self._choices[site]:
            gained = int(charges[site, digit] - charges[site, order[site]])
            if not gained:
                continue
            for other in self._open:
                wanted = int(charges[other, order[other]]) - gained
                for counter in self._choices[other]:
                    if other != site and charges[other, counter] == wanted:
                        moved = order.copy()
                        moved[[site, other]] = digit, counter
                        found.append(moved)
        return np.array(found, dtype=np.uint8).reshape(-1, len(order))

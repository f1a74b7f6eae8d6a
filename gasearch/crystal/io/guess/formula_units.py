"""Formula units: the smallest formulas in which all kinds of sites are whole numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from gasearch.crystal.species import formula_text

_LARGE = 3  # e; cations up to this come before redox elements where an anion moves
_WHOLE = 0.02  # atoms of a cell, by occupancies of two decimals


def formula_unit_of(
    shares: Sequence[Mapping[str, float]],
    first: Sequence[int],
    charges: Mapping[str, float],
    moving: tuple[str, Sequence[int], float] = ("", (), 0.0),
    kinds: Sequence[Sequence[str]] | None = None,
) -> str:
    """Return the smallest formula in which all kinds of sites are whole numbers.

    Mobile elements come first, then cations and anions by their charge. Elements that share sites
    have their shares: NaNi1/3Fe1/3Mn1/3O2.

    Parameters
    ----------
    shares
        Occupancies of every site of the cell.
    first
        The sites of the sublattices, in the order that their elements shall have.
    charges
        Of the framework's elements, in e.
    moving
        Element that moves, its sites, and its number in the cell at x = 1.
    kinds
        What is on each site; by default its elements.
    """
    element, working, n_moving = moving
    counts: dict[str, float] = {}
    groups = Counter[tuple[str, ...]]()
    pure = {n for n in working if len(shares[n]) == 1}
    for n in _in_order(first, len(shares)):
        for e, share in shares[n].items():
            if e == element and n in working:
                counts.setdefault(e, n_moving)
            else:
                counts[e] = counts.get(e, 0.0) + share
        if n not in pure:
            groups[tuple(kinds[n] if kinds else sorted(shares[n]))] += 1
    whole = [*groups.values()]
    if pure and abs(n_moving - round(n_moving)) < _WHOLE and round(n_moving):
        whole.append(round(n_moving))
    divisor = float(math.gcd(*whole))
    anions = [e for e in counts if charges.get(e, 0) < 0]
    is_shared = len(working) > len(pure)
    if is_shared and anions and counts[anions[0]] == divisor:
        divisor /= 2  # Li1.2Mn0.4Ti0.4O2
    mobile = list(dict.fromkeys(e for n in first for e in shares[n]))
    rest = sorted((e for e in counts if e not in mobile), key=lambda e: charges.get(e, 0))
    is_anion = charges.get(element, 0) < 0  # that moves: SrFeO3, not FeSrO3

    def place(e: str) -> int:
        charge = charges.get(e, 0)
        if charge < 0:
            return 3
        return 1 if e in mobile else 0 if is_anion and charge <= _LARGE else 2

    order = sorted([*mobile, *rest], key=place)
    return formula_text({e: counts[e] / divisor for e in order})


def _in_order(first: Sequence[int], n_sites: int) -> list[int]:
    return [*dict.fromkeys(first), *sorted(set(range(n_sites)).difference(first))]

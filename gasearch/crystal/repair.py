"""From any occupation to a valid one: neutral, legal, at a chosen composition, with few changes.

Crossovers and the operators of `ase_ga` make occupations with other counts of species.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.counting import Digits
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.species import VACANCY, Species

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
_JUMPS = 50  # of ions to neighbouring sites, before an arrangement is drawn instead


def repair(
    host: Host,
    occupation: Digits,
    composition: Composition,
    rng: np.random.Generator,
    reluctance: Floats | None = None,
) -> Decoration:
    """Return a decoration at a composition that differs from an occupation on the fewest sites.

    It takes the nearest species counts per sublattice that are valid at the composition; among
    equally near ones, and among the sites of a species that is too frequent, the least reluctant.

    Parameters
    ----------
    occupation
        (n_sites,) of any charge.
    reluctance
        (n_sites,) sites of low values are changed first; random by default. Infinite: only if
        nothing else will do.
    """
    if reluctance is None:
        reluctance = rng.random(host.n_sites)
    if len(host.exclusions):
        return _repaired_legally(host, occupation, composition, rng, reluctance)
    wanted = _nearest_filling(host, occupation, composition, reluctance)
    result = occupation.copy()
    for sublattice, counts in zip(host.sublattices, _split(host, wanted), strict=True):
        own = sublattice.slice
        result[own] = _refilled(sublattice.species, result[own], counts, reluctance[own], rng)
    return Decoration(host, result)


def nearest_composition(
    host: Host, occupation: Digits, choices: Sequence[Composition], rng: np.random.Generator
) -> Composition:
    """Return that of `choices` whose number of working ions is nearest; a random one of several."""
    here = host.n_working_in(occupation)
    distances = np.array([abs(c.n_working - here) for c in choices])
    nearest = np.flatnonzero(distances == distances.min())
    return choices[int(nearest[rng.integers(len(nearest))])]


@functools.lru_cache(maxsize=256)
def _fillings(host: Host, composition: Composition) -> Integers:
    """Return (n, total number of species) all valid species counts, sublattices joined."""
    table = np.array([np.concatenate(filling) for filling in host.fillings(composition)])
    table.setflags(write=False)
    return table


def _counts(host: Host, occupation: Digits) -> Integers:
    """Return (total number of species,) how many sites each holds, sublattices joined."""
    parts = [np.bincount(occupation[s.slice], minlength=len(s.species)) for s in host.sublattices]
    return np.concatenate(parts)


def _split(host: Host, counts: Integers) -> list[Integers]:
    return np.split(counts, np.cumsum([len(s.species) for s in host.sublattices])[:-1])


def _nearest_filling(
    host: Host, occupation: Digits, composition: Composition, reluctance: Floats
) -> Integers:
    """Return the species counts, sublattices joined, that the fewest and cheapest changes reach."""
    table = _fillings(host, composition)
    if len(table) == 1:
        return np.asarray(table[0])
    here = _counts(host, occupation)
    changes = np.abs(table - here).sum(axis=1)
    near = table[changes == changes.min()]
    if len(near) == 1:
        return np.asarray(near[0])
    surplus = np.maximum(here - near, 0)
    costs = np.zeros(len(near))
    column = 0
    for sublattice in host.sublattices:
        for digit in range(len(sublattice.species)):
            holders = occupation[sublattice.slice] == digit
            prices = np.sort(reluctance[sublattice.slice][holders])
            costs += np.concatenate([[0.0], np.cumsum(prices)])[surplus[:, column]]
            column += 1
    return np.asarray(near[costs.argmin()])


def _refilled(
    species: Sequence[Species],
    digits: Digits,
    counts: Integers,
    reluctance: Floats,
    rng: np.random.Generator,
) -> Digits:
    """Return the digits (n,) of a sublattice with as many of each species as `counts` says."""
    excess = np.bincount(digits, minlength=len(species)) - counts
    if not excess.any():
        return digits
    order = np.argsort(reluctance)
    released = [
        int(site)
        for d in np.flatnonzero(excess > 0)
        for site in order[digits[order] == d][: excess[d]]
    ]
    wanted = list(rng.permutation(np.repeat(np.arange(len(species)), np.maximum(-excess, 0))))
    result = digits.copy()
    for site in rng.permutation(released):
        element = species[digits[site]].element
        same = [n for n, d in enumerate(wanted) if species[d].element == element]
        result[site] = wanted.pop(same[0] if same else 0)
    return result


def _repaired_legally(
    host: Host,
    occupation: Digits,
    composition: Composition,
    rng: np.random.Generator,
    reluctance: Floats,
) -> Decoration:
    """Return a legal decoration near an occupation of a host whose sites exclude each other.

    Of two sites that exclude each other the less reluctant one is emptied. What the counts ask for
    goes where there is room; where there is none, an ion jumps to a neighbouring site to make some.
    """
    result = _without_conflicts(host, occupation, reluctance)
    wanted = _nearest_filling(host, result, composition, reluctance)
    for number, counts in enumerate(_split(host, wanted)):
        if not _refill_legally(host, result, number, counts, reluctance, rng):
            return Decoration.random(host, composition, rng)
    return Decoration(host, result)


def _without_conflicts(host: Host, occupation: Digits, reluctance: Floats) -> Digits:
    """Return an occupation in which no two sites exclude each other, some sites emptied."""
    result = occupation.copy()
    vacant = _vacant_digits(host)
    is_full = vacant < 0  # sites that cannot be empty stay as they are
    kept = np.zeros(host.n_sites, dtype=bool)
    for site in np.lexsort((-reluctance, ~is_full)):
        if host.fills[site, result[site]]:
            if np.any(host.excluded[site] & kept):
                result[site] = vacant[site]
            else:
                kept[site] = True
    return result


@functools.lru_cache(maxsize=16)
def _vacant_digits(host: Host) -> Integers:
    """Return (n_sites,) the digit of the vacancy on each site; -1 where there is none."""
    digits = [[s.species.index(VACANCY) if s.holds_vacancies else -1] * len(s)
              for s in host.sublattices]  # fmt: skip
    return np.concatenate([np.array(own, dtype=np.int64) for own in digits])


def _refill_legally(
    host: Host,
    result: Digits,
    number: int,
    counts: Integers,
    reluctance: Floats,
    rng: np.random.Generator,
) -> bool:
    """Give a sublattice so many of each species, in place; say if there was room."""
    sublattice = host.sublattices[number]
    own = np.arange(sublattice.start, sublattice.start + len(sublattice))
    if not sublattice.holds_vacancies:
        digits = _refilled(sublattice.species, result[own], counts, reluctance[own], rng)
        result[own] = digits
        return True
    vacant = sublattice.species.index(VACANCY)
    here = np.bincount(result[own], minlength=len(counts))
    order = own[np.argsort(reluctance[own])]
    for digit in np.flatnonzero((here > counts) & (np.arange(len(counts)) != vacant)):
        released = order[result[order] == digit][: here[digit] - counts[digit]]
        result[released] = vacant
    missing = np.maximum(counts - here, 0)
    missing[vacant] = 0
    for digit in rng.permutation(np.repeat(np.arange(len(counts)), missing)):
        site = _site_with_room(host, result, order, vacant, rng)
        if site is None:
            return False
        result[site] = digit
    return True


def _site_with_room(
    host: Host, result: Digits, order: Integers, vacant: int, rng: np.random.Generator
) -> int | None:
    """Return a vacant site that may be filled, the least reluctant; ions jump to make room."""
    for _ in range(_JUMPS):
        empty = order[result[order] == vacant]
        room = host.room(result)[empty]
        if room.any():
            return int(empty[room.argmax()])
        jumps = [
            (site, int(near[0]))
            for site in empty.tolist()
            if len(near := np.flatnonzero(host.excluded[site] & host.is_filled(result))) == 1
            and host.sublattices[_owner(host, int(near[0]))] is host.sublattices[_owner(host, site)]
        ]
        if not jumps:
            return None
        site, ion = jumps[int(rng.integers(len(jumps)))]
        result[site], result[ion] = result[ion], vacant
    return None


def _owner(host: Host, site: int) -> int:
    return next(n for n, s in enumerate(host.sublattices) if site < s.start + len(s))

"""From any occupation to a valid one: neutral, at a chosen composition, with few changes.

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
from gasearch.crystal.species import Species

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


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
    own = [s.slice for s in host.sublattices if s.kind == "working_ion"]
    here = sum(np.count_nonzero(occupation[part] == 0) for part in own)  # the first species there
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

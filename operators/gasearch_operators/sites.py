"""Which species fit on which site of a host, and the exchange of two occupants."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.species import VACANCY, Species
from gasearch.errors import UsageError

Digits = NDArray[np.uint8]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SiteTables:
    """Facts of a host in the form that operators need; all arrays read-only.

    Parameters
    ----------
    species
        (n_sites, width) number of the species that a digit means; -1 where there is no such digit.
    digits
        (n_sites, n_species) the inverse: digit of a species; -1 where it does not fit.
    charges
        (n_species,) in e.
    elements
        (n_species,) atomic numbers, 0 for the vacancy.
    recharged
        (n_species, n_species) the species with the element of the first and the charge of the
        second; -1 where the host knows none.
    sublattices
        (n_sites,) number of the sublattice of each site.
    working, redox
        (n,) sites whose occupants change places with vacancies, and all but those of working ions;
        mixed sites may be both.
    ion, vacancy
        Numbers of the species that come and go where x changes; -1 where the host has none.
    """

    species: Integers
    digits: Integers
    charges: Integers
    elements: Integers
    recharged: Integers
    sublattices: Integers
    working: Integers
    redox: Integers
    ion: int
    vacancy: int


@functools.lru_cache(maxsize=16)
def site_tables(host: Host) -> SiteTables:
    """Return the tables of a host; made once."""
    known = sorted({species for sublattice in host.sublattices for species in sublattice.species})
    species = np.full(host.charges.shape, -1, dtype=np.int64)
    digits = np.full((host.n_sites, len(known)), -1, dtype=np.int64)
    for sublattice in host.sublattices:
        for digit, own in enumerate(sublattice.species):
            species[sublattice.slice, digit] = known.index(own)
            digits[sublattice.slice, known.index(own)] = digit
    numbers = np.repeat(np.arange(len(host.sublattices)), [len(s) for s in host.sublattices])
    works = np.array([s.holds_vacancies or bool(s.moving) for s in host.sublattices])[numbers]
    is_ion = np.array([s.kind == "working_ion" for s in host.sublattices])[numbers]
    tables = SiteTables(
        species=species,
        digits=digits,
        charges=np.array([s.charge for s in known]),
        elements=np.array([s.number for s in known]),
        recharged=_recharged(known),
        sublattices=numbers,
        working=np.flatnonzero(works),
        redox=np.flatnonzero(~is_ion),
        ion=known.index(host.working_species[0]) if host.working_species else -1,
        vacancy=known.index(VACANCY) if VACANCY in known else -1,
    )
    for value in vars(tables).values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return tables


def _recharged(known: Sequence[Species]) -> Integers:
    """Return the table: in the same spin state where there is one, else in the first."""
    exact = {(s.element, s.charge, s.spin): n for n, s in enumerate(known)}
    first = {(s.element, s.charge): n for n, s in reversed(list(enumerate(known)))}
    table = [
        [
            exact.get((*ion, a.spin), first.get(ion, -1))
            for b in known
            for ion in [(a.element, b.charge)]
        ]
        for a in known
    ]
    return np.array(table, dtype=np.int64)


def occupants(host: Host, occupation: Digits, sites: Integers) -> Integers:
    """Return (n,) the numbers of the species on some sites."""
    return np.asarray(site_tables(host).species[sites, occupation[sites]])


def swappable(host: Host, occupation: Digits, sites: Integers) -> Integers:
    """Return (n, 2) all pairs of `sites` whose occupants differ and fit on each other's site.

    Exchanges after which two sites would exclude each other are left out.
    """
    here = occupants(host, occupation, sites)
    fits = site_tables(host).digits[sites][:, here] >= 0  # [i, j]: what sits on j fits on i
    possible = fits & fits.T & (here[:, None] != here)
    if len(host.exclusions):
        possible &= _stays_legal(host, occupation, sites)
    return np.asarray(sites[np.argwhere(np.triu(possible))])


def _stays_legal(host: Host, occupation: Digits, sites: Integers) -> NDArray[np.bool_]:
    """Return (n, n) whether two sites may exchange an atom and a vacancy, or two atoms."""
    filled = host.is_filled(occupation)
    near = np.count_nonzero(host.excluded[sites] & filled, axis=1)
    here = filled[sites]
    pairs = host.excluded[np.ix_(sites, sites)]
    fits = near[None, :] - (pairs & here[:, None]) == 0  # [i, j]: what sits on i has room on j
    return np.asarray((~here[:, None] | here | fits) & (here[:, None] | ~here | fits.T))


def swap(host: Host, occupation: Digits, first: int, second: int) -> None:
    """Exchange the occupants of two sites, in place."""
    tables = site_tables(host)
    one = tables.species[first, occupation[first]]
    other = tables.species[second, occupation[second]]
    occupation[first] = tables.digits[first, other]
    occupation[second] = tables.digits[second, one]


def child_of(parent: Decoration, occupation: Digits) -> Decoration | None:
    """Return the decoration of an occupation, or None where it is the parent's."""
    if np.array_equal(occupation, parent.occupation):
        return None
    return Decoration(parent.host, occupation)


def refuse_no_swaps(n_swaps: int) -> None:
    """Refuse a setting that would change nothing."""
    if n_swaps < 1:
        raise UsageError(f"n_swaps = {n_swaps}: a swap operator makes at least one.")

"""Where a host's working ions belong, and which of them left for elsewhere in a relaxation.

Positions count relative to the framework: the strain of the cell and a rigid drift are taken out.
No torch here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gasearch.crystal.host import Host

_REACH = 1 / 3  # of the distance to the nearest other site
_MOST_NAMED = 3  # moves that a reason names


@dataclass(frozen=True, eq=False)
class WorkingSites:
    """The working-ion sites of a host, as the audit of a relaxed structure needs them.

    An ion is on a site while it is nearer to it than a third of the distance from there to the
    nearest other working-ion site (1.04 Å in olivine NaFePO4), so that none is on two. Measured:
    0.23 Å at most in the 247 DFT frames of `data/nafepo4-pbeu`; below 0.7 Å in 60 random
    decorations of 1x2x1 relaxed with `chgnet-nafepo4`; with `pmmcs`, whose Na hop, 467 of 586 ions
    are below 0.7 Å, 38 from there to 1.4 Å, 33 to 1.7 Å, halfway to the next site, and 48 beyond.

    Parameters
    ----------
    scaled
        (n_host_atoms, 3) fractional coordinates of the host with all sites filled.
    is_working
        (n_host_atoms,) which of them are working-ion sites.
    numbers
        Atomic numbers that these may hold.
    is_shared
        Whether other sites hold such elements too.
    places
        (n_working,) numbers of the sites in occupations, for people.
    reach
        (n_working,) how far from its site an ion may be, in Å.
    reduced
        (3, 3) whole numbers that make the cell Minkowski-reduced.
    """

    scaled: NDArray[np.float64]
    is_working: NDArray[np.bool_]
    numbers: frozenset[int]
    is_shared: bool
    places: NDArray[np.int64]
    reach: NDArray[np.float64]
    reduced: NDArray[np.int64]

    @classmethod
    def of(cls, host: Host) -> WorkingSites:
        """Return the sites of a host."""
        is_working = np.zeros(len(host.atoms), dtype=bool)
        is_working[host.sites] = host.may_be_vacant
        place_of = np.full(len(host.atoms), -1)
        place_of[host.sites] = np.arange(host.n_sites)
        places = place_of[is_working]
        numbers = frozenset(host.numbers[places].ravel().tolist()) - {0}
        others = {*host.atoms.numbers[~is_working].tolist()}
        others |= {*np.delete(host.numbers, places, axis=0).ravel().tolist()}
        reduced_cell, operation = minkowski_reduce(host.atoms.cell.array)
        scaled = host.atoms.get_scaled_positions()
        inverse = np.linalg.inv(operation)
        spacing = _spacing(scaled[is_working] @ inverse, np.asarray(reduced_cell))
        return cls(
            scaled=scaled,
            is_working=is_working,
            numbers=numbers,
            is_shared=bool(numbers & others),
            places=places,
            reach=_REACH * spacing,
            reduced=np.asarray(operation),
        )

    def moved(self, start: Atoms, final: Atoms) -> str:
        """Return which working ions left their sites, and for where, in a few words, or "".

        Ions of one species are interchangeable: where two change places nothing has moved.

        Parameters
        ----------
        start, final
            The same atoms in the host's order, vacancies left out.
        """
        ions = self.ions(start)
        if not len(ions):
            return ""
        rows = np.arange(len(ions))
        own = self.distances(start, ions).argmin(axis=1)
        distances = self.distances(final, ions)
        shifts = distances[rows, own]
        if (shifts <= self.reach[own]).all():
            return ""
        now = distances.argmin(axis=1)
        is_on_site = distances[rows, now] <= self.reach[now]
        if is_on_site.all() and _filled(start, ions, own) == _filled(start, ions, now):
            return ""
        away = np.flatnonzero(~is_on_site | (now != own))
        named = [
            f"{start.symbols[ions[n]]} {ions[n]} moved {shifts[n]:.2f} Å from site "
            f"{self.places[own[n]]} and is {self._whereabouts(now[n], is_on_site[n], own)}"
            for n in away[:_MOST_NAMED]
        ]
        more = len(away) - _MOST_NAMED
        return "; ".join(named) + (f" and {more} more" if more > 0 else "")

    def _whereabouts(self, site: int, is_on_site: bool, filled: NDArray[np.int64]) -> str:
        if not is_on_site:
            return "on no site"
        return f"on {'' if site in filled else 'the empty '}site {self.places[site]}"

    def ions(self, start: Atoms) -> NDArray[np.int64]:
        """Return the indices of the atoms on working-ion sites."""
        ions = np.flatnonzero(np.isin(start.numbers, list(self.numbers)))
        if not self.is_shared:
            return ions
        vectors = self._vectors(start, ions, self.scaled, np.zeros(3))
        sites = np.linalg.norm(vectors, axis=2).argmin(axis=1)
        return np.asarray(ions[self.is_working[sites]])

    def distances(self, atoms: Atoms, ions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (n_ions, n_working) distances in Å, the drift of the framework taken out."""
        framework = np.delete(atoms.get_scaled_positions(wrap=False), ions, axis=0)
        drift = _mean_shift(framework - self.scaled[~self.is_working])
        vectors = self._vectors(atoms, ions, self.scaled[self.is_working], drift)
        return np.asarray(np.linalg.norm(vectors, axis=2))

    def _vectors(
        self,
        atoms: Atoms,
        ions: NDArray[np.int64],
        sites: NDArray[np.float64],
        drift: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return (n_ions, n_sites, 3) vectors from sites to ions, in Å in the structure's cell."""
        scaled = atoms.get_scaled_positions(wrap=False)[ions] - drift
        between = (scaled[:, None] - sites[None]) @ np.linalg.inv(self.reduced)
        cell = self.reduced @ atoms.cell.array
        return np.asarray((between - np.round(between)) @ cell)


def _filled(
    atoms: Atoms, ions: NDArray[np.int64], sites: NDArray[np.int64]
) -> list[tuple[int, int, float]]:
    """Return which species is on which site."""
    charges = atoms.get_initial_charges()
    rows = zip(sites.tolist(), atoms.numbers[ions].tolist(), charges[ions].tolist(), strict=True)
    return sorted(rows)


def _mean_shift(between: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean (3,) of fractional differences (n, 3) that are known but for whole cells."""
    if not len(between):
        return np.zeros(3)
    rough = np.angle(np.exp(2j * np.pi * between).mean(axis=0)) / (2 * np.pi)
    rest = between - rough
    return np.asarray(rough + (rest - np.round(rest)).mean(axis=0))


def _spacing(sites: NDArray[np.float64], cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n,) distances in Å from each site to the nearest other one, images included."""
    if not len(sites):
        return np.zeros(0)
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3)), dtype=float)
    between = sites[None] - sites[:, None]
    between -= np.round(between)
    vectors = (between[:, :, None] + images) @ cell
    distances = np.linalg.norm(vectors, axis=3)
    distances[distances < 1e-6] = np.inf
    return np.asarray(distances.min(axis=(1, 2)))

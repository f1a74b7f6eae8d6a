"""Coulomb interactions between the sites of a repeated unit cell, in any number of repeats.

A matrix over all sites of a large cell would be too large, and slow to compute: the interactions
are a table by the two sites of the unit cell and the cell between them, found by a Fourier
transform over the wave vectors that the large cell allows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import erfc

from gasearch.phases.energies.lattice import Floats, Lattice
from gasearch.search.surrogate.coulomb import COULOMB, charged_sites

_CUTOFF, _REACH = 12.0, 5.2  # Å; terms left out of both sums weigh exp(-reach^2) = 2e-12


def ewald_table(lattice: Lattice, repeats: Sequence[int]) -> Floats:
    """Return (n_sites, n_sites, A, B, C) in eV/e^2: the energy of unit charges at two sites.

    Entry [a, b, i, j, k] is of site a in cell 0 and site b in cell (i, j, k), with all periodic
    images of the large cell, as `ewald_matrix` has it for the sites of that cell.
    """
    sharpness = _REACH / _CUTOFF
    cell = np.diag(repeats) @ lattice.cell
    table = _real_space(lattice, repeats, sharpness)
    table += _reciprocal_space(lattice, repeats, sharpness)
    table -= np.pi / (sharpness**2 * abs(np.linalg.det(cell)))
    sites = np.arange(lattice.n_sites)
    table[sites, sites, 0, 0, 0] -= 2 * sharpness / np.sqrt(np.pi)
    return np.asarray(COULOMB * table)


def _real_space(lattice: Lattice, repeats: Sequence[int], sharpness: float) -> Floats:
    a, b, cells, distance = lattice.neighbours(_CUTOFF)
    table = np.zeros((lattice.n_sites, lattice.n_sites, *repeats))
    where = (a, b, *(cells % np.asarray(repeats)).T)
    np.add.at(table, where, erfc(sharpness * distance) / distance)
    return table


def _reciprocal_space(lattice: Lattice, repeats: Sequence[int], sharpness: float) -> Floats:
    basis = 2 * np.pi * np.linalg.inv(lattice.cell).T
    longest = 2 * sharpness * _REACH
    heights = 1 / np.linalg.norm(np.linalg.inv(basis), axis=0)
    ranges = [np.arange(-n, n + 1) for n in np.ceil(longest / heights).astype(int) + 1]
    waves = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    apart = lattice.positions[None] - lattice.positions[:, None]
    found = np.zeros((lattice.n_sites, lattice.n_sites, *repeats), dtype=complex)
    for place in np.ndindex(*repeats):
        k = (waves + np.array(place) / np.asarray(repeats)) @ basis
        squares = (k**2).sum(axis=1)
        inside = (squares > 1e-12) & (squares <= longest**2)
        k, squares = k[inside], squares[inside]
        weights = np.exp(-squares / (4 * sharpness**2)) / squares
        found[(..., *place)] = np.exp(1j * (apart @ k.T)) @ weights
    volume = abs(np.linalg.det(lattice.cell))
    return np.asarray(4 * np.pi / volume * np.fft.ifftn(found, axes=(2, 3, 4)).real)


class FormalCharges:
    """The Coulomb energy of formal charges on a lattice, as interactions of spins.

    Attributes
    ----------
    fields
        (n_sites,) in eV, of a spin +1 with everything but the other spins.
    constant
        In eV per unit cell: what does not depend on spins, but for pairs.
    """

    def __init__(self, lattice: Lattice) -> None:
        among, across, frame_alone = charged_sites(lattice.host)
        middle, contrast = lattice.middle, lattice.contrast
        self.lattice = lattice
        self.fields: Floats = contrast * (across + among @ middle)
        self.constant = frame_alone + float(middle @ across + middle @ among @ middle / 2)

    def pairs(self, repeats: Sequence[int]) -> Floats:
        """Return (n_sites, n_sites, A, B, C) in eV, of two spins +1; a pair counts once."""
        contrast = self.lattice.contrast
        table = ewald_table(self.lattice, repeats)
        return table * np.outer(contrast, contrast)[:, :, None, None, None]

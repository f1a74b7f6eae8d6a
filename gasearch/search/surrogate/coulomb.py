"""Coulomb energies of decorations on the undistorted host, by an Ewald matrix, in plain numpy.

The potentials have an Ewald sum of their own, for batches of structures and on any device.
"""

from __future__ import annotations

import functools

import numpy as np
from ase.units import Bohr, Hartree
from numpy.typing import NDArray

from gasearch.crystal.host import Host

Floats = NDArray[np.float64]

COULOMB = Hartree * Bohr
"""e^2/(4 pi epsilon_0), in eV Å."""


class CoulombEnergy:
    """Coulomb energy of formal charges on the host's sites, framework included.

    Parameters
    ----------
    host
        Undistorted; relaxation screens what this gives, so it ranks and does not predict.
    """

    def __init__(self, host: Host) -> None:
        among, self._field, self._constant = charged_sites(host)
        self._half_pairs = among / 2
        self._charges = host.charges.astype(float)
        self._sites = np.arange(host.n_sites)
        self._n_formula_units = host.n_formula_units

    def __call__(self, occupations: NDArray[np.uint8]) -> Floats:
        """Return (n,) energies in eV/f.u. of occupations (n, n_sites).

        To the last bit the same for a decoration alone and among others: one product for each, as
        a product of matrices does not promise that.
        """
        charges = np.ascontiguousarray(self._charges[self._sites, occupations])
        felt = np.matmul(charges[:, None, :], self._half_pairs)[:, 0] + self._field
        total = (charges * felt).sum(axis=1) + self._constant
        return np.asarray(total / self._n_formula_units)


def charged_sites(host: Host) -> tuple[Floats, Floats, float]:
    """Return what the Coulomb energy of any charges on the sublattice sites is made of.

    (n_sites, n_sites) interactions of unit charges in eV/e^2, (n_sites,) what one feels of the
    framework in eV/e, and the energy of the framework alone in eV.
    """
    matrix = ewald_matrix(host.atoms.cell.array, host.atoms.positions)
    own, frame = host.sites, host.framework_sites
    fixed = np.array([species.charge for species in host.framework], dtype=float)
    alone = float(fixed @ matrix[np.ix_(frame, frame)] @ fixed / 2)
    return matrix[np.ix_(own, own)], matrix[np.ix_(own, frame)] @ fixed, alone


@functools.lru_cache(maxsize=16)
def coulomb_energy(host: Host) -> CoulombEnergy:
    """Return the Coulomb energy of a host; its matrix is computed once."""
    return CoulombEnergy(host)


def ewald_matrix(
    cell: Floats, positions: Floats, cutoff: float = 12.0, reach: float = 5.2
) -> Floats:
    """Return (n, n) in eV/e^2: `q @ matrix @ q / 2` is the Coulomb energy per cell of charges q.

    The diagonal holds what a charge feels of its own images. Charged cells get a uniform
    background; there is no surface term (tin foil).

    Parameters
    ----------
    cell
        (3, 3), rows are lattice vectors, in Å.
    positions
        (n, 3), Cartesian, in Å.
    cutoff
        Where the sum in real space ends, in Å.
    reach
        The terms left out of both sums weigh exp(-reach^2): 2e-12 for 5.2.
    """
    sharpness = reach / cutoff
    volume = abs(np.linalg.det(cell))
    matrix = _real_space(cell, positions, sharpness, cutoff)
    matrix += _reciprocal_space(cell, positions, sharpness, 2 * sharpness * reach)
    matrix -= np.pi / (sharpness**2 * volume)
    matrix[np.diag_indices_from(matrix)] -= 2 * sharpness / np.sqrt(np.pi)
    return COULOMB * matrix


def _real_space(cell: Floats, positions: Floats, sharpness: float, cutoff: float) -> Floats:
    from scipy.special import erfc

    difference = positions[None, :, :] - positions[:, None, :]
    longest = cutoff + float(np.linalg.norm(difference, axis=2).max())
    total = np.zeros(difference.shape[:2])
    for shift in _points_within(cell, longest):
        distance = np.linalg.norm(difference + shift, axis=2)
        inside = (distance > 1e-9) & (distance < cutoff)
        total[inside] += erfc(sharpness * distance[inside]) / distance[inside]
    return total


def _reciprocal_space(cell: Floats, positions: Floats, sharpness: float, longest: float) -> Floats:
    waves = _points_within(np.asarray(2 * np.pi * np.linalg.inv(cell).T), longest)
    squares = (waves**2).sum(axis=1)
    waves, squares = waves[squares > 1e-12], squares[squares > 1e-12]
    weights = 4 * np.pi / abs(np.linalg.det(cell)) * np.exp(-squares / (4 * sharpness**2)) / squares
    phases = positions @ waves.T
    cosines, sines = np.cos(phases), np.sin(phases)
    total: Floats = (cosines * weights) @ cosines.T + (sines * weights) @ sines.T
    return total


def _points_within(cell: Floats, radius: float) -> Floats:
    """Return (n, 3) all lattice points within `radius` of the origin, which is one of them."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    ranges = [np.arange(-n, n + 1) for n in np.ceil(radius / heights).astype(int)]
    grid = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    points: Floats = grid @ cell
    return np.asarray(points[(points**2).sum(axis=1) <= radius**2])

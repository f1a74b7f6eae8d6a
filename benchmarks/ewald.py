"""The Ewald pair-interaction matrix of point charges in a periodic cell, in plain numpy.

For the benchmark landscapes only; the potentials of gasearch have their own, batched one.
"""

from __future__ import annotations

import numpy as np
from ase.units import Bohr, Hartree
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COULOMB = Hartree * Bohr
"""e^2/(4 pi epsilon_0), in eV Å."""


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
    waves = _points_within(2 * np.pi * np.linalg.inv(cell).T, longest)
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
    return points[(points**2).sum(axis=1) <= radius**2]

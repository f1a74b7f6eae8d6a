"""k-points of a supercell, and whether two cells have the same set.

A set is compared where all cells agree: unfolded into the Brillouin zone of the unit cell and
reduced by the host's point group and time reversal. (0, 1/4, 1/4) of the 28-atom olivine cell is
the set of doubled cells too, and not of tripled ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from gasearch.crystal.host import Host

Points = NDArray[np.float64]
_DECIMALS = 6


def folded(points: ArrayLike, matrix: NDArray[np.int64]) -> Points:
    """Return k-points (n, 3) of the unit cell as fractions of a supercell's, without repeats.

    Parameters
    ----------
    matrix
        (3, 3) whole numbers; its rows are the supercell's vectors in those of the unit cell.
    """
    inside: Points = np.asarray(points, dtype=np.float64) @ np.asarray(matrix).T % 1.0
    _, first = np.unique(_wrapped(inside), axis=0, return_index=True)
    return np.asarray(inside[np.sort(first)])


def unfolded(points: ArrayLike, matrix: NDArray[np.int64]) -> Points:
    """Return all k-points (n, 3) of the unit cell that fall onto those of a supercell."""
    inverse = np.linalg.inv(np.asarray(matrix, dtype=float)).T
    reach = range(-int(np.abs(matrix).sum()), int(np.abs(matrix).sum()) + 1)
    shifts = np.array(list(itertools.product(reach, repeat=3)), dtype=float)
    given = np.asarray(points, dtype=float)
    found = (given[:, None, :] + shifts) @ inverse
    return np.asarray(np.unique(_wrapped(found.reshape(-1, 3)), axis=0))


def canonical(points: ArrayLike, host: Host) -> list[list[float]]:
    """Return what identifies a supercell's set: of the unit cell, reduced by symmetry, sorted."""
    images = _point_group(host)
    kept = set()
    for point in unfolded(points, host.matrix):
        same = _wrapped(point @ images)
        kept.add(min(tuple(row) for row in same.tolist()))
    return [list(point) for point in sorted(kept)]


def _point_group(host: Host) -> NDArray[np.float64]:
    """Return matrices (n, 3, 3) that act on k-points, rows of fractions; time reversal included."""
    primitive, group = host.space_group.primitive, host.space_group.rotations
    unit = np.linalg.solve(host.matrix.astype(float), host.atoms.cell.array)
    cartesian = np.linalg.inv(primitive) @ np.swapaxes(group, 1, 2) @ primitive
    fractional = np.linalg.inv(unit).T @ cartesian @ unit.T
    return np.asarray(np.concatenate([fractional, -fractional]))


def mesh(atoms: Atoms, spacing: float) -> tuple[int, int, int]:
    """Return how many k-points lie along each reciprocal vector.

    Parameters
    ----------
    spacing
        Largest distance between them, in 1/Å, with the factor 2 pi.
    """
    lengths = 2 * math.pi * np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    n1, n2, n3 = (max(1, math.ceil(length / spacing - 1e-9)) for length in lengths)
    return n1, n2, n3


def grid(size: Sequence[int]) -> Points:
    """Return the points (n, 3) of a mesh that holds Gamma."""
    parts = [np.arange(n) / n for n in size]
    return np.array(list(itertools.product(*parts)))


def gpaw_points(host: Host, given: Sequence[Sequence[float]], spacing: float) -> Points:
    """Return the k-points (n, 3) of a host's supercell.

    Those that the user gives for the unit cell; those of the shipped data, for its hosts; or
    a mesh of the supercell.
    """
    chosen = given or host.declaration.kpoints
    if chosen:
        return folded(chosen, host.matrix)
    return grid(mesh(host.atoms, spacing))


def _wrapped(points: Points) -> Points:
    """Return points between 0 and 1, free of rounding."""
    inside = np.round(points % 1.0, _DECIMALS) % 1.0
    return np.asarray(inside + 0.0)

"""Positions and cell as the coordinates of one optimization problem."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from numpy.typing import NDArray

Array = NDArray[np.float64]


class SymmetricStrainFilter(FrechetCellFilter):
    """ASE's Frechet filter for strains without rotation, with the logarithm remembered.

    The coordinates are the positions in the undeformed cell and the logarithm of the deformation,
    a symmetric matrix, so that exponential and derivative come from its eigenvectors. ASE takes a
    matrix logarithm of the cell in each call instead, which costs more than the rest of a step,
    warns, and lets the cell rotate.
    """

    def __init__(self, atoms: Atoms) -> None:
        super().__init__(atoms, exp_cell_factor=1.0)  # type: ignore[no-untyped-call]
        self._strain: Array = np.zeros((3, 3))
        self._undeformed: Array = atoms.positions.copy()
        self._forces: Array | None = None

    def get_positions(self) -> Array:
        """Return undeformed positions and, as three more rows, the logarithm of the deformation."""
        return np.vstack([self._undeformed, self._strain])

    def set_positions(self, new: Array, **_: object) -> None:  # type: ignore[override]
        """Move atoms and cell."""
        self._undeformed = np.array(new[:-3])
        self._strain = (new[-3:] + new[-3:].T) / 2
        deformation = _exponential(self._strain)
        self.atoms.set_cell(self.orig_cell @ deformation)
        self.atoms.set_positions(self._undeformed @ deformation)
        self._forces = None

    def get_forces(self, **_: object) -> Array:
        """Return minus the gradient of the energy by these coordinates, (n_atoms + 3, 3)."""
        if self._forces is None:
            deformation = _exponential(self._strain)
            stress = self.atoms.get_stress(voigt=False)
            virial = -self.atoms.cell.volume * stress
            on_cell = _pull_back(self._strain, np.linalg.solve(deformation, virial))
            self._forces = np.vstack([self.atoms.get_forces() @ deformation, on_cell])
        return self._forces.copy()


def _exponential(strain: Array) -> Array:
    values, vectors = np.linalg.eigh(strain)
    return np.asarray((vectors * np.exp(values)) @ vectors.T)


def _pull_back(strain: Array, gradient: Array) -> Array:
    """Return the derivative by a symmetric matrix of what has this gradient by its exponential.

    In the eigenvectors of the matrix each element is multiplied by the divided difference of the
    exponential (Daleckii and Krein).
    """
    values, vectors = np.linalg.eigh(strain)
    half = (values[:, None] - values) / 2
    ratio = np.ones_like(half)
    np.divide(np.sinh(half), half, out=ratio, where=half != 0)
    factors = np.exp((values[:, None] + values) / 2) * ratio
    result = vectors @ (factors * (vectors.T @ gradient @ vectors)) @ vectors.T
    return np.asarray((result + result.T) / 2)

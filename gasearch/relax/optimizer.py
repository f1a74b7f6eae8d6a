"""The optimizer of the reference relaxer: ASE's cell-aware BFGS with a cheaper step."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from ase import Atoms
from ase._4.optimize.bfgs import BFGSMethod
from ase.optimize import BFGS
from ase.optimize.cellawarebfgs import CellAwareBFGS
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from gasearch.relax.cell import SymmetricStrainFilter
from gasearch.relax.settings import RelaxSettings

Array = NDArray[np.float64]


class CholeskyMethod(BFGSMethod):
    """ASE's step, by a Cholesky factorisation: a tenth of the time of the eigenvectors.

    The same step to rounding while the Hessian is positive definite; otherwise ASE's own.
    """

    def compute_step(self, gradient: Array) -> Array:
        """Return the change of the coordinates."""
        try:
            return -np.asarray(cho_solve(cho_factor(self.hessian, lower=True), gradient))
        except LinAlgError:
            return np.asarray(super().compute_step(gradient))


class _CholeskyStep:
    """The part of an ASE optimizer that makes its first Hessian."""

    state: CholeskyMethod | None
    H0: Array

    def update(self, pos: Array, forces: Array, pos0: Array, forces0: Array) -> None:
        if self.state is None:
            self.state = CholeskyMethod(self.H0)
        else:
            self.state.update(pos, -forces, pos0, -forces0)


class CellBFGS(_CholeskyStep, CellAwareBFGS):  # type: ignore[misc]
    """For positions and cell."""


class PositionBFGS(_CholeskyStep, BFGS):  # type: ignore[misc]
    """For positions in a fixed cell."""


def make_optimizer(atoms: Atoms, settings: RelaxSettings) -> Any:
    """Return an ASE optimizer for atoms with a calculator, its stress threshold set."""
    if not settings.relax_cell:
        return PositionBFGS(atoms, logfile=None)
    coordinates: Any = SymmetricStrainFilter(atoms)
    optimizer: Any = CellBFGS(coordinates, logfile=cast(Any, None))
    optimizer.smax = settings.smax
    return optimizer

"""The optimizer of the reference relaxer: ASE's cell-aware BFGS from a model Hessian."""

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
from gasearch.relax.hessian import model_hessian
from gasearch.relax.settings import RelaxSettings

Array = NDArray[np.float64]
_LEAST_CURVATURE = 1e-3  # of the expected one


class PositiveBFGSMethod(BFGSMethod):
    """ASE's method, with a Hessian that stays positive definite and is solved by Cholesky.

    That takes a tenth of the time of the eigenvectors that ASE uses. A step along which the energy
    curves downwards is not learned from: with it ASE's Hessian becomes indefinite, and a relaxation
    may then wander for hundreds of steps.
    """

    def update(self, pos: Array, gradient: Array, pos0: Array, gradient0: Array) -> None:
        """Learn from the last step."""
        step = pos - pos0
        if step @ (gradient - gradient0) > _LEAST_CURVATURE * (step @ self.hessian @ step):
            super().update(pos, gradient, pos0, gradient0)

    def compute_step(self, gradient: Array) -> Array:
        """Return the change of the coordinates."""
        try:
            return -np.asarray(cho_solve(cho_factor(self.hessian, lower=True), gradient))
        except LinAlgError:
            return np.asarray(super().compute_step(gradient))


class _ModelStart:
    """The part of an ASE optimizer that makes its first Hessian."""

    state: PositiveBFGSMethod | None
    H0: Array

    def update(self, pos: Array, forces: Array, pos0: Array, forces0: Array) -> None:
        if self.state is None:
            self.state = PositiveBFGSMethod(self.H0)
        else:
            self.state.update(pos, -forces, pos0, -forces0)


class CellBFGS(_ModelStart, CellAwareBFGS):  # type: ignore[misc]
    """For positions and cell."""

    def log(self, gradient: Array) -> None:
        """Write nothing."""

    def initialize(self) -> None:
        """Start from the model Hessian."""
        super().initialize()  # type: ignore[no-untyped-call]
        filtered: Any = self.atoms
        self.H0 = model_hessian(filtered.atoms)


class PositionBFGS(_ModelStart, BFGS):  # type: ignore[misc]
    """For positions in a fixed cell."""

    def initialize(self) -> None:
        """Start from the model Hessian."""
        super().initialize()  # type: ignore[no-untyped-call]
        self.H0 = model_hessian(self.atoms)[:-9, :-9]


def make_optimizer(atoms: Atoms, settings: RelaxSettings) -> Any:
    """Return an ASE optimizer for atoms with a calculator, its stress threshold set."""
    if not settings.relax_cell:
        return PositionBFGS(atoms, logfile=None)
    coordinates: Any = SymmetricStrainFilter(atoms)
    optimizer: Any = CellBFGS(coordinates, logfile=cast(Any, None))
    optimizer.smax = settings.smax
    return optimizer

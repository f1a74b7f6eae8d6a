"""The reference relaxer: one structure at a time through ASE.

Slow and plain; the batch relaxer is tested against it. Its coordinates are those of ASE's Frechet
filter, its optimizer is ASE's cell-aware BFGS from a model Hessian.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase._4.optimize.bfgs import BFGSMethod
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.optimize.cellawarebfgs import CellAwareBFGS
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.contract import Potential
from gasearch.relax.audit import FUSED_EVERY, reason_of, trouble
from gasearch.relax.geometry import check_handedness
from gasearch.relax.hessian import model_hessian
from gasearch.relax.moment_reader import MomentReader
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.results import ResultBuilder, largest, with_uncertainty
from gasearch.relax.settings import RelaxSettings

Array = NDArray[np.float64]
_LEAST_CURVATURE = 1e-3  # of the expected one


class ReferenceRelaxer:
    """Relaxes positions and cell with ASE's cell-aware BFGS.

    Parameters
    ----------
    potential
        What gives energies, forces and stresses.
    settings
        When to stop.
    reader
        Reads moments off the relaxed structures; without one the potential's own count, judged by
        its `moment_ranges` where it has that attribute.
    """

    def __init__(
        self,
        potential: Potential,
        settings: RelaxSettings | None = None,
        reader: MomentReader | None = None,
    ) -> None:
        self.potential = potential
        self.settings = settings or RelaxSettings()
        self._results = ResultBuilder(potential, reader)

    def relax(self, candidates: Iterable[tuple[int, Atoms]]) -> Iterator[tuple[int, Relaxed]]:
        """Yield each candidate's number with its relaxed structure, in the order of arrival."""
        for number, atoms in candidates:
            yield number, self.relax_one(atoms)

    def relax_one(self, atoms: Atoms) -> Relaxed:
        """Return the relaxed structure; whatever goes wrong becomes its verdict."""
        began = time.perf_counter()
        calculator = PotentialCalculator(self.potential)
        try:
            found = self._relax(atoms, calculator)
        except Exception as error:  # noqa: BLE001 -- one bad structure costs only itself
            found = Relaxed.failed(atoms, reason_of(error))
        return replace(found, n_calls=calculator.n_calls, wall_s=time.perf_counter() - began)

    def _relax(self, start: Atoms, calculator: PotentialCalculator) -> Relaxed:
        check_handedness(start)
        work = start.copy()
        work.calc = calculator
        converged, given_up = self._descend(start, work)
        found = self._results.build(
            start,
            work.copy(),
            self.settings,
            energy=float(work.get_potential_energy()),
            forces=work.get_forces(),
            stress=work.get_stress(voigt=False),
            moments=calculator.results.get("magmoms"),
            n_calls=calculator.n_calls,
            converged=converged,
            trouble=given_up,
            penalty=calculator.results.get("penalty", 0.0),
        )
        return with_uncertainty(self.potential, found)

    def _descend(self, start: Atoms, work: Atoms) -> tuple[bool, str]:
        """Relax `work` in place; return whether it converged, and why it was given up."""
        settings = self.settings
        optimizer = make_optimizer(work, settings)
        for converged in optimizer.irun(fmax=settings.fmax, steps=settings.max_calls - 1):
            is_due = optimizer.nsteps % FUSED_EVERY == 0
            fmax = largest(work.get_forces())
            given_up = trouble(start, work, fmax, settings, look_for_fusion=is_due)
            if given_up or converged:
                return bool(converged), given_up
        return False, ""


def make_optimizer(atoms: Atoms, settings: RelaxSettings) -> Any:
    """Return an ASE optimizer for atoms with a calculator, its stress threshold set."""
    if not settings.relax_cell:
        return PositionBFGS(atoms, logfile=None)
    coordinates: Any = SymmetricStrainFilter(atoms)
    optimizer: Any = CellBFGS(coordinates, logfile=cast(Any, None))
    optimizer.smax = settings.smax
    return optimizer


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
        deformation = exponential(self._strain)
        self.atoms.set_cell(self.orig_cell @ deformation)
        self.atoms.set_positions(self._undeformed @ deformation)
        self._forces = None

    def get_forces(self, **_: object) -> Array:
        """Return minus the gradient of the energy by these coordinates, (n_atoms + 3, 3)."""
        if self._forces is None:
            deformation = exponential(self._strain)
            stress = self.atoms.get_stress(voigt=False)
            virial = -self.atoms.cell.volume * stress
            on_cell = _pull_back(self._strain, np.linalg.solve(deformation, virial))
            self._forces = np.vstack([self.atoms.get_forces() @ deformation, on_cell])
        return self._forces.copy()


def exponential(strain: Array) -> Array:
    """Return exp(strain), (3, 3), of a symmetric matrix."""
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

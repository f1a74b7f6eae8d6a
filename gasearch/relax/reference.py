"""The reference relaxer: one structure at a time through ASE, with every guard.

Slow and plain. Batched relaxers are tested against it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.errors import GasearchError
from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.contract import Potential
from gasearch.relax.audit import RULE, Audit, MomentRanges, audit, fusion, volume_change
from gasearch.relax.geometry import mean_bond_lengths, redox_sites
from gasearch.relax.optimizer import make_optimizer
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

_LABELS = ("numbers", "initial_charges", "initial_magmoms")
_FUSED_EVERY = 10  # calls; the audit looks at the end in any case


class LabelsChangedError(GasearchError, RuntimeError):
    """An oxidation state, moment or element that a relaxation must not touch has changed."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label

    def __str__(self) -> str:
        return f"the potential changed {self.label!r} of the structure: it may only read labels."


class LeftHandedCellError(GasearchError, ValueError):
    """A cell whose vectors form a left-handed set."""

    def __init__(self, formula: str) -> None:
        super().__init__(formula)
        self.formula = formula

    def __str__(self) -> str:
        return (
            f"the cell of {self.formula} is left-handed (negative volume): some relaxers go uphill "
            "in it; swap two cell vectors."
        )


class MomentReader(Protocol):
    """An independent reader of moments, such as CHGNet on geometries of another potential."""

    @property
    def ranges(self) -> MomentRanges:
        """What it gives for each species."""
        ...

    def read(self, atoms: Atoms) -> NDArray[np.float64]:
        """Return moments (n_atoms,) in Bohr magnetons."""
        ...


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
        self.reader = reader

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
            found = Relaxed.failed(atoms, _told(error))
        return replace(found, n_calls=calculator.n_calls, wall_s=time.perf_counter() - began)

    def _relax(self, start: Atoms, calculator: PotentialCalculator) -> Relaxed:
        if start.cell.handedness != 1:
            raise LeftHandedCellError(str(start.symbols))
        work = start.copy()
        work.calc = calculator
        converged, trouble = self._descend(start, work)
        final = work.copy()
        _check_labels(start, final)
        moments, ranges = self._moments(final, calculator)
        found = audit(start, final, moments, ranges)
        if found.verdict == "ok" and trouble:
            found = Audit("broken", trouble)
        if found.verdict == "ok" and not converged:
            found = Audit("unconverged", self._shortfall(work))
        forces, stress = work.get_forces(), work.get_stress(voigt=False)
        return Relaxed(
            atoms=final,
            energy=float(work.get_potential_energy()),
            forces=forces,
            stress=stress,
            fmax=_largest(forces),
            smax=float(np.abs(stress).max()),
            n_calls=calculator.n_calls,
            converged=converged,
            moments=moments,
            bond_lengths=mean_bond_lengths(final, redox_sites(final)),
            verdict=found.verdict,
            reason=found.reason,
            audit=RULE,
            wall_s=0.0,
        )

    def _descend(self, start: Atoms, work: Atoms) -> tuple[bool, str]:
        """Relax `work` in place; return whether it converged, and why it was given up."""
        settings = self.settings
        optimizer = make_optimizer(work, settings)
        for converged in optimizer.irun(fmax=settings.fmax, steps=settings.max_calls - 1):
            trouble = self._trouble(start, work, optimizer.nsteps)
            if trouble or converged:
                return bool(converged), trouble
        return False, ""

    def _trouble(self, start: Atoms, work: Atoms, step: int) -> str:
        """Return why it is no use to go on, or ""."""
        force = _largest(work.get_forces())
        if force > self.settings.max_force:
            return f"it explodes: a force of {force:.3g} eV/Å (limit {self.settings.max_force:g})"
        return volume_change(start, work) or ("" if step % _FUSED_EVERY else fusion(work))

    def _shortfall(self, work: Atoms) -> str:
        settings = self.settings
        force, stress = _largest(work.get_forces()), np.abs(work.get_stress()).max()
        limit = f", largest stress {stress:.4f} (limit {settings.smax:g})"
        return (
            f"after {settings.max_calls} calls the largest force is {force:.3f} eV/Å "
            f"(limit {settings.fmax:g}){limit if settings.relax_cell else ''}"
        )

    def _moments(
        self, final: Atoms, calculator: PotentialCalculator
    ) -> tuple[NDArray[np.float64] | None, MomentRanges | None]:
        if self.reader is not None:
            return np.asarray(self.reader.read(final), dtype=np.float64), self.reader.ranges
        ranges = getattr(self.potential, "moment_ranges", None)
        return calculator.results.get("magmoms"), ranges


def _told(error: Exception) -> str:
    """Return an error in one line; those that are expected explain themselves."""
    text = " ".join(str(error).split())
    return text if isinstance(error, GasearchError) else f"{type(error).__name__}: {text}"


def _check_labels(start: Atoms, final: Atoms) -> None:
    for label in _LABELS:
        before, after = start.arrays.get(label), final.arrays.get(label)
        if before is None and after is None:
            continue
        if before is None or after is None or not np.array_equal(before, after):
            raise LabelsChangedError(label)


def _largest(vectors: NDArray[np.float64]) -> float:
    """Return the largest norm of the rows."""
    return float(np.linalg.norm(vectors, axis=1).max())

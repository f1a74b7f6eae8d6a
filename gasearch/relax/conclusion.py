"""From the end of a relaxation to its result and verdict, the same for every relaxer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.species import MomentRanges
from gasearch.errors import GasearchError
from gasearch.relax.audit import CHARGE_RULE, RULE, Audit, audit
from gasearch.relax.geometry import mean_bond_lengths, redox_sites
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

_LABELS = ("numbers", "initial_charges", "initial_magmoms")


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


@dataclass(frozen=True, eq=False)
class End:
    """Where a relaxation stopped, and why.

    Parameters
    ----------
    atoms
        Final structure with its labels.
    energy
        In eV.
    forces
        (n_atoms, 3), in eV/Å.
    stress
        (3, 3), in eV/Å^3.
    moments
        (n_atoms,) in Bohr magnetons, or None.
    ranges
        By which the moments are judged.
    n_calls
        Evaluations that it took.
    converged
        Whether force and stress reached their thresholds.
    trouble
        Why it was given up, or "".
    wall_s
        In seconds.
    """

    atoms: Atoms
    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    moments: NDArray[np.float64] | None
    ranges: MomentRanges | None
    n_calls: int
    converged: bool
    trouble: str
    wall_s: float = 0.0


def conclude(start: Atoms, end: End, settings: RelaxSettings) -> Relaxed:
    """Return the result of a relaxation with its verdict, or raise where labels changed."""
    check_labels(start, end.atoms)
    fmax, smax = largest(end.forces), float(np.abs(end.stress).max())
    found = audit(start, end.atoms, end.moments, end.ranges, settings.sites)
    if found.verdict == "ok" and end.trouble:
        found = Audit("broken", end.trouble)
    if found.verdict == "ok" and not end.converged:
        found = Audit("unconverged", _shortfall(fmax, smax, settings))
    return Relaxed(
        atoms=end.atoms,
        energy=end.energy,
        forces=end.forces,
        stress=end.stress,
        fmax=fmax,
        smax=smax,
        n_calls=end.n_calls,
        converged=end.converged,
        moments=end.moments,
        bond_lengths=mean_bond_lengths(end.atoms, redox_sites(end.atoms)),
        verdict=found.verdict,
        reason=found.reason,
        audit=RULE if settings.sites is not None else CHARGE_RULE,
        wall_s=end.wall_s,
    )


def explosion(force: float, settings: RelaxSettings) -> str:
    """Return why a force this large (eV/Å) is given up, or ""."""
    if force <= settings.max_force:
        return ""
    return f"it explodes: a force of {force:.3g} eV/Å (limit {settings.max_force:g})"


def told(error: Exception) -> str:
    """Return an error in one line; those that are expected explain themselves."""
    text = " ".join(str(error).split())
    return text if isinstance(error, GasearchError) else f"{type(error).__name__}: {text}"


def check_labels(start: Atoms, final: Atoms) -> None:
    """Raise where elements, charges or moments are not those of the start."""
    for label in _LABELS:
        before, after = start.arrays.get(label), final.arrays.get(label)
        if before is None and after is None:
            continue
        if before is None or after is None or not np.array_equal(before, after):
            raise LabelsChangedError(label)


def largest(vectors: NDArray[np.float64]) -> float:
    """Return the largest norm of the rows."""
    return float(np.linalg.norm(vectors, axis=1).max())


def _shortfall(fmax: float, smax: float, settings: RelaxSettings) -> str:
    limit = f", largest stress {smax:.4f} (limit {settings.smax:g})"
    return (
        f"after {settings.max_calls} calls the largest force is {fmax:.3f} eV/Å "
        f"(limit {settings.fmax:g}){limit if settings.relax_cell else ''}"
    )

"""Whether the stress of a potential is the derivative of its energy, and by what it is off.

A stress in other units, or of the other sign, drives cells the wrong way or beyond all limits, and
every candidate then ends invalid: so a potential is asked once, before a search begins.
"""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from gasearch.errors import UsageError
from gasearch.potentials.asking import evaluate
from gasearch.potentials.contract import Batch, Potential, check_species

Array = NDArray[np.float64]

_ALLOWED = 0.1  # of the largest component
_STEP = 2e-3  # strain of the finite differences; single precision allows none much smaller
_FLOOR = 1e-4  # eV/Å^3: what two potentials of zero stress may differ by
# Squeezed and sheared, so that no component is near zero.
_STRAIN = np.array([[-0.010, 0.012, -0.009], [0.012, -0.012, 0.015], [-0.009, 0.015, -0.008]])
_COMPONENTS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_NAMED = (
    (1 / units.GPa, "it is in GPa"),
    (10 / units.GPa, "it is in kBar"),
    (units.GPa, "it was taken for GPa and converted"),
    (0.5, "it is half of what it should be"),
    (2.0, "it is twice what it should be"),
    (1.0, "its sign is that of a pressure"),
)
_CLOSE = 0.02


class StressError(UsageError):
    """A potential whose stress contradicts its energy.

    Parameters
    ----------
    factor
        Of the stress to dE/d(strain)/volume; None where they are not proportional.
    hint
        What the factor comes from; by how much the largest component is off where there is none.
    """

    def __init__(self, potential: str, factor: float | None, hint: str) -> None:
        super().__init__(potential, factor, hint)
        self.potential = potential
        self.factor = factor
        self.hint = hint

    def __str__(self) -> str:
        if self.factor is None:
            found = "is not proportional to dE/d(strain)/volume"
        else:
            found = f"is {self.factor:.4g} times dE/d(strain)/volume"
        hint = f" ({self.hint})" if self.hint else ""
        return (
            f"the stress of potential {self.potential!r} {found}{hint}, so cells would relax "
            "wrongly: expected eV/Å^3, tension positive, as ASE has it. Correct it there."
        )


def check_stress(potential: Potential, atoms: Atoms) -> None:
    """Raise `StressError` where the stress of a crystal is not the derivative of its energy.

    Takes 13 evaluations. A potential without any forces and stress, which relaxes nothing, passes.

    Parameters
    ----------
    atoms
        With formal charges.
    """
    check_species(potential, atoms)
    start = _strained(atoms, _STRAIN)
    steps = [sign * _unit(i, j) for i, j in _COMPONENTS for sign in (_STEP, -_STEP)]
    crystals = [start, *(_strained(start, step) for step in steps)]
    found = evaluate(potential, Batch.from_atoms(crystals, potential.device))
    stress = found.stresses[0].cpu().numpy()
    forces = found.forces[: len(atoms)].cpu().numpy()
    energies = found.energies.cpu().numpy()
    if not (np.any(forces) or np.any(stress)) or not np.isfinite(energies).all():
        return  # nothing is relaxed; energies that are no numbers are refused elsewhere
    slopes = (energies[1::2] - energies[2::2]) / (2 * _STEP * start.cell.volume)
    expected = np.zeros((3, 3))
    for (i, j), slope in zip(_COMPONENTS, slopes.tolist(), strict=True):
        expected[i, j] = expected[j, i] = slope
    _compare(potential.name, stress, expected, start.cell.volume)


def _compare(name: str, stress: Array, expected: Array, volume: float) -> None:
    largest = float(np.abs(expected).max())
    off = float(np.abs(stress - expected).max())
    if off <= max(_ALLOWED * largest, _FLOOR):
        return
    factor = float((stress * expected).sum() / (expected**2).sum()) if largest else math.nan
    rest = float(np.abs(stress - factor * expected).max())
    if not rest <= _ALLOWED * abs(factor) * largest:
        raise StressError(name, None, f"off by up to {off / max(largest, _FLOOR):.0%}")
    raise StressError(name, *_named(factor, volume))


def _named(factor: float, volume: float) -> tuple[float, str]:
    """Return a factor, a known one exactly, and what it comes from, in words; "" if unknown."""
    known = (*_NAMED, (volume, "it is the virial in eV, not divided by the volume"))
    for size, text in known:
        if abs(abs(factor) / size - 1) < _CLOSE:
            is_pressure = factor < 0 and size != 1.0
            told = f"{text}, with the sign of a pressure" if is_pressure else text
            return math.copysign(size, factor), told
    return factor, ""


def _unit(i: int, j: int) -> Array:
    """Return the symmetric strain whose energy derivative is one stress component."""
    strain = np.zeros((3, 3))
    strain[i, j] += 0.5
    strain[j, i] += 0.5
    return strain


def _strained(atoms: Atoms, strain: Array) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return copy

"""What every potential must do, as a check that its author can run.

from gasearch.testing import check_potential
check_potential(MyPotential(), [atoms, other_atoms])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from gasearch.errors import GasearchError
from gasearch.potentials.contract import Array, Batch, Potential, Prediction, check_species
from gasearch.potentials.measured.awareness import BLIND_BELOW, charge_awareness


class PotentialCheckError(GasearchError, AssertionError):
    """A property that a potential lacks.

    Parameters
    ----------
    check
        Name of the property: "forces", "rotation" and so on.
    problem
        What was found, and by how much it is off.
    """

    def __init__(self, potential: str, check: str, problem: str) -> None:
        super().__init__(potential, check, problem)
        self.potential = potential
        self.check = check
        self.problem = problem

    def __str__(self) -> str:
        return f"potential {self.potential!r} fails the check {self.check!r}: {self.problem}."


def check_potential(
    potential: Potential,
    structures: Sequence[Atoms],
    *,
    tolerance: float = 1e-6,
    step: float = 2e-3,
    allow_charge_blind: bool = False,
) -> None:
    """Raise `PotentialCheckError` for the first property that the potential lacks.

    The structures are rattled first, so that nothing is zero by symmetry.

    Parameters
    ----------
    structures
        Crystals with formal charges that the potential was made for, at least two of different
        size; at least one with an element in two oxidation states.
    tolerance
        Allowed error, relative to energy, largest force and largest stress. The default suits
        double precision; 1e-3 suits single precision.
    step
        Of finite differences, in Å, and as a strain per Å; 2e-2 suits single precision.
    allow_charge_blind
        Whether the potential need not feel oxidation states.
    """
    rng = np.random.default_rng(20)
    rattled = [_rattled(atoms, rng) for atoms in structures]
    for atoms in rattled:
        check_species(potential, atoms)
    trial = _Trial(potential, tolerance, step, rng)
    trial.check_results(rattled)
    trial.check_repeats(rattled)
    trial.check_batch(rattled)
    for atoms in rattled:
        for check in _CHECKS:
            check(trial, atoms)
    if not allow_charge_blind:
        trial.check_labels(rattled)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A potential under test."""

    potential: Potential
    tolerance: float
    step: float
    rng: np.random.Generator

    def evaluate(self, structures: Sequence[Atoms]) -> list[Prediction]:
        """Return the results of each structure, all evaluated in one batch."""
        batch = Batch.from_atoms(structures, self.potential.device)
        return self.potential.evaluate(batch).by_structure([*map(len, structures)])

    def fail(self, check: str, problem: str) -> None:
        """Raise the error of this check."""
        raise PotentialCheckError(self.potential.name, check, problem)

    def equal(self, check: str, what: str, found: Array, expected: Array, floor: float) -> None:
        """Raise unless two arrays agree relative to the largest element, or to the floor."""
        allowed = self.tolerance * max(float(np.abs(expected).max()), floor)
        off = float(np.abs(found - expected).max())
        if not off <= allowed:
            self.fail(check, f"{what} off by {off:.3g}, allowed are {allowed:.3g}")

    def same(self, check: str, found: Prediction, expected: Prediction) -> None:
        """Raise unless two results agree."""
        energies = np.array([found.energy]), np.array([expected.energy])
        self.equal(check, "energy (eV)", *energies, floor=1.0)
        self.equal(check, "forces (eV/Å)", found.forces, expected.forces, floor=1.0)
        self.equal(check, "stress (eV/Å^3)", found.stress, expected.stress, floor=0.01)
        if (found.moments is None) != (expected.moments is None):
            self.fail(check, "moments for some structures and none for others")
        if found.moments is not None and expected.moments is not None:
            self.equal(check, "moments", found.moments, expected.moments, floor=1.0)

    def check_results(self, structures: Sequence[Atoms]) -> None:
        """Check shapes, double precision, and that numbers are finite."""
        n = sum(len(atoms) for atoms in structures)
        found = self.potential.evaluate(Batch.from_atoms(structures, self.potential.device))
        wanted = {
            "energies": (len(structures),),
            "forces": (n, 3),
            "stresses": (len(structures), 3, 3),
            "moments": (n,),
        }
        for name, shape in wanted.items():
            tensor = getattr(found, name)
            if name == "moments" and tensor is None:
                continue
            if tuple(tensor.shape) != shape:
                self.fail("results", f"{name} of shape {tuple(tensor.shape)}, expected {shape}")
            if tensor.dtype != torch.float64:
                self.fail("results", f"{name} in {tensor.dtype}, expected torch.float64")
            if not torch.isfinite(tensor).all():
                self.fail("results", f"{name} that are not finite")

    def check_repeats(self, structures: Sequence[Atoms]) -> None:
        """Check that a second question gets the same answer, and leaves the question alone."""
        batch = Batch.from_atoms(structures, self.potential.device)
        before = [t.clone() for t in _tensors(batch)]
        first = self.potential.evaluate(batch).by_structure([*map(len, structures)])
        if not all(torch.equal(a, b) for a, b in zip(_tensors(batch), before, strict=True)):
            self.fail("repeats", "evaluate changed the batch it was given")
        second = self.potential.evaluate(batch).by_structure([*map(len, structures)])
        for one, other in zip(first, second, strict=True):
            self.same("repeats", other, one)

    def check_batch(self, structures: Sequence[Atoms]) -> None:
        """Check that a result does not depend on what shares the batch."""
        alone = [self.evaluate([atoms])[0] for atoms in structures]
        together = self.evaluate([*structures, structures[0]])
        for found, expected in zip(together, [*alone, alone[0]], strict=True):
            self.same("batch", found, expected)
        for found, expected in zip(self.evaluate(structures[::-1]), alone[::-1], strict=True):
            self.same("batch", found, expected)

    def check_labels(self, structures: Sequence[Atoms]) -> None:
        """Check that oxidation states matter."""
        awareness = charge_awareness(self.potential, structures, self.rng)
        if awareness is None:
            self.fail("labels", "no structure here has an element in two oxidation states")
        elif not awareness >= BLIND_BELOW:
            problem = f"a swap of oxidation states changes the energy by {awareness:.2g} meV"
            self.fail("labels", f"{problem}, at least {BLIND_BELOW:g} expected")


def _check_permutation(trial: _Trial, atoms: Atoms) -> None:
    """Check that the order of atoms does not matter."""
    order = trial.rng.permutation(len(atoms))
    found, expected = trial.evaluate([atoms[order], atoms])
    moments = None if expected.moments is None else expected.moments[order]
    wanted = Prediction(expected.energy, expected.forces[order], expected.stress, moments)
    trial.same("permutation", found, wanted)


def _check_translation(trial: _Trial, atoms: Atoms) -> None:
    """Check that neither a shift of the crystal nor images of atoms in other cells matter."""
    moved = atoms.copy()
    whole = trial.rng.integers(-2, 3, (len(atoms), 3))
    moved.positions += trial.rng.uniform(-3, 3, 3) + whole @ atoms.cell.array
    trial.same("translation", *trial.evaluate([moved, atoms]))


def _check_supercell(trial: _Trial, atoms: Atoms) -> None:
    """Check that two cells are twice one cell, and other cell vectors the same crystal."""
    expected = trial.evaluate([atoms])[0]
    (doubled,) = trial.evaluate([atoms.repeat((1, 2, 1))])
    moments = None if expected.moments is None else np.tile(expected.moments, 2)
    wanted = Prediction(
        2 * expected.energy, np.tile(expected.forces, (2, 1)), expected.stress, moments
    )
    trial.same("supercell", doubled, wanted)
    sheared = atoms.copy()
    sheared.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ atoms.cell.array)
    trial.same("supercell", trial.evaluate([sheared])[0], expected)


def _check_rotation(trial: _Trial, atoms: Atoms) -> None:
    """Check that a rotated crystal has rotated forces and stresses."""
    rotation, _ = np.linalg.qr(trial.rng.normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)
    rotated = atoms.copy()
    rotated.set_cell(atoms.cell.array @ rotation.T)
    rotated.positions = atoms.positions @ rotation.T
    found, expected = trial.evaluate([rotated, atoms])
    wanted = Prediction(
        expected.energy,
        expected.forces @ rotation.T,
        rotation @ expected.stress @ rotation.T,
        expected.moments,
    )
    trial.same("rotation", found, wanted)


def _check_forces(trial: _Trial, atoms: Atoms) -> None:
    """Check forces against the derivative of the energy along random directions."""
    forces = trial.evaluate([atoms])[0].forces
    scale = float(np.abs(forces).max())
    for _ in range(3):
        direction = trial.rng.normal(size=(len(atoms), 3))
        direction /= np.abs(direction).max()

        def moved(t: float, direction: Array = direction) -> Atoms:
            copy: Atoms = atoms.copy()
            copy.positions += t * direction
            return copy

        slope = _slope(trial, moved, trial.step)
        along = -float((forces * direction).sum())
        unit = np.sqrt((direction**2).sum())
        pair = np.array([slope / unit]), np.array([along / unit])
        trial.equal("forces", "slope of the energy (eV/Å)", *pair, floor=max(scale, 1.0))


def _check_stress(trial: _Trial, atoms: Atoms) -> None:
    """Check the stress against the derivative of the energy by strain."""
    stress = trial.evaluate([atoms])[0].stress
    scale = float(np.abs(stress).max())
    volume = atoms.cell.volume
    length = volume ** (1 / 3)
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] += 0.5
        strain[j, i] += 0.5

        def strained(t: float, strain: Array = strain) -> Atoms:
            copy: Atoms = atoms.copy()
            copy.set_cell(atoms.cell.array @ (np.eye(3) + t * strain), scale_atoms=True)
            return copy

        slope = _slope(trial, strained, trial.step / length) / volume
        pair = np.array([slope]), np.array([stress[i, j]])
        trial.equal("stress", f"component {i}{j} (eV/Å^3)", *pair, floor=max(scale, 0.01))


_CHECKS: tuple[Callable[[_Trial, Atoms], None], ...] = (
    _check_permutation,
    _check_translation,
    _check_supercell,
    _check_rotation,
    _check_forces,
    _check_stress,
)


def _slope(trial: _Trial, path: Callable[[float], Atoms], step: float) -> float:
    """Return the derivative of the energy along a path at its origin, to fourth order."""
    found = trial.evaluate([path(k * step) for k in (1, -1, 2, -2)])
    first, second, third, fourth = (one.energy for one in found)
    return (8 * (first - second) - (third - fourth)) / (12 * step)


def _rattled(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.positions += rng.normal(0.0, 0.05, copy.positions.shape)
    return copy


def _tensors(batch: Batch) -> tuple[torch.Tensor, ...]:
    return (batch.positions, batch.cells, batch.numbers, batch.charges, batch.system, batch.spins)

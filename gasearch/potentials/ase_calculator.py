"""Any ASE calculator as a potential, one structure after another."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray

from gasearch.crystal.species import SPINS, Species
from gasearch.errors import GasearchError
from gasearch.plugins import class_name
from gasearch.potentials.contract import Batch, Evaluated


class CalculatorChangedLabelsError(GasearchError, RuntimeError):
    """A calculator that wrote to the structure it was given."""

    def __init__(self, name: str, label: str) -> None:
        super().__init__(name, label)
        self.name = name
        self.label = label

    def __str__(self) -> str:
        return (
            f"the calculator {self.name!r} changed {self.label!r} of the atoms; oxidation states "
            "and moments are labels that it may only read."
        )


class AseCalculatorPotential:
    """A potential that asks an ASE calculator.

    The calculator sees atoms with the formal charges as `initial_charges` and the high-spin moments
    as `initial_magmoms`. It must give stresses; its moments are used where it gives any. Unlike a
    built-in potential it may keep a state between structures, and then results are not exactly
    repeatable; its level is guarded by the probe energies alone.

    Parameters
    ----------
    calculator
        Any ASE calculator that gives energy, forces and stress.
    name
        How the user asked for it.
    source
        Text or bytes of the code that makes the calculator: part of `weights_hash`.
    """

    ranks_only = False
    cutoff = math.inf
    device = "cpu"
    species: frozenset[Species] | None = None

    def __init__(self, calculator: BaseCalculator, name: str, source: bytes = b"") -> None:
        self.calculator = calculator
        self.name = name
        self.weights_hash = _digest(calculator, source)

    def evaluate(self, batch: Batch) -> Evaluated:
        """Return what the calculator gives, in float64."""
        found = [self._one(atoms) for atoms in to_atoms(batch)]
        moments = [one["moments"] for one in found]
        return Evaluated(
            energies=torch.tensor([one["energy"] for one in found], dtype=torch.float64),
            forces=_joined([one["forces"] for one in found]),
            stresses=_joined([one["stress"][None] for one in found]),
            moments=None if any(m is None for m in moments) else _joined(moments),
        )

    def _one(self, atoms: Atoms) -> dict[str, Any]:
        labels = {key: array.copy() for key, array in atoms.arrays.items() if key != "positions"}
        atoms.calc = self.calculator
        found = {
            "energy": float(atoms.get_potential_energy()),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(voigt=False),
            "moments": self.calculator.results.get("magmoms"),
        }
        for key, array in labels.items():
            if key not in atoms.arrays or not np.array_equal(array, atoms.arrays[key]):
                raise CalculatorChangedLabelsError(self.name, key)
        return found


def to_atoms(batch: Batch) -> list[Atoms]:
    """Return the structures of a batch, with formal charges and moments as labels."""
    return [_to_atoms(one) for one in batch.split()]


def _to_atoms(one: Batch) -> Atoms:
    atoms = Atoms(
        numbers=one.numbers.cpu().numpy(),
        positions=one.positions.cpu().numpy(),
        cell=one.cells[0].cpu().numpy(),
        pbc=True,
    )
    charges = one.charges.cpu().numpy()
    atoms.set_initial_charges(charges.astype(float))
    spins = [SPINS[code] for code in one.spins.tolist()]
    labels = zip(atoms.symbols, charges.tolist(), spins, strict=True)
    atoms.set_initial_magnetic_moments([Species(*label).moment for label in labels])
    return atoms


def _joined(arrays: list[NDArray[np.float64]]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(arrays).astype(np.float64))


def _digest(calculator: BaseCalculator, source: bytes) -> str:
    """Return the sha256 of source, class and parameters; weights inside are not looked at."""
    parameters = dict(getattr(calculator, "parameters", {}))
    text = json.dumps(parameters, sort_keys=True, default=_as_json, skipkeys=True)
    digest = hashlib.sha256(source)
    digest.update(f"\n{class_name(type(calculator))}\n{text}".encode())
    return digest.hexdigest()


def _as_json(value: object) -> object:
    """Return what json can write; an object only by its class, as its address would change."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return class_name(type(value))

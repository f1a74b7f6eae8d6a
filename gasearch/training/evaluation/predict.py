"""What a potential says about labelled frames, all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from gasearch.potentials.contract import Batch, Potential, check_species
from gasearch.training.data.frames import Array


@dataclass(frozen=True, eq=False)
class Prediction:
    """Of one structure.

    Parameters
    ----------
    energy
        Of the cell, in eV.
    forces
        (n_atoms, 3), in eV/Å.
    stress
        (3, 3), in eV/Å^3.
    moments
        (n_atoms,), in Bohr magnetons, or None.
    """

    energy: float
    forces: Array
    stress: Array
    moments: Array | None


def predict(
    potential: Potential, structures: Sequence[Atoms], batch_size: int = 8
) -> list[Prediction]:
    """Return what a potential gives for structures with formal charges, in their order."""
    for atoms in structures:
        check_species(potential, atoms)
    found: list[Prediction] = []
    for start in range(0, len(structures), batch_size):
        found += _predict_batch(potential, structures[start : start + batch_size])
    return found


def predict_energies(
    potential: Potential, structures: Sequence[Atoms], batch_size: int = 8
) -> Array:
    """Return energies (n_structures,) of the cells, in eV."""
    return np.array([one.energy for one in predict(potential, structures, batch_size)])


def _predict_batch(potential: Potential, structures: Sequence[Atoms]) -> list[Prediction]:
    found = potential.evaluate(Batch.from_atoms(structures, potential.device))
    counts = [len(atoms) for atoms in structures]
    n = len(counts)
    moments = [None] * n if found.moments is None else list(found.moments.cpu().split(counts))
    return [
        Prediction(float(e), f.numpy(), s.numpy(), None if m is None else m.numpy())
        for e, f, s, m in zip(
            found.energies.cpu(),
            found.forces.cpu().split(counts),
            found.stresses.cpu(),
            moments,
            strict=True,
        )
    ]

"""What a potential says about labelled frames, all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from gasearch.potentials.asking import evaluate
from gasearch.potentials.contract import Array, Batch, Potential, Prediction, check_species


def predict(
    potential: Potential, structures: Sequence[Atoms], batch_size: int = 8
) -> list[Prediction]:
    """Return what a potential gives for structures with formal charges, in their order."""
    for atoms in structures:
        check_species(potential, atoms)
    found: list[Prediction] = []
    for start in range(0, len(structures), batch_size):
        chosen = structures[start : start + batch_size]
        batch = Batch.from_atoms(chosen, potential.device)
        found += evaluate(potential, batch).by_structure([len(atoms) for atoms in chosen])
    return found


def predict_energies(
    potential: Potential, structures: Sequence[Atoms], batch_size: int = 8
) -> Array:
    """Return energies (n_structures,) of the cells, in eV."""
    return np.array([one.energy for one in predict(potential, structures, batch_size)])

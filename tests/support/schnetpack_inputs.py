"""A crystal in schnetpack's words, with ASE's neighbour list."""

import torch
from ase.neighborlist import neighbor_list


def schnetpack_inputs(atoms, rows, cutoff):
    """Return what a model of schnetpack reads; `rows` are those of the atoms in its embedding."""
    i, j, offsets = neighbor_list("ijS", atoms, cutoff)
    return {
        "_atomic_numbers": torch.as_tensor(rows),
        "_positions": torch.tensor(atoms.positions),
        "_cell": torch.tensor(atoms.cell.array)[None],
        "_n_atoms": torch.tensor([len(atoms)]),
        "_idx_m": torch.zeros(len(atoms), dtype=torch.int64),
        "_idx_i": torch.tensor(i),
        "_idx_j": torch.tensor(j),
        "_offsets": torch.tensor(offsets @ atoms.cell.array),
    }

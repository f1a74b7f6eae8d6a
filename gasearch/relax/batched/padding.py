"""Optimizers see structures as rows of one length; here is how atoms get in and out of them.

The length of a row belongs to its structure, not to the batch, so that sums over a row are the same
whatever shares the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gasearch.relax.batched.state import State

_STEP = 16


def width_of(counts: torch.Tensor) -> torch.Tensor:
    """Return how many atoms (B,) the rows of structures with these numbers of atoms have.

    With the three rows of the strain they make a multiple of 16: 13, 29, 45, 61, ...
    """
    steps = torch.div(counts + 3 + _STEP - 1, _STEP, rounding_mode="floor")
    return steps * _STEP - 3


@dataclass(frozen=True, eq=False)
class Padding:
    """Where the atoms of some structures are in rows of one length.

    Parameters
    ----------
    rows
        (R,) the structures, ascending.
    atoms
        (R, width) running number of the atom in each slot; any where there is none.
    filled
        (R, width) whether there is one.
    """

    rows: torch.Tensor
    atoms: torch.Tensor
    filled: torch.Tensor

    @classmethod
    def of(cls, state: State, rows: torch.Tensor, width: int) -> Padding:
        """Return the padding of these structures."""
        counts = state.counts
        first = (counts.cumsum(0) - counts)[rows]
        slots = torch.arange(width, device=rows.device)
        filled = slots < counts[rows][:, None]
        return cls(rows, torch.where(filled, first[:, None] + slots, 0), filled)

    def coordinates(self, by_atom: torch.Tensor, by_cell: torch.Tensor) -> torch.Tensor:
        """Return vectors (N, 3) and matrices (B, 3, 3) as rows (R, 3 width + 9)."""
        padded = torch.where(self.filled[:, :, None], by_atom[self.atoms], 0.0)
        return torch.cat([padded, by_cell[self.rows]], dim=1).flatten(1)

    def write(self, rows: torch.Tensor, by_atom: torch.Tensor, by_cell: torch.Tensor) -> None:
        """Put rows (R, 3 width + 9) back into vectors (N, 3) and matrices (B, 3, 3)."""
        matrices = rows.unflatten(1, (-1, 3))
        by_atom[self.atoms[self.filled]] = matrices[:, :-3][self.filled]
        by_cell[self.rows] = matrices[:, -3:]

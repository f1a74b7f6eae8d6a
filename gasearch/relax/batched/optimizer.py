"""One step of every structure: gradients in, new geometry out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gasearch.potentials.contract import Batch, Evaluated
from gasearch.relax.batched.minimizer import Minimizer
from gasearch.relax.batched.state import State
from gasearch.relax.batched.strain import product, pull_back, rows_times

_WIDTH_STEP = 16


@dataclass(frozen=True, eq=False)
class Padding:
    """Where the atoms of some structures are in the rows of one length that optimizers work on.

    The length belongs to a structure, not to its batch, so that sums over a row are the same
    whatever shares the batch.

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


class Minimizers:
    """The optimizers of all structures of a state, kept in step with it.

    Structures of similar size share one optimizer.

    Parameters
    ----------
    device
        Of the state.
    """

    def __init__(self, device: torch.device) -> None:
        self._widths = torch.zeros(0, dtype=torch.int64, device=device)
        self._groups: dict[int, Minimizer] = {}
        self._paddings: dict[int, Padding] = {}

    def select(self, keep: torch.Tensor) -> None:
        """Forget all but some of the structures (B,)."""
        self._paddings.clear()
        for width, group in list(self._groups.items()):
            group = group.select(keep[self._widths == width])
            self._groups[width] = group
            if len(group.waited) == 0:
                del self._groups[width]
        self._widths = self._widths[keep]

    def join(self, arrivals: State) -> None:
        """Take in new structures, behind the others."""
        self._paddings.clear()
        widths = width_of(arrivals.counts)
        for width in widths.unique().tolist():
            group = Minimizer.start(arrivals.select(widths == width), width)
            known = self._groups.get(width)
            self._groups[width] = group if known is None else known.joined(group)
        self._widths = torch.cat([self._widths, widths])

    def advance(self, state: State, geometry: Batch, found: Evaluated) -> State:
        """Return the structures where they are to be evaluated next."""
        by_atom, by_cell = gradient(state, geometry, found)
        undeformed, strains = state.undeformed.clone(), state.strains.clone()
        for width, group in self._groups.items():
            padding = self._padding(state, width)
            here = padding.coordinates(state.undeformed, state.strains)
            there = padding.coordinates(by_atom, by_cell)
            group.learn(here, there, found.energies[padding.rows])
            self._restart(group, state, padding.rows, width)
            padding.write(group.propose(), undeformed, strains)
        return state.moved(undeformed, strains)

    def _padding(self, state: State, width: int) -> Padding:
        """Return where the atoms of a group are; the same until structures come or go."""
        if width not in self._paddings:
            rows = (self._widths == width).nonzero().squeeze(1)
            self._paddings[width] = Padding.of(state, rows, width)
        return self._paddings[width]

    def _restart(self, group: Minimizer, state: State, rows: torch.Tensor, width: int) -> None:
        if bool(group.is_lost.any()):
            lost = torch.zeros(len(state), dtype=torch.bool, device=rows.device)
            lost[rows] = group.is_lost
            group.restart(Minimizer.start(state.select(lost), width))


def gradient(state: State, geometry: Batch, found: Evaluated) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the derivatives of the energy by undeformed positions (N, 3) and strains (B, 3, 3)."""
    deformation, inverse = state.deformations
    by_atom = -rows_times(found.forces, deformation[state.system])
    volumes = torch.linalg.det(geometry.cells)[:, None, None]
    by_deformation = product(inverse, volumes * found.stresses)
    by_cell = pull_back(state.strains, by_deformation)
    return by_atom, torch.where(state.cell_free[:, None, None], by_cell, 0.0)


def width_of(counts: torch.Tensor) -> torch.Tensor:
    """Return how many atoms (B,) the rows of structures with these numbers of atoms have.

    With the three rows of the strain they make a multiple of 16: 13, 29, 45, 61, ...
    """
    steps = torch.div(counts + 3 + _WIDTH_STEP - 1, _WIDTH_STEP, rounding_mode="floor")
    return steps * _WIDTH_STEP - 3

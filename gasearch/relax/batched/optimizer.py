"""One step of every structure: gradients in, new geometry out."""

from __future__ import annotations

import torch

from gasearch.potentials.contract import Batch, Evaluated
from gasearch.relax.batched.minimizer import Minimizer
from gasearch.relax.batched.padding import Padding, width_of
from gasearch.relax.batched.state import State
from gasearch.relax.batched.strain import product, pull_back, rows_times


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

"""Parts of a batch, results put together from parts, and both together."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gasearch.potentials.contract import Batch, Evaluated
from gasearch.relax.batched.state import State


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Structures where they are, and what is known there.

    Parameters
    ----------
    state
        B structures.
    geometry
        The same, as a potential reads them.
    found
        What it said.
    """

    state: State
    geometry: Batch
    found: Evaluated

    def select(self, keep: torch.Tensor) -> Snapshot:
        """Return some of the structures (B,), in the same order."""
        atoms = keep[self.state.system]
        some, geometry, found = self.state.select(keep), self.geometry, self.found
        batch = Batch(
            geometry.positions[atoms], geometry.cells[keep], some.numbers, some.charges, some.system
        )
        moments = None if found.moments is None else found.moments[atoms]
        results = Evaluated(
            found.energies[keep], found.forces[atoms], found.stresses[keep], moments=moments
        )
        return Snapshot(some, batch, results)

    def only(self, row: int) -> Snapshot:
        """Return one of the structures."""
        keep = torch.zeros(len(self.state), dtype=torch.bool, device=self.state.ids.device)
        keep[row] = True
        return self.select(keep)

    def on_cpu(self) -> Snapshot:
        """Return the same in the memory of the CPU."""
        state, geometry, found = self.state.to("cpu"), self.geometry, self.found
        batch = Batch(
            geometry.positions.cpu(),
            geometry.cells.cpu(),
            state.numbers,
            state.charges,
            state.system,
        )
        moments = None if found.moments is None else found.moments.cpu()
        results = Evaluated(
            found.energies.cpu(), found.forces.cpu(), found.stresses.cpu(), moments=moments
        )
        return Snapshot(state, batch, results)

"""Parts of a batch, results put together from parts, and both together."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gasearch.potentials.contract import Batch, Evaluated
from gasearch.relax.batched.state import State


def part_of(batch: Batch, rows: slice) -> Batch:
    """Return some consecutive structures of a batch.

    Copied: sums over memory that starts in the middle of a vector register round otherwise.
    """
    if rows == slice(0, len(batch)):
        return batch
    atoms = atoms_of(batch, rows)
    return Batch(
        batch.positions[atoms].clone(),
        batch.cells[rows].clone(),
        batch.numbers[atoms],
        batch.charges[atoms],
        batch.system[atoms] - rows.start,
    )


def atoms_of(batch: Batch, rows: slice) -> slice:
    """Return the atoms of some consecutive structures."""
    bounds = torch.tensor([rows.start, rows.stop], device=batch.system.device)
    first, last = torch.searchsorted(batch.system, bounds).tolist()
    return slice(first, last)


def nothing_known(batch: Batch) -> Evaluated:
    """Return results without a number in them."""
    size, n = len(batch), len(batch.positions)
    nan = torch.full((), torch.nan, dtype=torch.float64, device=batch.positions.device)
    return Evaluated(
        nan.repeat(size), nan.repeat(n, 3), nan.repeat(size, 3, 3), moments=nan.repeat(n)
    )


def in_double(found: Evaluated) -> Evaluated:
    """Return the same results in float64."""
    moments = None if found.moments is None else found.moments.double()
    return Evaluated(
        found.energies.double(), found.forces.double(), found.stresses.double(), moments=moments
    )


def put(results: Evaluated, found: Evaluated, rows: slice, atoms: slice) -> None:
    """Write the results of a part where they belong."""
    results.energies[rows] = found.energies
    results.forces[atoms] = found.forces
    results.stresses[rows] = found.stresses
    if results.moments is not None and found.moments is not None:
        results.moments[atoms] = found.moments


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

"""All pairs of atoms within a distance, with the lattice vectors between them as whole numbers.

Whole numbers make vectors exact: recomputed from positions and cells by products spelled out, they
are the same to the last bit whatever shares the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from gasearch.potentials.contract import Batch
from gasearch.potentials.pairs import Crystals, PairTable, find_pairs
from gasearch.relax.batched.strain import rows_times


@dataclass(frozen=True, eq=False)
class Bonds:
    """Pairs of atoms, each counted once, periodic images included.

    The pairs of a structure are consecutive, and their order depends on that structure alone.

    Parameters
    ----------
    system
        (M,) int64, ascending: structure of the pair.
    first, second
        (M,) int64, running numbers of the atoms.
    offsets
        (M, 3) whole cells by which the second is moved, float64.
    """

    system: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    offsets: torch.Tensor

    def __len__(self) -> int:
        return len(self.system)

    def vectors(self, batch: Batch) -> torch.Tensor:
        """Return the vectors (M, 3) from the first to the second atom, in Å."""
        between = batch.positions[self.second] - batch.positions[self.first]
        return between + rows_times(self.offsets, batch.cells[self.system])

    def chosen(self, keep: torch.Tensor) -> Bonds:
        """Return some of the pairs: by flags (M,), or by places."""
        return Bonds(self.system[keep], self.first[keep], self.second[keep], self.offsets[keep])


def find_bonds(batch: Batch, reach: float) -> Bonds:
    """Return all pairs closer than so many Å; vectorised over structures."""
    crystals = Crystals.from_batch(batch, PairTable.from_system(batch.system, len(batch)))
    pairs = find_pairs(crystals, reach)
    direct = batch.positions[pairs.second] - batch.positions[pairs.first]
    extra = rows_times(pairs.vectors.T - direct, crystals.inverses[pairs.system]).round()
    found = Bonds(pairs.system, pairs.first, pairs.second, extra)
    return found.chosen(squared_lengths(found.vectors(batch)) < reach**2)


def joined(parts: Sequence[Bonds]) -> Bonds:
    """Return all pairs of several lists, one list after another."""
    columns = ([getattr(part, f.name) for part in parts] for f in fields(Bonds))
    return Bonds(*(torch.cat(column) for column in columns))


def squared_lengths(vectors: torch.Tensor) -> torch.Tensor:
    """Return |v|^2 (M,) of vectors (M, 3)."""
    x, y, z = vectors.unbind(1)
    return x * x + y * y + z * z

"""All pairs of atoms within a cutoff, for a batch of periodic cells of any shape and size."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import torch

from gasearch.potentials.contract import Batch


@dataclass(frozen=True, eq=False)
class PairTable:
    """Which atoms can pair, whatever the geometry: depends on the numbers of atoms alone.

    Structures are padded to the largest; every unordered pair of slots appears once, an atom with
    itself included.

    Parameters
    ----------
    first, second
        (P,) slots of the two atoms.
    slots
        (B, n) running number of the atom in each slot; N (one past the last) where there is none.
    both
        (B, P) whether both slots hold an atom.
    """

    first: torch.Tensor
    second: torch.Tensor
    slots: torch.Tensor
    both: torch.Tensor

    @classmethod
    def from_system(cls, system: torch.Tensor, n_systems: int) -> PairTable:
        """Return the table for atoms that belong to these structures, (N,)."""
        counts = torch.bincount(system, minlength=n_systems)
        n = int(counts.max())
        inside = torch.arange(n, device=system.device) < counts[:, None]
        slots = torch.full_like(inside, len(system), dtype=torch.int64)
        slots[inside] = torch.arange(len(system), device=system.device)
        first, second = torch.triu_indices(n, n, device=system.device)
        return cls(first, second, slots, inside[:, first] & inside[:, second])


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of atoms, each counted once, periodic images included.

    Parameters
    ----------
    entry
        (M,) position of the pair in the flattened (B, P) pair table, ascending.
    system
        (M,) structure of the pair.
    first, second
        (M,) running numbers of the two atoms.
    vectors
        (3, M) from the first to the image of the second, in Å.
    """

    entry: torch.Tensor
    system: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    vectors: torch.Tensor


def find_pairs(batch: Batch, table: PairTable, cutoff: float) -> Pairs:
    """Return all pairs closer than the cutoff (Å); a few a hair beyond it may be among them.

    The list is a function of the geometry alone, order included, so that sums over it repeat to the
    last bit.
    """
    shifts = _shifts(*_reach(batch.cells, cutoff), batch.cells.device)
    nearest = _nearest_images(batch, table)
    steps = shifts @ batch.cells  # (B, S, 3)
    squared = torch.matmul(nearest, 2 * steps.transpose(1, 2))  # (B, P, S)
    squared += (nearest * nearest).sum(2)[:, :, None]
    squared += (steps * steps).sum(2)[:, None, :]
    near = squared < (cutoff * (1 + 1e-9)) ** 2
    near &= table.both[:, :, None]
    _count_self_images_once(near, table)
    system, pair, shift = near.nonzero(as_tuple=True)
    vectors = nearest[system, pair] + steps[system, shift]
    return Pairs(
        entry=system * len(table.first) + pair,
        system=system,
        first=table.slots[system, table.first[pair]],
        second=table.slots[system, table.second[pair]],
        vectors=vectors.T.contiguous(),
    )


def _reach(cells: torch.Tensor, cutoff: float) -> tuple[int, int, int]:
    """Return how many cells a nearest image must be moved by, at most, along each axis."""
    inverse_heights = torch.linalg.inv(cells).norm(dim=1)
    a, b, c = (cutoff * inverse_heights + 0.5 + 1e-9).floor().amax(0).tolist()
    return int(a), int(b), int(c)


@lru_cache(maxsize=64)
def _shifts(a: int, b: int, c: int, device: torch.device) -> torch.Tensor:
    """Return the whole-cell shifts (S, 3): the zero shift in the middle, negatives mirrored."""
    grid = itertools.product(range(-a, a + 1), range(-b, b + 1), range(-c, c + 1))
    return torch.tensor(list(grid), dtype=torch.float64, device=device)


def _nearest_images(batch: Batch, table: PairTable) -> torch.Tensor:
    """Return vectors (B, P, 3) between the atoms of pairs, fractional parts within half a cell."""
    inverse = torch.linalg.inv(batch.cells)
    padded = torch.cat([batch.positions, batch.positions.new_zeros(1, 3)])[table.slots]
    fractional = torch.matmul(padded, inverse)
    between = fractional[:, table.second] - fractional[:, table.first]
    return torch.matmul(between - between.round(), batch.cells)


def _count_self_images_once(near: torch.Tensor, table: PairTable) -> None:
    """Of an atom and its own images, keep one of each pair of opposite ones and not itself."""
    own = (table.first == table.second).nonzero().squeeze(1)
    half = near.shape[2] // 2
    near[:, own, : half + 1] = False

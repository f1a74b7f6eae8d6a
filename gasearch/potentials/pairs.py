"""All pairs of atoms within a cutoff, for a batch of periodic cells of any shape and size."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch

from gasearch.potentials.contract import Batch

_ROUNDING = 1e-4  # of the search in single precision


@dataclass(frozen=True, eq=False)
class PairTable:
    """Which atoms can pair, whatever the geometry: depends on the numbers of atoms alone.

    Structures are padded to the largest; every unordered pair of slots appears once, an atom with
    itself included.

    Parameters
    ----------
    first, second
        (P,) slots of the two atoms.
    selves
        (n,) where in these an atom is paired with itself.
    slots
        (B, n) running number of the atom in each slot; N (one past the last) where there is none.
    both
        (B, P) whether both slots hold an atom.
    """

    first: torch.Tensor
    second: torch.Tensor
    selves: torch.Tensor
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
        selves = (first == second).nonzero().squeeze(1)
        return cls(first, second, selves, slots, inside[:, first] & inside[:, second])

    def to(self, device: torch.device) -> PairTable:
        """Return the table on another device."""
        return PairTable(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def is_full(self) -> bool:
        """Whether no structure is padded, as where there is only one."""
        return len(self.slots) == 1


@dataclass(frozen=True, eq=False)
class Crystals:
    """A batch with what several sums need of it, worked out once.

    Parameters
    ----------
    table
        Of the pairs.
    cells, inverses
        (B, 3, 3), in Å and 1/Å.
    volumes
        (B,), positive, in Å^3.
    fractional
        (B, n, 3) coordinates of each slot; not wrapped.
    """

    table: PairTable
    cells: torch.Tensor
    inverses: torch.Tensor
    volumes: torch.Tensor
    fractional: torch.Tensor

    @classmethod
    def from_batch(cls, batch: Batch, table: PairTable) -> Crystals:
        """Return the crystals of a batch."""
        inverses = torch.linalg.inv(batch.cells)
        volumes = torch.linalg.det(batch.cells).abs()
        positions = padded(batch.positions, table)
        return cls(table, batch.cells, inverses, volumes, torch.matmul(positions, inverses))


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


def padded(values: torch.Tensor, table: PairTable) -> torch.Tensor:
    """Return per-atom values (N, ...) by slot (B, n, ...), zero in empty slots."""
    if table.is_full:
        return values[None]
    empty = values.new_zeros(1, *values.shape[1:])
    return torch.cat([values, empty])[table.slots]


def find_pairs(crystals: Crystals, cutoff: float) -> Pairs:
    """Return all pairs closer than the cutoff (Å), and a few that are a hair beyond it.

    The list is a function of the geometry alone, order included, so that sums over it repeat to the
    last bit.
    """
    table = crystals.table
    between = crystals.fractional[:, table.second] - crystals.fractional[:, table.first]
    nearest = torch.matmul(between - between.round(), crystals.cells)  # (B, P, 3)
    shifts = _shifts(*_reach(crystals.inverses, cutoff), crystals.cells.device)
    steps = torch.matmul(shifts, crystals.cells)  # (B, S, 3)
    near = _squared_distances(nearest, steps) < (cutoff * (1 + _ROUNDING)) ** 2
    near[:, table.selves, : len(shifts) // 2 + 1] = False  # itself, and one of opposite images
    if not table.is_full:
        near &= table.both[:, :, None]
    found = _indices(near)
    entry = torch.div(found, len(shifts), rounding_mode="floor")
    shift = found - entry * len(shifts)
    system, pair, shift = _by_system(entry, shift, table, len(shifts))
    by_entry = nearest.reshape(-1, 3).T.contiguous()
    by_shift = steps.reshape(-1, 3).T.contiguous()
    vectors = [a[entry].add_(b[shift]) for a, b in zip(by_entry, by_shift, strict=True)]
    return Pairs(
        entry=entry,
        system=system,
        first=_atoms(table, table.first, system, pair),
        second=_atoms(table, table.second, system, pair),
        vectors=torch.stack(vectors),
    )


def _squared_distances(nearest: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Return |nearest + step|^2 (B, P, S) in single precision, by one matrix product."""
    near, far = nearest.float(), steps.float()
    near_squares = (near * near).sum(2, keepdim=True)
    far_squares = (far * far).sum(2, keepdim=True)
    left = torch.cat([2 * near, near_squares, torch.ones_like(near_squares)], dim=2)
    right = torch.cat([far, torch.ones_like(far_squares), far_squares], dim=2)
    return torch.matmul(left, right.transpose(1, 2))


def _indices(flags: torch.Tensor) -> torch.Tensor:
    """Return where (M,) the flattened flags are set; numpy is five times faster at it."""
    if flags.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(flags.numpy()))
    return flags.flatten().nonzero().squeeze(1)


def _by_system(
    entry: torch.Tensor, shift: torch.Tensor, table: PairTable, n_shifts: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the structure (M,), the pair within it, and the shift counted over all structures."""
    if table.is_full:
        return torch.zeros_like(entry), entry, shift
    system = torch.div(entry, len(table.first), rounding_mode="floor")
    return system, entry - system * len(table.first), shift + system * n_shifts


def _atoms(
    table: PairTable, slot: torch.Tensor, system: torch.Tensor, pair: torch.Tensor
) -> torch.Tensor:
    """Return the running numbers (M,) of the atoms at one end of pairs."""
    chosen = slot.index_select(0, pair)
    return chosen if table.is_full else table.slots[system, chosen]


def _reach(inverses: torch.Tensor, cutoff: float) -> tuple[int, int, int]:
    """Return how many cells a nearest image must be moved by, at most, along each axis."""
    a, b, c = (cutoff * inverses.norm(dim=1)).amax(0).tolist()
    return tuple(math.floor(x + 0.5 + 1e-9) for x in (a, b, c))


@lru_cache(maxsize=64)
def _shifts(a: int, b: int, c: int, device: torch.device) -> torch.Tensor:
    """Return the whole-cell shifts (S, 3): the zero shift in the middle, negatives mirrored."""
    grid = itertools.product(range(-a, a + 1), range(-b, b + 1), range(-c, c + 1))
    return torch.tensor(list(grid), dtype=torch.float64, device=device)

"""Neighbour lists, kept for a few steps because they reach a skin farther than needed.

Lattice vectors are kept as whole numbers of cells: distances recomputed from them by products
spelled out are the same to the last bit whatever shares the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch

from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.network import Edges
from gasearch.potentials.networks.network_potential import is_sane
from gasearch.potentials.pairs import Crystals, PairTable, find_pairs
from gasearch.relax.batched.state import select
from gasearch.relax.batched.strain import rows_times

SKIN = 0.6
"""Å; a relaxation from ideal sites moves atoms by a few tenths, most of it in the first steps."""

_PAIRS = 10**6  # of atoms, in one search


class SkinList:
    """The pairs of a changing set of structures; each is searched anew when its skin is used up.

    Parameters
    ----------
    cutoff
        Of the pairs that are asked for, in Å.
    skin
        How much farther the list reaches, in Å.
    device
        Of the structures.
    """

    def __init__(self, cutoff: float, device: torch.device, skin: float = SKIN) -> None:
        self.cutoff = cutoff
        self.skin = skin
        none = torch.zeros(0, dtype=torch.int64, device=device)
        real = torch.zeros(0, 3, dtype=torch.float64, device=device)
        self._bonds = Bonds(none, none, none, real)
        self._positions = real
        self._cells = real.new_zeros(0, 3, 3)

    def join(self, counts: torch.Tensor) -> None:
        """Take in structures with these numbers of atoms (B,), behind the others."""
        n, size = int(counts.sum()), len(counts)
        # Far from where any atom is, so that the first question leads to a search.
        nowhere = self._positions.new_full((n, 3), torch.inf)
        cells = torch.eye(3, dtype=torch.float64, device=self._cells.device).repeat(size, 1, 1)
        self._positions = torch.cat([self._positions, nowhere])
        self._cells = torch.cat([self._cells, cells])

    def select(self, keep: torch.Tensor, system: torch.Tensor) -> None:
        """Forget all but some structures (B,); `system` (N,) is that of all atoms before."""
        atoms = keep[system]
        self._positions, self._cells = self._positions[atoms], self._cells[keep]
        bonds = self._bonds.chosen(keep[self._bonds.system])
        atom, row = atoms.cumsum(0) - 1, keep.cumsum(0) - 1
        self._bonds = Bonds(row[bonds.system], atom[bonds.first], atom[bonds.second], bonds.offsets)

    def bonds(self, batch: Batch) -> Bonds:
        """Return all pairs within the cutoff at this geometry, of structures that make sense."""
        stale = ~self._is_good(batch)
        if bool(stale.any()):
            self._search(batch, stale)
        near = squared_lengths(self._bonds.vectors(batch)) < self.cutoff**2
        return self._bonds.chosen(near)

    def _is_good(self, batch: Batch) -> torch.Tensor:
        """Return whose list (B,) holds every pair within the cutoff.

        A pair that is not in the list was longer than cutoff + skin. A deformation F shortens it by
        its smallest stretch at most, which is not below 1 - |F - 1|; what the atoms moved besides,
        twice the largest move at most, where a shift of the whole crystal does not count.
        """
        size = len(batch)
        deformation = torch.linalg.solve(self._cells, batch.cells)
        identity = torch.eye(3, dtype=torch.float64, device=batch.cells.device)
        stretch = 1 - (deformation - identity).flatten(1).norm(dim=1)
        carried = torch.bmm(self._positions[:, None], deformation[batch.system])[:, 0]
        moves = batch.positions - carried
        counts = torch.bincount(batch.system, minlength=size)[:, None]
        drift = moves.new_zeros(size, 3).index_add_(0, batch.system, moves) / counts
        lengths = (moves - drift[batch.system]).norm(dim=1)
        farthest = lengths.new_zeros(size).scatter_reduce(0, batch.system, lengths, "amax")
        good: torch.Tensor = (self.cutoff + self.skin) * stretch - 2 * farthest >= self.cutoff
        return good

    def _search(self, batch: Batch, stale: torch.Tensor) -> None:
        """Find the pairs of some structures anew."""
        atoms = stale[batch.system]
        self._positions = torch.where(atoms[:, None], batch.positions, self._positions)
        self._cells = torch.where(stale[:, None, None], batch.cells, self._cells)
        kept = self._bonds.chosen(~stale[self._bonds.system])
        parts = [
            _found(batch, rows, self.cutoff + self.skin)
            for rows in _portions(batch, stale & is_sane(batch))
        ]
        everything = joined([kept, *parts])
        self._bonds = everything.chosen(everything.system.argsort(stable=True))


def edges_of(bonds: Bonds, rows: slice, atoms: slice) -> Edges:
    """Return the pairs of some consecutive structures, as networks read them."""
    bounds = torch.tensor([rows.start, rows.stop], device=bonds.system.device)
    start, stop = torch.searchsorted(bonds.system, bounds).tolist()
    system = bonds.system[start:stop] - rows.start
    first, second = (ends[start:stop] - atoms.start for ends in (bonds.first, bonds.second))
    offsets = bonds.offsets[start:stop]
    return Edges(
        i=torch.cat([first, second]),
        j=torch.cat([second, first]),
        offsets=torch.cat([offsets, -offsets]),
        system=torch.cat([system, system]),
    )


def _portions(batch: Batch, chosen: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield some structures (B,), a few at a time: a search takes memory for all pairs at once."""
    rows = chosen.nonzero().squeeze(1)
    if len(rows):
        most = int(torch.bincount(batch.system)[rows].max())
        yield from rows.split(max(1, _PAIRS // most**2))


def _found(batch: Batch, rows: torch.Tensor, reach: float) -> Bonds:
    """Return the pairs of some structures (R,), with the running numbers of the whole batch."""
    chosen = torch.zeros(len(batch), dtype=torch.bool, device=rows.device)
    chosen[rows] = True
    atoms = chosen[batch.system].nonzero().squeeze(1)
    bonds = find_bonds(select(batch, chosen, batch.system), reach)
    return Bonds(rows[bonds.system], atoms[bonds.first], atoms[bonds.second], bonds.offsets)


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

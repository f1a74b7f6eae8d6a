"""Neighbour lists that outlive a few steps, because they reach a skin farther than needed."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.network import Edges
from gasearch.potentials.networks.network_potential import is_sane
from gasearch.relax.batched.bonds import Bonds, find_bonds, joined, squared_lengths

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

    Attributes
    ----------
    n_searches
        Structures searched so far.
    """

    def __init__(self, cutoff: float, device: torch.device, skin: float = SKIN) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self.n_searches = 0
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
        self.n_searches += int(stale.sum())
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
    part = Batch(
        batch.positions[atoms],
        batch.cells[rows],
        batch.numbers[atoms],
        batch.charges[atoms],
        (chosen.cumsum(0) - 1)[batch.system[atoms]],
    )
    bonds = find_bonds(part, reach)
    return Bonds(rows[bonds.system], atoms[bonds.first], atoms[bonds.second], bonds.offsets)

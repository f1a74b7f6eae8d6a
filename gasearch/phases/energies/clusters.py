"""Clusters of sites of an infinite lattice, those together that symmetry makes alike.

Unlike those of the search's surrogate, which belong to one supercell, these are the same in every
supercell: a cluster that wraps around a small cell meets the same spin twice, as it does in the
crystal that the cell stands for. The surrogate is no case of these: its sites hold any number of
species, its clusters are cut off by the shortest periodic distance, and recorded searches depend on
its sums to the last bit. What is the same stands there once: Ewald sums, and the most probable
prior.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.phases.energies.lattice import Floats, Integers, Lattice, Spins, Supercell


@dataclass(frozen=True, eq=False)
class Orbit:
    """Clusters that the space group takes into each other.

    Parameters
    ----------
    sites
        (n, size) sites of the unit cell: one cluster of each set of translates.
    cells
        (n, size, 3) the cells that they stand in; the first is 0.
    diameter
        Of the cluster, in Å.
    kind
        Such as "Na-Fe".
    """

    sites: Integers
    cells: Integers
    diameter: float
    kind: str

    @property
    def size(self) -> int:
        """Sites in a cluster."""
        return int(self.sites.shape[1])

    def __len__(self) -> int:
        return len(self.sites)


Key = tuple[tuple[int, int, int, int], ...]


def cluster_orbits(
    lattice: Lattice, size: int, reach: float, on: Sequence[bool] | None = None
) -> tuple[Orbit, ...]:
    """Return the orbits of clusters of `size` sites no two farther apart than `reach` Å.

    By ascending diameter.

    Parameters
    ----------
    on
        (n_sites,) the sites of the unit cell that clusters may contain; all by default.
    """
    chosen = np.ones(lattice.n_sites, dtype=bool) if on is None else np.asarray(on, dtype=bool)
    todo = dict.fromkeys(_clusters(lattice, size, reach, chosen))
    found = []
    while todo:
        members = sorted(_images(lattice, next(iter(todo))))
        for member in members:
            todo.pop(member, None)
        found.append(_orbit(lattice, members))
    return tuple(sorted(found, key=lambda o: (round(o.diameter, 3), o.kind)))


def _orbit(lattice: Lattice, members: Sequence[Key]) -> Orbit:
    table = np.array(members, dtype=np.int64)
    sites, cells = table[..., 3], table[..., :3]
    positions = lattice.positions[sites[0]] + cells[0] @ lattice.cell
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    names = [s.name for s in lattice.host.sublattices for _ in s.sites]
    kind = "-".join(sorted(names[site] for site in sites[0].tolist())[::-1])
    return Orbit(sites, cells, float(apart.max()), kind)


def _clusters(
    lattice: Lattice, size: int, reach: float, chosen: NDArray[np.bool_]
) -> Iterator[Key]:
    """Yield all clusters, each once: in the form that all its translates share."""
    near: dict[int, dict[tuple[int, ...], Floats]] = {b: {} for b in range(lattice.n_sites)}
    for a, b, cell, _ in zip(*lattice.neighbours(reach), strict=True) if size > 1 else ():
        if not (chosen[a] and chosen[b]):
            continue
        where = (*cell.tolist(), int(b))
        near[int(a)][where] = lattice.positions[b] + cell @ lattice.cell
    seen: set[Key] = set()
    for b in np.flatnonzero(chosen).tolist():
        for others in _chosen(near[b], size - 1, reach):
            key = _canonical(np.array([(0, 0, 0, b), *others], dtype=np.int64))
            if key not in seen:
                seen.add(key)
                yield key


def _chosen(
    near: dict[tuple[int, ...], Floats], number: int, reach: float
) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield so many of the neighbours of a site that are near to each other too."""
    if number == 0:
        yield ()
        return
    left = list(near.items())
    for n, (where, position) in enumerate(left):
        after = {w: p for w, p in left[n + 1 :] if np.linalg.norm(p - position) <= reach}
        for others in _chosen(after, number - 1, reach):
            yield (where, *others)


def _canonical(cluster: Integers) -> Key:
    """Return the smallest of a cluster's translates that have a site in cell 0; rows (R, b)."""
    forms = []
    for origin in cluster[:, :3]:
        moved = cluster.copy()
        moved[:, :3] -= origin
        rows = sorted(tuple(row) for row in moved.tolist())
        first = rows.index(min(row for row in rows if row[:3] == (0, 0, 0)))
        forms.append((rows[first], *rows[:first], *rows[first + 1 :]))
    return min(forms)


def _images(lattice: Lattice, cluster: Key) -> set[Key]:
    rows = np.array(cluster, dtype=np.int64)
    positions = lattice.positions[rows[:, 3]] + rows[:, :3] @ lattice.cell
    found = set()
    for rotation, shift in lattice.operations:
        sites, cells = lattice.locate(positions @ rotation + shift)
        found.add(_canonical(np.column_stack([cells, sites])))
    return found


@dataclass(frozen=True)
class Reach:
    """How far clusters go, in Å.

    Parameters
    ----------
    pairs, triplets
        Largest distance between two of their sites.
    """

    pairs: float
    triplets: float


class ClusterBasis:
    """The orbits of a model: points, pairs, triplets.

    Parameters
    ----------
    on
        (n_sites,) the sites of the unit cell that clusters may contain; all by default.
    """

    def __init__(self, lattice: Lattice, reach: Reach, on: Sequence[bool] | None = None) -> None:
        self.lattice = lattice
        self.reach = reach
        self.orbits = (
            *cluster_orbits(lattice, 1, 0.0, on),
            *cluster_orbits(lattice, 2, reach.pairs, on),
            *cluster_orbits(lattice, 3, reach.triplets, on),
        )

    def __len__(self) -> int:
        return len(self.orbits)

    def sums(self, cell: Supercell, spins: Spins) -> Floats:
        """Return (n, n_orbits) sums of the products of spins (n, n_sites), per formula unit.

        Spins are numbered as `Supercell` numbers sites.
        """
        n_units = cell.n_cells * self.lattice.n_formula_units
        columns = spins.T.astype(np.float32)
        result = np.empty((len(spins), len(self)))
        for k, clusters in enumerate(self._numbered(cell)):
            product = columns[clusters[:, 0]]
            for n in range(1, clusters.shape[1]):
                product = product * columns[clusters[:, n]]
            result[:, k] = product.sum(axis=0, dtype=np.float64) / n_units
        return result

    @functools.lru_cache(maxsize=8)  # noqa: B019 -- a few cells of one model
    def _numbered(self, cell: Supercell) -> list[Integers]:
        """Return (n_clusters, size) site numbers of all clusters of a supercell, by orbit."""
        return [
            cell.number(
                np.broadcast_to(o.sites, (cell.n_cells, *o.sites.shape)),
                o.cells[None] + cell.points[:, None, None, :],
            ).reshape(-1, o.size)
            for o in self.orbits
        ]

"""Points, pairs and triplets of sublattice sites, those alike by symmetry together."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.host import Host

Integers = NDArray[np.int64]
Floats32 = NDArray[np.float32]


class SiteBasis:
    """What a site holds as numbers: orthogonal functions of its species, all but the constant one.

    A site of two species has one function, +1 for the first and -1 for the second; one of m
    species has m - 1. A *column* is one function on one site.

    Parameters
    ----------
    host
        Its sublattices say what a site may hold.
    """

    def __init__(self, host: Host) -> None:
        widths = host.n_species - 1
        self.sites: Integers = np.repeat(np.arange(host.n_sites), widths)
        self._first = np.concatenate([[0], np.cumsum(widths)[:-1]])
        self._function = np.arange(len(self.sites)) - self._first[self.sites]
        self._values = np.zeros((len(self.sites), int(host.n_species.max())), dtype=np.float32)
        for column, site in enumerate(self.sites):
            m = int(host.n_species[site])
            self._values[column, :m] = contrasts(m)[self._function[column]]
        self._rows = np.arange(len(self.sites))[:, None]

    def __len__(self) -> int:
        return len(self.sites)

    def __call__(self, occupations: NDArray[np.uint8]) -> Floats32:
        """Return (n_columns, n) values for occupations (n, n_sites)."""
        return np.asarray(self._values[self._rows, occupations.T[self.sites]])

    def permuted(self, permutations: Integers) -> Integers:
        """Return (n_operations, n_columns) where site permutations take the columns."""
        return np.asarray(self._first[permutations[:, self.sites]] + self._function)


def contrasts(n_species: int) -> NDArray[np.float64]:
    """Return (n_species - 1, n_species): rows orthogonal to each other and to the constant.

    Each has mean square 1 over the species; for two species it is [[1, -1]].
    """
    if n_species < 2:
        return np.zeros((0, max(n_species, 1)))
    rows = np.zeros((n_species - 1, n_species))
    for k in range(n_species - 1):
        rows[k, k] = n_species - 1 - k
        rows[k, k + 1 :] = -1
    scale = np.sqrt(n_species / (rows**2).sum(axis=1, keepdims=True))
    return np.asarray(rows * scale)


@dataclass(frozen=True, eq=False)
class ClusterOrbits:
    """Clusters of columns, sorted by the orbit that symmetry puts them into.

    Parameters
    ----------
    clusters
        (n_clusters, size) columns.
    starts
        (n_orbits,) where each orbit begins in `clusters`.
    sizes
        (n_orbits,) clusters in each.
    """

    clusters: Integers
    starts: Integers
    sizes: Integers

    def __len__(self) -> int:
        return len(self.starts)

    def correlations(self, columns: Floats32) -> Floats32:
        """Return (n_orbits, n) means of products over each orbit, of columns (n_columns, n)."""
        if not len(self):
            return np.zeros((0, columns.shape[1]), dtype=np.float32)
        products = columns[self.clusters[:, 0]]
        for k in range(1, self.clusters.shape[1]):
            products *= columns[self.clusters[:, k]]
        sums = np.add.reduceat(products, self.starts, axis=0)
        return np.asarray(sums / self.sizes[:, None].astype(np.float32))


def cluster_orbits(host: Host, basis: SiteBasis, size: int, reach: float) -> ClusterOrbits:
    """Return all clusters of `size` sites no two of which are farther apart than `reach` Å.

    Distances are the shortest periodic ones. Sites with several functions give a cluster for each
    choice of them.
    """
    sites = _clusters_of_sites(host, size, reach)
    columns = _with_functions(basis, sites)
    images = basis.permuted(host.permutations)
    base = len(basis) ** np.arange(size, dtype=np.int64)
    smallest = np.full(len(columns), np.iinfo(np.int64).max)
    for image in images:
        np.minimum(smallest, np.sort(image[columns], axis=1) @ base, out=smallest)
    order = np.argsort(smallest, kind="stable")
    _, starts, sizes = np.unique(smallest[order], return_index=True, return_counts=True)
    return ClusterOrbits(columns[order], starts.astype(np.int64), sizes.astype(np.int64))


def _clusters_of_sites(host: Host, size: int, reach: float) -> Integers:
    near = host.distances <= reach
    clusters = np.arange(host.n_sites)[:, None]
    for _ in range(size - 1):
        grown = [
            np.column_stack([np.repeat(cluster[None], len(more), axis=0), more])
            for cluster in clusters
            if len(more := _common_neighbours(near, cluster))
        ]
        if not grown:
            return np.zeros((0, size), dtype=np.int64)
        clusters = np.concatenate(grown)
    return np.asarray(clusters, dtype=np.int64)


def _common_neighbours(near: NDArray[np.bool_], cluster: Integers) -> Integers:
    """Return the sites after the last one of a cluster that are near to all of it."""
    last = int(cluster[-1])
    return np.asarray(last + 1 + np.flatnonzero(near[cluster, last + 1 :].all(axis=0)))


def _with_functions(basis: SiteBasis, sites: Integers) -> Integers:
    """Return (n, size) columns: every choice of functions on each cluster of sites."""
    by_site: dict[int, list[int]] = {}
    for column, site in enumerate(basis.sites.tolist()):
        by_site.setdefault(site, []).append(column)
    if all(len(columns) == 1 for columns in by_site.values()) and len(basis) == len(by_site):
        return sites
    found = [
        choice
        for cluster in sites.tolist()
        for choice in itertools.product(*(by_site.get(site, []) for site in cluster))
    ]
    return np.array(found, dtype=np.int64).reshape(-1, sites.shape[1])


_REACH = 1.4
"""Neighbours lie within so many times the distance to the nearest sublattice site."""


_MOST_JOINT = 2_000
"""Columns up to which neighbours on all sublattices are counted jointly."""


class Surroundings:
    """Numbers of sites by their orbit, what they hold, and how their neighbours are occupied.

    A neighbour counts where it does not hold the first species of its sublattice: a vacancy on a
    working-ion site, Fe3+ on a redox site. The neighbours on all sublattices are counted jointly,
    unless that makes too many columns.
    """

    def __init__(self, host: Host) -> None:
        distances = host.distances + np.diag(np.full(host.n_sites, np.inf))
        near = distances <= _REACH * distances.min(axis=1, keepdims=True)
        shells = []
        for sublattice in host.sublattices:
            shell = np.zeros(near.shape, dtype=np.float32)
            shell[:, sublattice.slice] = near[:, sublattice.slice]
            shells.append(np.ascontiguousarray(shell.T))
        most = [int(shell.sum(axis=0).max()) + 1 for shell in shells]
        self._shells = [shell for shell, m in zip(shells, most, strict=True) if m > 1]
        self._most = [m for m in most if m > 1]
        orbits = np.unique(host.permutations.min(axis=0), return_inverse=True)[1]
        width = int(host.n_species.max())
        self._kinds = orbits.astype(np.int64) * width
        self._n_kinds = (int(orbits.max()) + 1) * width
        self._is_joint = self._n_kinds * int(np.prod(self._most)) <= _MOST_JOINT
        self._n_formula_units = host.n_formula_units

    def __len__(self) -> int:
        counted = np.prod(self._most) if self._is_joint else np.sum(self._most)
        return self._n_kinds * int(counted)

    def __call__(self, occupations: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (n_columns, n) sites per formula unit, for occupations (n, n_sites)."""
        kinds = self._kinds + occupations
        others = (occupations != 0).astype(np.float32)
        counts = [(others @ shell).astype(np.int64) for shell in self._shells]
        if not self._is_joint:
            parts = [
                _histogram(kinds * most + count, self._n_kinds * most)
                for count, most in zip(counts, self._most, strict=True)
            ]
            return np.concatenate(parts) / np.float32(self._n_formula_units)
        codes = kinds
        for count, most in zip(counts, self._most, strict=True):
            codes = codes * most + count
        return _histogram(codes, len(self)) / np.float32(self._n_formula_units)


def _histogram(codes: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """Return (width, n) how often each number stands in rows of codes (n, n_sites)."""
    n = len(codes)
    flat = (codes + np.arange(n)[:, None] * width).ravel()
    return np.bincount(flat, minlength=n * width).reshape(n, width).T.astype(np.float32)

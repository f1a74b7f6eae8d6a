"""How many sites of each kind have which neighbours: what no sum over pairs can express."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.host import Host

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

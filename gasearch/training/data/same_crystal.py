"""Whether two frames are one decoration, relaxed, strained or displaced: their sites are matched.

No host is needed: a map of the lattice onto itself and a shift must bring every atom near an atom
of its own species, oxidation state included.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.potentials.contract import Array, formal_charges, spin_labels

_NEAR = 0.8  # Å: displacement of an atom within one decoration, rigid shift taken out
_NEAR_WITH_SHIFT = 1.2  # Å: half of the distance of neighbouring oxygens
_LATTICE = 0.2  # relative change of products of lattice vectors by strain

_VECTORS = np.array(list(itertools.product((0.0, 1.0, -1.0), repeat=3))[1:])  # of a reduced lattice

Kinds = dict[tuple[int, int, int], NDArray[np.int64]]


def kinds_of(atoms: Atoms) -> Kinds:
    """Return the indices of the atoms of each element, oxidation and spin state, rarest first."""
    found: dict[tuple[int, int, int], list[int]] = {}
    columns = (atoms.numbers, formal_charges(atoms), spin_labels(atoms))
    for k, kind in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        found.setdefault(kind, []).append(k)
    ordered = sorted(found.items(), key=lambda item: (len(item[1]), item[0]))
    return {kind: np.array(indices) for kind, indices in ordered}


def is_moved_copy(one: Atoms, other: Atoms) -> bool:
    """Whether each atom of one structure lies near the same atom of the other, by its number."""
    if not np.array_equal(one.numbers, other.numbers):
        return False
    if not np.array_equal(formal_charges(one), formal_charges(other)):
        return False
    if not np.array_equal(spin_labels(one), spin_labels(other)):
        return False
    if _change(one.cell.array, _metric(other.cell.array)) > _LATTICE:
        return False
    between = _scaled(other) - _scaled(one)
    between -= between[0]
    return _are_near((between - np.round(between)) @ one.cell.array)


def is_same_crystal(one: Atoms, other: Atoms) -> bool:
    """Whether a symmetry of the lattice and a shift carry one decoration into the other."""
    mine, others = kinds_of(one), kinds_of(other)
    if {k: len(v) for k, v in mine.items()} != {k: len(v) for k, v in others.items()}:
        return False
    rarest = next(iter(mine))
    scaled, anchor = _scaled(one), mine[rarest][0]
    for positions in _placed(one, other):
        for start in others[rarest]:
            shifted = positions + (scaled[anchor] - positions[start])
            if _coincide(scaled, shifted, mine, others, one.cell.array):
                return True
    return False


def _placed(one: Atoms, other: Atoms) -> Iterator[Array]:
    """Yield the scaled positions of the other in each setting of its lattice that fits."""
    own, metric = _metric(one.cell.array), _metric(other.cell.array)
    lengths = ((_VECTORS @ metric) * _VECTORS).sum(axis=1)
    fitting = [_VECTORS[np.abs(lengths / own[k, k] - 1) <= _LATTICE] for k in range(3)]
    settings = np.array(list(itertools.product(*fitting))).reshape(-1, 3, 3)
    settings = settings[np.isclose(np.abs(np.linalg.det(settings)), 1)]
    changes = _change(one.cell.array, settings @ metric @ settings.transpose(0, 2, 1))
    scaled = _scaled(other)
    for k in np.argsort(changes, kind="stable"):
        if changes[k] > _LATTICE:
            return
        yield scaled @ np.linalg.inv(settings[k])


def _coincide(scaled: Array, shifted: Array, mine: Kinds, others: Kinds, cell: Array) -> bool:
    found = []
    for kind, indices in mine.items():
        between = shifted[others[kind]][None] - scaled[indices][:, None]
        between = (between - np.round(between)) @ cell
        distances = np.linalg.norm(between, axis=2)
        nearest = distances.argmin(axis=1)
        if distances.min(axis=1).max() > _NEAR_WITH_SHIFT or len(set(nearest)) < len(nearest):
            return False
        found.append(between[np.arange(len(nearest)), nearest])
    return _are_near(np.concatenate(found))


def _are_near(displacements: Array) -> bool:
    centred = displacements - displacements.mean(axis=0)
    return bool(np.linalg.norm(centred, axis=1).max() < _NEAR)


def _scaled(atoms: Atoms) -> Array:
    return np.asarray(atoms.get_scaled_positions(wrap=False))


def _metric(cell: Array) -> Array:
    """Return the products of the lattice vectors, of a cell scaled to volume 1."""
    return np.asarray(cell @ cell.T / abs(np.linalg.det(cell)) ** (2 / 3))


def _change(cell: Array, metrics: Array) -> Array:
    """Return how far metrics (..., 3, 3) are from that of a cell, relative to its lengths."""
    own = _metric(cell)
    lengths = np.sqrt(np.diag(own))
    changes: Array = np.abs((metrics - own) / np.outer(lengths, lengths)).max(axis=(-2, -1))
    return changes

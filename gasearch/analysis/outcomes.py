"""Which candidates relaxed into one and the same crystal, though their charge orders differ.

A potential that does not see oxidation states, or an order that collapsed without a trace in the
moments, gives several labels one energy and one geometry: that is one outcome, not several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.store.population_store import PopulationStore

ENERGY = 1e-3
"""eV per formula unit; relaxations that end at one minimum differ by less."""
DISTANCE = 0.05
"""Å, by which any distance may differ; a hole on another Fe moves its oxygens by 0.14."""
_OFF_SITE = 1.6  # Å


@dataclass(frozen=True, eq=False)
class _Shape:
    """A relaxed crystal without oxidation states, however it is turned and shifted.

    Parameters
    ----------
    elements
        (n_sites,) atomic numbers on the sublattice sites; 0 where one is vacant.
    between
        (n_sites, n_sites) distances between them, in Å; NaN where one is vacant.
    around
        (n_sites, n_framework) distances to the framework, sorted for each of its elements.
    """

    elements: NDArray[np.int64]
    between: NDArray[np.float64]
    around: NDArray[np.float64]


def one_outcome(
    host: Host, store: PopulationStore, energies: Mapping[int, float]
) -> dict[int, int]:
    """Return the candidates that ended as a lower one did, each with that lower one.

    Parameters
    ----------
    energies
        By candidate, of the whole cell, in eV; of one composition.
    """
    window = ENERGY * host.n_formula_units
    ranking = sorted(energies, key=lambda number: (energies[number], number))
    shapes: dict[int, _Shape | None] = {}

    def shape(number: int) -> _Shape | None:
        if number not in shapes:
            shapes[number] = _shape(host, store, number)
        return shapes[number]

    found: dict[int, int] = {}
    first: list[int] = []
    for number in ranking:
        near = (one for one in first if energies[number] - energies[one] <= window)
        same = next((one for one in near if _alike(host, shape(number), shape(one))), None)
        if same is None:
            first.append(number)
        else:
            found[number] = same
    return found


def _shape(host: Host, store: PopulationStore, number: int) -> _Shape | None:
    """Return the shape of a candidate; None where its atoms are not on the sites of the host."""
    atoms, proposal = store.relaxed(number).atoms, store.proposal(number)
    # Relaxations start from the canonical decoration; in early runs, from the proposed one.
    starts = [
        Decoration.from_fingerprint(host, proposal.fingerprint),
        Decoration.from_bytes(host, proposal.occupation),
    ]
    nearest = min(starts, key=lambda one: _farthest(one.to_atoms(), atoms))
    if _farthest(nearest.to_atoms(), atoms) > _OFF_SITE:
        return None
    elements = host.numbers[np.arange(host.n_sites), nearest.occupation].astype(np.int64)
    numbers = host.atoms.numbers.copy()
    numbers[host.sites] = elements
    distances = np.full((len(numbers), len(numbers)), np.nan)
    filled = np.flatnonzero(numbers)
    distances[np.ix_(filled, filled)] = atoms.get_all_distances(mic=True)
    kinds = [host.framework_sites[numbers[host.framework_sites] == z] for z in _framework(host)]
    around = [np.sort(distances[np.ix_(host.sites, sites)], axis=1) for sites in kinds]
    return _Shape(
        elements,
        distances[np.ix_(host.sites, host.sites)],
        np.hstack([np.empty((host.n_sites, 0)), *around]),
    )


def _farthest(start: Atoms, atoms: Atoms) -> float:
    """Return how far the farthest atom is from its site, in Å, a rigid shift taken out."""
    if not np.array_equal(start.numbers, atoms.numbers):
        return np.inf
    moved = atoms.get_scaled_positions() - start.get_scaled_positions()
    moved -= np.round(moved)
    moved -= moved.mean(axis=0)
    return float(np.linalg.norm((moved - np.round(moved)) @ atoms.cell.array, axis=1).max())


def _framework(host: Host) -> Sequence[int]:
    return sorted(set(host.atoms.numbers[host.framework_sites].tolist()))


def _alike(host: Host, one: _Shape | None, other: _Shape | None) -> bool:
    """Return whether an operation of the host takes one shape to the other."""
    if one is None or other is None:
        return False
    fits = (other.elements[host.permutations] == one.elements).all(axis=1)
    return any(
        _equal(one.around, other.around[where])
        and _equal(one.between, other.between[np.ix_(where, where)])
        for where in host.permutations[fits]
    )


def _equal(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return not bool((np.abs(one - other) > DISTANCE).any())

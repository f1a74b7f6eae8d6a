"""Atoms that are too close to each other to be true, and sites that cannot both be filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

FUSED = 0.1  # Å; copies of one atom this near are one atom with rounded coordinates
_TOO_CLOSE = 0.55  # of the sum of covalent radii; C-N of a cyanide has 0.8, split sites go by share
_BOTH = 1.01  # occupancies that together are more cannot exclude each other


def too_close(
    atoms: Atoms, occupied: NDArray[np.float64], limit: float | None = None
) -> list[tuple[int, int, float]]:
    """Return pairs of sites and their distances in Å that no crystal has, the shortest first.

    Sites that are never filled both, by their occupancies, are left out.

    Parameters
    ----------
    occupied
        (n_atoms,) occupancies, from 0 to 1.
    limit
        In Å; by default a share of the covalent radii.
    """
    cutoff = _TOO_CLOSE * covalent_radii[atoms.numbers] if limit is None else limit
    i, j, d = neighbor_list("ijd", atoms, cutoff)
    pairs = [
        (float(length), int(one), int(other))
        for one, other, length in zip(i, j, d, strict=True)
        if one <= other and occupied[one] + occupied[other] > _BOTH and occupied[[one, other]].all()
    ]
    return [(one, other, length) for length, one, other in sorted(pairs)]


def most_filled(atoms: Atoms, sites: Sequence[int], limit: float) -> float:
    """Return how many sites can be filled at most, no two closer than a limit in Å."""
    first, second = neighbor_list("ij", atoms[list(sites)], limit)
    pairs = sorted({(i, j) for i, j in zip(first.tolist(), second.tolist(), strict=True) if i < j})
    if not pairs:
        return float(len(sites))
    table = np.zeros((len(pairs), len(sites)))
    for row, pair in enumerate(pairs):
        table[row, list(pair)] = 1
    ones = np.ones(len(sites))
    answer: Any = milp(
        -ones,
        constraints=LinearConstraint(table, ub=1),
        integrality=ones.astype(int),
        bounds=Bounds(0, 1),
    )
    return float(round(-answer.fun))

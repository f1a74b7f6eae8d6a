"""A guess at the second derivatives of the energy of an ionic crystal, to start a relaxation with.

Any positive guess leads to the same minimum. One that knows stiff bonds from soft ones leads there
in half the force calls: in olivine a P-O bond is twenty times stiffer than a Na-O bond.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from ase.units import Bohr, Hartree
from numpy.typing import NDArray
from scipy.sparse import coo_array

from gasearch.relax.geometry import charge_labels

Array = NDArray[np.float64]

REACH = 4.0
"""Bonds up to this length are springs, in Å."""
SHORTEST = 1.0
"""Å; atoms on top of each other are no spring without end."""
ON_SITE = 2.0
"""What holds each atom besides, in eV/Å^2."""
ELASTIC = 0.2
"""What holds the cell besides, in eV/Å^3: 32 GPa."""


def model_hessian(atoms: Atoms) -> Array:
    """Return second derivatives (3 n_atoms + 9, 3 n_atoms + 9) by positions and strain.

    Each pair of ions of which at least one is an anion is a spring of e^2 |q q'| / r^3 along its
    axis, with formal charges: 40 eV/Å^2 for P-O, 6 for Fe-O, 2 for Na-O, 4 for O-O in PO4.
    The strain is a symmetric matrix, all nine elements written out.
    """
    n = len(atoms)
    ends, vectors, stiffness = _springs(atoms)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), SHORTEST)
    axes = vectors / lengths[:, None]
    strains = (axes[:, :, None] * vectors[:, None]).reshape(-1, 9)  # symmetric: axis times axis
    columns = np.hstack(
        [
            3 * ends[:, :1] + np.arange(3),
            3 * ends[:, 1:] + np.arange(3),
            np.broadcast_to(3 * n + np.arange(9), (len(ends), 9)),
        ]
    )
    stretch = np.hstack([-axes, axes, strains]) * np.sqrt(stiffness)[:, None]
    rows = np.repeat(np.arange(len(ends)), columns.shape[1])
    shape = (len(ends), 3 * n + 9)
    springs = coo_array((stretch.ravel(), (rows, columns.ravel())), shape=shape).tocsr()
    hessian = np.asarray((springs.T @ springs).toarray())
    held = np.full(3 * n + 9, ON_SITE)
    held[3 * n :] = ELASTIC * atoms.cell.volume
    hessian[np.diag_indices_from(hessian)] += held
    return hessian


def _springs(atoms: Atoms) -> tuple[NDArray[np.int64], Array, Array]:
    """Return ends (m, 2), vectors (m, 3) in Å and stiffness (m,) in eV/Å^2."""
    charges = charge_labels(atoms)
    first, second, vectors, lengths = neighbor_list("ijDd", atoms, REACH)
    bonded = (charges[first] < 0) | (charges[second] < 0)
    first, second, vectors, lengths = (a[bonded] for a in (first, second, vectors, lengths))
    products = np.abs(charges[first] * charges[second])
    # Each pair comes twice, once from either end.
    stiffness = Hartree * Bohr * products / np.maximum(lengths, SHORTEST) ** 3 / 2
    return np.stack([first, second], axis=1), vectors, stiffness

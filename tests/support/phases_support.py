"""What tests of phase diagrams share: small hosts whose thermodynamics can be summed up."""

import itertools

import numpy as np
from ase import Atoms
from declared_hosts import FE, NA, species

from gasearch.crystal.declaration import HostDeclaration
from gasearch.phases.energies.clusters import ClusterBasis, Reach
from gasearch.phases.energies.hamiltonian import Hamiltonian
from gasearch.phases.energies.lattice import Lattice, spins_of


def arranged(occupations, numbers):
    """Return occupations of a host as spins, in the order of its supercell's sites."""
    spins = np.empty(occupations.shape, dtype=np.int8)
    spins[:, numbers] = spins_of(occupations)
    return spins


def square():
    """Ions and charges on the two colours of a square lattice, 4 Å apart."""
    side = 4 * 2**0.5
    atoms = Atoms(
        ["Na", "Fe", "N"],
        scaled_positions=[(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5)],
        cell=[side, side, 20],
        pbc=True,
    )
    (nitride,) = species("N3-")
    return HostDeclaration("square", atoms, (NA, FE), {"N": nitride}, "NaFeN")


def ising(coupling):
    """The Ising model on the square lattice, in which ions and charges are the two colours."""
    basis = ClusterBasis(Lattice(square()), Reach(4.1, 0.0))
    strengths = [-coupling if orbit.size == 2 else 0.0 for orbit in basis.orbits]
    return Hamiltonian(basis, np.array(strengths))


def arrangements(cell, n_working):
    """Return all neutral arrangements of an olivine cell with so many ions, as spins."""
    n = cell.n_working
    chosen = list(itertools.combinations(range(n), n_working))
    up = -np.ones((len(chosen), n), dtype=np.int8)
    for row, where in zip(up, chosen, strict=True):
        row[list(where)] = 1
    return np.array([np.concatenate([ions, charges]) for ions in up for charges in up])

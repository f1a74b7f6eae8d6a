"""A lattice and a Hamiltonian."""

import numpy as np
import pytest
from declared_hosts import olivine

from gasearch.phases.energies.clusters import ClusterBasis, Reach
from gasearch.phases.energies.hamiltonian import Hamiltonian
from gasearch.phases.energies.lattice import Lattice


@pytest.fixture(scope="session")
def lattice():
    return Lattice(olivine().declaration)


@pytest.fixture(scope="session")
def hamiltonian(lattice):
    """Random interactions and screened charges."""
    basis = ClusterBasis(lattice, Reach(6.5, 5.0))
    rng = np.random.default_rng(2)
    return Hamiltonian(basis, rng.normal(size=len(basis)) * 0.004, 0.05, 0.3)

"""What tests of phase diagrams share."""

import numpy as np

from gasearch.phases.energies.lattice import spins_of


def arranged(occupations, numbers):
    """Return occupations of a host as spins, in the order of its supercell's sites."""
    spins = np.empty(occupations.shape, dtype=np.int8)
    spins[:, numbers] = spins_of(occupations)
    return spins

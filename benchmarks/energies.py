"""Energies of decorations on a frozen framework: point charges, and seeded random terms.

Every function here takes occupations (n, n_sites) of one host and gives energies (n,) in eV per
formula unit; equivalent occupations agree to within rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.host import Host
from gasearch.search.surrogate.coulomb import CoulombEnergy

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Digits = NDArray[np.uint8]
EnergyFunction = Callable[[Digits], Floats]

PERMITTIVITY = 10.0
"""Screens the Coulomb part of the many-body landscape.

At x = 2/3 it takes the spread from 637 to 64 meV/f.u., the scale of PBE+U: the ten orders of the
28-atom cell at x = 1/2 span 300 meV/f.u.
"""
PAIR_REACH, TRIPLET_REACH, SHELL_REACH, DECAY = 7.0, 5.75, 4.5, 3.0
"""How far the random terms reach, and how fast those of pairs and triplets decay, in Å."""


def coulomb_energy(host: Host) -> EnergyFunction:
    """Return the Coulomb energy of formal charges on the host's sites, framework included."""
    return CoulombEnergy(host)


def many_body_energy(
    host: Host, occupations: Digits, orbit_sizes: Integers, seed: int
) -> EnergyFunction:
    """Return Coulomb energy over `PERMITTIVITY` plus random terms of the same spread.

    The random terms, with s = +1 for a site's first species (Na, Fe2+) and -1 for its second:

    - pairs: J s_i s_j over all pairs of sublattice sites up to 7 Å apart;
    - triplets: J s_i s_j s_k over all triplets whose three edges are no longer than 5.75 Å;
    - surroundings: around each site a number drawn for (what the site holds, how many of its
      neighbours up to 4.5 Å hold their second species, counted per sublattice), so that it is no
      sum over pairs or triplets.

    Distances are the shortest periodic ones. Clusters that the host's symmetry maps onto each
    other share one J, drawn from a normal distribution times exp(-longest edge / 3 Å); equivalent
    sites share one table of surroundings, drawn from a normal distribution. Each of the three
    parts is scaled to the same standard deviation over all raw decorations of the composition,
    then their sum to that of the screened Coulomb energy, whose mean the landscape keeps.

    Parameters
    ----------
    occupations
        (n, n_sites) all distinct decorations of the composition, or a sample of the raw ones, for
        the scaling.
    orbit_sizes
        (n,) how many raw decorations each stands for; ones for a sample of the raw ones.
    """
    if np.any(host.n_species != 2):
        raise ValueError("the random terms are for sites that hold one of two species.")
    rng = np.random.default_rng(seed)
    coulomb = coulomb_energy(host)
    parts = [
        _cluster_energy(host, 2, PAIR_REACH, rng),
        _cluster_energy(host, 3, TRIPLET_REACH, rng),
        _surroundings_energy(host, rng),
    ]
    scales = [1 / spread(part(occupations), orbit_sizes) for part in parts]
    random = _weighted_sum(parts, scales)
    wanted = spread(coulomb(occupations), orbit_sizes) / PERMITTIVITY
    values = random(occupations)
    factor = wanted / spread(values, orbit_sizes)
    mean = float(np.average(values, weights=orbit_sizes))

    def energy(given: Digits) -> Floats:
        return coulomb(given) / PERMITTIVITY + factor * (random(given) - mean)

    return energy


def spread(energies: Floats, orbit_sizes: Integers) -> float:
    """Return the standard deviation over raw decorations, in the unit of the energies.

    Those without a valid energy, an infinite one, are left out.
    """
    valid, weights = energies[np.isfinite(energies)], orbit_sizes[np.isfinite(energies)]
    mean = np.average(valid, weights=weights)
    return float(np.sqrt(np.average((valid - mean) ** 2, weights=weights)))


def _weighted_sum(parts: Sequence[EnergyFunction], weights: Sequence[float]) -> EnergyFunction:
    def energy(occupations: Digits) -> Floats:
        return np.asarray(
            sum(w * part(occupations) for w, part in zip(weights, parts, strict=True))
        )

    return energy


def _cluster_energy(
    host: Host, size: int, reach: float, rng: np.random.Generator
) -> EnergyFunction:
    orbits = cluster_orbits(host, size, reach)
    strengths = [rng.normal() * np.exp(-_longest_edge(host, orbit[0]) / DECAY) for orbit in orbits]

    def energy(occupations: Digits) -> Floats:
        signs = 1.0 - 2.0 * occupations
        total = np.zeros(len(signs))
        for orbit, strength in zip(orbits, strengths, strict=True):
            total += strength * signs[:, orbit].prod(axis=2).sum(axis=1)
        return total / host.n_formula_units

    return energy


def cluster_orbits(host: Host, size: int, reach: float) -> list[Integers]:
    """Return all clusters of `size` sublattice sites, those alike by symmetry together.

    Each orbit is an array (n_clusters, size) of sites in ascending order; a cluster belongs where
    no two of its sites are farther apart than `reach` Å.
    """
    left = dict.fromkeys(
        sites
        for sites in itertools.combinations(range(host.n_sites), size)
        if _longest_edge(host, sites) <= reach
    )
    orbits = []
    while left:
        images = np.sort(host.permutations[:, list(next(iter(left)))], axis=1)
        orbit = sorted(set(map(tuple, images.tolist())))
        for cluster in orbit:
            del left[cluster]
        orbits.append(np.array(orbit))
    return orbits


def _longest_edge(host: Host, sites: Iterable[int]) -> float:
    return max(host.distances[i, j] for i, j in itertools.combinations(sites, 2))


def _surroundings_energy(host: Host, rng: np.random.Generator) -> EnergyFunction:
    near = (host.distances <= SHELL_REACH) & (host.distances > 0)
    shells = [np.zeros_like(near) for _ in host.sublattices]
    for shell, sublattice in zip(shells, host.sublattices, strict=True):
        shell[:, sublattice.slice] = near[:, sublattice.slice]
    orbit_of = np.unique(host.permutations.min(axis=0), return_inverse=True)[1]
    sizes = [int(shell.sum(axis=1).max()) + 1 for shell in shells]
    table = rng.normal(size=(int(orbit_of.max()) + 1, 2, *sizes))

    def energy(occupations: Digits) -> Floats:
        digits = occupations.astype(np.int64)
        counts = [digits @ shell.T.astype(np.int64) for shell in shells]
        return np.asarray(table[(orbit_of, digits, *counts)].sum(axis=1) / host.n_formula_units)

    return energy

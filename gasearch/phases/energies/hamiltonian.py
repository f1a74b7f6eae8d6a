"""The energy of any arrangement in any supercell: cluster interactions and screened charges."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gasearch.phases.energies.clusters import ClusterBasis
from gasearch.phases.energies.coulomb import FormalCharges
from gasearch.phases.energies.lattice import Floats, Integers, Lattice, Spins, Supercell, repeated


class Hamiltonian:
    """Energies as sums over clusters of spins, and formal charges screened by one constant.

    Parameters
    ----------
    basis
        Its orbits, and the lattice.
    interactions
        (n_orbits,) in eV: of each cluster, times the product of its spins.
    inverse_dielectric
        What the Coulomb energy of formal charges is multiplied by; 0 to leave it out.
    constant
        In eV/f.u.
    """

    def __init__(
        self,
        basis: ClusterBasis,
        interactions: Floats,
        inverse_dielectric: float = 0.0,
        constant: float = 0.0,
    ) -> None:
        self.basis = basis
        self.lattice: Lattice = basis.lattice
        self.interactions = np.asarray(interactions, dtype=float)
        self.inverse_dielectric = inverse_dielectric
        self.constant = constant

    @functools.cached_property
    def acts_on(self) -> Integers:
        """Return the sites of the unit cell whose spins the energy depends on."""
        inside = [o.sites.ravel() for o in self.basis.orbits]
        every = [np.arange(self.lattice.n_sites)] if self.inverse_dielectric else []
        return np.unique(np.concatenate([*inside, *every]))

    def energies(self, cell: Supercell, spins: Spins) -> Floats:
        """Return (n,) in eV/f.u. of spins (n, n_sites), numbered as `Supercell` numbers sites."""
        found = self.constant + self.basis.sums(cell, spins) @ self.interactions
        if self.inverse_dielectric:
            found += self.inverse_dielectric * coulomb(cell, spins)
        return np.asarray(found)


@functools.lru_cache(maxsize=8)
def formal_charges(lattice: Lattice) -> FormalCharges:
    """Return the Coulomb energy of a lattice's formal charges, computed once."""
    return FormalCharges(lattice)


def coulomb(cell: Supercell, spins: Spins) -> Floats:
    """Return (n,) Coulomb energies in eV/f.u. of spins (n, n_sites) in a supercell."""
    among, fields, constant = _coulomb_matrix(cell)
    s = spins.astype(float)
    return np.asarray(((s @ among / 2) * s).sum(axis=1) + s @ fields + constant)


@functools.lru_cache(maxsize=16)
def _coulomb_matrix(cell: Supercell) -> tuple[Floats, Floats, float]:
    """Return pairs (n, n), fields (n,) and a constant, in eV/f.u."""
    from gasearch.search.surrogate.coulomb import ewald_matrix

    lattice = cell.lattice
    charges = formal_charges(lattice)
    n_units = cell.n_cells * lattice.n_formula_units
    places = (cell.points @ lattice.cell)[:, None] + lattice.positions[None]
    matrix = ewald_matrix(cell.matrix @ lattice.cell, places.reshape(-1, 3))
    contrast = np.tile(lattice.contrast, cell.n_cells)
    fields = np.tile(charges.fields, cell.n_cells)
    among = matrix * np.outer(contrast, contrast)
    return among / n_units, fields / n_units, charges.constant / lattice.n_formula_units


@dataclass(frozen=True, eq=False)
class Interactions:
    """A Hamiltonian in a repeated unit cell, as Monte Carlo needs it. Energies in eV.

    The energy is `constant` + sum of fields times spins + sum over pairs + sum over triplets.

    Parameters
    ----------
    fields
        (n_sites,) of the unit cell.
    pairs
        (n_sites, n_sites, A, B, C) by both sites and the cell between them; [b, b, 0, 0, 0] is 0.
    triplets
        (n, 9) integers: site a in cell 0, then b and its cell, then c and its cell.
    strengths
        (n,) of the triplets, each of which is there once for each of its three sites as the first.
    constant
        Of the whole cell.
    """

    repeats: tuple[int, int, int]
    fields: Floats
    pairs: Floats
    triplets: Integers
    strengths: Floats
    constant: float


def interactions_in(hamiltonian: Hamiltonian, repeats: Sequence[int]) -> Interactions:
    """Return a Hamiltonian's interactions in a cell of so many repeats of the unit cell.

    A cluster that meets one site twice, around a small cell, loses it: the square of a spin is 1.
    """
    lattice = hamiltonian.lattice
    size = np.asarray(repeats)
    n_cells, n = int(np.prod(size)), lattice.n_sites
    constant = hamiltonian.constant * n_cells * lattice.n_formula_units
    fields, pairs = np.zeros(n), np.zeros((n, n, *repeats))
    triplets: dict[tuple[tuple[int, ...], ...], float] = {}
    for orbit, strength in zip(hamiltonian.basis.orbits, hamiltonian.interactions, strict=True):
        for sites, cells in zip(orbit.sites.tolist(), orbit.cells, strict=True):
            left = _once([(b, *c) for b, c in zip(sites, (cells % size).tolist(), strict=True)])
            if not left:
                constant += strength * n_cells
            elif len(left) == 1:
                fields[left[0][0]] += strength
            elif len(left) == 2:
                for first, second in itertools.permutations(left):
                    apart = (np.array(second[1:]) - first[1:]) % size
                    pairs[(first[0], second[0], *apart)] += strength
            else:
                for first, *others in itertools.permutations(left):
                    if others[0] < others[1]:
                        moved = tuple(
                            (b, *((np.array(c) - first[1:]) % size).tolist()) for b, *c in others
                        )
                        key = ((first[0], 0, 0, 0), *sorted(moved))
                        triplets[key] = triplets.get(key, 0.0) + strength
    if hamiltonian.inverse_dielectric:
        charges = formal_charges(lattice)
        fields += hamiltonian.inverse_dielectric * charges.fields
        pairs += hamiltonian.inverse_dielectric * charges.pairs(repeats)
        constant += hamiltonian.inverse_dielectric * charges.constant * n_cells
    own = np.arange(n)
    constant += n_cells / 2 * float(pairs[own, own, 0, 0, 0].sum())
    pairs[own, own, 0, 0, 0] = 0.0
    table = np.array([[k[0][0], *k[1], *k[2]] for k in triplets], dtype=np.int64).reshape(-1, 9)
    return Interactions(
        (int(size[0]), int(size[1]), int(size[2])),
        fields,
        pairs,
        table,
        np.array(list(triplets.values()), dtype=float),
        constant,
    )


def _once(sites: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the sites that are there an odd number of times."""
    return [s for n, s in enumerate(sites) if sites.count(s) % 2 and s not in sites[:n]]


def supercell(lattice: Lattice, repeats: Sequence[int]) -> Supercell:
    """Return the supercell of so many repeats of the unit cell."""
    return Supercell(lattice, repeated(repeats))

"""What the audit of a relaxation needs of a crystal: bonds and distances. No torch here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from gasearch.crystal.species import species_of
from gasearch.errors import GasearchError

_MOST_BONDS = 6
_LONGEST_BOND = 1.45  # of the shortest: a distorted octahedron reaches 1.3, the next shell 1.5
_BOND = 1.25  # of the sum of covalent radii: P-O 2.16 Å, Si-O 2.21 Å
_FRAMEWORK_CHARGE = 3  # smaller cations hop or change their shell without harm


class LeftHandedCellError(GasearchError, ValueError):
    """A cell whose vectors form a left-handed set."""

    def __init__(self, formula: str) -> None:
        super().__init__(formula)
        self.formula = formula

    def __str__(self) -> str:
        return (
            f"the cell of {self.formula} is left-handed (negative volume): some relaxers go uphill "
            "in it; swap two cell vectors."
        )


def check_handedness(atoms: Atoms) -> None:
    """Raise where the cell is left-handed."""
    if atoms.cell.handedness != 1:
        raise LeftHandedCellError(str(atoms.symbols))


def charge_labels(atoms: Atoms) -> NDArray[np.int64]:
    """Return formal oxidation states (n_atoms,), from `initial_charges`."""
    return np.asarray(np.rint(atoms.get_initial_charges()), dtype=np.int64)


def redox_elements(atoms: Atoms) -> frozenset[str]:
    """Return the elements that carry a high-spin moment in their oxidation state here."""
    return frozenset(s.element for s in set(species_of(atoms)) if s.ion.moment > 0)


def redox_sites(atoms: Atoms, elements: frozenset[str] | None = None) -> NDArray[np.int64]:
    """Return the indices (n_redox,) of the redox atoms, in the order of the structure."""
    chosen = redox_elements(atoms) if elements is None else elements
    sites = [i for i, symbol in enumerate(atoms.symbols) if symbol in chosen]
    return np.array(sites, dtype=np.int64)


def mean_bond_lengths(atoms: Atoms, sites: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean length (n_sites,) of the bonds of each site to anions, in Å.

    Six at most, and none that is much longer than the shortest: tetrahedral sites have four.
    """
    anions = np.flatnonzero(charge_labels(atoms) < 0)
    if len(sites) == 0 or len(anions) == 0:
        return np.full(len(sites), np.nan)
    distances = _distances(atoms, sites, anions, reach=1)
    shortest = np.sort(distances.reshape(len(sites), -1), axis=1)[:, :_MOST_BONDS]
    bonds = np.where(shortest <= _LONGEST_BOND * shortest[:, :1], shortest, np.nan)
    return np.asarray(np.nanmean(bonds, axis=1))


def framework_bonds(atoms: Atoms) -> dict[int, tuple[int, ...]]:
    """Return the anions bonded to each framework cation, such as the four O of each P."""
    charges = charge_labels(atoms)
    redox = redox_elements(atoms)
    centres = [
        i
        for i, symbol in enumerate(atoms.symbols)
        if charges[i] >= _FRAMEWORK_CHARGE and symbol not in redox
    ]
    anions = np.flatnonzero(charges < 0)
    if not centres or len(anions) == 0:
        return {}
    radii = covalent_radii[atoms.numbers]
    distances = _distances(atoms, centres, anions, reach=1)  # (centres, anions, images)
    bonded = distances < _BOND * (radii[centres][:, None] + radii[anions])[..., None]
    counts = bonded.sum(axis=2)
    return {
        i: tuple(np.repeat(anions, row).tolist()) for i, row in zip(centres, counts, strict=True)
    }


def closest_pair(atoms: Atoms) -> tuple[int, int, float, float]:
    """Return the two atoms that are closest for their size, and how far apart they are.

    In Å, and as a share of the sum of their covalent radii.
    """
    everyone = np.arange(len(atoms))
    distances = _distances(atoms, everyone, everyone, reach=0)[..., 0]
    np.fill_diagonal(distances, np.inf)
    radii = covalent_radii[atoms.numbers]
    ratio = distances / (radii[:, None] + radii)
    i, j = np.unravel_index(int(np.argmin(ratio)), ratio.shape)
    return int(i), int(j), float(distances[i, j]), float(ratio[i, j])


def _distances(
    atoms: Atoms, first: Sequence[int] | NDArray[np.int64], second: NDArray[np.int64], reach: int
) -> NDArray[np.float64]:
    """Return distances (n_first, n_second, (2 reach + 1)^3) to the images around the nearest."""
    cell = atoms.cell.array
    fractional = np.linalg.solve(cell.T, atoms.positions.T).T
    between = fractional[second][None] - fractional[first][:, None]
    between -= np.round(between)
    steps = range(-reach, reach + 1)
    images = np.array(list(itertools.product(steps, steps, steps)), dtype=float)
    vectors = (between[:, :, None] + images) @ cell
    return np.asarray(np.linalg.norm(vectors, axis=-1))

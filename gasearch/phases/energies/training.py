"""The energies that a Hamiltonian is fitted to: what run folders found, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gasearch.analysis.findings import HELD_FROM
from gasearch.analysis.hull import NoEndMemberError
from gasearch.analysis.joint_hull import JointHull, Member, joint_hull
from gasearch.crystal.host import Host
from gasearch.errors import GasearchError
from gasearch.phases.energies.lattice import Floats, Lattice, Spins, Supercell, spins_of

LEAST_RESULTS = 20
LEAST_COMPOSITIONS = 3


class TooFewEnergiesError(GasearchError, ValueError):
    """Fewer energies than a Hamiltonian can be fitted to."""

    def __init__(self, n_results: int, n_compositions: int, n_left_out: int) -> None:
        super().__init__(n_results, n_compositions, n_left_out)
        self.n_results = n_results
        self.n_compositions = n_compositions
        self.n_left_out = n_left_out

    def __str__(self) -> str:
        out = f" ({self.n_left_out} more are kept by force alone)" if self.n_left_out else ""
        return (
            f"no phase diagram from {self.n_results} valid energies at {self.n_compositions} "
            f"compositions{out}: at least {LEAST_RESULTS} at {LEAST_COMPOSITIONS} are needed; "
            "search on, with a larger budget or in a larger supercell."
        )


@dataclass(frozen=True, eq=False)
class Energies:
    """Energies of orders in one supercell.

    Parameters
    ----------
    name
        Of the supercell, such as "1x2x1".
    spins
        (n, n_sites) numbered as `Supercell` numbers sites.
    x
        (n,) filled share of the working-ion sites.
    energy
        (n,) in eV/f.u.
    """

    name: str
    cell: Supercell
    spins: Spins
    x: Floats
    energy: Floats

    def __len__(self) -> int:
        return len(self.energy)


@dataclass(frozen=True, eq=False)
class Training:
    """What a Hamiltonian is fitted to.

    Parameters
    ----------
    n_left_out
        Valid results that only a hold keeps where they are.
    """

    lattice: Lattice
    cells: tuple[Energies, ...]
    n_left_out: int = 0

    @property
    def x(self) -> Floats:
        """(n,) of all energies, cell by cell."""
        return np.concatenate([one.x for one in self.cells])

    @property
    def energy(self) -> Floats:
        """(n,) in eV/f.u., cell by cell."""
        return np.concatenate([one.energy for one in self.cells])

    @property
    def cell_of(self) -> NDArray[np.int64]:
        """(n,) number of the cell of each energy."""
        return np.repeat(np.arange(len(self.cells)), [len(one) for one in self.cells])

    @property
    def formation(self) -> Floats:
        """(n,) formation energies in eV/f.u., against the lowest at both ends."""
        low, high = self.ends
        line = (high - low) * (self.x - self._x_ends[0]) / (self._x_ends[1] - self._x_ends[0])
        return np.asarray(self.energy - low - line)

    @property
    def _x_ends(self) -> tuple[float, float]:
        return self.lattice.x_range

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest energies at both ends of the range, in eV/f.u."""
        low, high = (self.energy[np.isclose(self.x, end)].min() for end in self._x_ends)
        return float(low), float(high)


def energies_of(
    lattice: Lattice, host: Host, name: str, occupations: NDArray[np.uint8], energy: Floats
) -> Energies:
    """Return energies (n,) in eV/f.u. of occupations (n, n_sites) of one of the host's cells."""
    cell, numbers = Supercell.of(lattice, host)
    spins = np.empty(occupations.shape, dtype=np.int8)
    spins[:, numbers] = spins_of(occupations)
    working = lattice.is_working[np.arange(host.n_sites) % lattice.n_sites]
    x = (spins[:, working] > 0).mean(axis=1)
    return Energies(name, cell, spins, np.asarray(x), np.asarray(energy, dtype=float))


def training_of(lattice: Lattice, cells: Sequence[Energies], n_left_out: int = 0) -> Training:
    """Return what a Hamiltonian can be fitted to; refuse what is too little.

    Raises
    ------
    NoEndMemberError
        Where an end of the range has no energy.
    TooFewEnergiesError
        Where there are too few energies or compositions.
    """
    training = Training(lattice, tuple(one for one in cells if len(one)), n_left_out)
    x = training.x if training.cells else np.zeros(0)
    missing = [end for end in lattice.x_range if not np.isclose(x, end).any()]
    n_compositions = len(np.unique(np.round(x, 6)))
    if len(x) < LEAST_RESULTS or n_compositions < LEAST_COMPOSITIONS:
        raise TooFewEnergiesError(len(x), n_compositions, n_left_out)
    if missing:
        raise NoEndMemberError(missing)
    return training


def read_training(folders: Sequence[Path], level: str | None = None) -> tuple[JointHull, Training]:
    """Return what some run folders of one host and one level have found.

    Only results with verdict `ok` count, and of these not those that a hold keeps by force.
    """
    found = joint_hull(folders, level)
    lattice = Lattice(found.host.declaration)
    parts = [_of_member(lattice, member) for member in found.members]
    training = training_of(lattice, [one for one, _ in parts], sum(n for _, n in parts))
    return found, training


def _of_member(lattice: Lattice, member: Member) -> tuple[Energies, int]:
    host = member.host
    rows = [row for row in member.rows if row.penalty < HELD_FROM]
    occupations = np.array(
        [host.canonicalizer.occupation(row.fingerprint) for row in rows], dtype=np.uint8
    ).reshape(-1, host.n_sites)
    energy = np.array([row.energy for row in rows]) / host.n_formula_units
    found = energies_of(lattice, host, member.cell, occupations, energy)
    return found, len(member.rows) - len(rows)

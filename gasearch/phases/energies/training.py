"""The energies that a Hamiltonian is fitted to: what run folders found, and what is left out.

And what they are not worth: energies of potentials that know nothing of mixing, too few, one cell.
"""

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
from gasearch.errors import GasearchError, UsageError
from gasearch.phases.energies.lattice import Floats, Lattice, Spins, Supercell, spins_of

LEAST_RESULTS = 20
LEAST_AT_ALL = 8
"""Energies that a fit needs, whatever it is worth."""
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
        at = f"{self.n_compositions} composition{'s' * (self.n_compositions != 1)}"
        return (
            f"no phase diagram from {self.n_results} valid energies at {at}{out}: at least "
            f"{LEAST_RESULTS} at {LEAST_COMPOSITIONS} are needed; search on, with a larger budget "
            f"or in a larger supercell{self._or_anyway}."
        )

    @property
    def _or_anyway(self) -> str:
        return ", or take --anyway" if is_enough(self.n_results, self.n_compositions) else ""


def is_enough(n_results: int, n_compositions: int) -> bool:
    """Return whether a Hamiltonian can be fitted at all to so many energies."""
    return n_results >= LEAST_AT_ALL and n_compositions >= LEAST_COMPOSITIONS


class OtherHostsError(UsageError):
    """Runs of several hosts, for a diagram of one."""

    def __init__(self, hosts: Sequence[str]) -> None:
        super().__init__(tuple(hosts))
        self.hosts = tuple(hosts)

    def __str__(self) -> str:
        return (
            f"a phase diagram is of one host; these runs have {', '.join(self.hosts)}: "
            "name the runs of one of them."
        )


class WorthlessError(GasearchError, ValueError):
    """Energies of a potential that says nothing of how a crystal mixes."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}; train a model (gasearch potential train), or take --anyway."


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


def training_of(
    lattice: Lattice, cells: Sequence[Energies], n_left_out: int = 0, *, anyway: bool = False
) -> Training:
    """Return what a Hamiltonian can be fitted to; refuse what is too little.

    Parameters
    ----------
    anyway
        Whether few energies will do, as long as there can be a fit.

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
    least = LEAST_AT_ALL if anyway else LEAST_RESULTS
    if len(x) < least or not is_enough(len(x), n_compositions):
        raise TooFewEnergiesError(len(x), n_compositions, n_left_out)
    if missing:
        raise NoEndMemberError(missing)
    return training


def read_training(
    folders: Sequence[Path], level: str | None = None, *, anyway: bool = False
) -> tuple[JointHull, Training]:
    """Return what some run folders of one host and one level have found.

    Only results with verdict `ok` count, and of these not those that a hold keeps by force.

    Parameters
    ----------
    level
        The name of a level of theory, of DFT too; the search's own if None.
    anyway
        Whether energies count that are worth no diagram.

    Raises
    ------
    OtherHostsError, UnsupportedHostError
        Where there is no diagram of such hosts.
    WorthlessError
        Where the energies say nothing across x.
    """
    found = joint_hull(folders, level)
    lattice = Lattice(found.host.declaration)
    if len(found.hosts) > 1:
        raise OtherHostsError(found.hosts)
    reason = worthless(found)
    if reason and not anyway:
        raise WorthlessError(reason)
    parts = [_of_member(lattice, member) for member in found.members]
    left_out = sum(n for _, n in parts)
    return found, training_of(lattice, [one for one, _ in parts], left_out, anyway=anyway)


def worthless(hull: JointHull) -> str:
    """Return why energies say nothing of how the crystal mixes; "" where they may."""
    level, what = hull.level, ""
    if level.ranks_only:
        what = "only ranks orders at one x"
    elif level.is_held or any(member.is_released for member in hull.members):
        what = "was not trained on this host: its mixing energies are its own"
    elif any(_is_blind(member) for member in hull.members):
        what = "tells no oxidation states apart: all charge orders of it cost the same"
    return f"{level.name} {what}: a Hamiltonian of it is not worth a diagram" if what else ""


def _is_blind(member: Member) -> bool:
    """Return whether the energies are those of a search with a charge-blind potential."""
    is_of_search = member.dft_settings is None and not member.is_released
    return is_of_search and member.run.is_charge_blind is True


def _of_member(lattice: Lattice, member: Member) -> tuple[Energies, int]:
    host = member.host
    rows = [row for row in member.rows if row.penalty < HELD_FROM]
    occupations = np.array(
        [host.canonicalizer.occupation(row.fingerprint) for row in rows], dtype=np.uint8
    ).reshape(-1, host.n_sites)
    energy = np.array([row.energy for row in rows]) / host.n_formula_units
    found = energies_of(lattice, host, member.cell, occupations, energy)
    return found, len(member.rows) - len(rows)

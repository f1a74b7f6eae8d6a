"""The sites of a host that may hold more than one species, as an infinite lattice of spins.

Spin +1 is the first species of a sublattice (a filled site, the reduced ion), -1 the second.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.declaration import HostDeclaration
from gasearch.crystal.host import Host
from gasearch.crystal.symmetry import Superlattice
from gasearch.errors import UsageError

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Spins = NDArray[np.int8]


class UnsupportedHostError(UsageError):
    """A host whose phase diagram cannot be computed."""

    def __init__(self, host: str, found: str) -> None:
        super().__init__(host, found)
        self.host = host
        self.found = found

    def __str__(self) -> str:
        return (
            f"no phase diagram of {self.host}: it has {self.found}; supported are hosts whose "
            "sites hold one of two species each, working ions of charge +1 or vacancies and redox "
            "ions that differ by one electron, with fixed elements and a charge order."
        )


class Lattice:
    """The sublattice sites of a host's unit cell, repeated without end.

    A site is (b, R): number b of the unit cell, in the cell at R, three integers.

    Parameters
    ----------
    declaration
        Of the host; the supercells of its runs are all cells of this lattice.

    Raises
    ------
    UnsupportedHostError
        Where a site may hold more than two species, elements are free, or charges do not fit.
    """

    def __init__(self, declaration: HostDeclaration) -> None:
        unit = Host.build(declaration, (1, 1, 1))
        _refuse(unit)
        self.host = unit
        self.declaration = declaration
        self.cell: Floats = np.asarray(unit.atoms.cell.array)
        self.positions: Floats = unit.atoms.positions[unit.sites]
        self.n_sites = unit.n_sites
        self.n_formula_units = unit.n_formula_units
        kinds = [s.kind for s in unit.sublattices for _ in s.sites]
        self.is_working: NDArray[np.bool_] = np.array([k == "working_ion" for k in kinds])
        # charge = middle + contrast * spin
        self.middle: Floats = (unit.charges[:, 0] + unit.charges[:, 1]) / 2
        self.contrast: Floats = (unit.charges[:, 0] - unit.charges[:, 1]) / 2

    @property
    def name(self) -> str:
        """Of the host."""
        return self.declaration.name

    @functools.cached_property
    def x_range(self) -> tuple[float, float]:
        """x_min and x_max of the host."""
        return self.host.x_range

    @functools.cached_property
    def surplus(self) -> int:
        """Working ions of a unit cell less its reduced sites: the same at every composition."""
        filled = self.host.compositions[-1].n_working
        charge = self.host.framework_charge + filled
        highest = int(self.host.charges[~self.is_working].max(axis=1).sum())
        return filled - (charge + highest)

    @functools.cached_property
    def operations(self) -> list[tuple[Floats, Floats]]:
        """Rotations (3, 3) and shifts (3,), Cartesian: x goes to x @ rotation + shift.

        All of the space group, up to translations of the unit cell.
        """
        group = self.host.space_group
        to_fractional = np.linalg.inv(group.primitive)
        inside = Superlattice(np.round(self.cell @ to_fractional).astype(np.int64)).points()
        return [
            (to_fractional @ rotation.T @ group.primitive, (shift + point) @ group.primitive)
            for rotation, shift in zip(group.rotations, group.translations, strict=True)
            for point in inside
        ]

    def locate(self, positions: Floats) -> tuple[Integers, Integers]:
        """Return which sites (n,) in which cells (n, 3) stand at Cartesian positions (n, 3)."""
        inverse = np.linalg.inv(self.cell)
        difference = (positions[:, None, :] - self.positions[None]) @ inverse
        cells = np.round(difference)
        off = np.linalg.norm((difference - cells) @ self.cell, axis=2)
        sites = off.argmin(axis=1)
        if off[np.arange(len(sites)), sites].max(initial=0.0) > 20 * self.declaration.symprec:
            raise UnsupportedHostError(self.name, "operations that leave its sites")
        return sites, cells[np.arange(len(sites)), sites].astype(np.int64)

    def neighbours(self, reach: float) -> tuple[Integers, Integers, Integers, Floats]:
        """Return first sites (n,), second sites (n,), their cells (n, 3), distances (n,) in Å.

        All ordered pairs of different sites no farther apart than `reach`, the first in cell 0.
        """
        heights = 1 / np.linalg.norm(np.linalg.inv(self.cell), axis=0)
        ranges = [np.arange(-n, n + 1) for n in (np.ceil(reach / heights).astype(int) + 1)]
        cells = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
        apart = (
            self.positions[None, :, None, :]
            + (cells @ self.cell)[None, None]
            - self.positions[:, None, None, :]
        )
        distances = np.linalg.norm(apart, axis=3)
        a, b, c = np.nonzero((distances > 1e-6) & (distances <= reach))
        return a, b, cells[c], distances[a, b, c]


class Supercell:
    """The sites of a supercell of a lattice, numbered as a host numbers them.

    Parameters
    ----------
    matrix
        (3, 3) integers: its rows are lattice vectors in units of the unit cell's.
    """

    def __init__(self, lattice: Lattice, matrix: Integers) -> None:
        self.lattice = lattice
        self.matrix = matrix
        self._super = Superlattice(matrix)
        self.n_cells = self._super.n_cells
        self.points = self._super.points()

    @classmethod
    def of(cls, lattice: Lattice, host: Host) -> tuple[Supercell, Integers]:
        """Return the supercell of a host, and (n_sites,) the numbers of its sites here."""
        cell = cls(lattice, host.matrix)
        sites, cells = lattice.locate(host.atoms.positions[host.sites])
        return cell, cell.number(sites, cells)

    @functools.cached_property
    def _sorted_codes(self) -> tuple[Integers, Integers]:
        codes = self._super.codes(np.zeros(self.n_cells, dtype=np.int64), self.points)
        order = np.argsort(codes)
        return codes[order], order

    def number(self, sites: Integers, cells: Integers) -> Integers:
        """Return (...) numbers of sites (...) in cells (..., 3): cell by cell."""
        codes = self._super.codes(np.zeros_like(sites), cells)
        known, order = self._sorted_codes
        return np.asarray(order[np.searchsorted(known, codes)] * self.lattice.n_sites + sites)


def repeated(repeats: Sequence[int]) -> Integers:
    """Return the (3, 3) matrix of three repeats."""
    return np.diag(np.asarray(repeats, dtype=np.int64))


def spins_of(occupations: NDArray[np.uint8]) -> Spins:
    """Return spins of occupations, of the same shape."""
    return (1 - 2 * occupations.astype(np.int8)).astype(np.int8)


def _refuse(host: Host) -> None:
    name, kinds = host.declaration.name, {s.kind for s in host.sublattices}
    if not host.has_charge_order:
        raise UnsupportedHostError(name, "no charge order")
    for sublattice in host.sublattices:
        charges = [one.charge for one in sublattice.species]
        text = ", ".join(map(str, sublattice.species))
        wanted = [1, 0] if sublattice.kind == "working_ion" else [charges[0], charges[0] + 1]
        if charges != wanted:
            free = f", with free elements ({', '.join(sublattice.elements)})"
            more = free if sublattice.is_free and len(sublattice.elements) > 1 else ""
            raise UnsupportedHostError(name, f"sites that hold {text}{more}")
    if not {"working_ion", "redox"} <= kinds:
        raise UnsupportedHostError(
            name, f"no {'redox' if 'working_ion' in kinds else 'working'} ion"
        )
    if len(host.exclusions) or host.n_full != host.n_working_sites:
        raise UnsupportedHostError(name, "sites that exclude each other")
    free_ones = [s for s in host.sublattices if s.is_free]
    if free_ones:
        raise UnsupportedHostError(name, f"free elements ({', '.join(free_ones[0].elements)})")

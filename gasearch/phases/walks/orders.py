"""How ordered an arrangement is: by the orders of ground states, and by neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.analysis.hull import lower_hull
from gasearch.phases.energies.clusters import ClusterBasis, Orbit
from gasearch.phases.energies.fitting import Fit
from gasearch.phases.energies.lattice import Floats, Integers, Lattice, Spins
from gasearch.phases.energies.training import Training
from gasearch.phases.walks.monte_carlo import Cell

_NOT_ON_HULL = 1e-6  # eV/f.u.


@dataclass(frozen=True, eq=False)
class GroundState:
    """The order of a member of the hull.

    Parameters
    ----------
    repeats
        Of the cell that it was found in.
    spins
        (n_sites,) by site of the unit cell, then by cell, as Monte Carlo numbers sites.
    energy
        In eV/f.u., by the Hamiltonian.
    """

    x: float
    cell: str
    repeats: tuple[int, int, int]
    spins: Spins
    energy: float

    def fits(self, repeats: Sequence[int]) -> bool:
        """Whether a cell of so many repeats can hold it."""
        return all(n % m == 0 for n, m in zip(repeats, self.repeats, strict=True))


def ground_states(training: Training, fit: Fit) -> list[GroundState]:
    """Return the members of the Hamiltonian's own hull among the orders that were searched.

    Only those of cells that repeat the unit cell along its own axes.
    """
    energies = [fit.hamiltonian.energies(one.cell, one.spins) for one in training.cells]
    x, energy = training.x, np.concatenate(energies)
    vertices = lower_hull(x, energy)
    above = energy - np.interp(x, *vertices)
    found: dict[float, GroundState] = {}
    first = 0
    for one in training.cells:
        diagonal = np.diag(one.cell.matrix)
        rows = range(len(one)) if np.array_equal(one.cell.matrix, np.diag(diagonal)) else range(0)
        for row in rows:
            n = first + row
            if above[n] <= _NOT_ON_HULL and np.isclose(vertices[0], x[n]).any():
                repeats = (int(diagonal[0]), int(diagonal[1]), int(diagonal[2]))
                state = GroundState(
                    float(x[n]),
                    one.name,
                    repeats,
                    _renumbered(training.lattice, one.cell.points, repeats, one.spins[row]),
                    float(energy[n]),
                )
                found.setdefault(round(state.x, 6), state)
        first += len(one)
    return [found[key] for key in sorted(found)]


def _renumbered(
    lattice: Lattice, points: Integers, repeats: tuple[int, int, int], spins: Spins
) -> Spins:
    """Return spins by site of the unit cell, then by cell in ascending order."""
    by_cell = spins.reshape(len(points), lattice.n_sites)
    places = np.ravel_multi_index(tuple((points % np.array(repeats)).T), repeats)
    result = np.empty((lattice.n_sites, len(points)), dtype=np.int8)
    result[:, places] = by_cell.T
    return result.ravel()


class OrderParameter:
    """How much of a ground state's order an arrangement has: 1 all of it, 0 none.

    Of ions and of charges; the largest over all equivalent settings of the order.
    """

    def __init__(self, cell: Cell, state: GroundState) -> None:
        lattice = cell.lattice
        self._shape = (lattice.n_sites, *state.repeats)
        self._times = [n // m for n, m in zip(cell.repeats, state.repeats, strict=True)]
        images = _images(lattice, state)
        self._parts: list[tuple[NDArray[np.bool_], Floats, Floats]] = []
        for mask in (lattice.is_working, ~lattice.is_working):
            own = np.repeat(mask, int(np.prod(state.repeats)))
            patterns = images[:, own].astype(float)
            patterns -= patterns.mean(axis=1, keepdims=True)
            norm = (patterns**2).sum(axis=1)
            self._parts.append((own, patterns, norm))

    def __call__(self, spins: Spins) -> tuple[float, float]:
        """Return the order of ions and that of charges."""
        n, (a, b, c), (p, q, r) = self._shape[0], self._shape[1:], self._times
        folded = spins.reshape(n, p, a, q, b, r, c).mean(axis=(1, 3, 5)).ravel()
        found = []
        for own, patterns, norm in self._parts:
            here = folded[own]
            overlap = patterns @ (here - here.mean())
            found.append(float((overlap / norm).max()) if norm.min() > 0 else 0.0)
        return found[0], found[1]


def _images(lattice: Lattice, state: GroundState) -> Spins:
    """Return (n, n_sites) all settings of an order in its cell, each once."""
    shape = (lattice.n_sites, *state.repeats)
    cells = np.stack(
        np.meshgrid(*(np.arange(n) for n in state.repeats), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    sites = np.repeat(np.arange(lattice.n_sites), len(cells))
    places = np.tile(cells, (lattice.n_sites, 1))
    positions = lattice.positions[sites] + places @ lattice.cell
    found: dict[bytes, Spins] = {}
    for rotation, shift in lattice.operations:
        to_sites, to_cells = lattice.locate(positions @ rotation + shift)
        for point in cells:
            target = np.ravel_multi_index(
                (to_sites, *((to_cells + point) % np.array(state.repeats)).T), shape
            )
            if len(np.unique(target)) < len(target):
                break  # the operation does not keep the cell
            image = np.empty_like(state.spins)
            image[target] = state.spins
            found.setdefault(image.tobytes(), image)
    return np.array(list(found.values()))


SHORT_RANGE = ("ion-ion", "charge-charge", "ion-charge")


class ShortRange:
    """Correlations of nearest neighbours: 0 where sites know nothing of each other.

    (<s s'> - <s><s'>) / sqrt((1 - <s>^2) (1 - <s'>^2)): of ions, of charges, and of an ion site
    with the redox sites next to it, where below 0 means that ions keep to oxidised ions.
    """

    def __init__(self, cell: Cell, basis: ClusterBasis) -> None:
        self._working = cell.is_working
        self._pairs: list[tuple[Integers, Integers] | None] = []
        for kinds in ((True, True), (False, False), (True, False)):
            self._pairs.append(self._nearest(cell, basis, kinds))

    @staticmethod
    def _nearest(
        cell: Cell, basis: ClusterBasis, kinds: tuple[bool, bool]
    ) -> tuple[Integers, Integers] | None:
        lattice = cell.lattice

        def is_wanted(orbit: Orbit) -> bool:
            found = sorted(lattice.is_working[orbit.sites[0]].tolist(), reverse=True)
            return orbit.size == 2 and tuple(found) == kinds

        for orbit in basis.orbits:
            if is_wanted(orbit):
                cells = np.stack(
                    np.meshgrid(*(np.arange(n) for n in cell.repeats), indexing="ij"), axis=-1
                ).reshape(-1, 1, 1, 3)
                sites = np.broadcast_to(orbit.sites, (len(cells), *orbit.sites.shape))
                numbers = cell.number(sites, orbit.cells[None] + cells).reshape(-1, 2)
                return numbers[:, 0], numbers[:, 1]
        return None

    def __call__(self, spins: Spins) -> tuple[float, float, float]:
        """Return the three correlations, in the order of `SHORT_RANGE`."""
        found = []
        for pair in self._pairs:
            if pair is None:
                found.append(0.0)
                continue
            one, other = (spins[p].astype(float) for p in pair)
            scale = np.sqrt((1 - one.mean() ** 2) * (1 - other.mean() ** 2))
            together = float((one * other).mean() - one.mean() * other.mean())
            found.append(together / float(scale) if scale > 1e-9 else 0.0)
        return found[0], found[1], found[2]

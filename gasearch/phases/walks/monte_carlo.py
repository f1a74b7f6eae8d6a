"""Monte Carlo of a Hamiltonian in one large cell, that keeps the cell neutral.

Moves at constant composition: two ion sites, two charges, or an ion with a charge beside it
exchange what they hold. At constant chemical potential also: an ion comes in or goes out, together
with its electron.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase.units import kB
from numpy.typing import NDArray

from gasearch.errors import GasearchError
from gasearch.phases.energies.hamiltonian import Hamiltonian, Interactions, interactions_in
from gasearch.phases.energies.lattice import Floats, Integers, Lattice, Spins

_N_BESIDE = 6
MOVES = ("ion swap", "charge swap", "coupled swap", "insertion")


class NoNumbaError(GasearchError, RuntimeError):
    """No compiler for the moves."""

    def __str__(self) -> str:
        return "no numba here, which compiles the Monte Carlo; try: pip install 'gasearch[phases]'"


def _kernel() -> Any:
    try:
        from gasearch.phases.walks import kernel
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("numba", "llvmlite"):
            raise
        raise NoNumbaError from error
    return kernel


class Cell:
    """A Hamiltonian in a cell of so many repeats of the unit cell: tables for the compiled moves.

    Parameters
    ----------
    repeats
        Three whole numbers.
    """

    def __init__(self, hamiltonian: Hamiltonian, repeats: Sequence[int]) -> None:
        lattice = hamiltonian.lattice
        self.hamiltonian = hamiltonian
        self.lattice: Lattice = lattice
        self.interactions: Interactions = interactions_in(hamiltonian, repeats)
        self.repeats = self.interactions.repeats
        self.n_cells = int(np.prod(self.repeats))
        self.n_formula_units = self.n_cells * lattice.n_formula_units
        self.n_sites = self.n_cells * lattice.n_sites
        self.is_working: NDArray[np.bool_] = np.repeat(lattice.is_working, self.n_cells)
        acts = np.zeros(lattice.n_sites, dtype=bool)
        acts[hamiltonian.acts_on] = True
        self.acts: NDArray[np.bool_] = np.repeat(acts, self.n_cells)
        self.fields: Floats = np.repeat(self.interactions.fields, self.n_cells)
        self.tables = _tables(self.interactions)
        self.beside = _beside(lattice, self.repeats)

    @functools.cached_property
    def n_working(self) -> int:
        """Working-ion sites, whether or not the energy depends on them."""
        return int(self.is_working.sum())

    def number(self, sites: Integers, cells: Integers) -> Integers:
        """Return (...) numbers of sites (...) of the unit cell in cells (..., 3)."""
        result = sites
        for axis, n in enumerate(self.repeats):
            result = result * n + cells[..., axis] % n
        return np.asarray(result)

    def felt(self, spins: Spins) -> tuple[Floats, float]:
        """Return (n_sites,) what each spin feels, in eV, and the energy of the whole cell.

        Computed anew from all spins.
        """
        s = spins.astype(float)
        # sum over j of U[a, b, R_j - R_i] s_j is a correlation: its transform has U conjugated
        shaped = s.reshape(self.lattice.n_sites, *self.repeats)
        transformed = np.fft.fftn(shaped, axes=(1, 2, 3))
        by_pairs = np.einsum("abxyz,bxyz->axyz", self._pairs_transformed, transformed)
        pairs = np.fft.ifftn(by_pairs, axes=(1, 2, 3)).real.ravel()
        triplets = _kernel().triplet_fields(spins, self.tables)
        # each pair is in two fields, each triplet in three
        energy = s @ self.fields + s @ pairs / 2 + s @ triplets / 3
        return self.fields + pairs + triplets, self.interactions.constant + float(energy)

    @functools.cached_property
    def _pairs_transformed(self) -> NDArray[np.complex128]:
        return np.asarray(np.conj(np.fft.fftn(self.interactions.pairs, axes=(2, 3, 4))))

    def energy(self, spins: Spins) -> float:
        """Return the energy of the whole cell, in eV, from all of its spins (n_sites,)."""
        return self.felt(spins)[1]

    def tiled(self, spins: Spins, repeats: Sequence[int]) -> Spins:
        """Return (n_sites,) an order of a smaller cell, repeated.

        Parameters
        ----------
        spins
            (n_sites of the smaller cell,) by site of the unit cell, then by cell.
        """
        shape = (self.lattice.n_sites, *repeats)
        times = [n // m for n, m in zip(self.repeats, repeats, strict=True)]
        return np.tile(spins.reshape(shape), (1, *times)).ravel()


def _tables(found: Interactions) -> tuple[Any, ...]:
    """Return what the compiled moves read, in the order in which they take it."""
    size = np.array(found.repeats, dtype=np.int64)
    shift = np.arange(1 - size[2], size[2]) % size[2]
    padded = np.ascontiguousarray(found.pairs[..., shift])
    order = np.argsort(found.triplets[:, 0], kind="stable")
    firsts, rows = found.triplets[order, 0], found.triplets[order, 1:]
    start = np.searchsorted(firsts, np.arange(len(found.fields) + 1))
    link, link_start, link_site, link_strength = _links(found)
    return (
        size,
        padded,
        start.astype(np.int64),
        np.ascontiguousarray(rows),
        found.strengths[order],
        link,
        link_start,
        link_site,
        link_strength,
    )


def _links(found: Interactions) -> tuple[Integers, Integers, Integers, Floats]:
    """Return, for two sites that are in triplets together, the third sites."""
    by_pair: dict[tuple[int, ...], list[tuple[list[int], float]]] = {}
    for row, strength in zip(found.triplets.tolist(), found.strengths.tolist(), strict=True):
        a, one, other = row[0], row[1:5], row[5:9]
        by_pair.setdefault((a, *one), []).append((other, strength))
        by_pair.setdefault((a, *other), []).append((one, strength))
    link = np.full(found.pairs.shape, -1, dtype=np.int64)
    starts, sites, strengths = [0], [], []
    for number, (pair, thirds) in enumerate(by_pair.items()):
        link[pair] = number
        sites += [third for third, _ in thirds]
        strengths += [strength for _, strength in thirds]
        starts.append(len(sites))
    table = np.array(sites, dtype=np.int64).reshape(-1, 4)
    return link, np.array(starts, dtype=np.int64), table, np.array(strengths, dtype=float)


def _beside(lattice: Lattice, repeats: Sequence[int]) -> Integers:
    """Return (n_sites, n, 4) the n redox sites nearest to each working-ion site, with their cells.

    The same number for all: what is proposed is then as likely as its reverse.
    """
    reach = 4.0
    while True:
        a, b, cells, distance = lattice.neighbours(reach)
        useful = lattice.is_working[a] & ~lattice.is_working[b]
        counts = np.bincount(a[useful], minlength=lattice.n_sites)[lattice.is_working]
        if counts.min() >= _N_BESIDE:
            break
        reach += 1.0
    result = np.zeros((lattice.n_sites, _N_BESIDE, 4), dtype=np.int64)
    for site in np.flatnonzero(lattice.is_working):
        own = np.flatnonzero(useful & (a == site))
        chosen = own[np.argsort(np.round(distance[own], 4), kind="stable")[:_N_BESIDE]]
        result[site, :, 0] = b[chosen]
        result[site, :, 1:] = cells[chosen] % np.asarray(repeats)
    return result


@dataclass(frozen=True)
class Sample:
    """Averages over a stretch of a walk.

    Parameters
    ----------
    energy
        Mean energy of the whole cell, in eV.
    energy_variance
        In eV^2.
    n_working, n_variance, covariance
        Mean and variance of the number of working ions, and its covariance with the energy.
    """

    n_attempts: int
    energy: float
    energy_variance: float
    n_working: float
    n_variance: float
    covariance: float


@dataclass
class Walk:
    """A Monte Carlo walk: an arrangement, and what changes it.

    Parameters
    ----------
    spins
        (n_sites,) the start; sites that the energy does not depend on stay as they are.
    """

    cell: Cell
    spins: Spins
    rng: np.random.Generator
    energy: float = 0.0
    taken: NDArray[np.int64] = field(default_factory=lambda: np.zeros((4, 2), dtype=np.int64))

    def __post_init__(self) -> None:
        self.spins = np.array(self.spins, dtype=np.int8)
        cell = self.cell
        working = np.flatnonzero(cell.is_working & cell.acts)
        redox = np.flatnonzero(~cell.is_working & cell.acts)
        self._totals = np.array([len(working), len(redox)], dtype=np.int64)
        self._order = np.zeros((2, max(len(working), len(redox), 1)), dtype=np.int64)
        self._position = np.zeros(cell.n_sites, dtype=np.int64)
        self._counts = np.zeros(2, dtype=np.int64)
        for kind, sites in enumerate((working, redox)):
            ordered = sites[np.argsort(-self.spins[sites], kind="stable")]
            self._order[kind, : len(sites)] = ordered
            self._position[ordered] = np.arange(len(sites))
            self._counts[kind] = int((self.spins[sites] > 0).sum())
        self.refresh()

    def refresh(self) -> None:
        """Compute fields and energy anew, so that rounding errors do not add up."""
        self._fields, self.energy = self.cell.felt(self.spins)

    @property
    def n_in(self) -> int:
        """Working ions in the cell; where only charges act, reduced sites."""
        return int(self._counts[0 if self._totals[0] else 1])

    def energy_change(self, sites: Sequence[int]) -> float:
        """Return what flipping up to four sites would cost, in eV."""
        kernel = _kernel()
        chosen = np.zeros(4, dtype=np.int64)
        chosen[: len(sites)] = sites
        return float(
            kernel.energy_change(chosen, len(sites), self.spins, self._fields, self.cell.tables)
        )

    def run(self, n_attempts: int, temperature_K: float, mu: float | None = None) -> Sample:
        """Make so many attempts; at constant composition, or at a chemical potential in eV.

        Parameters
        ----------
        temperature_K
            Above 0, or infinite.
        mu
            Of a working ion with its electron.
        """
        beta = 1 / (kB * temperature_K) if np.isfinite(temperature_K) else 0.0
        sums, start = np.zeros(6), self.energy
        state = (
            self.spins,
            self._fields,
            self._order,
            self._position,
            self._counts,
            self._totals,
            self.cell.is_working,
        )
        change = _kernel().attempt(
            n_attempts,
            beta,
            0.0 if mu is None else mu,
            self._shares(mu is not None),
            state,
            self.cell.tables,
            self.cell.beside,
            self.rng,
            sums,
            self.taken,
        )
        self.energy = start + change
        _, e, e2, n, n2, en = sums / max(sums[0], 1)
        return Sample(n_attempts, start + e, e2 - e * e, n, n2 - n * n, en - e * n)

    def _shares(self, is_open: bool) -> Floats:
        """Return the cumulative shares of the kinds of moves."""
        both = bool(self._totals.all())
        weights = np.array(
            [self._totals[0] > 0, self._totals[1] > 0, both, 2 * is_open], dtype=float
        )
        return np.asarray(np.cumsum(weights / weights.sum()))


def random_spins(cell: Cell, n_working: int, rng: np.random.Generator) -> Spins:
    """Return a neutral arrangement (n_sites,) with so many working ions, drawn evenly."""
    spins = -np.ones(cell.n_sites, dtype=np.int8)
    working, redox = np.flatnonzero(cell.is_working), np.flatnonzero(~cell.is_working)
    spins[rng.permutation(working)[:n_working]] = 1
    spins[rng.permutation(redox)[: n_reduced(cell, n_working)]] = 1
    return spins


def n_reduced(cell: Cell, n_working: int) -> int:
    """Return how many redox sites are reduced in a neutral cell with so many working ions."""
    return n_working - round(cell.lattice.surplus * cell.n_cells)

"""Hamiltonians in which one of the two disorders is switched off.

Charges slaved to ions: each ion order has the lowest energy that any charge order gives it, and
nothing but ions is left to move: what a cluster expansion of ions alone has always been. Ions
slaved to charges: the other way round.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gasearch.errors import GasearchError
from gasearch.phases.energies.clusters import ClusterBasis, Reach
from gasearch.phases.energies.fitting import Fit, fit
from gasearch.phases.energies.hamiltonian import Hamiltonian, supercell
from gasearch.phases.energies.lattice import Floats, Spins, Supercell
from gasearch.phases.energies.training import Energies, Training
from gasearch.seeding import named_rng

Disorder = Literal["ions and charges", "ions", "charges"]
DISORDERS: tuple[Disorder, ...] = ("ions and charges", "ions", "charges")
_MOST_PARTNERS = 1_000
_FARTHER = 1.4
"""Interactions of ions through their charges, in units of the reach of the full Hamiltonian."""
_MOST_ORDERS = 300


class NoPartnersError(GasearchError, ValueError):
    """Cells too large to find what is slaved."""

    def __str__(self) -> str:
        return (
            f"no cell has fewer than {_MOST_PARTNERS:,} charge orders for each ion order: "
            "the diagram without electronic entropy is left out."
        )


def effective(hamiltonian: Hamiltonian, training: Training, kept: Disorder, reach: Reach) -> Fit:
    """Return the Hamiltonian of ions alone, or of charges alone, with its own errors.

    It is fitted to the lowest energies of the full Hamiltonian, over all arrangements of what is
    slaved, in the cells that were searched and in small ones.

    Raises
    ------
    NoPartnersError
        Where even the unit cell has too many arrangements.
    """
    lattice = hamiltonian.lattice
    on = lattice.is_working if kept == "ions" else ~lattice.is_working
    cells: dict[bytes, tuple[str, Supercell, list[Spins]]] = {}
    for one in training.cells:
        cells[one.cell.matrix.tobytes()] = (one.name, one.cell, list(one.spins))
    for repeats in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)):
        cell = supercell(lattice, repeats)
        cells.setdefault(cell.matrix.tobytes(), ("x".join(map(str, repeats)), cell, []))
    found = [_lowest(hamiltonian, name, cell, known, on) for name, cell, known in cells.values()]
    useful = tuple(one for one in found if len(one))
    if not useful:
        raise NoPartnersError
    farther = Reach(_FARTHER * reach.pairs, _FARTHER * reach.triplets)
    return fit(Training(lattice, useful), ClusterBasis(lattice, farther, list(on)), charges=False)


def _lowest(
    hamiltonian: Hamiltonian,
    name: str,
    cell: Supercell,
    known: list[Spins],
    on: NDArray[np.bool_],
) -> Energies:
    """Return the lowest energies of the orders of one kind of site in a cell."""
    lattice = hamiltonian.lattice
    kept = np.flatnonzero(np.tile(on, cell.n_cells))
    slaved = np.flatnonzero(~np.tile(on, cell.n_cells))
    surplus = lattice.surplus * cell.n_cells * (1 if lattice.is_working[kept[0]] else -1)
    spins, energies = [], []
    for order in _orders(name, len(kept), [one[kept] for one in known]):
        n_up = int((order > 0).sum()) - surplus
        if not 0 <= n_up <= len(slaved) or math.comb(len(slaved), n_up) > _MOST_PARTNERS:
            continue
        partners = _choices(len(slaved), n_up)
        every = np.empty((len(partners), cell.n_cells * lattice.n_sites), dtype=np.int8)
        every[:, kept], every[:, slaved] = order, partners
        energy = hamiltonian.energies(cell, every)
        best = int(energy.argmin())
        spins.append(every[best])
        energies.append(float(energy[best]))
    stacked = np.array(spins, dtype=np.int8).reshape(-1, cell.n_cells * lattice.n_sites)
    working = np.tile(lattice.is_working, cell.n_cells)
    x: Floats = (stacked[:, working] > 0).mean(axis=1)
    return Energies(name, cell, stacked, x, np.array(energies))


def _orders(name: str, n_sites: int, known: list[Spins]) -> Iterator[Spins]:
    """Yield different orders: all where they are few, else those known and random ones."""
    seen: dict[bytes, Spins] = {}
    if 2**n_sites <= _MOST_ORDERS:
        for bits in itertools.product((1, -1), repeat=n_sites):
            order = np.array(bits, dtype=np.int8)
            seen[order.tobytes()] = order
    else:
        rng = named_rng(0, f"orders {name}")
        for order in known[:: -(-len(known) // _MOST_ORDERS) or 1]:
            seen.setdefault(order.tobytes(), order)
        for n in range(_MOST_ORDERS):
            order = -np.ones(n_sites, dtype=np.int8)
            order[rng.permutation(n_sites)[: n % (n_sites + 1)]] = 1
            seen.setdefault(order.tobytes(), order)
    yield from seen.values()


def _choices(n_sites: int, n_up: int) -> Spins:
    """Return all arrangements (n, n_sites) with so many spins up."""
    chosen = np.array(list(itertools.combinations(range(n_sites), n_up)), dtype=np.int64)
    result = -np.ones((len(chosen), n_sites), dtype=np.int8)
    result[np.arange(len(chosen))[:, None], chosen.reshape(len(chosen), n_up)] = 1
    return result

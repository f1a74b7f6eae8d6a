"""Neighbours of a decoration: two sites of one sublattice exchange what they hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.host import Host

Digits = NDArray[np.uint8]


def exchanges(host: Host, occupation: Digits) -> Digits:
    """Return (n, n_sites) all decorations that one exchange leads to; equivalents may repeat.

    Composition and neutrality are kept; exchanges onto sites that others exclude are left out.

    Parameters
    ----------
    occupation
        (n_sites,).
    """
    pairs = []
    for sublattice in host.sublattices:
        sites = np.arange(sublattice.start, sublattice.start + len(sublattice))
        held = occupation[sites]
        first, second = np.nonzero(np.triu(held[:, None] != held[None, :], 1))
        pairs.append(np.column_stack([sites[first], sites[second]]))
    joined = np.concatenate(pairs)
    moved = np.repeat(occupation[None], len(joined), axis=0)
    rows = np.arange(len(joined))
    moved[rows, joined[:, 0]] = occupation[joined[:, 1]]
    moved[rows, joined[:, 1]] = occupation[joined[:, 0]]
    return moved[host.is_legal(moved)] if len(host.exclusions) else moved


def descend(
    host: Host,
    energies: Callable[[Digits], NDArray[np.float64]],
    occupation: Digits,
    rng: np.random.Generator,
    *,
    steps: int,
    neighbours: int,
    kept: int = 1,
) -> list[Digits]:
    """Descend by single exchanges; return (n, n_sites) the lowest decorations met at each step.

    Parameters
    ----------
    energies
        From occupations (n, n_sites) to (n,).
    steps
        At the most; fewer where no neighbour is lower.
    neighbours
        How many are tried in each step, drawn at random where there are more.
    kept
        How many are returned of each step, the lowest first.
    """
    lowest = float(energies(occupation[None])[0])
    path = [occupation[None]]
    for _ in range(steps):
        around = exchanges(host, occupation)
        if len(around) > neighbours:
            around = around[rng.choice(len(around), neighbours, replace=False)]
        if not len(around):
            break
        values = energies(around)
        order = np.argsort(values, kind="stable")[:kept]
        path.append(around[order])
        if values[order[0]] >= lowest:
            break
        occupation, lowest = around[order[0]], float(values[order[0]])
    return path

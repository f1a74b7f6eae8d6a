"""Compiled Monte Carlo moves on a repeated unit cell. numba is imported here, and only here.

Every site has a field: what its spin feels. A move costs a look at the fields of the sites that it
flips, whatever the reach of the interactions; only a move that is taken passes on to all fields.
Sites are numbered ((b A + x) B + y) C + z, by site b of the unit cell and its cell (x, y, z).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_jit: Any = numba.njit(cache=True, fastmath=False, nogil=True)

ION_SWAP, CHARGE_SWAP, COUPLED, INSERTION = range(4)


@_jit
def place(site, size):  # type: ignore[no-untyped-def]
    """Return (b, x, y, z) of a site."""
    z = site % size[2]
    rest = site // size[2]
    y = rest % size[1]
    rest = rest // size[1]
    return rest // size[0], rest % size[0], y, z


@_jit
def moved(x, dx, n):  # type: ignore[no-untyped-def]
    """Return (x + dx) modulo n; dx lies in 0 to n - 1."""
    new = x + dx
    return new - n if new >= n else new


@_jit
def coupling(i, j, spins, tables):  # type: ignore[no-untyped-def]
    """Return what the spin at j adds to the field at i, by +1: pair and triplets, in eV."""
    size, pairs, _, _, _, link, link_start, link_site, link_strength = tables
    a, x, y, z = place(i, size)
    b, u, v, w = place(j, size)
    dx = u - x if u >= x else u - x + size[0]
    dy = v - y if v >= y else v - y + size[1]
    dz = w - z if w >= z else w - z + size[2]
    total = pairs[a, b, dx, dy, size[2] - 1 + w - z]
    where = link[a, b, dx, dy, dz]
    if where >= 0:
        for n in range(link_start[where], link_start[where + 1]):
            c = link_site[n, 0]
            p = moved(x, link_site[n, 1], size[0])
            q = moved(y, link_site[n, 2], size[1])
            r = moved(z, link_site[n, 3], size[2])
            third = ((c * size[0] + p) * size[1] + q) * size[2] + r
            total += link_strength[n] * spins[third]
    return total


@_jit
def flip(i, spins, fields, tables):  # type: ignore[no-untyped-def]
    """Flip a spin, and pass it on to all fields."""
    size, pairs, start, triplets, strengths, _, _, _, _ = tables
    a, x, y, z = place(i, size)
    change = -2.0 * spins[i]
    spins[i] = -spins[i]
    for b in range(pairs.shape[1]):
        for u in range(size[0]):
            dx = u - x if u >= x else u - x + size[0]
            for v in range(size[1]):
                dy = v - y if v >= y else v - y + size[1]
                first = ((b * size[0] + u) * size[1] + v) * size[2]
                row = pairs[a, b, dx, dy, size[2] - 1 - z : 2 * size[2] - 1 - z]
                own = fields[first : first + size[2]]
                for w in range(size[2]):
                    own[w] += change * row[w]
    for n in range(start[a], start[a + 1]):
        j = triplets[n, 0] * size[0] + moved(x, triplets[n, 1], size[0])
        j = j * size[1] + moved(y, triplets[n, 2], size[1])
        j = j * size[2] + moved(z, triplets[n, 3], size[2])
        k = triplets[n, 4] * size[0] + moved(x, triplets[n, 5], size[0])
        k = k * size[1] + moved(y, triplets[n, 6], size[1])
        k = k * size[2] + moved(z, triplets[n, 7], size[2])
        fields[j] += change * strengths[n] * spins[k]
        fields[k] += change * strengths[n] * spins[j]


@_jit
def triplet_fields(spins, tables):  # type: ignore[no-untyped-def]
    """Return (n_sites,) what each spin feels of its triplets, in eV."""
    size, _, start, triplets, strengths, _, _, _, _ = tables
    total = np.zeros(len(spins))
    for i in range(len(spins)):
        a, x, y, z = place(i, size)
        for n in range(start[a], start[a + 1]):
            j = triplets[n, 0] * size[0] + moved(x, triplets[n, 1], size[0])
            j = j * size[1] + moved(y, triplets[n, 2], size[1])
            j = j * size[2] + moved(z, triplets[n, 3], size[2])
            k = triplets[n, 4] * size[0] + moved(x, triplets[n, 5], size[0])
            k = k * size[1] + moved(y, triplets[n, 6], size[1])
            k = k * size[2] + moved(z, triplets[n, 7], size[2])
            total[i] += strengths[n] * spins[j] * spins[k]
    return total


@_jit
def energy_change(sites, number, spins, fields, tables):  # type: ignore[no-untyped-def]
    """Return what flipping so many of these sites costs, in eV; nothing is changed."""
    felt = np.empty(4)
    for n in range(number):
        felt[n] = fields[sites[n]]
    total = 0.0
    for n in range(number):
        own = spins[sites[n]]
        total += -2.0 * own * felt[n]
        for m in range(n + 1, number):
            felt[m] += -2.0 * own * coupling(sites[m], sites[n], spins, tables)
        spins[sites[n]] = -own
    for n in range(number):
        spins[sites[n]] = -spins[sites[n]]
    return total


@_jit
def listed(site, order, position, counts, kind, new):  # type: ignore[no-untyped-def]
    """Keep a site whose spin has become `new` in its part of the list: those with +1 first."""
    where = position[site]
    if new > 0:
        target = counts[kind]
        counts[kind] += 1
    else:
        counts[kind] -= 1
        target = counts[kind]
    other = order[kind, target]
    order[kind, target], order[kind, where] = site, other
    position[site], position[other] = target, where


@_jit
def drawn(rng, n):  # type: ignore[no-untyped-def]
    """Return a whole number from 0 to n - 1."""
    return min(int(rng.random() * n), n - 1)


@_jit
def beside(site, near, size, rng):  # type: ignore[no-untyped-def]
    """Return one of the redox sites next to a working-ion site, all with the same chance."""
    a, x, y, z = place(site, size)
    n = drawn(rng, near.shape[1])
    j = near[a, n, 0] * size[0] + moved(x, near[a, n, 1], size[0])
    j = j * size[1] + moved(y, near[a, n, 2], size[1])
    return j * size[2] + moved(z, near[a, n, 3], size[2])


@_jit
def proposed(kind, sites, spins, order, totals, counts, near, size, rng):  # type: ignore[no-untyped-def]
    """Fill in the sites that a move would flip, and return how many; 0 where it cannot be."""
    if kind in (ION_SWAP, CHARGE_SWAP):
        own = 0 if kind == ION_SWAP else 1
        if counts[own] == 0 or counts[own] == totals[own]:
            return 0
        sites[0] = order[own, drawn(rng, counts[own])]
        sites[1] = order[own, counts[own] + drawn(rng, totals[own] - counts[own])]
        return 2
    if kind == COUPLED:
        if counts[0] == 0 or counts[0] == totals[0]:
            return 0
        sites[0] = order[0, drawn(rng, counts[0])]
        sites[1] = order[0, counts[0] + drawn(rng, totals[0] - counts[0])]
        sites[2] = beside(sites[0], near, size, rng)
        sites[3] = beside(sites[1], near, size, rng)
        return 4 if spins[sites[2]] != spins[sites[3]] else 0
    own = 0 if totals[0] > 0 else 1
    sites[0] = order[own, drawn(rng, totals[own])]
    if totals[0] == 0 or totals[1] == 0:
        return 1
    if rng.random() < 0.5:
        sites[1] = beside(sites[0], near, size, rng)
    else:
        sites[1] = order[1, drawn(rng, totals[1])]
    return 2 if spins[sites[0]] == spins[sites[1]] else 0


@_jit
def attempt(n_attempts, beta, mu, shares, state, tables, near, rng, sums, taken):  # type: ignore[no-untyped-def]
    """Make so many attempts; add up energies and numbers after each.

    Parameters
    ----------
    beta, mu
        1/kT in 1/eV, and what an ion with its electron costs, in eV.
    shares
        (4,) cumulative shares of the kinds of moves.
    sums
        (6,) to add to: attempts, E, E^2, N, N^2, E N; E is counted from the start of the call.
    taken
        (4, 2) to add to: attempts and accepted moves of each kind.
    """
    spins, fields, order, position, counts, totals, is_working = state
    size = tables[0]
    sites = np.empty(4, dtype=np.int64)
    main = 0 if totals[0] > 0 else 1
    energy = 0.0
    for _ in range(n_attempts):
        u = rng.random()
        kind = 0
        while kind < 3 and u >= shares[kind]:
            kind += 1
        taken[kind, 0] += 1
        number = proposed(kind, sites, spins, order, totals, counts, near, size, rng)
        if number > 0:
            cost = energy_change(sites, number, spins, fields, tables)
            weight = cost
            if kind == INSERTION:
                weight = cost + mu * spins[sites[0]]
            if weight <= 0.0 or rng.random() < np.exp(-beta * weight):
                taken[kind, 1] += 1
                energy += cost
                for n in range(number):
                    flip(sites[n], spins, fields, tables)
                    own = 0 if is_working[sites[n]] else 1
                    listed(sites[n], order, position, counts, own, spins[sites[n]])
        n_in = float(counts[main])
        sums[0] += 1.0
        sums[1] += energy
        sums[2] += energy * energy
        sums[3] += n_in
        sums[4] += n_in * n_in
        sums[5] += energy * n_in
    return energy

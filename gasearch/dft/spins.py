"""Spin states: what total moment a charge order has, and where a calculation starts from.

Charge order is pinned by the total moment and by moments on each redox site, as in the shipped data
`data/nafepo4-pbeu`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.moments import usual_low_spin
from gasearch.crystal.species import Species, species_of
from gasearch.run.dft_section import DftSection

_MOST_BONDS = 6
_BONDED = 1.3  # of the shortest bond
_NEXT_TO = 1.15  # of the shortest distance between redox sites

Moments = NDArray[np.float64]


def spin_of(species: Species, states: Mapping[str, float]) -> float:
    """Return the moment of a species in Bohr magnetons, unless the user's table says another."""
    return float(states.get(str(species), species.moment))


def input_doubts(species: Iterable[Species], section: DftSection) -> list[str]:
    """Return what of moments and U is assumed, and is likely to be wrong, a line each."""
    found = []
    magnetic = sorted({one for one in species if spin_of(one, section.spin_states)})
    for one in magnetic:
        low = usual_low_spin(one)
        if low is not None and str(one) not in section.spin_states and low != one.moment:
            found.append(
                f"{one} is taken as high spin, moment {one.moment:g}; in oxides it is usually low "
                f'spin: then set "{one}" = {low:g}.0 under [dft.spin_states]'
            )
    without = sorted({one.element for one in magnetic if not section.hubbard_u_eV.get(one.element)})
    if without:
        others = ", ".join(f"{u:g} eV on {e}" for e, u in section.hubbard_u_eV.items() if u)
        found.append(
            f"there is no U on {', '.join(without)} ({others or 'nor on others'}), which carry "
            "moments: set hubbard_u_eV under [dft]"
        )
    return found


def spins(atoms: Atoms, states: Mapping[str, float]) -> Moments:
    """Return (n_atoms,) moments by label, in Bohr magnetons."""
    return np.array([spin_of(species, states) for species in species_of(atoms)])


def total_moment(atoms: Atoms, states: Mapping[str, float]) -> float:
    """Return the sum over the labels: 5 n_Fe - n_Na in NaxFePO4."""
    return float(spins(atoms, states).sum())


def atomic_limit(number: int) -> float:
    """Return the largest moment that a free neutral atom of a d-block row takes: 4 for Fe."""
    for first in (21, 39, 72):
        n_electrons = number - first + 1
        if 1 <= n_electrons <= 10:
            return float(min(n_electrons, 10 - n_electrons))
    return 0.0


def start_moments(atoms: Atoms, states: Mapping[str, float]) -> Moments:
    """Return (n_atoms,) moments to start from in a code that begins with free atoms.

    An atom takes no more than it has when it is free: 4 on every Fe. What a label has beyond that
    goes to the anions around its site, 1/6 to each of six O around Fe3+, which is where its hole
    has left a spin.
    """
    wanted = spins(atoms, states)
    limits = np.array([atomic_limit(int(number)) for number in atoms.numbers])
    moments: Moments = np.minimum(wanted, limits)
    for site in np.flatnonzero(wanted > moments):
        anions = bonded_anions(atoms, int(site))
        moments[anions if len(anions) else site] += (wanted[site] - moments[site]) / max(
            1, len(anions)
        )
    return moments


def bonded_anions(atoms: Atoms, site: int) -> NDArray[np.int64]:
    """Return the indices of the anions bonded to a site, six at most."""
    anions = np.flatnonzero(atoms.get_initial_charges() < 0)
    if not len(anions):
        return anions
    distances = atoms.get_distances(site, anions, mic=True)
    nearest = np.argsort(distances, kind="stable")[:_MOST_BONDS]
    return np.asarray(np.sort(anions[nearest][distances[nearest] <= _BONDED * distances.min()]))


def alternating_signs(atoms: Atoms, states: Mapping[str, float]) -> NDArray[np.int64]:
    """Return (n_atoms,) +1 or -1, antiparallel between neighbouring moments as far as it goes."""
    signs = np.ones(len(atoms), dtype=np.int64)
    sites = np.flatnonzero(spins(atoms, states) > 0)
    if len(sites) < 2:
        return signs
    distances = atoms[sites].get_all_distances(mic=True)
    np.fill_diagonal(distances, np.inf)
    near = distances <= _NEXT_TO * distances.min()
    done: set[int] = set()
    for first in range(len(sites)):
        waiting = deque([] if first in done else [first])
        done.add(first)
        while waiting:
            here = waiting.popleft()
            for other in np.flatnonzero(near[here]).tolist():
                if other not in done:
                    done.add(other)
                    signs[sites[other]] = -signs[sites[here]]
                    waiting.append(other)
    return signs if (signs * spins(atoms, states)).sum() >= 0 else -signs

"""Spin states: what total moment a charge order has, and where a calculation starts from.

Charge order is pinned by the total moment and by moments on each redox site, as in the shipped data
`data/nafepo4-pbeu`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from gasearch.crystal.host import Host
from gasearch.crystal.moments import bonded_nonmetals, usual_spin
from gasearch.crystal.species import Species, species_of
from gasearch.run.dft_section import DftSection

_SPIN_WORDS = {"": "high spin", "ls": "low spin", "is": "intermediate spin"}
_MOST_BONDS = 6
_BONDED = 1.3  # of the shortest bond
_NEXT_TO = 1.15  # of the shortest distance between redox sites

Moments = NDArray[np.float64]


@dataclass(frozen=True)
class SpinChoice:
    """The moment that an ion of a host is taken to have in DFT, and why.

    Parameters
    ----------
    moment
        In Bohr magnetons.
    reason
        As in a list: "low spin, between 6 O".
    doubt
        What may be wrong with it, in one line; "" where nothing is known to be.
    """

    species: Species
    moment: float
    reason: str
    doubt: str = ""

    def __str__(self) -> str:
        return f"{self.species} {self.moment:g} ({self.reason})"


def spin_choices(host: Host, states: Mapping[str, float]) -> list[SpinChoice]:
    """Return the moments of all ions of a host that have one, by ion and coordination.

    Parameters
    ----------
    states
        The user's moments by species, which come first.
    """
    around: dict[Species, set[tuple[str, ...]]] = {}
    for sublattice in host.sublattices:
        shells = set(bonded_nonmetals(host.atoms, sublattice.sites.tolist()))
        for species in sublattice.species:
            around.setdefault(species, set()).update(shells)
    shells_of = bonded_nonmetals(host.atoms, host.framework_sites.tolist())
    for species, shell in zip(host.framework, shells_of, strict=True):
        around.setdefault(species, set()).add(shell)
    found = [_choice(species, shells, states) for species, shells in sorted(around.items())]
    return [one for one in found if one is not None]


def _choice(
    species: Species, shells: set[tuple[str, ...]], states: Mapping[str, float]
) -> SpinChoice | None:
    """Return the moment of one species; None where it has none in any spin state."""
    if not species.ion.moment and str(species) not in states:
        return None
    if str(species) in states:
        return SpinChoice(species, states[str(species)], "set in [dft.spin_states]")
    if species.spin:
        return SpinChoice(species, species.moment, _SPIN_WORDS[species.spin])
    usual = {usual_spin(species, shell) for shell in shells}
    if len(usual) > 1:
        doubt = (
            f"{species} is taken as high spin everywhere, but on some of its sites it is usually "
            f'low spin: name "{species} ls" there among the species of the host'
        )
        return SpinChoice(species, species.moment, _SPIN_WORDS[""], doubt)
    (state,) = usual
    words = _SPIN_WORDS[state.spin]
    if state.spin:
        words += f", between {' or '.join(sorted(map(_in_words, shells)))}"
    return SpinChoice(species, state.moment, words if len(species.spin_states) > 1 else "spin only")


def _in_words(shell: tuple[str, ...]) -> str:
    return " and ".join(f"{n} {element}" for element, n in Counter(shell).items())


def with_usual_spins(section: DftSection, host: Host) -> DftSection:
    """Return [dft] whose table of spin states names all ions that are not high spin in a host."""
    usual = {
        str(one.species): one.moment
        for one in spin_choices(host, section.spin_states)
        if one.moment != one.species.moment
    }
    return section.model_copy(update={"spin_states": {**usual, **section.spin_states}})


def spin_of(species: Species, states: Mapping[str, float]) -> float:
    """Return the moment in Bohr magnetons that a table names, else that of the species."""
    return float(states.get(str(species), species.moment))


def assumptions(host: Host, section: DftSection) -> list[str]:
    """Return what inputs for a host assume of moments and U, a line each."""
    choices = spin_choices(host, section.spin_states)
    elements = {one.element for one in _species_of(host)}
    used = [f"{u:g} eV on {e}" for e, u in section.hubbard_u_eV.items() if u and e in elements]
    return [
        f"moments by label: {', '.join(map(str, choices)) or 'none'}",
        f"Hubbard U: {', '.join(used) or 'none'}",
    ]


def doubts(host: Host, section: DftSection) -> list[str]:
    """Return what inputs for a host assume that is likely to be wrong, a line each."""
    choices = spin_choices(host, section.spin_states)
    return [
        *(one.doubt for one in choices if one.doubt),
        *input_doubts(_species_of(host), section),
    ]


def _species_of(host: Host) -> set[Species]:
    return {one for s in host.sublattices for one in s.species} | {*host.framework}


def input_doubts(species: Iterable[Species], section: DftSection) -> list[str]:
    """Return what of U is assumed, and is likely to be wrong, a line each.

    A redox element is one with several oxidation states here, or with a moment.
    """
    known = {one for one in species if not one.is_vacancy}
    states: dict[str, set[int]] = {}
    for one in known:
        states.setdefault(one.element, set()).add(one.charge)
    redox = {one.element for one in known if one.ion.moment or len(states[one.element]) > 1}
    cations = {e for e in redox if max(states[e]) > 0}
    found = []
    without = sorted(e for e in cations if not section.hubbard_u_eV.get(e))
    if without:
        others = ", ".join(
            f"{u:g} eV on {e}" for e, u in section.hubbard_u_eV.items() if u and e in states
        )
        found.append(
            f"there is no U on {', '.join(without)} ({others or 'nor on others'}): set "
            "hubbard_u_eV under [dft]"
        )
    anions = {one.element for one in known if one.charge < 0}
    corrected = sorted(e for e in redox if section.hubbard_u_eV.get(e))
    if corrected and anions and not anions & {"O", "F"}:
        found.append(
            f"the U on {', '.join(corrected)} was fitted to oxides, and the anions here are "
            f"{', '.join(sorted(anions))}: set hubbard_u_eV under [dft]"
        )
    return found


def spins(atoms: Atoms, states: Mapping[str, float]) -> Moments:
    """Return (n_atoms,) moments by label, in Bohr magnetons."""
    return np.array([spin_of(species, states) for species in species_of(atoms)])


def moments_in_words(atoms: Atoms, states: Mapping[str, float]) -> str:
    """Return the moments by label of the ions that have one, such as "Fe2+ 4, Fe3+ 5"."""
    present = sorted({one for one in species_of(atoms) if one.ion.moment or str(one) in states})
    return ", ".join(f"{one} {spin_of(one, states):g}" for one in present)


def total_moment(atoms: Atoms, states: Mapping[str, float]) -> float:
    """Return the sum over the labels: 5 n_Fe - n_Na in NaxFePO4."""
    return float(spins(atoms, states).sum())


def atomic_limit(number: int) -> float:
    """Return the largest moment of a free neutral atom's d or f shell: 4 for Fe, 1 for Ce."""
    n_f = Species(chemical_symbols[number], 0).f_electrons
    if n_f:
        return float(min(n_f, 14 - n_f))
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

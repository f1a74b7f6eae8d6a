"""The lattice of a host as a stock `ase_ga` operator sees it: atoms whose symbols are species.

Each species is an element of its own (Fe3+ as Ga, a vacancy as X, which is how the field writes
them). These atoms live for one call; they never reach a database or a potential.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from gasearch.crystal.counting import Digits
from gasearch.crystal.declaration import Sublattice
from gasearch.crystal.host import Host
from gasearch.crystal.species import Species
from gasearch.errors import GasearchError

_ON_SITE = 0.1  # Å; operators that permute atoms leave them exactly on sites


class ForeignAtomsError(GasearchError, ValueError):
    """Atoms that are no decoration of the sites that were shown."""


@functools.lru_cache(maxsize=16)
def surrogates(host: Host) -> dict[Species, str]:
    """Return the element that stands for each species of the sublattices.

    An element stands for itself in its lowest oxidation state; Ga for Fe3+, X for the vacancy.
    """
    species = sorted({own for sublattice in host.sublattices for own in sublattice.species})
    taken = {own.element for own in species} | {"Ga"}
    spare = iter([e for e in ("Al", "Sc", "In", *chemical_symbols[1:]) if e not in taken])
    result: dict[Species, str] = {}
    for own in species:
        if own.is_vacancy:
            result[own] = "X"
        elif own.element not in result.values():
            result[own] = own.element
        else:
            result[own] = "Ga" if own == Species("Fe", 3) else next(spare)
    return result


@dataclass(frozen=True, eq=False)
class LatticeView:
    """Some sublattices of a host, as atoms."""

    host: Host
    sublattices: tuple[Sublattice, ...]

    @functools.cached_property
    def places(self) -> NDArray[np.int64]:
        """(n,) places of its sites in occupations."""
        return np.concatenate([np.arange(s.slice.start, s.slice.stop) for s in self.sublattices])

    @functools.cached_property
    def pools(self) -> list[list[str]]:
        """Symbols of each kind of sublattice."""
        kinds = dict.fromkeys(s.species for s in self.sublattices)
        return [[surrogates(self.host)[s] for s in species] for species in kinds]

    @property
    def symbols(self) -> list[str]:
        """All symbols that its sites may hold."""
        return list(dict.fromkeys(symbol for pool in self.pools for symbol in pool))

    @property
    def allowed_compositions(self) -> list[tuple[int, ...]]:
        """How many sites each symbol may hold, over all compositions of the host."""
        columns = [self.host.sublattices.index(s) for s in self.sublattices]
        allowed = {
            tuple(np.concatenate([filling[column] for column in columns]).tolist())
            for composition in self.host.compositions
            for filling in self.host.fillings(composition)
        }
        if len(self.pools) == 1:
            width = len(self.pools[0])
            allowed = {tuple(np.reshape(a, (-1, width)).sum(axis=0).tolist()) for a in allowed}
        return sorted(allowed)

    def read(self, occupation: Digits) -> list[str]:
        """Return the symbol on every site."""
        names = surrogates(self.host)
        return [names[s.species[digit]] for s in self.sublattices for digit in occupation[s.slice]]

    def atoms(self, occupation: Digits, confid: int) -> Atoms:
        """Return what a stock operator gets, with the `info` that it expects."""
        positions = self.host.atoms.positions[self.host.sites[self.places]]
        atoms = Atoms(self.read(occupation), positions, cell=self.host.atoms.cell, pbc=True)
        atoms.info = {"confid": confid, "key_value_pairs": {}, "data": {}}
        return atoms

    def write(self, occupation: Digits, atoms: Atoms) -> Digits:
        """Return an occupation with what a stock operator made in place of what it saw.

        A species that does not fit on the site where it was put is left out.
        """
        names = {symbol: own for own, symbol in surrogates(self.host).items()}
        symbols = [str(atoms.symbols[n]) for n in self._atoms_on_sites(atoms)]
        unknown = sorted(set(symbols) - names.keys())
        if unknown:
            raise ForeignAtomsError(f"it put {', '.join(unknown)} on the lattice.")
        owners = [s for s in self.sublattices for _ in s.sites]
        result = occupation.copy()
        for place, owner, symbol in zip(self.places, owners, symbols, strict=True):
            if names[symbol] in owner.species:
                result[place] = owner.species.index(names[symbol])
        return result

    def _atoms_on_sites(self, atoms: Atoms) -> Sequence[int]:
        """Return the atom on every site."""
        cell, sites = self.host.atoms.cell, self.host.sites[self.places]
        if len(atoms) == len(sites) and np.allclose(
            atoms.positions, self.host.atoms.positions[sites]
        ):
            return range(len(atoms))
        own = self.host.atoms.get_scaled_positions()[sites]
        difference = cell.scaled_positions(atoms.positions)[None] - own[:, None]
        difference -= np.round(difference)
        distance = np.linalg.norm(difference @ cell.array, axis=2)
        nearest = distance.argmin(axis=1)
        is_bijective = len(atoms) == len(sites) == len(np.unique(nearest))
        if not is_bijective or distance.min(axis=1).max() > _ON_SITE:
            raise ForeignAtomsError("it moved atoms away from the sites of the host.")
        return [int(n) for n in nearest]

"""The genome of the search: one species on every sublattice site, neutral by construction."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from gasearch.crystal.declaration import Sublattice
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.site_matching import match_sites
from gasearch.crystal.species import NotNeutralError, Species
from gasearch.errors import DecorationError, GasearchError


class ExclusionError(DecorationError):
    """A decoration that fills sites that exclude each other."""


class Decoration:
    """One choice of a species for every sublattice site of a host. Immutable, neutral and legal.

    Parameters
    ----------
    host
        Where it lives.
    occupation
        (n_sites,) digit of the species on each site, all sublattices joined in order.
    """

    __slots__ = ("__dict__", "composition", "host", "occupation")

    def __init__(self, host: Host, occupation: ArrayLike) -> None:
        given = np.asarray(occupation)
        digits = given.astype(np.uint8)
        _refuse_unfit_digits(host, given, digits)
        composition = host.composition_of(digits)
        if composition is None:
            raise _count_error(host, digits)
        if len(host.exclusions) and not host.is_legal(digits):
            raise _exclusion_error(host, digits)
        digits.setflags(write=False)
        self.host = host
        self.occupation: NDArray[np.uint8] = digits
        self.composition: Composition = composition

    @classmethod
    def from_fingerprint(cls, host: Host, fingerprint: str) -> Decoration:
        """Return the canonical decoration of a fingerprint."""
        return cls(host, host.canonicalizer.occupation(fingerprint))

    @classmethod
    def from_bytes(cls, host: Host, occupation: bytes) -> Decoration:
        """Return the decoration whose occupation has these bytes, as the store keeps them."""
        return cls(host, np.frombuffer(occupation, dtype=np.uint8))

    @classmethod
    def random(cls, host: Host, composition: Composition, rng: np.random.Generator) -> Decoration:
        """Return a decoration drawn evenly from all (symmetry not counted) at a composition."""
        return cls(host, host.random_occupation(composition, rng))

    @classmethod
    def from_atoms(cls, host: Host, atoms: Atoms, tolerance: float = 1.6) -> Decoration:
        """Return the decoration of a structure with formal oxidation states in `initial_charges`.

        Sites are matched by fractional coordinates in the structure's own cell, which must be the
        host's supercell, strained at most; a rigid shift is taken out first.

        Parameters
        ----------
        tolerance
            Largest distance, in Å, between an atom and the site that it is taken to fill.
        """
        return cls(host, match_sites(host, atoms, tolerance))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.host, self.occupation)

    def __eq__(self, other: object) -> bool:
        """Equal species on every site; use fingerprints to compare crystals."""
        if not isinstance(other, Decoration):
            return NotImplemented
        return self.host is other.host and np.array_equal(self.occupation, other.occupation)

    def __hash__(self) -> int:
        return hash(self.occupation.tobytes())

    def __repr__(self) -> str:
        return f"<Decoration {self.formula} {self.fingerprint}>"

    @functools.cached_property
    def _canonical(self) -> tuple[str, int]:
        canonicalizer = self.host.canonicalizer
        words, orbit_sizes = canonicalizer.canonical_words(self.occupation[None])
        return canonicalizer.text(words[0]), int(orbit_sizes[0])

    @property
    def fingerprint(self) -> str:
        """Canonical form under the host's symmetry, in hexadecimal: equal for equal crystals."""
        return self._canonical[0]

    @property
    def orbit_size(self) -> int:
        """Number of equivalent decorations."""
        return self._canonical[1]

    @property
    def x(self) -> float:
        """Working ions per formula unit, as a share of what the formula unit has."""
        return self.composition.x

    @property
    def formula(self) -> str:
        """Formula of the whole cell."""
        return self.composition.formula

    def on(self, sublattice: Sublattice) -> NDArray[np.uint8]:
        """Return the digits (n,) on one sublattice, read-only."""
        return self.occupation[sublattice.slice]

    def species(self) -> list[Species]:
        """Return the species on every sublattice site, in the order of the occupation."""
        return [s.species[d] for s in self.host.sublattices for d in self.on(s)]

    def replaced(
        self, sites: NDArray[np.int64] | list[int], digits: NDArray[np.uint8] | list[int] | int
    ) -> Decoration:
        """Return a copy with other digits on some sites; it must be neutral again."""
        occupation = self.occupation.copy()
        occupation[sites] = digits
        return Decoration(self.host, occupation)

    def moved(self, operation: int) -> Decoration:
        """Return the equivalent decoration under one of the host's operations."""
        occupation = np.empty_like(self.occupation)
        occupation[self.host.permutations[operation]] = self.occupation
        return Decoration(self.host, occupation)

    def to_atoms(self) -> Atoms:
        """Return the undistorted structure: charges and high-spin moments set, vacancies left out.

        `initial_charges` are the formal oxidation states (sum 0), in e; `initial_magmoms` in
        Bohr magnetons. Atoms keep the order of the host's sites.
        """
        host, rows = self.host, np.arange(self.host.n_sites)
        atoms = host.atoms.copy()
        numbers, charges = atoms.numbers.copy(), np.zeros(len(atoms))
        moments = np.zeros(len(atoms))
        charges[host.framework_sites] = [s.charge for s in host.framework]
        moments[host.framework_sites] = [s.moment for s in host.framework]
        numbers[host.sites] = host.numbers[rows, self.occupation]
        charges[host.sites] = host.charges[rows, self.occupation]
        moments[host.sites] = host.moments[rows, self.occupation]
        atoms.numbers = numbers
        atoms.set_initial_charges(charges)
        atoms.set_initial_magnetic_moments(moments)
        filled: Atoms = atoms[numbers > 0]
        return filled


def _refuse_unfit_digits(host: Host, given: NDArray[Any], digits: NDArray[np.uint8]) -> None:
    if digits.shape != (host.n_sites,):
        raise DecorationError(
            f"an occupation of shape {digits.shape}, but the host has {host.n_sites} sites."
        )
    unfit = digits >= host.n_species
    if given.dtype != digits.dtype:
        unfit |= given != digits
    if unfit.any():
        site = int(np.flatnonzero(unfit)[0])
        raise DecorationError(
            f"site {site} holds digit {given[site]}, but its sublattice has "
            f"{host.n_species[site]} species, from 0."
        )


def _count_error(host: Host, digits: NDArray[np.uint8]) -> GasearchError:
    """Return the error of an occupation that is charged, or holds other elements than its host."""
    charge, text = host.charge_of(digits), host.formula_of(digits)
    if charge and host.is_neutral:
        return NotNeutralError(charge, text, _advice(host, charge))
    kept = ", ".join(f"{n} {element}" for element, n in host.free_counts.items())
    return DecorationError(
        f"{text} does not keep the elements on the free sublattices of its host: {kept}."
    )


def _exclusion_error(host: Host, digits: NDArray[np.uint8]) -> ExclusionError:
    """Return the error of an occupation that fills two sites too close to each other."""
    filled = host.is_filled(digits)
    one, other = next(pair for pair in host.exclusions.tolist() if filled[pair].all())
    return ExclusionError(
        f"{host.formula_of(digits)} fills sites {one} and {other}, which are "
        f"{host.distances[one, other]:.2f} Å apart: less than host.min_site_distance = "
        f"{host.declaration.min_site_distance:g} Å."
    )


def _advice(host: Host, charge: int) -> str:
    """Return what would make a decoration neutral."""
    action = "oxidise" if charge < 0 else "reduce"
    redox = ", ".join(dict.fromkeys(s.name for s in host.sublattices if s.changes_charge))
    ways = [f"{action} {redox} sites by {abs(charge)} e in all"] if redox else []
    ion = max((s.charge for s in host.working_species), key=abs, default=0)
    if ion:
        verb = "remove" if charge * ion > 0 else "add"
        ways.append(f"{verb} {abs(charge / ion):g} {host.working_element}")
    return ", or ".join(ways)

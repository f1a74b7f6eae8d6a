"""Model energy landscapes with a known ground state, on which searches are compared.

All distinct decorations of a small cell stand in a table with their energies, so that a search can
be told what it found. A large cell has too many; its lowest known energy is that of another method,
see `tempering.py`. What the energies are: `energies.py` beside this file. Tables of relaxed
energies: `relaxed_landscapes.py`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import spglib
from energies import (
    Digits,
    EnergyFunction,
    Floats,
    Integers,
    coulomb_energy,
    many_body_energy,
    spread,
)

from gasearch.crystal.host import Composition, Host
from gasearch.crystal.io.builtin import builtin_host

NAMES = ("coulomb", "many-body")
CACHE = Path(__file__).parent / ".cache"
LARGE_SUPERCELL, LARGE_X = (1, 3, 2), "2/3"
"""24 formula units: 541 thousand million raw decorations, 11,269,366,602 distinct ones."""
LARGE_SAMPLE, LARGE_SAMPLE_SEED = 20_000, 20
"""Raw decorations, and their seed, from which the random terms of a large landscape are scaled."""
MINIMA = Path(__file__).parent / "tables" / "large-landscapes.json"


@dataclass(frozen=True, eq=False)
class Landscape:
    """All distinct decorations of a host at one composition, with their energies.

    Parameters
    ----------
    name
        "coulomb" or "many-body".
    seed
        Of the random terms; without effect on "coulomb".
    energy_of
        From occupations (n, n_sites) to energies (n,) in eV/f.u.
    occupations
        (n_distinct, n_sites), canonical, by ascending canonical word.
    orbit_sizes
        (n_distinct,) number of equivalent decorations.
    energies
        (n_distinct,) in eV/f.u.
    space_groups
        (n_distinct,) number of the space group of the sublattice sites, framework left out.
    """

    name: str
    seed: int
    host: Host
    composition: Composition
    energy_of: EnergyFunction
    occupations: Digits
    orbit_sizes: Integers
    energies: Floats
    space_groups: Integers

    def __len__(self) -> int:
        return len(self.energies)

    @functools.cached_property
    def _words(self) -> Integers:
        return canonical_words(self.host, self.occupations)

    def rows(self, occupations: Digits) -> Integers:
        """Return (n,) where the equivalents of occupations (n, n_sites) stand in the table."""
        words = canonical_words(self.host, occupations)
        rows = np.searchsorted(self._words, words)
        if not np.array_equal(self._words[np.minimum(rows, len(self) - 1)], words):
            raise ValueError(f"an occupation that is not of {self.composition.formula}.")
        return rows

    def fingerprint(self, row: int) -> str:
        """Return the fingerprint of a distinct decoration."""
        return self.host.canonicalizer.text(self._words[row, None])

    @property
    def ground_state(self) -> int:
        """Row of the lowest decoration."""
        return int(self.energies.argmin())

    @property
    def gap(self) -> float:
        """How far the second lowest distinct decoration lies above the lowest, in eV/f.u."""
        lowest, second = np.partition(self.energies, 1)[:2]
        return float(second - lowest)

    @property
    def spread(self) -> float:
        """Standard deviation over all raw decorations, in eV/f.u."""
        return spread(self.energies, self.orbit_sizes)

    @functools.cached_property
    def n_minima(self) -> int:
        """How many distinct decorations no exchange of two sites of one sublattice can lower."""
        is_minimum = np.ones(len(self), dtype=bool)
        for i, j in _exchanges(self.host):
            moved = self.occupations.copy()
            moved[:, [i, j]] = moved[:, [j, i]]
            is_minimum &= self.energies[self.rows(moved)] >= self.energies
        return int(is_minimum.sum())


@dataclass(frozen=True, eq=False)
class LargeLandscape:
    """The energies of a host at one composition that has too many decorations for a table.

    Parameters
    ----------
    name
        "coulomb" or "many-body".
    seed
        Of the random terms; without effect on "coulomb".
    energy_of
        From occupations (n, n_sites) to energies (n,) in eV/f.u.
    """

    name: str
    seed: int
    host: Host
    composition: Composition
    energy_of: EnergyFunction

    @functools.cached_property
    def spread(self) -> float:
        """Standard deviation over the fixed sample of raw decorations, in eV/f.u."""
        return float(self.energy_of(large_sample(self.host, self.composition)).std())

    def fingerprint(self, occupation: Digits) -> str:
        """Return the fingerprint of an occupation (n_sites,)."""
        return self.host.canonicalizer.text(canonical_words(self.host, occupation[None]))


@dataclass(frozen=True)
class LargeMinimum:
    """The lowest decoration that parallel tempering found on a large landscape.

    Parameters
    ----------
    energy
        In eV/f.u.
    n_found
        How many of the `n_runs` independent runs ended at this decoration.
    """

    fingerprint: str
    energy: float
    n_found: int
    n_runs: int


def make_landscape(
    name: str = "coulomb",
    supercell: tuple[int, int, int] = (1, 3, 1),
    x: str = "2/3",
    seed: int = 0,
    cache: Path | None = CACHE,
) -> Landscape:
    """Return a landscape of NaxFePO4; `cache` keeps its table in a file that may be deleted."""
    host = Host.build(builtin_host("nafepo4-olivine"), supercell)
    composition = host.composition_at(x)
    cell = "".join(map(str, supercell))
    file = None if cache is None else cache / f"{cell}-{x.replace('/', 'over')}-{_digest()}.npz"
    occupations, orbit_sizes, space_groups = _table(host, composition, file)
    if name == "coulomb":
        energy_of = coulomb_energy(host)
    elif name == "many-body":
        energy_of = many_body_energy(host, occupations, orbit_sizes, seed)
    else:
        raise ValueError(f"unknown landscape {name!r}; known: {', '.join(NAMES)}.")
    energies = energy_of(occupations)
    return Landscape(
        name, seed, host, composition, energy_of, occupations, orbit_sizes, energies, space_groups
    )


def make_large_landscape(
    name: str = "coulomb",
    supercell: tuple[int, int, int] = LARGE_SUPERCELL,
    x: str = LARGE_X,
    seed: int = 0,
) -> LargeLandscape:
    """Return a landscape of NaxFePO4 without a table.

    The random terms of "many-body" are scaled as in a small cell, but over a fixed sample of
    `LARGE_SAMPLE` raw decorations instead of all distinct ones.
    """
    host = Host.build(builtin_host("nafepo4-olivine"), supercell)
    composition = host.composition_at(x)
    if name == "coulomb":
        energy_of = coulomb_energy(host)
    elif name == "many-body":
        sample = large_sample(host, composition)
        energy_of = many_body_energy(host, sample, np.ones(LARGE_SAMPLE, dtype=np.int64), seed)
    else:
        raise ValueError(f"unknown landscape {name!r}; known: {', '.join(NAMES)}.")
    return LargeLandscape(name, seed, host, composition, energy_of)


def large_sample(host: Host, composition: Composition) -> Digits:
    """Return `LARGE_SAMPLE` occupations drawn evenly from all raw decorations, always the same."""
    rng = np.random.default_rng(LARGE_SAMPLE_SEED)
    return np.array([host.random_occupation(composition, rng) for _ in range(LARGE_SAMPLE)])


def large_minimum(name: str) -> LargeMinimum:
    """Return the reference minimum of `make_large_landscape(name)`, as it is committed."""
    document = json.loads(MINIMA.read_text(encoding="utf-8"))
    found = next(entry for entry in document["landscapes"] if entry["name"] == name)
    return LargeMinimum(
        found["fingerprint"], found["energy_eV_per_fu"], found["n_found"], found["n_runs"]
    )


def _table(
    host: Host, composition: Composition, file: Path | None
) -> tuple[Digits, Integers, Integers]:
    """Return occupations, orbit sizes and space groups of all distinct decorations."""
    if file is not None and file.exists():
        with np.load(file) as stored:
            return stored["occupations"], stored["orbit_sizes"], stored["space_groups"]
    chunks = list(host.enumerate_distinct(composition))
    occupations = np.concatenate([part for part, _ in chunks])
    order = np.argsort(canonical_words(host, occupations))
    occupations = occupations[order]
    orbit_sizes = np.concatenate([part for _, part in chunks])[order]
    space_groups = sublattice_space_groups(host, occupations)
    if file is not None:
        file.parent.mkdir(exist_ok=True)
        np.savez(file, occupations=occupations, orbit_sizes=orbit_sizes, space_groups=space_groups)
    return occupations, orbit_sizes, space_groups


def _digest() -> str:
    """Return a word that changes with the code that makes the table."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]


def sublattice_space_groups(host: Host, occupations: Digits) -> Integers:
    """Return (n,) space-group numbers of the decorated sublattice sites; half a second a thousand.

    A vacancy is an atom of number 0, and all species differ.
    """
    lattice = host.atoms[host.sites]
    scaled = lattice.get_scaled_positions()
    first = np.array([100 * s.start for s in host.sublattices for _ in s.sites])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of spglib, at each call
        return np.array(
            [
                spglib.get_symmetry_dataset((lattice.cell.array, scaled, first + digits)).number
                for digits in occupations
            ]
        )


def canonical_words(host: Host, occupations: Digits) -> Integers:
    """Return (n,) one number for each occupation (n, n_sites), equal for equivalent ones."""
    words = host.canonicalizer.canonical_words(occupations)[0]
    if words.shape[1] != 1:
        raise ValueError("a landscape needs a cell of at most 52 sites.")
    return words[:, 0]


def _exchanges(host: Host) -> Iterator[tuple[int, int]]:
    for sublattice in host.sublattices:
        sites = range(sublattice.slice.start, sublattice.slice.stop)
        yield from ((i, j) for i in sites for j in sites if i < j)

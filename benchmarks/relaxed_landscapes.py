"""Tables of relaxed energies as landscapes: all compositions of a cell, with verdicts and the hull.

The tables are made by `relaxed_table.py` and stand in `tables/`. A decoration whose relaxation did
not end well is there with its verdict: a search that asks for it spends an evaluation and learns
nothing else.
"""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from energies import Digits, Floats, Integers, spread
from landscapes import Landscape, canonical_words, sublattice_space_groups
from numpy.typing import NDArray

from gasearch.analysis.hull import Hull, formation_hull
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.io.builtin import builtin_host

TABLES = Path(__file__).parent / "tables"
AS_LOW = 2e-4
"""Energies closer than this, in eV/f.u., cannot be told apart: relaxations of equivalent starts
differ by about half of it, and some of the lowest decorations by less."""


@dataclass(frozen=True, eq=False)
class RelaxedLandscape:
    """All distinct decorations of some compositions of a host, each relaxed once.

    Parameters
    ----------
    name
        Of the table: host, supercell and potential.
    compositions
        Those that are in the table, by ascending x.
    fingerprints
        (n,) by ascending composition, then by ascending canonical word.
    occupations
        (n, n_sites), canonical.
    orbit_sizes
        (n,) number of equivalent decorations.
    composition_numbers
        (n,) where the composition stands in `compositions`.
    energies
        (n,) of the whole cell, in eV; NaN where a relaxation failed. They count where `is_ok`.
    verdicts
        (n,) of the relaxer: "ok", "order_lost", "broken", "unconverged" or "failed".
    n_calls
        (n,) evaluations of the potential that the relaxation took.
    """

    name: str
    host: Host
    compositions: tuple[Composition, ...]
    fingerprints: tuple[str, ...]
    occupations: Digits
    orbit_sizes: Integers
    composition_numbers: Integers
    energies: Floats
    verdicts: tuple[str, ...]
    n_calls: Integers

    def __len__(self) -> int:
        return len(self.fingerprints)

    @functools.cached_property
    def is_ok(self) -> NDArray[np.bool_]:
        """(n,) whether the energy counts."""
        return np.array([verdict == "ok" for verdict in self.verdicts])

    @functools.cached_property
    def x(self) -> Floats:
        """(n,) filled share of the Na sites."""
        return np.array([c.x for c in self.compositions])[self.composition_numbers]

    @functools.cached_property
    def _row_of(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self.fingerprints)}

    def row(self, fingerprint: str) -> int:
        """Return where a fingerprint stands in the table."""
        return self._row_of[fingerprint]

    @functools.cached_property
    def _sorted_words(self) -> tuple[Integers, Integers]:
        words = canonical_words(self.host, self.occupations)
        order = words.argsort()
        return words[order], order

    def rows(self, occupations: Digits) -> Integers:
        """Return (n,) where the equivalents of occupations (n, n_sites) stand in the table."""
        known, order = self._sorted_words
        words = canonical_words(self.host, occupations)
        at = np.minimum(np.searchsorted(known, words), len(known) - 1)
        if not np.array_equal(known[at], words):
            raise ValueError(f"an occupation that is not in the table {self.name}.")
        return order[at]

    def rows_at(self, composition: Composition) -> Integers:
        """Return all rows of a composition, ascending."""
        return np.flatnonzero(self.composition_numbers == self.compositions.index(composition))

    def ground_state(self, composition: Composition) -> int:
        """Return the row of the lowest valid decoration of a composition: its niche minimum."""
        rows = self.rows_at(composition)
        rows = rows[self.is_ok[rows]]
        if not len(rows):
            raise ValueError(f"no valid decoration of {composition.formula} in {self.name}.")
        return int(rows[self.energies[rows].argmin()])

    @functools.cached_property
    def niche_minima(self) -> tuple[int, ...]:
        """Row of the lowest valid decoration of each composition, by ascending x."""
        return tuple(self.ground_state(composition) for composition in self.compositions)

    def rows_within(self, composition: Composition, tolerance: float = AS_LOW) -> Integers:
        """Return the rows of valid decorations up to `tolerance` eV/f.u. above the lowest.

        With the default: all that a search may return for the niche minimum.
        """
        rows = self.rows_at(composition)
        ceiling = self.energies[self.ground_state(composition)]
        ceiling += tolerance * self.host.n_formula_units
        return np.asarray(rows[self.is_ok[rows] & (self.energies[rows] <= ceiling)])

    def gap(self, composition: Composition) -> float:
        """Return how far the second lowest valid decoration lies above the lowest, in eV/f.u."""
        energies = np.sort(self.energies[self.rows_within(composition, np.inf)])
        if len(energies) < 2:
            return float("inf")
        return float(energies[1] - energies[0]) / self.host.n_formula_units

    def spread(self, composition: Composition) -> float:
        """Return the standard deviation over valid raw decorations, in eV/f.u."""
        rows = self.rows_within(composition, np.inf)
        return spread(self.energies[rows], self.orbit_sizes[rows]) / self.host.n_formula_units

    @functools.cached_property
    def hull(self) -> Hull:
        """Formation energies of the niche minima, in their order, and the hull over them."""
        minima = list(self.niche_minima)
        return formation_hull(
            self.x[minima].tolist(),
            self.energies[minima].tolist(),
            self.host.n_formula_units,
            self.host.x_range,
        )

    @functools.cached_property
    def hull_vertices(self) -> tuple[int, ...]:
        """Rows of the vertices of the hull, by ascending x, both ends included."""
        on_hull = self.hull.on_hull.tolist()
        return tuple(row for row, on in zip(self.niche_minima, on_hull, strict=True) if on)

    def at(self, composition: Composition) -> Landscape:
        """Return one composition as a landscape in eV/f.u.; what is not valid has infinite energy.

        The searches of one composition, those of `ase_ga` and parallel tempering among them, run
        on it as on a model landscape.
        """
        rows = self.rows_at(composition)
        energies = np.where(self.is_ok, self.energies, np.inf) / self.host.n_formula_units

        def energy_of(occupations: Digits) -> Floats:
            return np.asarray(energies[self.rows(occupations)])

        return Landscape(
            name=self.name,
            seed=0,
            host=self.host,
            composition=composition,
            energy_of=energy_of,
            occupations=self.occupations[rows],
            orbit_sizes=self.orbit_sizes[rows],
            energies=energies[rows],
            space_groups=sublattice_space_groups(self.host, self.occupations[rows]),
        )


def relaxed_landscape(name: str, tables: Path = TABLES) -> RelaxedLandscape:
    """Return a table such as "nafepo4-121-pmmcs"; refuse one that misses distinct decorations."""
    match = re.fullmatch(r"nafepo4-(\d)(\d)(\d)-.+", name)
    if match is None:
        raise ValueError(f"{name!r} is no table of NaFePO4: nafepo4-121-pmmcs is one.")
    host = Host.build(builtin_host("nafepo4-olivine"), tuple(map(int, match.groups())))
    with (tables / f"{name}.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(line for line in file if not line.startswith("#")))
    occupations = np.array([host.canonicalizer.occupation(line["fingerprint"]) for line in lines])
    found = [host.composition_at(line["x"]) for line in lines]
    compositions = tuple(sorted(set(found)))
    for composition in compositions:
        if found.count(composition) != host.n_distinct(composition):
            raise ValueError(
                f"the table {name} has {found.count(composition)} of the "
                f"{host.n_distinct(composition)} distinct decorations of {composition.formula}."
            )
    numbers = np.array([compositions.index(composition) for composition in found])
    order = np.lexsort((canonical_words(host, occupations), numbers))
    return RelaxedLandscape(
        name=name,
        host=host,
        compositions=compositions,
        fingerprints=tuple(lines[n]["fingerprint"] for n in order),
        occupations=occupations[order],
        orbit_sizes=np.array([int(lines[n]["orbit_size"]) for n in order]),
        composition_numbers=numbers[order],
        energies=np.array([float(lines[n]["energy_eV"] or "nan") for n in order]),
        verdicts=tuple(lines[n]["verdict"] for n in order),
        n_calls=np.array([int(lines[n]["n_calls"]) for n in order]),
    )

"""The host: a supercell with its sublattices and its symmetry, and what it can hold.

Declarations are in `gasearch.crystal.declaration`, hosts that come with gasearch in
`gasearch.crystal.io.builtin`, structure files in `gasearch.crystal.io.hosts`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.data import chemical_symbols
from ase.geometry import get_distances
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from gasearch.crystal.arrangements import Arrangements, SymmetryClasses
from gasearch.crystal.counting import CountedSublattice, Digits, Filling, fillings
from gasearch.crystal.declaration import (
    HostDeclaration,
    HostError,
    Sublattice,
    count_formula_units,
    formula_unit_counts,
    framework_species,
    free_element_counts,
    make_sublattices,
    right_handed,
    supercell_matrix,
    unit_sites,
    without_charge_order,
    working_element,
)
from gasearch.crystal.species import Species, formula
from gasearch.crystal.symmetry import Canonicalizer, SpaceGroup, find_space_group, site_permutations

MAX_ATOMS = 5_000
"""Sites of the largest supercell; exact counts take minutes well before that."""


@dataclass(frozen=True, order=True)
class Composition:
    """What niches, counts and hulls go by: the number of working ions; the rest follows from it.

    Parameters
    ----------
    n_working
        Working ions of the cell that come and go.
    x
        Working ions per formula unit, as a share of what the formula unit has: the filled share of
        their sites unless sites exclude each other. 1 where nothing comes and goes.
    formula
        Of the whole cell.
    """

    n_working: int
    x: float
    formula: str


class Host:
    """A supercell of a host crystal: its sublattices, its symmetry, and what it can hold.

    Build it with `Host.build`. It holds no decoration itself; see `gasearch.crystal.decoration`.
    """

    def __init__(
        self,
        declaration: HostDeclaration,
        matrix: NDArray[np.int64],
        atoms: Atoms,
        sublattices: Sequence[Sublattice],
    ) -> None:
        """Take parts that fit each other; `Host.build` makes them."""
        self.declaration = declaration
        self.matrix = matrix
        self.atoms = atoms
        self.sublattices = tuple(sublattices)
        self.n_sites = sum(len(s) for s in sublattices)
        self.sites = np.concatenate([s.sites for s in sublattices])
        self.framework_sites = np.setdiff1d(np.arange(len(atoms)), self.sites)
        self.framework = framework_species(declaration, atoms, self.framework_sites)
        self.framework_charge = sum(s.charge for s in self.framework)
        self.working_element = working_element(self.sublattices)
        self.is_neutral = declaration.charges == "integer"
        self.n_working_sites = sum(len(s) for s in sublattices if s.moving)
        self.free_counts = free_element_counts(declaration, atoms, self.sublattices)
        self.n_formula_units = count_formula_units(
            declaration, atoms, self.framework_sites, self._kept_elements(), self._guests
        )
        self.charges = self._per_species(lambda s: s.charge, np.int64)
        self.numbers = self._per_species(lambda s: s.number, np.int64)
        self.moments = self._per_species(lambda s: s.moment, np.float64)
        self.n_species = np.array([len(s.species) for s in sublattices for _ in s.sites])
        self.fills = self.numbers > 0
        for array in (self.sites, self.framework_sites, self.n_species, self.fills):
            array.setflags(write=False)

    @classmethod
    def build(cls, declaration: HostDeclaration, supercell: Sequence[Any]) -> Host:
        """Return the supercell of a declared host; refuse one that cannot be neutral.

        Parameters
        ----------
        supercell
            Three repeats, or a 3x3 integer matrix whose rows are the new lattice vectors.
        """
        matrix = supercell_matrix(supercell)
        declaration = without_charge_order(declaration)
        unit = right_handed(declaration.unit_cell)
        _refuse_large_cell(unit, matrix)
        atoms = make_supercell(unit, matrix, order="cell-major")
        host = cls(declaration, matrix, atoms, make_sublattices(declaration, unit, len(atoms)))
        if not host.compositions:
            raise HostError(_no_composition_text(host))
        return host

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes as the declaration: small, and built anew over there."""
        return type(self).build, (self.declaration, self.matrix.tolist())

    def _kept_elements(self) -> dict[str, int]:
        """Return how many atoms the cell always has of each element whose number never changes."""
        counts = Counter(s.element for s in self.framework)
        counts.update(self.free_counts)
        for sublattice in self.sublattices:
            if not sublattice.is_free and not sublattice.moving:
                counts[sublattice.species[0].element] += len(sublattice)
        counts.pop(self.working_element, None)
        return dict(counts)

    @functools.cached_property
    def _guests(self) -> tuple[str, ...]:
        """Elements of constant number that share the sites of the working ion and no others."""
        elsewhere = {e for s in self.sublattices if s.kind != "working_ion" for e in s.elements}
        return tuple(element for element in self.free_counts if element not in elsewhere)

    @property
    def has_axis(self) -> bool:
        """Whether compositions differ, so that there is a hull over x."""
        return len(self.compositions) > 1

    @property
    def has_charge_order(self) -> bool:
        """Whether an element of a sublattice has several oxidation states, which are ordered."""
        return self.is_neutral and any(s.changes_charge for s in self.sublattices)

    @functools.cached_property
    def species_by_element(self) -> dict[str, tuple[Species, ...]]:
        """Species of each element that has several on sublattices, in ascending charge."""
        found: dict[str, set[Species]] = {}
        for species in (one for s in self.sublattices for one in s.species if not one.is_vacancy):
            found.setdefault(species.element, set()).add(species)
        return {e: tuple(sorted(own)) for e, own in sorted(found.items()) if len(own) > 1}

    @functools.cached_property
    def working_species(self) -> tuple[Species, ...]:
        """Species of the ion that comes and goes; the first is what comes. () where none does."""
        found = (one for s in self.sublattices for one in s.species if one.element == s.moving)
        return tuple(dict.fromkeys(one for one in found if not one.is_vacancy))

    @functools.cached_property
    def may_be_vacant(self) -> NDArray[np.bool_]:
        """(n_sites,) whether a site may be empty: the order of what comes, goes and moves."""
        result = np.repeat(
            [s.holds_vacancies for s in self.sublattices], [len(s) for s in self.sublattices]
        )
        result.setflags(write=False)
        return result

    @functools.cached_property
    def n_full(self) -> float:
        """Working ions of the cell at x = 1, guests on their sites included."""
        fitting = self.n_formula_units * sum(formula_unit_counts(self.declaration).values())
        is_simple = all(s.kind == "working_ion" for s in self.sublattices if s.moving)
        if is_simple and abs(fitting - len(self.atoms)) < 1e-6:
            return self.n_working_sites
        unit = formula_unit_counts(self.declaration)
        per_unit = sum(unit.get(element, 0) for element in (self.working_element, *self._guests))
        if not unit.get(self.working_element):
            raise HostError(
                f"formula_unit = {self.declaration.formula_unit!r} has no {self.working_element}, "
                "whose number in it is x = 1."
            )
        return per_unit * self.n_formula_units

    @functools.cached_property
    def exclusions(self) -> NDArray[np.int64]:
        """(n, 2) sublattice sites too close to each other to be filled both, the smaller first."""
        limit = self.declaration.min_site_distance
        i, j, shortest = neighbor_list("ijd", self.atoms[self.sites], limit)
        if np.any(i == j):
            raise HostError(
                f"a site lies {shortest[i == j].min():.2f} Å from its own image, less than "
                f"host.min_site_distance = {limit:g} Å: choose a larger cell."
            )
        return np.unique(np.column_stack([i, j])[i < j], axis=0).reshape(-1, 2)

    @functools.cached_property
    def excluded(self) -> NDArray[np.bool_]:
        """(n_sites, n_sites) whether two sublattice sites exclude each other."""
        table = np.zeros((self.n_sites, self.n_sites), dtype=bool)
        table[self.exclusions[:, 0], self.exclusions[:, 1]] = True
        result = table | table.T
        result.setflags(write=False)
        return result

    def is_filled(self, occupations: Digits) -> NDArray[np.bool_]:
        """Return (..., n_sites) whether each site of occupations (..., n_sites) holds an atom."""
        return np.asarray(self.fills[np.arange(self.n_sites), occupations])

    def is_legal(self, occupations: Digits) -> NDArray[np.bool_]:
        """Return (...) whether no two sites of occupations (..., n_sites) exclude each other."""
        filled = self.is_filled(occupations)
        first, second = self.exclusions.T
        return np.asarray(~np.any(filled[..., first] & filled[..., second], axis=-1))

    def room(self, occupation: Digits) -> NDArray[np.bool_]:
        """Return (n_sites,) whether no neighbour that a site excludes is filled."""
        if not len(self.exclusions):
            return np.ones(self.n_sites, dtype=bool)
        return np.asarray(~np.any(self.excluded & self.is_filled(occupation), axis=1))

    @functools.cached_property
    def space_group(self) -> SpaceGroup:
        """Space group of the undecorated unit cell; elements of one free sublattice are alike."""
        unit = right_handed(self.declaration.unit_cell)
        return find_space_group(
            unit.cell.array, unit.get_scaled_positions(), self._kinds, self.declaration.symprec
        )

    @functools.cached_property
    def _kinds(self) -> NDArray[np.int64]:
        """(n_unit,) equal numbers for sites of the unit cell that count as alike."""
        unit = self.declaration.unit_cell
        labels: list[str] = list(unit.symbols)
        for number, declared in enumerate(self.declaration.sublattices):
            for site in unit_sites(declared, unit):
                own = f"free {number}" if declared.is_free else labels[site]
                labels[site] = f"{own}: {' '.join(map(str, declared.species))}"
        order = sorted(set(labels))
        return np.array([order.index(label) for label in labels])

    @functools.cached_property
    def permutations(self) -> NDArray[np.int64]:
        """(n_operations, n_sites) where each operation of the host takes each sublattice site."""
        result = site_permutations(
            self.space_group,
            self.atoms.cell.array,
            self.atoms.positions[self.sites],
            self.sites % len(self._kinds),
            self.declaration.symprec,
        )
        result.setflags(write=False)
        return result

    @functools.cached_property
    def canonicalizer(self) -> Canonicalizer:
        """What turns occupations into fingerprints."""
        return Canonicalizer(self.permutations, self.n_species)

    @functools.cached_property
    def _counted(self) -> tuple[CountedSublattice, ...]:
        return tuple(
            CountedSublattice(len(s), tuple(self._weights(s, species) for species in s.species))
            for s in self.sublattices
        )

    def _weights(self, sublattice: Sublattice, species: Species) -> tuple[int, ...]:
        """Return what a species adds to the working ions, the charge, and each free element."""
        may_move = bool(sublattice.moving) or sublattice.is_free
        works = may_move and not species.is_vacancy and species.element == self.working_element
        counted = [int(sublattice.is_free and species.element == e) for e in self._counted_elements]
        return (int(works), species.charge * self.is_neutral, *counted)

    @functools.cached_property
    def _counted_elements(self) -> tuple[str, ...]:
        """Free elements, but one of the sites that are always full: it follows from the others."""
        elements = list(self.free_counts)
        free = [s for s in self.sublattices if s.is_free]
        full = [s for s in free if not (s.holds_vacancies or self.working_element in s.elements)]
        others = {e for s in free if s not in full for e in s.elements}
        determined = [e for s in full for e in s.elements]
        if determined and not others.intersection(determined):
            elements.remove(determined[-1])
        return tuple(elements)

    @functools.cached_property
    def _conserved(self) -> tuple[int, ...]:
        """What the charge and the free elements of the sublattices must add up to."""
        charge = -self.framework_charge if self.is_neutral else 0
        return (charge, *(self.free_counts[e] for e in self._counted_elements))

    @functools.cached_property
    def _weight_table(self) -> NDArray[np.int64]:
        """(n_sites * width, n_quantities) `_weights` by site and digit, as `_flat` numbers them."""
        table = np.zeros((*self.charges.shape, 1 + len(self._conserved)), dtype=np.int64)
        for sublattice in self.sublattices:
            for digit, species in enumerate(sublattice.species):
                table[sublattice.slice, digit] = self._weights(sublattice, species)
        return np.asarray(table.reshape(-1, table.shape[-1]))

    @functools.cached_property
    def _rows(self) -> NDArray[np.int64]:
        return np.asarray(np.arange(self.n_sites) * self.charges.shape[1])

    def _totals(self, occupation: Digits) -> tuple[int, tuple[int, ...]]:
        """Return the number of working ions, and the charge and free elements on sublattices."""
        n_working, *rest = self._weight_table[self._rows + occupation].sum(axis=0).tolist()
        return n_working, tuple(rest)

    def n_working_in(self, occupation: Digits) -> int:
        """Return the number of working ions of any occupation (n_sites,)."""
        return self._totals(occupation)[0]

    @functools.cached_property
    def _arrangements(self) -> Arrangements:
        fills = [[not species.is_vacancy for species in s.species] for s in self.sublattices]
        return Arrangements([len(s) for s in self.sublattices], fills, self.exclusions)

    @functools.cached_property
    def _fillings(self) -> dict[int, tuple[Filling, ...]]:
        found = fillings(self._counted, self._conserved)
        if not len(self.exclusions):
            return found
        n_raw = self._arrangements.n_raw
        legal = {n: tuple(filling for filling in own if n_raw(filling)) for n, own in found.items()}
        return {n: own for n, own in legal.items() if own}

    def fillings(self, composition: Composition) -> tuple[Filling, ...]:
        """Return every choice of species counts per sublattice at a composition."""
        return self._fillings[composition.n_working]

    @functools.cached_property
    def _composition_by_count(self) -> tuple[Composition, ...]:
        may_move = [s for s in self.sublattices if s.moving or s.is_free]
        most = sum(len(s) for s in may_move if self.working_element in s.elements)
        return tuple(self._composition(n) for n in range(most + 1))

    @functools.cached_property
    def compositions(self) -> tuple[Composition, ...]:
        """All compositions that can be neutral, from x_min to x_max."""
        return tuple(self._composition_by_count[n] for n in self._fillings)

    @functools.cached_property
    def _shares(self) -> dict[Composition, tuple[tuple[Filling, ...], NDArray[np.float64]]]:
        result = {}
        for composition in self.compositions:
            chosen = self.fillings(composition)
            numbers = [self._arrangements.n_raw(filling) for filling in chosen]
            result[composition] = (chosen, np.array([n / sum(numbers) for n in numbers]))
        return result

    @property
    def x_range(self) -> tuple[float, float]:
        """x_min and x_max: the neutral range."""
        return self.compositions[0].x, self.compositions[-1].x

    def _composition(self, n_working: int) -> Composition:
        guests = sum(self.free_counts[element] for element in self._guests)
        counts = Counter(self._kept_elements())
        counts[self.working_element] += n_working
        x = (n_working + guests) / self.n_full if self.working_element else 1.0
        return Composition(n_working, x, self._formula(counts))

    def _formula(self, counts: Mapping[str, int]) -> str:
        mobile = [e for s in self.sublattices for e in s.elements]
        symbols = dict.fromkeys([*mobile, *self.atoms.symbols])
        return formula(symbol for symbol in symbols for _ in range(counts.get(symbol, 0)))

    def composition_at(self, x: float | str) -> Composition:
        """Return the composition at a filled share such as 0.75 or "2/3"."""
        try:
            value = float(Fraction(x))
        except (ValueError, OverflowError, ZeroDivisionError) as error:
            raise HostError(f"x = {x!r} is not a number: write 0.75 or '2/3'.") from error
        if not self.has_axis:
            raise HostError(
                f"this host has one composition, {self.compositions[0].formula}: leave x out."
            )
        low, high = self.compositions[0].x, self.compositions[-1].x
        if not low - 1e-9 <= value <= high + 1e-9:
            raise HostError(
                f"x = {x} is outside the neutral range of this host, {low:g} to {high:g}."
            )
        best = min(self.compositions, key=lambda c: abs(c.x - value))
        if abs(best.x - value) > 0.002:
            held = ", ".join(f"{c.x:.4g}" for c in self.compositions)
            raise HostError(f"this cell cannot hold x = {x}; it can hold {held}.")
        return best

    @functools.cached_property
    def distances(self) -> NDArray[np.float64]:
        """(n_sites, n_sites) shortest periodic distances between sublattice sites, in Å."""
        positions = self.atoms.positions[self.sites]
        _, result = get_distances(positions, cell=self.atoms.cell, pbc=True)
        return np.asarray(result)

    def charge_of(self, occupation: Digits) -> int:
        """Return the charge of the whole cell with an occupation (n_sites,), in e."""
        _, (charge, *_) = self._totals(occupation)
        return charge + self.framework_charge

    def composition_of(self, occupation: Digits) -> Composition | None:
        """Return the composition of an occupation (n_sites,); None if it does not keep them."""
        n_working, conserved = self._totals(occupation)
        return self._composition_by_count[n_working] if conserved == self._conserved else None

    def formula_of(self, occupation: Digits) -> str:
        """Return the formula of the whole cell with an occupation (n_sites,), allowed or not."""
        numbers = self.numbers[np.arange(self.n_sites), occupation]
        counts = Counter(s.element for s in self.framework)
        counts.update(chemical_symbols[n] for n in numbers if n)
        return self._formula(counts)

    def random_occupation(self, composition: Composition, rng: np.random.Generator) -> Digits:
        """Return an occupation (n_sites,) drawn evenly from all raw decorations.

        Where they cannot be counted, any legal one may come, not each as likely.
        """
        chosen, shares = self._shares[composition]
        filling = chosen[0] if len(chosen) == 1 else chosen[rng.choice(len(chosen), p=shares)]
        return self._arrangements.random(filling, rng)

    @functools.cached_property
    def _symmetry_classes(self) -> SymmetryClasses:
        return self._arrangements.classes(self.permutations)

    @property
    def are_counted(self) -> bool:
        """Whether `n_raw` and `n_distinct` are exact; else there are at least so many."""
        return self._arrangements.are_counted

    @functools.cache  # noqa: B019 -- hosts are few and live as long as the process
    def n_distinct(self, composition: Composition) -> int:
        """Return the number of symmetry-distinct decorations, by Burnside's lemma."""
        return self._arrangements.n_distinct(self.fillings(composition), self._symmetry_classes)

    def n_distinct_beyond(self, composition: Composition, known: int) -> int:
        """Return `n_distinct`; where it is not exact, more than are known in any case."""
        counted = self.n_distinct(composition)
        return counted if self.are_counted else max(counted, known + 1)

    @functools.cache  # noqa: B019
    def n_raw(self, composition: Composition) -> int:
        """Return the number of decorations, symmetry not counted."""
        return sum(self._arrangements.n_raw(filling) for filling in self.fillings(composition))

    def enumerate_distinct(
        self, composition: Composition
    ) -> Iterator[tuple[Digits, NDArray[np.int64]]]:
        """Yield chunks (n, n_sites) of all distinct decorations with their orbit sizes (n,).

        In canonical form, in a fixed order. The cost is that of the raw decorations: about a
        second per million.
        """
        for filling in self.fillings(composition):
            for chunk in self._arrangements.listed(filling):
                canonical, orbit_sizes = self.canonicalizer.is_canonical(chunk)
                if canonical.any():
                    yield chunk[canonical], orbit_sizes[canonical]

    def fingerprints(self, composition: Composition) -> list[str]:
        """Return the fingerprints of all distinct decorations, always in the same order."""
        text = self.canonicalizer.text
        return [
            text(words)
            for chunk, _ in self.enumerate_distinct(composition)
            for words in self.canonicalizer.canonical_words(chunk)[0]
        ]

    def _per_species(self, value: Callable[[Species], float], dtype: Any) -> NDArray[Any]:
        """Return (n_sites, n_species) of a property of the species that a site may hold."""
        width = max(len(s.species) for s in self.sublattices)
        table = np.zeros((self.n_sites, width), dtype=dtype)
        for sublattice in self.sublattices:
            for digit, species in enumerate(sublattice.species):
                table[sublattice.slice, digit] = value(species)
        table.setflags(write=False)
        return table


def _refuse_large_cell(unit: Atoms, matrix: NDArray[np.int64]) -> None:
    n_atoms = len(unit) * abs(round(float(np.linalg.det(matrix))))
    if n_atoms > MAX_ATOMS:
        raise HostError(
            f"the supercell has {n_atoms:,} sites, more than {MAX_ATOMS:,}: choose fewer repeats."
        )


def _no_composition_text(host: Host) -> str:
    """Return why a host can hold nothing."""
    if not host.is_neutral:
        return "the sites of the host exclude each other so that no decoration is possible."
    low, high = (
        host.framework_charge
        + sum(int(pick(s.charge for s in sub.species)) * len(sub) for sub in host.sublattices)
        for pick in (min, max)
    )
    if low <= 0 <= high and len(host.exclusions):
        return (
            f"{formula(host.atoms.symbols)} has no neutral decoration without atoms closer than "
            f"host.min_site_distance = {host.declaration.min_site_distance:g} Å."
        )
    return (
        f"{formula(host.atoms.symbols)} cannot be neutral: with the declared species its "
        f"charge lies between {low:+d} and {high:+d} e and never reaches 0 at the declared "
        "element counts. Check the species and the framework's charges."
    )

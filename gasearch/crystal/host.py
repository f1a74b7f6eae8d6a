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
from numpy.typing import NDArray

from gasearch.crystal.counting import (
    BurnsideCounter,
    CountedSublattice,
    Digits,
    Filling,
    enumerate_digits,
    fillings,
    n_raw,
)
from gasearch.crystal.declaration import (
    HostDeclaration,
    HostError,
    Sublattice,
    count_formula_units,
    framework_species,
    free_element_counts,
    make_sublattices,
    refuse_close_sites,
    right_handed,
    supercell_matrix,
    unit_sites,
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
        Filled working-ion sites of the cell that a user may fill or empty.
    x
        Filled share of the working-ion sites.
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
        self.n_working_sites = sum(len(s) for s in sublattices if s.kind == "working_ion")
        self.free_counts = free_element_counts(declaration, atoms, self.sublattices)
        self.n_formula_units = count_formula_units(declaration, atoms, self.framework_sites)
        self.charges = self._per_species(lambda s: s.charge, np.int64)
        self.numbers = self._per_species(lambda s: s.number, np.int64)
        self.moments = self._per_species(lambda s: s.moment, np.float64)
        self.n_species = np.array([len(s.species) for s in sublattices for _ in s.sites])
        for array in (self.sites, self.framework_sites, self.n_species):
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
        unit = right_handed(declaration.unit_cell)
        _refuse_large_cell(unit, matrix)
        atoms = make_supercell(unit, matrix, order="cell-major")
        host = cls(declaration, matrix, atoms, make_sublattices(declaration, unit, len(atoms)))
        working = [d for d in declaration.sublattices if d.kind == "working_ion"]
        sites = [site for declared in working for site in unit_sites(declared, unit)]
        refuse_close_sites(unit, sites, declaration.min_site_distance)
        if not host.compositions:
            raise HostError(_not_neutral_text(host))
        return host

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes as the declaration: small, and built anew over there."""
        return type(self).build, (self.declaration, self.matrix.tolist())

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
                own = labels[site] if declared.elements == "fixed" else f"free {number}"
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
        works = sublattice.kind == "working_ion" and species.element == self.working_element
        counted = [int(sublattice.is_free and species.element == e) for e in self._counted_elements]
        return (int(works), species.charge, *counted)

    @functools.cached_property
    def _counted_elements(self) -> tuple[str, ...]:
        """Free elements but one of the redox sites, whose number follows from the others."""
        elements = list(self.free_counts)
        free = [s for s in self.sublattices if s.is_free]
        guests = {e for s in free if s.kind == "working_ion" for e in s.elements}
        redox = [e for s in free if s.kind == "redox" for e in s.elements]
        if redox and not guests.intersection(redox):
            elements.remove(redox[-1])
        return tuple(elements)

    @functools.cached_property
    def _conserved(self) -> tuple[int, ...]:
        """What the charge and the free elements of the sublattices must add up to."""
        return (-self.framework_charge, *(self.free_counts[e] for e in self._counted_elements))

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

    @functools.cached_property
    def _fillings(self) -> dict[int, tuple[Filling, ...]]:
        return fillings(self._counted, self._conserved)

    def fillings(self, composition: Composition) -> tuple[Filling, ...]:
        """Return every choice of species counts per sublattice at a composition."""
        return self._fillings[composition.n_working]

    @functools.cached_property
    def _composition_by_count(self) -> tuple[Composition, ...]:
        return tuple(self._composition(n) for n in range(self.n_working_sites + 1))

    @functools.cached_property
    def compositions(self) -> tuple[Composition, ...]:
        """All compositions that can be neutral, from x_min to x_max."""
        return tuple(self._composition_by_count[n] for n in self._fillings)

    @functools.cached_property
    def _shares(self) -> dict[Composition, tuple[tuple[Filling, ...], NDArray[np.float64]]]:
        result = {}
        for composition in self.compositions:
            chosen = self.fillings(composition)
            numbers = [n_raw(filling) for filling in chosen]
            result[composition] = (chosen, np.array([n / sum(numbers) for n in numbers]))
        return result

    @property
    def x_range(self) -> tuple[float, float]:
        """x_min and x_max: the neutral range."""
        return self.compositions[0].x, self.compositions[-1].x

    def _composition(self, n_working: int) -> Composition:
        guests = sum(
            n
            for element, n in self.free_counts.items()
            if any(element in s.elements for s in self.sublattices if s.kind == "working_ion")
        )
        counts = Counter(s.element for s in self.framework)
        counts[self.working_element] += n_working
        counts.update(self.free_counts)
        for sublattice in self.sublattices:
            if sublattice.kind == "redox" and not sublattice.is_free:
                counts[sublattice.species[0].element] += len(sublattice)
        x = (n_working + guests) / self.n_working_sites
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
        """Return an occupation (n_sites,) drawn evenly from all raw decorations."""
        chosen, shares = self._shares[composition]
        filling = chosen[0] if len(chosen) == 1 else chosen[rng.choice(len(chosen), p=shares)]
        parts = [np.repeat(np.arange(len(c), dtype=np.uint8), c) for c in filling]
        return np.concatenate([rng.permutation(part) for part in parts])

    @functools.cached_property
    def _burnside(self) -> BurnsideCounter:
        return BurnsideCounter(self._counted, self.permutations)

    @functools.cache  # noqa: B019 -- hosts are few and live as long as the process
    def n_distinct(self, composition: Composition) -> int:
        """Return the number of symmetry-distinct decorations, by Burnside's lemma."""
        return self._burnside((composition.n_working, *self._conserved))

    @functools.cache  # noqa: B019
    def n_raw(self, composition: Composition) -> int:
        """Return the number of decorations, symmetry not counted."""
        return sum(n_raw(filling) for filling in self.fillings(composition))

    def enumerate_distinct(
        self, composition: Composition
    ) -> Iterator[tuple[Digits, NDArray[np.int64]]]:
        """Yield chunks (n, n_sites) of all distinct decorations with their orbit sizes (n,).

        In canonical form, in a fixed order. The cost is that of the raw decorations: about a
        second per million.
        """
        for filling in self.fillings(composition):
            for chunk in enumerate_digits(filling):
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


def _not_neutral_text(host: Host) -> str:
    low = host.framework_charge + sum(
        int(min(s.charge for s in sub.species)) * len(sub) for sub in host.sublattices
    )
    high = host.framework_charge + sum(
        int(max(s.charge for s in sub.species)) * len(sub) for sub in host.sublattices
    )
    return (
        f"{formula(host.atoms.symbols)} cannot be neutral: with the declared species its "
        f"charge lies between {low:+d} and {high:+d} e and never reaches 0 at the declared "
        "element counts. Check the species and the framework's charges."
    )

"""What a user declares of a host, and what a supercell of it holds: sites, elements, charges.

From a declaration to a supercell with symmetry: `gasearch.crystal.host`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.formula import Formula
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from gasearch.crystal.species import Species
from gasearch.errors import UsageError

MIN_SITE_DISTANCE = 2.0  # Å; shorter than any distance between two alkali ions in a crystal

Kind = Literal["working_ion", "redox"]


class HostError(UsageError):
    """A host that cannot be searched, or a question that it cannot answer."""


@dataclass(frozen=True)
class SublatticeDeclaration:
    """Which sites of the unit cell may hold which species.

    Parameters
    ----------
    kind
        "working_ion" or "redox".
    sites
        Element symbols as they stand in the structure, or indices into the unit cell.
    species
        What the sites may hold; for working ions the filled species come first.
    elements
        "fixed": a site keeps the element that it has in the structure; "free": any species may sit
        on any site, and only the number of each element is kept.
    fractions
        Share of each element on a free sublattice; by default what the structure has.
    """

    kind: Kind
    sites: tuple[str | int, ...]
    species: tuple[Species, ...]
    elements: Literal["fixed", "free"] = "fixed"
    fractions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class HostDeclaration:
    """A unit cell with its sublattices: all that defines a host but the supercell.

    Parameters
    ----------
    name
        For people: "nafepo4-olivine" or a file name.
    unit_cell
        All working-ion sites filled.
    sublattices
        At least one of each kind.
    framework
        Species of the elements on all other sites.
    formula_unit
        Chemical formula that energies per formula unit refer to.
    symprec
        Tolerance of the symmetry search, in Å.
    min_site_distance
        Working-ion sites closer than this, in Å, would exclude each other.
    kpoints
        Of built-in hosts: fractions of the unit cell's reciprocal vectors that the shipped DFT data
        were computed at; () if there are none.
    note
        Of built-in hosts: what a reader of its hull should know, as one sentence.
    """

    name: str
    unit_cell: Atoms
    sublattices: tuple[SublatticeDeclaration, ...]
    framework: Mapping[str, Species]
    formula_unit: str
    symprec: float = 0.01
    min_site_distance: float = MIN_SITE_DISTANCE
    kpoints: tuple[tuple[float, float, float], ...] = ()
    note: str = ""


@dataclass(frozen=True, eq=False)
class Sublattice:
    """Sites of the supercell that may hold the same species.

    Parameters
    ----------
    name
        Its elements, such as "Na" or "Fe,Mn".
    kind
        "working_ion" or "redox".
    species
        What a digit of the occupation means here.
    sites
        (n,) indices into the atoms of the supercell.
    start
        Index of its first site in occupations, which join all sublattices.
    is_free
        Whether its elements may exchange places.
    """

    name: str
    kind: Kind
    species: tuple[Species, ...]
    sites: NDArray[np.int64]
    start: int
    is_free: bool = False

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements that it may hold, in the order of its species."""
        return tuple(dict.fromkeys(s.element for s in self.species if not s.is_vacancy))

    @property
    def slice(self) -> slice:
        """Its part of an occupation."""
        return slice(self.start, self.start + len(self.sites))

    def __len__(self) -> int:
        return len(self.sites)


def supercell_matrix(supercell: Sequence[Any]) -> NDArray[np.int64]:
    """Return the right-handed 3x3 integer matrix of three repeats or a matrix; refuse others."""
    try:
        given = np.array(supercell, dtype=float)
    except (TypeError, ValueError):
        given = np.empty(0)
    matrix = np.diag(given) if given.shape == (3,) else given
    if matrix.shape != (3, 3) or np.any(matrix != np.round(matrix)):
        raise HostError(
            f"supercell = {supercell!r}: expected three whole numbers such as [1, 2, 1], "
            "or three rows of three."
        )
    determinant = round(float(np.linalg.det(matrix)))
    if determinant == 0 or (given.ndim == 1 and np.any(given < 1)):
        raise HostError(f"supercell = {supercell!r} has no volume: every repeat must be 1 or more.")
    return np.asarray(np.copysign(1, determinant) * matrix).astype(np.int64)


def right_handed(atoms: Atoms) -> Atoms:
    """Return the same crystal with a right-handed cell: all three vectors reversed if needed."""
    if atoms.cell.rank < 3:
        raise HostError("the host has no cell: a crystal with three lattice vectors is needed.")
    result = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
    if result.cell.handedness < 0:
        result.set_cell(-result.cell.array, scale_atoms=False)
    result.wrap()
    return result


def unit_sites(declared: SublatticeDeclaration, unit: Atoms) -> list[int]:
    """Return the unit-cell indices that a declaration names."""
    found: set[int] = set()
    symbols = list(unit.symbols)
    for site in declared.sites:
        if isinstance(site, str):
            here = [n for n, symbol in enumerate(symbols) if symbol == site]
        else:
            here = [site] if 0 <= site < len(unit) else []
        if not here:
            raise HostError(
                f"host.sublattice names the site {site!r}, but the structure has "
                f"{len(unit)} sites (0 to {len(unit) - 1}) of {', '.join(dict.fromkeys(symbols))}."
            )
        found.update(here)
    return sorted(found)


def refuse_close_sites(unit: Atoms, sites: Sequence[int], limit: float) -> None:
    """Refuse working-ion sites of the unit cell that cannot both be filled; `limit` in Å."""
    i, j, d = neighbor_list("ijd", unit[list(sites)], limit)
    if len(i):
        raise HostError(
            f"working-ion sites {_place(unit, sites[i[0]])} and {_place(unit, sites[j[0]])} are "
            f"{d[0]:.2f} Å apart and exclude each other, which is not supported: leave one of the "
            "two kinds of site out of the structure, or lower host.min_site_distance "
            f"(now {limit:g} Å)."
        )


def _place(unit: Atoms, site: int) -> str:
    x, y, z = unit.get_scaled_positions()[site]
    return f"{site} ({x:.3f} {y:.3f} {z:.3f})"


def make_sublattices(declaration: HostDeclaration, unit: Atoms, n_atoms: int) -> list[Sublattice]:
    """Return the sublattices of the supercell; one per element where elements are fixed."""
    offsets = np.arange(0, n_atoms, len(unit))
    taken: set[int] = set()
    result: list[Sublattice] = []
    for declared in declaration.sublattices:
        sites = unit_sites(declared, unit)
        if taken.intersection(sites):
            raise HostError(
                f"site {min(taken.intersection(sites))} belongs to two sublattices; "
                "name each site once."
            )
        taken.update(sites)
        for name, species, own in _split(declared, sites, unit):
            where = np.sort((offsets[:, None] + np.array(own)).ravel())
            where.setflags(write=False)
            start = sum(len(s) for s in result)
            is_free = declared.elements == "free"
            result.append(Sublattice(name, declared.kind, species, where, start, is_free))
    kinds = {s.kind for s in result}
    if kinds != {"working_ion", "redox"}:
        missing = " and ".join(sorted({"working_ion", "redox"} - kinds))
        raise HostError(f"the host declares no {missing} sublattice; it needs one of each kind.")
    return result


def _split(
    declared: SublatticeDeclaration, sites: list[int], unit: Atoms
) -> Iterator[tuple[str, tuple[Species, ...], list[int]]]:
    """Yield (name, species, sites) of the sublattices that one declaration makes."""
    elements = list(dict.fromkeys(unit[site].symbol for site in sites))
    _refuse_species(declared, elements)
    if declared.elements == "free" or declared.kind == "working_ion":
        named = dict.fromkeys(s.element for s in declared.species if not s.is_vacancy)
        yield ",".join(named), declared.species, sites
        return
    for element in elements:
        species = tuple(s for s in declared.species if s.element == element)
        yield element, species, [site for site in sites if unit[site].symbol == element]


def _refuse_species(declared: SublatticeDeclaration, elements: Sequence[str]) -> None:
    species = declared.species
    if len(set(species)) < max(2, len(species)):
        raise HostError(
            f"a {declared.kind} sublattice needs two or more different species, "
            f"not {', '.join(map(str, species)) or 'none'}."
        )
    if declared.kind == "redox" and any(s.is_vacancy for s in species):
        raise HostError("a redox sublattice cannot hold vacancies; only working-ion sites can.")
    if declared.kind == "working_ion" and not any(s.is_vacancy for s in species):
        raise HostError("a working-ion sublattice needs the species 'vacancy'.")
    if declared.kind == "working_ion" and declared.elements == "fixed":
        guests = dict.fromkeys(s.element for s in species if not s.is_vacancy)
        if len(guests) > 1:
            raise HostError(
                f"working-ion sites that hold {', '.join(guests)} need elements = 'free' and the "
                "fractions of all but the first, which are kept."
            )
    absent = [s for s in species if not s.is_vacancy and s.element not in elements]
    if absent and declared.elements == "fixed":
        raise HostError(
            f"{absent[0]} is declared for {declared.kind} sites, which hold "
            f"{', '.join(elements)} in the structure: with elements = 'fixed' it can never be "
            "there; take it out, or write elements = 'free' and fractions."
        )
    missing = [e for e in elements if all(s.element != e for s in species)]
    if missing:
        raise HostError(
            f"the {declared.kind} sites of the structure hold {', '.join(missing)}, "
            f"but the declared species are {', '.join(map(str, species))}."
        )


def framework_species(
    declaration: HostDeclaration, atoms: Atoms, sites: NDArray[np.int64]
) -> tuple[Species, ...]:
    """Return the species of the sites that are never permuted, in the order of `sites`."""
    symbols = [atoms.symbols[int(i)] for i in sites]
    unknown = [s for s in dict.fromkeys(symbols) if s not in declaration.framework]
    if unknown:
        raise HostError(
            f"the charge of {', '.join(unknown)} on the framework is not declared: add it, "
            f"as in [host.framework] {unknown[0]} = '{unknown[0]}2-'."
        )
    wrong = [s for s in dict.fromkeys(symbols) if declaration.framework[s].element != s]
    if wrong:
        raise HostError(
            f"[host.framework] {wrong[0]} = '{declaration.framework[wrong[0]]}' names another "
            f"element: write the charge of {wrong[0]}, as in '{wrong[0]}2-'."
        )
    return tuple(declaration.framework[s] for s in symbols)


def working_element(sublattices: Sequence[Sublattice]) -> str:
    """Return the element that fills and empties; the first species of all working-ion sites."""
    first = {s.species[0] for s in sublattices if s.kind == "working_ion"}
    if len(first) != 1 or next(iter(first)).is_vacancy:
        raise HostError(
            "working-ion sublattices must all name the same ion first, "
            f"not {', '.join(sorted(map(str, first)))}."
        )
    return next(iter(first)).element


def free_element_counts(
    declaration: HostDeclaration, atoms: Atoms, sublattices: Sequence[Sublattice]
) -> dict[str, int]:
    """Return how many of each conserved element the free sublattices hold together."""
    free = [s for s in sublattices if s.is_free]
    working = {e for s in free if s.kind == "working_ion" for e in s.elements}
    both = sorted({e for s in free if s.kind == "redox" for e in s.elements} & working)
    if both:
        raise HostError(
            f"{', '.join(both)} may sit on free working-ion sites and on free redox sites, so that "
            "x would not follow from the numbers of ions: leave it out of one of them."
        )
    declared = [d for d in declaration.sublattices if d.elements == "free"]
    counts: dict[str, int] = {}
    for sublattice, source in zip(free, declared, strict=True):
        for element, n in _element_counts(sublattice, source, atoms).items():
            counts[element] = counts.get(element, 0) + n
    return counts


def _element_counts(
    sublattice: Sublattice, declared: SublatticeDeclaration, atoms: Atoms
) -> dict[str, int]:
    size = len(sublattice)
    here = Counter(atoms.symbols[int(i)] for i in sublattice.sites)
    fractions = dict(declared.fractions) or {e: n / size for e, n in here.items()}
    _refuse_fractions(fractions, sublattice)
    conserved = sublattice.elements[1:] if declared.kind == "working_ion" else sublattice.elements
    counts = {e: _whole_number(fractions.get(e, 0.0), size, e) for e in conserved}
    total = sum(counts.values())
    if (total != size) if declared.kind == "redox" else (total > size):
        raise HostError(
            f"the fractions of {', '.join(counts)} fill {total} of {size} sites; on redox sites "
            "they must add up to 1."
        )
    return counts


def _refuse_fractions(fractions: Mapping[str, float], sublattice: Sublattice) -> None:
    unknown = sorted(set(fractions) - set(sublattice.elements))
    if unknown:
        raise HostError(f"fractions name {', '.join(unknown)}, which no declared species has.")
    outside = [e for e, share in fractions.items() if not 0 <= share <= 1]
    if outside:
        raise HostError(
            f"the fraction of {outside[0]} is {fractions[outside[0]]:g}: expected 0 to 1."
        )


def _whole_number(share: float, size: int, element: str) -> int:
    """Return how many of `size` sites a share means; files round shares to two decimals."""
    number = share * size
    if abs(number - round(number)) > min(0.25, 0.005 * size) + 1e-6:
        raise HostError(
            f"{share:g} of {size} sites is {number:g} {element}, not a whole number: choose "
            "another supercell or other fractions."
        )
    return round(number)


def count_formula_units(
    declaration: HostDeclaration, atoms: Atoms, framework_sites: NDArray[np.int64]
) -> int:
    """Return how many declared formula units the filled cell holds."""
    try:
        unit = Formula(declaration.formula_unit).count()
    except ValueError as error:
        raise HostError(f"formula_unit = {declaration.formula_unit!r} is no formula.") from error
    n_units = len(atoms) / max(1, sum(unit.values()))
    framework = Counter(atoms.symbols[int(i)] for i in framework_sites)
    fits = all(unit.get(e, 0) * n_units == n for e, n in framework.items())
    if not fits or n_units != int(n_units):
        raise HostError(
            f"formula_unit = {declaration.formula_unit!r} does not fit the filled cell "
            f"{atoms.get_chemical_formula()}."
        )
    return int(n_units)

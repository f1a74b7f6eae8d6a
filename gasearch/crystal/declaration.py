"""What a user declares of a host, and what a supercell of it holds: sites, elements, charges.

From a declaration to a supercell with symmetry: `gasearch.crystal.host`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.species import Species, formula, formula_counts
from gasearch.errors import UsageError

MIN_SITE_DISTANCE = 2.0  # Å; shorter than any distance between two alkali ions in a crystal
_FORMULA = 0.01  # relative; shares in formulas have few digits

Kind = Literal["working_ion", "redox", "mixed"]
Charges = Literal["integer", "delocalised"]


class HostError(UsageError):
    """A host that cannot be searched, or a question that it cannot answer."""


@dataclass(frozen=True)
class SublatticeDeclaration:
    """Which sites of the unit cell may hold which species.

    Parameters
    ----------
    kind
        "working_ion": its first species comes and goes; "redox": its sites change their charge;
        "mixed": any species on any site, the number of each element kept but of that which `moves`.
    sites
        Element symbols as they stand in the structure, or indices into the unit cell.
    species
        What the sites may hold; for working ions the filled species come first.
    elements
        "fixed": a site keeps the element that it has in the structure; "free": any species may sit
        on any site, and only the number of each element is kept. Mixed sites are always free.
    fractions
        Share of each element on a free sublattice; by default what the structure has.
    moves
        The element that comes and goes on mixed sites; "" where all are kept.
    """

    kind: Kind
    sites: tuple[str | int, ...]
    species: tuple[Species, ...]
    elements: Literal["fixed", "free"] = "fixed"
    fractions: Mapping[str, float] = field(default_factory=dict)
    moves: str = ""

    @property
    def is_free(self) -> bool:
        """Whether its elements may exchange places."""
        return self.elements == "free" or self.kind == "mixed"

    @property
    def moving(self) -> str:
        """The element whose number on these sites is x; "" where every number is kept."""
        return self.species[0].element if self.kind == "working_ion" else self.moves


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
        At least one.
    framework
        Species of the elements on all other sites.
    formula_unit
        Chemical formula that energies per formula unit refer to. Its number of working ions is
        x = 1.
    symprec
        Tolerance of the symmetry search, in Å.
    min_site_distance
        Of two sublattice sites closer than this, in Å, one at most is filled.
    charges
        "integer": every decoration is neutral; "delocalised": the charge is not ordered, and
        vacancy orders of any composition count.
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
    charges: Charges = "integer"
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
        As in its declaration.
    species
        What a digit of the occupation means here.
    sites
        (n,) indices into the atoms of the supercell.
    start
        Index of its first site in occupations, which join all sublattices.
    is_free
        Whether its elements may exchange places.
    moving
        The element whose number on these sites is x, such as "Na"; "" where every number is kept.
    """

    name: str
    kind: Kind
    species: tuple[Species, ...]
    sites: NDArray[np.int64]
    start: int
    is_free: bool = False
    moving: str = ""

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements that it may hold, in the order of its species."""
        return tuple(dict.fromkeys(s.element for s in self.species if not s.is_vacancy))

    @property
    def holds_vacancies(self) -> bool:
        """Whether its sites may be empty."""
        return any(s.is_vacancy for s in self.species)

    @property
    def changes_charge(self) -> bool:
        """Whether an element on its sites has several oxidation states."""
        charges = {(s.element, s.charge) for s in self.species if not s.is_vacancy}
        return len(charges) > len(self.elements)

    @property
    def slice(self) -> slice:
        """Its part of an occupation."""
        return slice(self.start, self.start + len(self.sites))

    def __len__(self) -> int:
        return len(self.sites)


def without_charge_order(declaration: HostDeclaration) -> HostDeclaration:
    """Return a declaration of a delocalised host in which no sites differ by charge or spin alone.

    Of each element on a sublattice the first species stays; where nothing is left to choose, its
    sites become framework.
    """
    if declaration.charges == "integer":
        return declaration
    kept, framework = [], dict(declaration.framework)
    for declared in declaration.sublattices:
        first = {s.element: s for s in reversed(declared.species)}
        species = tuple(s for s in declared.species if first[s.element] == s)
        if len(species) > 1 and (declared.is_free or declared.kind == "working_ion"):
            kept.append(replace(declared, species=species))
        else:
            framework |= {s.element: s for s in species if s.element not in framework}
    return replace(declaration, sublattices=tuple(kept), framework=framework)


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
            own_facts = declared.is_free, declared.moving
            result.append(Sublattice(name, declared.kind, species, where, start, *own_facts))
    if not result:
        raise HostError(
            "the host declares no sublattice: add [[host.sublattice]] with kind, sites and species."
        )
    return result


def _split(
    declared: SublatticeDeclaration, sites: list[int], unit: Atoms
) -> Iterator[tuple[str, tuple[Species, ...], list[int]]]:
    """Yield (name, species, sites) of the sublattices that one declaration makes."""
    elements = list(dict.fromkeys(unit[site].symbol for site in sites))
    _refuse_species(declared, elements)
    if declared.is_free or declared.kind == "working_ion":
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
        raise HostError(
            "a redox sublattice holds no vacancies: write kind = 'mixed', which keeps the number "
            "of each element."
        )
    if declared.kind != "mixed" and declared.moves:
        raise HostError(f"moves = {declared.moves!r} is for sublattices of kind 'mixed' alone.")
    if declared.moves and all(s.element != declared.moves for s in species):
        raise HostError(
            f"moves = {declared.moves!r}, which no declared species has: "
            f"{', '.join(map(str, species))}."
        )
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
    if absent and not declared.is_free:
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
    """Return the element that fills and empties, the same everywhere; "" where none does."""
    moving = sorted({s.moving for s in sublattices if s.kind == "working_ion" or s.moving})
    if len(moving) > 1 or moving == [""]:
        raise HostError(
            "working-ion sublattices must all name the same ion first, not "
            f"{', '.join(element or 'vacancy' for element in moving)}."
        )
    return moving[0] if moving else ""


def free_element_counts(
    declaration: HostDeclaration, atoms: Atoms, sublattices: Sequence[Sublattice]
) -> dict[str, int]:
    """Return how many of each conserved element the free sublattices hold together."""
    free = [s for s in sublattices if s.is_free]
    declared = [d for d in declaration.sublattices if d.is_free]
    working = working_element(sublattices)
    counts: dict[str, int] = {}
    for sublattice, source in zip(free, declared, strict=True):
        for element, n in _element_counts(sublattice, source, atoms, working).items():
            counts[element] = counts.get(element, 0) + n
    return counts


def _element_counts(
    sublattice: Sublattice, declared: SublatticeDeclaration, atoms: Atoms, working: str
) -> dict[str, int]:
    size = len(sublattice)
    here = Counter(atoms.symbols[int(i)] for i in sublattice.sites)
    fractions = dict(declared.fractions) or {e: n / size for e, n in here.items()}
    _refuse_fractions(fractions, sublattice)
    if declared.kind == "mixed" and working in declared.fractions and not declared.moves:
        raise HostError(
            f"fractions keep the number of {working}, which comes and goes on other sites: it does "
            f"so here too; take {working} out of fractions, or out of the species."
        )
    conserved = [e for e in sublattice.elements if e != working]
    counts = {e: _whole_number(fractions.get(e, 0.0), size, e) for e in conserved}
    total = sum(counts.values())
    is_filled = not sublattice.holds_vacancies and working not in sublattice.elements
    if (total != size) if is_filled else (total > size):
        raise HostError(
            f"the fractions of {', '.join(counts)} fill {total} of {size} sites"
            f"{'; without vacancies they must add up to 1' if is_filled else ''}."
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
    declaration: HostDeclaration,
    atoms: Atoms,
    framework_sites: NDArray[np.int64],
    kept: Mapping[str, int],
    guests: Sequence[str] = (),
) -> int:
    """Return how many declared formula units a supercell holds.

    By the filled cell where the formula fits it; else, as where sites exclude each other, by the
    elements whose number never changes.

    Parameters
    ----------
    kept
        How many of each of these elements the cell has.
    guests
        Those of them on the working ion's sites, which a formula may leave out: NaCoO2 with some K.
    """
    unit = formula_unit_counts(declaration)
    kept = {e: n for e, n in kept.items() if e not in guests or e in unit}
    n_units = len(atoms) / max(1e-3, sum(unit.values()))
    framework = Counter(atoms.symbols[int(i)] for i in framework_sites)
    always = framework or Counter(kept)
    fits = all(abs(unit.get(e, 0) * n_units - n) < _FORMULA * n for e, n in always.items())
    if fits and _is_whole(n_units):
        return round(n_units)
    shares = [n / unit[e] if unit.get(e) else 0.0 for e, n in kept.items()]
    if shares and max(shares) - min(shares) < _FORMULA * max(shares) and _is_whole(shares[0]):
        return round(shares[0])
    held = formula(e for e in kept for _ in range(kept[e]))
    raise HostError(
        f"formula_unit = {declaration.formula_unit!r} does not fit the filled cell "
        f"{atoms.get_chemical_formula()}, nor what of it is always there, {held or 'nothing'}."
    )


def _is_whole(number: float) -> bool:
    return round(number) >= 1 and abs(number - round(number)) < _FORMULA * number


def formula_unit_counts(declaration: HostDeclaration) -> dict[str, float]:
    """Return how many atoms of each element a formula unit has; shares as in LiFe0.5Mn0.5PO4."""
    try:
        return formula_counts(declaration.formula_unit)
    except ValueError as error:
        raise HostError(f"formula_unit = {declaration.formula_unit!r} is no formula.") from error

"""What the supercell of a declared host holds: counts of elements, framework, formula units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.formula import Formula
from numpy.typing import NDArray

from gasearch.crystal.declaration import (
    HostDeclaration,
    HostError,
    Sublattice,
    SublatticeDeclaration,
)
from gasearch.crystal.species import Species


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

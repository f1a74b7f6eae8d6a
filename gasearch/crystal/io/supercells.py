"""Supercells by their size: the most compact one of so many unit cells or formula units.

Three repeats and matrices are read by `gasearch.crystal.declaration.supercell_matrix`.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray

from gasearch.crystal.declaration import (
    HostDeclaration,
    HostError,
    formula_unit_counts,
    right_handed,
    unit_sites,
)
from gasearch.crystal.symmetry import Superlattice

Integers = NDArray[np.int64]

MOST_CELLS = 200
"""Unit cells of a supercell that is found by its size: there are 80,000 lattices of so many."""
_HERMITE = 2 ** (1 / 6)  # shortest vector of the densest lattice whose cell has volume 1
_ALIKE = 1e-3  # relative; lengths closer than this decide nothing
_CHUNK = 500  # lattices that are looked at together
_FORMULA_UNITS = re.compile(r"(\d+)\s*(?:f\.?\s?u\.?|formula units?)", re.IGNORECASE)


def supercell_of(declaration: HostDeclaration, given: Any) -> list[list[int]] | list[int]:
    """Return three repeats or a matrix for a supercell in any of the forms that users write.

    Parameters
    ----------
    given
        Three repeats, three rows of a matrix, a number of unit cells (4), or of formula units
        ("12 f.u."); the last two mean the most compact supercell of this size.
    """
    if isinstance(given, str):
        given = _cells_of_formula_units(declaration, given)
    if isinstance(given, int) and not isinstance(given, bool):
        matrix = compact_supercell(right_handed(declaration.unit_cell), given)
        repeats = np.diag(matrix)
        is_diagonal = np.array_equal(np.diag(repeats), matrix)
        return list(map(int, repeats)) if is_diagonal else [list(map(int, r)) for r in matrix]
    return [list(row) if isinstance(row, Sequence) else row for row in given]


def compact_supercell(unit: Atoms, n_cells: int) -> Integers:
    """Return the most compact supercell of so many unit cells, as the rows of a (3, 3) matrix.

    The one whose shortest vector is longest; among equal ones that whose longest is shortest, and
    then that which keeps most of the crystal's symmetry. Its vectors are the shortest there are.

    Parameters
    ----------
    unit
        With a right-handed cell.
    """
    if not 1 <= n_cells <= MOST_CELLS:
        raise HostError(
            f"supercell = {n_cells}: expected 1 to {MOST_CELLS} unit cells; larger ones as three "
            "repeats or a matrix."
        )
    if n_cells == 1:
        return np.eye(3, dtype=np.int64)
    reduced, operation = minkowski_reduce(unit.cell.array)
    rotations = _rotations(unit)
    found = [(_rank(reduced, own), own) for own in _longest(reduced, n_cells)]
    best = min(rank for rank, _ in found)
    equal = [own for rank, own in found if rank == best]
    matrices = [_readable(own @ operation) for own in equal]
    return min(matrices, key=lambda m: (-_n_kept(m, rotations), np.abs(m).sum(), (-m).tolist()))


def formula_units_per_cell(declaration: HostDeclaration) -> float:
    """Return how many formula units the unit cell holds, by its framework."""
    unit = declaration.unit_cell
    mobile = {n for declared in declaration.sublattices for n in unit_sites(declared, unit)}
    rest = Counter(s for n, s in enumerate(unit.symbols) if n not in mobile)
    held = {s for declared in declaration.sublattices for s in declared.species}
    elsewhere = {s.element for s in held}
    counts = formula_unit_counts(declaration)
    for element, n in rest.most_common():
        if counts.get(element) and element not in elsewhere:
            return n / counts[element]
    raise HostError(
        f"no element of {declaration.formula_unit} belongs to the framework alone, so that its "
        "formula units cannot be counted: give supercell as repeats, a matrix or a number of cells."
    )


def formula_units_in(text: str) -> int:
    """Return the number in a text such as "12 f.u."; 0 if it is none."""
    found = _FORMULA_UNITS.fullmatch(text.strip())
    return int(found[1]) if found else 0


def _cells_of_formula_units(declaration: HostDeclaration, text: str) -> int:
    wanted = formula_units_in(text)
    if not wanted:
        raise HostError(
            f"supercell = {text!r}: expected three whole numbers such as [1, 2, 1], three rows of "
            "three, a number of unit cells such as 4, or of formula units such as '12 f.u.'."
        )
    per_cell = formula_units_per_cell(declaration)
    n_cells = wanted / per_cell
    if abs(n_cells - round(n_cells)) > 1e-3 or round(n_cells) < 1:
        raise HostError(
            f"supercell = {text!r}: a unit cell holds {per_cell:g} x {declaration.formula_unit}, "
            "so that no whole number of them makes it up."
        )
    return round(n_cells)


def _rotations(unit: Atoms) -> Integers:
    """Return the rotations (n, 3, 3) of a crystal in the basis of its cell."""
    crystal = (unit.cell.array, unit.get_scaled_positions(), unit.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of returning None instead of raising
        try:
            found: Any = spglib.get_symmetry_dataset(crystal, symprec=0.01)
            return np.asarray(found.rotations, dtype=np.int64)
        except Exception:  # noqa: BLE001 -- the host itself says what is wrong with its symmetry
            return np.eye(3, dtype=np.int64)[None]


def _n_kept(matrix: Integers, rotations: Integers) -> int:
    lattice = Superlattice(matrix)
    return sum(lattice.is_kept_by(rotation) for rotation in rotations)


def _lattices(n_cells: int) -> Iterator[Integers]:
    """Yield chunks (n, 3, 3) of all lattices of so many cells, each once: Hermite normal forms."""
    divisors = [n for n in range(1, n_cells + 1) if n_cells % n == 0]
    forms = (
        ((a, x, y), (0, b, z), (0, 0, n_cells // (a * b)))
        for a in divisors
        for b in divisors
        if n_cells % (a * b) == 0
        for x in range(b)
        for y in range(n_cells // (a * b))
        for z in range(n_cells // (a * b))
    )
    while chunk := list(itertools.islice(forms, _CHUNK)):
        yield np.array(chunk, dtype=np.int64)


def _points(cell: NDArray[np.float64], radius: float) -> tuple[Integers, NDArray[np.float64]]:
    """Return lattice points (n, 3) within a radius and their lengths (n,), sorted; one of +-v."""
    reach = np.floor(radius * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int)
    grid = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))), dtype=np.int64)
    lengths = np.linalg.norm(grid @ cell, axis=1)
    first = grid[np.arange(len(grid)), (grid != 0).argmax(axis=1)]
    kept = (lengths <= radius) & (first > 0)
    order = np.argsort(lengths[kept], kind="stable")
    return grid[kept][order], lengths[kept][order]


def _longest(cell: NDArray[np.float64], n_cells: int) -> list[Integers]:
    """Return the lattices, by their shortest vectors (3, 3), whose shortest vector is longest."""
    volume = n_cells * abs(np.linalg.det(cell))
    points, lengths = _points(cell, 1.001 * _HERMITE * volume ** (1 / 3))
    best, found = 0.0, list[Integers]()
    for forms in _lattices(n_cells):
        shortest = lengths[_is_in(points, forms, n_cells).argmax(axis=1)]
        if shortest.max() > best * (1 + _ALIKE):
            found = []
        best = max(best, float(shortest.max()))
        found += list(forms[shortest >= best * (1 - _ALIKE)])
    longest = np.sqrt(2) * volume / best**2  # the product of the three is at most sqrt(2) V
    near = _points(cell, 1.001 * longest)[0]
    return [_shortest_basis(near, form, n_cells) for form in found]


def _is_in(points: Integers, forms: Integers, n_cells: int) -> NDArray[np.bool_]:
    """Return (n_forms, n_points) whether points belong to lattices."""
    adjugates = np.round(np.linalg.inv(forms) * n_cells).astype(np.int64)
    return np.asarray((np.einsum("pi,fij->fpj", points, adjugates) % n_cells == 0).all(axis=2))


def _shortest_basis(points: Integers, form: Integers, n_cells: int) -> Integers:
    """Return the three shortest vectors that span a lattice; in three dimensions there are such."""
    own = points[_is_in(points, form[None], n_cells)[0]]
    chosen = own[:1]
    second = np.any(np.cross(own, chosen[0]), axis=1).argmax()
    normal = np.cross(chosen[0], own[second])
    third = (np.abs(own @ normal) == n_cells).argmax()
    return np.array([chosen[0], own[second], own[third]])


def _rank(cell: NDArray[np.float64], matrix: Integers) -> tuple[int, int]:
    """Return what is smaller for more compact cells; nearly equal ones get the same."""
    lengths = np.linalg.norm(matrix @ cell, axis=1)
    unit = _ALIKE * abs(np.linalg.det(matrix @ cell)) ** (1 / 3)
    return round(float(lengths.max() / unit)), round(float(lengths.sum() / unit))


def _readable(matrix: Integers) -> Integers:
    """Return the same lattice with right-handed vectors, as near to the unit cell's as can be."""
    choices = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            own = np.array(signs)[:, None] * matrix[list(order)]
            if np.linalg.det(own) > 0:
                choices.append(own)
    return max(choices, key=lambda m: (int(np.trace(m)), m.tolist()))

"""Compact supercells, against a search over all integer matrices."""

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry import minkowski_reduce

from gasearch.crystal.declaration import HostError, supercell_matrix
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.io.supercells import (
    compact_supercell,
    formula_units_in,
    formula_units_per_cell,
    supercell_of,
)

OLIVINE = builtin_host("nafepo4-olivine")
SKEW = Atoms("H", cell=[[2.1, 0.3, 0], [0.4, 3.3, 0.2], [-0.9, 0.5, 2.7]], pbc=True)


def lengths(unit, matrix):
    return np.sort(np.linalg.norm(np.array(matrix) @ unit.cell.array, axis=1))


def best_by_brute_force(unit, n_cells):
    """The longest shortest vector of the supercells with upper triangular matrices."""
    best = 0.0
    for a, b, c in itertools.product(range(1, n_cells + 1), repeat=3):
        if a * b * c != n_cells:
            continue
        for x, y, z in itertools.product(range(b), range(c), range(c)):
            rows = np.array([[a, x, y], [0, b, z], [0, 0, c]])
            cell, _ = minkowski_reduce(rows @ unit.cell.array)
            best = max(best, np.linalg.norm(cell, axis=1).min())
    return best


@pytest.mark.parametrize("n_cells", [2, 3, 4, 6])
def test_no_other_supercell_has_a_longer_shortest_vector(n_cells):
    found = lengths(SKEW, compact_supercell(SKEW, n_cells))
    assert found[0] == pytest.approx(best_by_brute_force(SKEW, n_cells), rel=2e-3)


@pytest.mark.parametrize("unit", [SKEW, bulk("Cu"), bulk("Fe"), bulk("Mg"), OLIVINE.unit_cell])
@pytest.mark.parametrize("n_cells", [1, 2, 3, 5, 8, 12])
def test_a_supercell_has_its_size_and_is_reduced(unit, n_cells):
    matrix = compact_supercell(unit, n_cells)
    assert round(np.linalg.det(matrix)) == n_cells
    if n_cells > 1:
        reduced, _ = minkowski_reduce(matrix @ unit.cell.array)
        assert lengths(unit, matrix) == pytest.approx(np.sort(np.linalg.norm(reduced, axis=1)))


@pytest.mark.parametrize(
    ("unit", "n_cells", "expected"),
    [
        (bulk("Cu", cubic=True), 8, [7.22] * 3),
        (bulk("Cu"), 4, [3.61] * 3),  # the cubic cell
        (bulk("Fe"), 2, [2.87] * 3),
        (OLIVINE.unit_cell, 2, [7.947, 7.947, 10.406]),  # not 4.95 x 10.4 x 12.4
    ],
)
def test_known_cells(unit, n_cells, expected):
    assert lengths(unit, compact_supercell(unit, n_cells)) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("given", "n_sites"), [(1, 28), (3, 84), ("12 f.u.", 84), ("8 formula units", 56), ("4fu", 28)]
)
def test_a_size_in_cells_or_formula_units_makes_a_host(given, n_sites):
    host = Host.build(OLIVINE, supercell_of(OLIVINE, given))
    assert len(host.atoms) == n_sites


def test_repeats_and_matrices_stay_what_they_are():
    assert supercell_of(OLIVINE, (1, 2, 1)) == [1, 2, 1]
    rows = [[1, 0, 0], [0, 1, 1], [0, -1, 1]]
    assert supercell_of(OLIVINE, rows) == rows
    assert supercell_of(OLIVINE, 1) == [1, 1, 1]
    assert round(np.linalg.det(supercell_matrix(supercell_of(OLIVINE, 2)))) == 2


def test_formula_units_are_counted_by_the_framework():
    assert formula_units_per_cell(OLIVINE) == 4
    assert [formula_units_in(t) for t in ("12 f.u.", "12 F.U.", "12", "f.u.")] == [12, 12, 0, 0]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (0, "supercell = 0: expected 1 to 200 unit cells"),
        (201, "supercell = 201: expected 1 to 200"),
        ("10 f.u.", "a unit cell holds 4 x NaFePO4, so that no whole number of them"),
        ("ten", "supercell = 'ten': expected three whole numbers"),
    ],
)
def test_impossible_sizes_are_one_clear_line(given, line):
    with pytest.raises(HostError, match=line):
        supercell_of(OLIVINE, given)

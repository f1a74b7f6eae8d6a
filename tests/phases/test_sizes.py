"""What the size of a Monte Carlo cell does to free energies."""

import math
from types import SimpleNamespace

import pytest
from ase.units import kB

from gasearch.phases.diagram import diagram_of
from gasearch.phases.energies.hamiltonian import Hamiltonian
from gasearch.phases.sizes import SizeDifference, SmallerCell, compared, halved, size_notes
from gasearch.phases.study import Model, Options, tasks_of
from gasearch.phases.walks.monte_carlo import Cell
from gasearch.phases.walks.sampling import Plan, Sampler, ladder

HOT = Options(temperature_K=600, lowest_K=500, highest_K=700, n_compositions=5)


@pytest.mark.parametrize(
    ("repeats", "found"),
    [
        ((2, 6, 4), (2, 3, 2)),
        ((3, 6, 7), (3, 3, 7)),
        ((3, 5, 1), (2, 3, 1)),
        ((1, 2, 2), (1, 2, 2)),
    ],
)
def test_a_smaller_cell_is_half_as_long_where_it_can_be(repeats, found):
    assert halved(repeats) == found


def free(hamiltonian, repeats):
    """The diagram of ions and charges without interactions."""
    none = Hamiltonian(hamiltonian.basis, 0 * hamiltonian.interactions)
    plan = Plan(repeats, ladder(500, 700, [600]), 2, seed=1)
    cell, model = Cell(none, repeats), Model("ions and charges", SimpleNamespace(), ())
    sampler = Sampler(cell, plan, [], none.basis)
    tasks = tasks_of(model, cell, HOT)
    walks = {task: sampler.run(task) for task in tasks}
    return diagram_of(model, cell, plan, tasks, walks.get, 700)


def test_without_interactions_cells_differ_by_what_they_have_to_count(hamiltonian):
    """By Stirling's formula about ln(pi n / 2) / 2n for each disorder, of which there are two."""
    small, large = free(hamiltonian, (1, 2, 2)), free(hamiltonian, (1, 4, 4))
    found = compared(large, small, (1, 2, 2), HOT)
    assert [one.x for one in found.differences] == [0.25, 0.5, 0.75]
    for one in found.differences:
        by_cell = [2 * math.log(math.comb(n, round(one.x * n))) / n for n in (16, 64)]
        assert one.difference == pytest.approx(kB * 600 * (by_cell[1] - by_cell[0]), abs=1e-9)
        assert (one.is_two_phase, one.error) == (False, 0.0)


@pytest.mark.parametrize(("difference", "is_two_phase", "n"), [
    (0.009, False, 1), (-0.009, False, 1), (0.001, False, 0), (0.009, True, 0),
])  # fmt: skip
def test_a_note_is_made_of_what_matters_more_than_errors_of_the_energies(
    difference, is_two_phase, n
):
    one = SizeDifference(0.5, difference, 0.0002, is_two_phase)
    fit = SimpleNamespace(crystals=SimpleNamespace(low_error=0.005))
    notes = size_notes(SmallerCell((2, 3, 2), (one,), ()), fit)
    assert len(notes) == n
    assert all("a cell of 2 x 3 x 2 differs by 9.0 meV/f.u. at x = 0.5" in note for note in notes)
    assert size_notes(None, fit) == []

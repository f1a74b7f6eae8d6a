"""How the benchmark of the corrected hull scores, and in what order it asks for DFT."""

import importlib
import sys

import numpy as np
import pytest
from places import BENCHMARKS


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("correction")
    for name in ("correction", "held_minima", "machine"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def case(benchmark):
    return benchmark.read_case(BENCHMARKS / "tables" / "held-nafepo4-111.csv")


def test_the_table_has_the_bow_that_the_pages_tell(benchmark, case):
    """Held CHGNet has -157 meV/f.u. at x = 1/2, DFT -50."""
    half = np.unique(case.x) == 0.5
    of_potential = benchmark.lowest_by_x(case, case.formation(case.potential))[half]
    of_dft = benchmark.lowest_by_x(case, case.formation(case.dft))[half]
    assert 1000 * of_potential[0] == pytest.approx(-157, abs=1.5)
    assert 1000 * of_dft[0] == pytest.approx(-50, abs=1.5)


def test_all_of_dft_is_right(benchmark, case):
    score = benchmark.scored(case, case.formation(case.dft))
    assert score == {"largest": 0, "mean": 0, "hull": 0, "right": 1}


def test_where_nothing_is_known_the_hull_of_the_rest_counts(benchmark, case):
    ends_alone = np.where((case.x == 0) | (case.x == 1), case.dft, np.nan)
    score = benchmark.scored(case, case.formation(ends_alone))
    lowest = np.abs(benchmark.lowest_by_x(case, case.formation(case.dft)))
    assert score["largest"] == pytest.approx(1000 * lowest.max())
    assert score["right"] == 0


def test_the_ranking_asks_for_ends_and_then_for_one_at_each_x(benchmark, case):
    order = benchmark.by_rank(case, np.random.default_rng(0))
    assert sorted(order) == list(range(16))
    assert set(case.x[order[:2]]) == {0, 1}
    assert sorted(case.x[order[2:5]]) == [0.25, 0.5, 0.75]
    half = [row for row in order if case.x[row] == 0.5]
    assert np.all(np.diff(case.potential[half]) > 0)


def test_three_energies_take_two_fifths_of_the_error_away(benchmark, case):
    """The two ends and the potential's lowest order at x = 1/2."""
    half = int(np.flatnonzero(case.x == 0.5)[np.argmin(case.potential[case.x == 0.5])])
    guess = benchmark.corrected(case, [*case.ends.tolist(), half])
    before = benchmark.scored(case, case.formation(case.potential))
    assert benchmark.scored(case, guess.formation)["mean"] < 0.6 * before["mean"]
    asked = benchmark.asked_next(case, [*case.ends, half], guess, np.random.default_rng(0))
    assert asked not in (*case.ends, half)

"""The benchmark of relaxations, on one start."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.pmmcs import Pmmcs

NAMES = ("machine", "relax_runs")


@pytest.fixture(scope="module")
def runs():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
        yield importlib.import_module("relax_runs")
    for name in NAMES:
        sys.modules.pop(name, None)


def test_starts_are_all_distinct_decorations_and_some_larger_cells(runs):
    starts = runs.starts(rattles=2, larger=1)
    assert [len(atoms) for atoms in starts] == 2 * (10 * [26] + 2 * [27]) + [52, 78]
    shifts = [np.abs(a.positions - b.positions).max() for a, b in zip(starts[:12], starts[12:24])]  # noqa: B905
    assert min(shifts) > 0.05
    again = runs.starts(rattles=2, larger=1)
    assert all(a == b for a, b in zip(starts, again, strict=True))


def test_all_methods_are_judged_alike(runs):
    potential = Pmmcs()
    starts = runs.starts(1, 0)[1:2]
    stock = runs.stock_calculator(potential)
    assert isinstance(stock, PotentialCalculator)
    (ours,) = runs.by_batch(potential, starts)
    (theirs,) = runs.by_ase("CellAwareBFGS", PotentialCalculator(potential), starts)
    ends = [runs.judged(run, stock) for run in (ours, theirs)]
    for run, end in zip((ours, theirs), ends, strict=True):
        assert end["fmax"] <= runs.SETTINGS.fmax
        assert end["smax"] <= runs.SETTINGS.smax
        assert run.cpu_s > 0
    assert ours.n_calls < theirs.n_calls
    assert ends[0]["energy"] == pytest.approx(ends[1]["energy"], abs=5e-3)


def test_shares_add_up_and_restore_what_they_measured(runs):
    potential = Pmmcs()
    found = runs.shares(potential, runs.starts(1, 0)[1:3])
    assert sum(found.values()) == pytest.approx(1)
    assert found["potential"] > 0.3
    assert "evaluate" not in vars(potential)


def test_pmmcs_is_the_same_alone_and_in_a_crowd(runs):
    found = runs.invariance(Pmmcs(), runs.starts(1, 0)[1:4])
    assert found == {
        "structures": 3,
        "largest_shift_A": 0.0,
        "largest_energy_meV_per_atom": 0.0,
    }

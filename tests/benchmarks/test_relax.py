"""The benchmark of relaxations, on one start."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from places import BENCHMARKS

from gasearch.potentials.contract import Batch
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.potentials.registry import load_potential

NAMES = ("machine", "relax", "relax_runs", "relax_stock")


@pytest.fixture(scope="module")
def benchmark():
    """The script itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("relax")
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def runs(benchmark):
    return sys.modules["relax_runs"]


def test_starts_are_all_distinct_decorations_and_some_larger_cells(runs):
    starts = runs.starts(rattles=2, larger=1)
    assert [len(atoms) for atoms in starts] == 2 * (10 * [26] + 2 * [27]) + [52, 54, 78, 81]
    shifts = [np.abs(a.positions - b.positions).max() for a, b in zip(starts[:12], starts[12:24])]  # noqa: B905
    assert min(shifts) > 0.05
    again = runs.starts(rattles=2, larger=1)
    assert all(a == b for a, b in zip(starts, again, strict=True))


def test_all_methods_are_judged_alike(benchmark, runs):
    potential = Pmmcs()
    starts = runs.starts(1, 0)[1:2]
    stock = benchmark.stock_of(potential)
    assert stock.is_ours
    (ours,) = runs.by_batch(potential, starts)
    (theirs,) = runs.by_ase("CellAwareBFGS", stock, starts)
    assert (theirs.atoms.get_initial_charges() == starts[0].get_initial_charges()).all()
    ends = [runs.judged(run, stock) for run in (ours, theirs)]
    for run, end in zip((ours, theirs), ends, strict=True):
        assert end["fmax"] <= runs.SETTINGS.fmax
        assert end["smax"] <= runs.SETTINGS.smax
        assert run.cpu_s > 0
    assert ours.n_calls < theirs.n_calls
    assert ends[0]["energy"] == pytest.approx(ends[1]["energy"], abs=5e-3)


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize(
    ("name", "package"),
    [("chgnet-nafepo4", "chgnet"), ("mace-nafepo4", "mace"), ("chgnet", "chgnet")],
)
def test_stock_calculators_have_the_weights_of_ours(benchmark, runs, name, package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"no {package} here")
    potential = load_potential(name)
    stock = benchmark.stock_of(potential)
    assert not stock.is_ours
    assert stock.calculator.__class__.__module__.startswith(package)
    one, other = runs.starts(1, 0)[3:5]
    found = potential.evaluate(Batch.from_atoms([one]))
    theirs, again = stock.written(one), stock.written(other)
    np.testing.assert_allclose(found.forces, theirs.get_forces(), atol=2e-4)
    np.testing.assert_allclose(found.stresses[0], theirs.get_stress(voigt=False), atol=1e-5)
    # Of one composition: a constant of it may be missing from the stock energy.
    difference = float((potential.evaluate(Batch.from_atoms([other])).energies - found.energies)[0])
    assert again.get_potential_energy() - theirs.get_potential_energy() == pytest.approx(
        difference, abs=2e-4
    )


def test_energies_are_compared_with_the_best_of_ase_and_speeds_on_the_same_starts(benchmark, runs):
    def row(method, energies, cpu_s, calls=10):
        run = runs.Run(None, calls, 1.0)
        ends[method] = {k: {"energy": e, "fmax": 0.01, "smax": 0.001} for k, e in energies.items()}
        return benchmark.Row(method, dict.fromkeys(energies, run), cpu_s)

    ends = {}
    rows = [
        row("gasearch", {0: -1.0, 1: -2.005, 2: -3.5, 3: -3.998}, 2.0),
        row("FIRE", {0: -0.9999, 2: -3.0}, 30.0),
        row("BFGS", {0: -0.9, 1: -2.0, 2: -3.0, 3: -4.0}, 20.0),
        row("CellAwareBFGS", {0: -1.0, 1: -2.0, 2: -3.0, 3: -4.0}, 10.0),
        row("FIRE, stock calculator", {0: -1.0, 2: -3.0}, 40.0),
    ]
    ours, fire, bfgs, *_ = (benchmark._summary(one, rows, ends, n_slow=2) for one in rows)
    assert (ours["within_1_meV"], ours["same_basin"]) == (2, 3)
    assert (ours["basin_lower"], ours["basin_higher"]) == (1, 0)
    assert (bfgs["basin_lower"], bfgs["basin_higher"]) == (0, 1)
    assert ours["times_fire"] == 20.0
    assert ours["relaxations_per_cpu_s"] == 1.0
    assert fire["starts"] == 2
    assert fire["times_fire"] == pytest.approx(4 / 3)


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

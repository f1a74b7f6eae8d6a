"""BFGS, L-BFGS and FIRE of the batch relaxer, and when a structure changes from one to another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from ase.optimize.cellawarebfgs import CellAwareBFGS
from olivine import olivine, state_of

from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.contract import Batch, Evaluated
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.ase_relaxer import PositiveBFGSMethod
from gasearch.relax.batched import minimizer
from gasearch.relax.batched.hessians import HISTORY, Dense, LastSteps
from gasearch.relax.batched.minimizer import CLIMB, PATIENCE, Descent, Fire, Minimizer
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.settings import RelaxSettings

CPU = torch.device("cpu")


def spd(rng: np.random.Generator, size: int) -> np.ndarray:
    root = rng.normal(size=(size, size))
    return root @ root.T + size * np.eye(size)


def test_rows_of_bfgs_steps_are_those_of_the_reference_method() -> None:
    """On quadratic functions, near enough to the minimum for full steps."""
    rng = np.random.default_rng(1)
    size = 3 * 13 + 9
    curvatures, guess = [spd(rng, size), spd(rng, size)], spd(rng, size)
    here = torch.from_numpy(rng.normal(0, 1e-4, (2, size)))
    inverse = torch.linalg.inv(torch.from_numpy(np.stack([guess, guess])))
    rows = Descent.start(Dense(inverse), here)
    methods = [PositiveBFGSMethod(guess.copy()) for _ in range(2)]
    last: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(6):
        x = here.numpy().copy()
        gradients = np.stack([h @ row for h, row in zip(curvatures, x, strict=True)])
        rows.learn(here, torch.from_numpy(gradients), torch.from_numpy((x * gradients).sum(1) / 2))
        here = rows.propose()
        for k, method in enumerate(methods):
            if last:
                method.update(x[k], gradients[k], last[0][k], last[1][k])
            expected = method.compute_step(gradients[k])
            np.testing.assert_allclose(here[k].numpy() - x[k], expected, rtol=1e-6, atol=1e-12)
        last = [x, gradients]


def test_a_step_up_is_taken_back_and_the_next_is_shorter() -> None:
    here = torch.zeros(1, 48, dtype=torch.float64)
    rows = Descent.start(Dense(torch.eye(48, dtype=torch.float64)[None]), here)
    slope = torch.zeros_like(here)
    slope[0, 0] = -0.1
    rows.learn(here, slope, torch.tensor([0.0]))
    first = rows.propose()
    assert first[0, 0] == pytest.approx(0.1)
    rows.learn(first, 3 * slope, torch.tensor([2 * CLIMB]))
    assert rows.climbs.tolist() == [1]
    assert 0 < rows.propose()[0, 0] < 0.04
    rows.learn(rows.propose(), 0.1 * slope, torch.tensor([-CLIMB]))
    assert rows.climbs.tolist() == [0]


def test_last_steps_are_as_good_as_all_of_them_while_they_are_remembered() -> None:
    """From the same start both give the same inverse Hessian, times any vector."""
    rng = np.random.default_rng(0)
    last = LastSteps.start(state_of(olivine(), olivine(0.75, 1)), 29)
    size = 96
    dense = Dense(last.model.clone())
    for k in range(HISTORY):
        step = torch.from_numpy(rng.normal(size=(2, size)))
        change = 3 * step + torch.from_numpy(rng.normal(size=(2, size)))
        along = (step * change).sum(1)
        if k == 3:
            along[0] = 0.0  # nothing to learn for the first row
        dense.update(step, change, along)
        last.update(step, change, along)
        gradient = torch.from_numpy(rng.normal(size=(2, size)))
        torch.testing.assert_close(last.times(gradient), dense.times(gradient))


def test_an_update_makes_the_inverse_hessian_fit_the_step() -> None:
    rng = np.random.default_rng(1)
    for kind in (Dense, LastSteps):
        curvature = kind.start(state_of(olivine()), 29)
        step = torch.from_numpy(rng.normal(size=(1, 96)))
        change = 2 * step + torch.from_numpy(rng.normal(size=(1, 96)))
        curvature.update(step, change, (step * change).sum(1))
        torch.testing.assert_close(curvature.times(change), step)


def test_the_first_curvature_of_a_fixed_cell_leaves_the_strain_alone() -> None:
    state = state_of(olivine())
    fixed = LastSteps.start(replace(state, cell_free=torch.tensor([False])), 29)
    gradient = torch.randn(1, 96, dtype=torch.float64)
    torch.testing.assert_close(fixed.times(gradient)[:, -9:], gradient[:, -9:])


def test_large_structures_relax_with_their_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = [olivine(0.75, seed) for seed in range(2)]
    settings = RelaxSettings()
    dense = dict(BatchRelaxer(Pmmcs(), settings).relax(enumerate(starts)))
    monkeypatch.setattr(minimizer, "DENSE_WIDTH", 0)
    last = dict(BatchRelaxer(Pmmcs(), settings).relax(enumerate(starts)))
    for number, one in last.items():
        assert one.verdict == "ok"
        assert one.energy == pytest.approx(dense[number].energy, abs=1e-3)
        assert one.n_calls < 3 * dense[number].n_calls
        assert one.energy != dense[number].energy


def test_fire_ends_in_the_same_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    start = [(0, olivine(0.75))]
    settings = RelaxSettings(fmax=0.01, max_calls=900)
    (expected,) = dict(BatchRelaxer(Pmmcs(), settings).relax(start)).values()
    monkeypatch.setattr(minimizer, "PATIENCE", 0)
    (found,) = dict(BatchRelaxer(Pmmcs(), settings).relax(start)).values()
    assert found.verdict == "ok"
    assert found.energy == pytest.approx(expected.energy, abs=5e-3)
    assert found.n_calls > 3 * expected.n_calls


def test_fire_is_that_of_ase_while_it_goes_down() -> None:
    """For positions in a fixed cell, up to the order in which the velocity is mixed."""
    atoms = olivine(0.5, rattle=0.01)
    atoms.calc = PotentialCalculator(Pmmcs())
    steps = Fire.start(torch.zeros(1, 3 * len(atoms) + 9, dtype=torch.float64))
    positions = torch.from_numpy(atoms.positions.copy()).flatten()[None]
    here = torch.cat([positions, positions.new_zeros(1, 9)], dim=1)
    energies = []
    for _ in range(120):
        atoms.positions = here[0, :-9].view(-1, 3).numpy()
        energies.append(atoms.get_potential_energy())
        gradient = torch.from_numpy(-atoms.get_forces()).flatten()[None]
        steps.learn(here, torch.cat([gradient, here.new_zeros(1, 9)], dim=1))
        here = steps.propose()
    stock = olivine(0.5, rattle=0.01)
    stock.calc = PotentialCalculator(Pmmcs())
    FIRE(stock, logfile=None).run(fmax=0, steps=120)
    fallen = energies[0] - energies[-1]
    assert fallen > 0.95 * (energies[0] - stock.get_potential_energy()) > 1
    assert not here[:, -9:].any()


def test_a_structure_without_progress_goes_on_with_fire() -> None:
    state = state_of(olivine(), olivine(0.75, 1))
    rows = Minimizer.start(state, 29)
    here = torch.zeros(2, 96, dtype=torch.float64)
    for call in range(PATIENCE + 2):
        gradient = torch.ones_like(here)
        gradient[1] *= 0.9**call
        rows.learn(here, gradient, torch.zeros(2))
        here = rows.propose()
    assert rows.is_stuck.tolist() == [True, False]


def test_a_row_is_not_changed_by_another_that_is_stuck() -> None:
    def path(rows: list[int]) -> list[torch.Tensor]:
        """Gradients that lead nowhere from the first call on, or from the 31st."""
        known = Minimizer.start(state_of(*(olivine(0.5, row) for row in rows)), 29)
        here = torch.zeros(len(rows), 96, dtype=torch.float64)
        visited = []
        for call in range(2 * PATIENCE + 10):
            sizes = torch.tensor([1.0 if row == 0 else 0.9 ** min(call, 30) for row in rows])
            gradient = sizes.double()[:, None] * torch.cos(here + call)
            known.learn(here, gradient, torch.zeros(len(rows)))
            here = known.propose()
            visited.append(here)
        assert known.is_stuck.all()
        return visited

    for alone, together in zip(path([1]), path([0, 1]), strict=True):
        torch.testing.assert_close(alone[0], together[1], rtol=0, atol=0)


def test_forces_that_do_not_fit_the_energy_still_lead_to_an_end() -> None:
    class Noisy(Pmmcs):
        """An energy that jumps up and down by much more than a step gains."""

        def __init__(self) -> None:
            super().__init__()
            self.rng = np.random.default_rng(0)

        def evaluate(self, batch: Batch) -> Evaluated:
            found = super().evaluate(batch)
            noise = torch.from_numpy(self.rng.normal(0, 1.0, len(batch)))
            return replace(found, energies=found.energies + noise)

    settings = RelaxSettings(fmax=0.05)
    (found,) = dict(BatchRelaxer(Noisy(), settings).relax([(0, olivine(0.5))])).values()
    (exact,) = dict(BatchRelaxer(Pmmcs(), settings).relax([(0, olivine(0.5))])).values()
    assert found.verdict == "ok"
    again = Pmmcs().evaluate(Batch.from_atoms([found.atoms]))
    assert float(again.energies[0]) == pytest.approx(exact.energy, abs=5e-3)


def test_it_needs_half_the_calls_of_stock_ase() -> None:
    starts = [olivine(0.5, seed) for seed in range(2)]
    found = dict(BatchRelaxer(Pmmcs()).relax(enumerate(starts)))
    calls = 0
    for number, atoms in enumerate(starts):
        atoms.calc = PotentialCalculator(Pmmcs())
        stock = CellAwareBFGS(FrechetCellFilter(atoms, exp_cell_factor=1.0), logfile=None)
        stock.run(fmax=0.02, smax=0.002)
        calls += atoms.calc.n_calls
        assert abs(found[number].energy - atoms.get_potential_energy()) < 3e-3
    assert sum(one.n_calls for one in found.values()) < 0.6 * calls

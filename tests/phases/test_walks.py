"""Monte Carlo against sums over all arrangements, and against an exact solution."""

import importlib.util
import itertools
import math
import sys
import types

import numpy as np
import pytest
from ase.units import kB
from phases_support import arrangements, ising

from gasearch.phases.free_energy import (
    from_ground_state,
    from_infinite_temperature,
    inverse_temperatures,
)
from gasearch.phases.walks import monte_carlo
from gasearch.phases.walks.monte_carlo import Cell, Walk, random_spins
from gasearch.phases.walks.sampling import Plan, Sampler, Task, ladder, log_states


def summed(energies, beta):
    """Return beta F, the mean energy and its variance."""
    lowest = energies.min()
    weights = np.exp(-beta * (energies - lowest))
    mean = float(weights @ energies / weights.sum())
    variance = float(weights @ (energies - mean) ** 2 / weights.sum())
    return beta * lowest - math.log(weights.sum()), mean, variance


@pytest.mark.parametrize(("repeats", "n_working"), [((1, 1, 1), 2), ((1, 2, 1), 5)])
def test_free_energy_and_heat_capacity_are_the_sums_over_all_decorations(
    hamiltonian, repeats, n_working
):
    cell = Cell(hamiltonian, repeats)
    energies = np.array([cell.energy(spins) for spins in arrangements(cell, n_working)])
    plan = Plan(repeats, ladder(400, 1500), 5_000, seed=1)
    sampler = Sampler(cell, plan, [], hamiltonian.basis)
    walked = sampler.run(Task("ions and charges", "cool", n_working))
    beta = inverse_temperatures(walked.points)
    assert log_states(cell, n_working) == pytest.approx(math.log(len(energies)))
    arrays = [np.array(v) for v in (walked.energy, walked.variance, walked.error)]
    found, errors = from_infinite_temperature(beta, *arrays, math.log(len(energies)))
    off = []
    for n in range(1, len(beta)):
        free, mean, variance = summed(energies, beta[n])
        off.append((walked.energy[n] - mean) / walked.error[n])
        assert abs(found[n] - free) < 5 * errors[n] + 1e-3
        assert walked.variance[n] == pytest.approx(variance, rel=0.15)
    assert np.abs(off).max() < 6
    assert np.mean(np.square(off)) < 4


def test_composition_follows_the_chemical_potential_as_the_sum_says(hamiltonian):
    cell = Cell(hamiltonian, (1, 1, 1))
    by_number = [
        np.array([cell.energy(spins) for spins in arrangements(cell, n)]) for n in range(5)
    ]
    temperature_K = 700.0
    beta = 1 / (kB * temperature_K)
    middle = (by_number[4].min() - by_number[0].min()) / 4
    for mu in (middle - 0.05, middle, middle + 0.08):
        logs = [-summed(e, beta)[0] + beta * mu * n for n, e in enumerate(by_number)]
        weights = np.exp(np.array(logs) - max(logs))
        expected = float(weights @ np.arange(5) / weights.sum())
        rng = np.random.default_rng(6)
        walk = Walk(cell, random_spins(cell, 2, rng), rng)
        walk.run(20_000, temperature_K, mu)
        parts = [walk.run(20_000, temperature_K, mu).n_working for _ in range(12)]
        error = np.std(parts, ddof=1) / 12**0.5
        assert abs(np.mean(parts) - expected) < 5 * error + 1e-3


class Script:
    """Random numbers in a given order."""

    def __init__(self, values):
        self.values = iter(values)

    def random(self):
        return next(self.values)


def plain_kernel():
    """The module of the moves as it stands, not compiled."""
    monte_carlo._kernel()
    stub = types.SimpleNamespace(njit=lambda **_: lambda function: function)
    spec = importlib.util.find_spec("gasearch.phases.walks.kernel")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules["numba"]
    sys.modules["numba"] = stub
    try:
        spec.loader.exec_module(module)
    finally:
        sys.modules["numba"] = before
    return module


def chances(kernel, kind, walk):
    """Return the arrangements that a kind of move proposes, with their chances."""
    cell = walk.cell
    counts, totals = walk._counts, walk._totals
    near = cell.beside.shape[1]
    draws = {
        kernel.ION_SWAP: [(counts[0], totals[0] - counts[0])],
        kernel.CHARGE_SWAP: [(counts[1], totals[1] - counts[1])],
        kernel.COUPLED: [(counts[0], totals[0] - counts[0], near, near)],
        kernel.INSERTION: [(totals[0], 2, near * totals[1])],
    }[kind]
    found = {}
    for sizes in draws:
        sizes = [max(int(n), 1) for n in sizes]
        for chosen in itertools.product(*(range(n) for n in sizes)):
            script = Script([(k + 0.5) / n for k, n in zip(chosen, sizes, strict=True)])
            sites = np.zeros(4, dtype=np.int64)
            n = kernel.proposed(
                kind, sites, walk.spins, walk._order, totals, counts, cell.beside,
                cell.tables[0], script,
            )  # fmt: skip
            spins = walk.spins.copy()
            spins[sites[:n]] *= -1
            key = spins.tobytes()
            found[key] = found.get(key, 0.0) + 1 / math.prod(sizes)
    return found


def test_every_kind_of_move_keeps_detailed_balance(hamiltonian):
    cell, kernel = Cell(hamiltonian, (1, 1, 1)), plain_kernel()
    beta, mu = 1 / (kB * 500), 0.3
    states = np.concatenate([arrangements(cell, n) for n in range(5)])
    energy = np.array([cell.energy(spins) for spins in states])
    n_in = (states[:, :4] > 0).sum(axis=1)
    place = {spins.tobytes(): n for n, spins in enumerate(states)}
    weight = np.exp(-beta * (energy - mu * n_in - (energy - mu * n_in).min()))
    moves = (kernel.ION_SWAP, kernel.CHARGE_SWAP, kernel.COUPLED, kernel.INSERTION)
    for kind in moves:
        flow = np.zeros((len(states), len(states)))
        for n, spins in enumerate(states):
            walk = Walk(cell, spins, np.random.default_rng(0))
            for key, chance in chances(kernel, kind, walk).items():
                m = place[key]  # every proposal is neutral
                gain = beta * (energy[n] - energy[m] + mu * (n_in[m] - n_in[n]))
                flow[n, m] += weight[n] * chance * min(1.0, math.exp(gain))
        assert flow == pytest.approx(flow.T, abs=1e-14)
        assert np.count_nonzero(flow - np.diag(np.diag(flow))) > 100


def onsager_energy(coupling, temperature_K):
    """Energy per site of the square lattice in eV, in the limit of a large one."""
    k = coupling / (kB * temperature_K)
    modulus = 2 * math.sinh(2 * k) / math.cosh(2 * k) ** 2
    angles = (np.arange(20_000) + 0.5) * (math.pi / 2) / 20_000
    elliptic = float(np.mean(1 / np.sqrt(1 - (modulus * np.sin(angles)) ** 2)) * math.pi / 2)
    tanh2 = 2 * math.tanh(2 * k) ** 2 - 1
    return -coupling / math.tanh(2 * k) * (1 + 2 / math.pi * tanh2 * elliptic)


@pytest.mark.parametrize("share", [0.8, 1.4])
def test_ions_and_charges_on_a_square_lattice_have_onsagers_energy(share):
    coupling = 0.02
    critical_K = 2 * coupling / math.log(1 + 2**0.5) / kB
    cell = Cell(ising(coupling), (16, 16, 1))  # neutrality costs some 0.6 % here, as 1 / n_sites
    rng = np.random.default_rng(7)
    start = random_spins(cell, cell.n_working if share < 1 else 128, rng)
    walk = Walk(cell, start, rng)
    walk.run(200_000, share * critical_K, 0.0)
    parts = [walk.run(50_000, share * critical_K, 0.0).energy / 512 for _ in range(20)]
    expected = onsager_energy(coupling, share * critical_K)
    assert np.mean(parts) == pytest.approx(expected, rel=0.01)


def test_walks_repeat_themselves_bit_by_bit(hamiltonian):
    cell = Cell(hamiltonian, (1, 2, 1))
    plan = Plan((1, 2, 1), ladder(500, 900), 40, seed=3)
    task = Task("ions and charges", "cool", 3)
    first, again = (Sampler(cell, plan, [], hamiltonian.basis).run(task) for _ in range(2))
    assert first == again
    other = Plan((1, 2, 1), ladder(500, 900), 40, seed=4)
    assert Sampler(cell, other, [], hamiltonian.basis).run(task).energy != first.energy


def test_free_energy_from_below_and_from_above_are_the_same_for_two_levels():
    gap, n_states = 0.05, 4
    beta = inverse_temperatures([math.inf, *np.geomspace(20_000, 40, 60)])
    energies = np.array([0.0, *[gap] * (n_states - 1)])
    free, mean, variance = np.array([summed(energies, b) for b in beta]).T
    none = np.zeros_like(beta)
    down, _ = from_infinite_temperature(beta, mean, variance, none, math.log(n_states))
    up, _ = from_ground_state(beta, mean, variance, none, 0.0)
    assert down == pytest.approx(free, abs=2e-3)
    assert up == pytest.approx(free, abs=2e-3)

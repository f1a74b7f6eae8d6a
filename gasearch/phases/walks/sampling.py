"""Which walks a diagram needs, and what each of them gives: they can run anywhere, in any order.

A walk cools a cell at one composition from infinite temperature, or heats a ground state, or goes
through chemical potentials at one temperature. It is a function of its plan and its name alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase.units import kB

from gasearch.phases.energies.clusters import ClusterBasis
from gasearch.phases.energies.lattice import Spins
from gasearch.phases.free_energy import log_choices
from gasearch.phases.walks.monte_carlo import Cell, Sample, Walk, n_reduced, random_spins
from gasearch.phases.walks.orders import GroundState, OrderParameter, ShortRange
from gasearch.seeding import named_rng

_N_HOT = 10
_COOLING = 0.94
Direction = Literal["cool", "heat", "fill", "empty"]


@dataclass(frozen=True)
class Plan:
    """How long walks are, and through which temperatures they go.

    Parameters
    ----------
    repeats
        Of the unit cell.
    temperatures_K
        Descending from infinity.
    n_sweeps
        Attempts per site at each temperature that count; as many as a quarter of them before.
    n_blocks
        Stretches that they are divided into, for error bars.
    """

    repeats: tuple[int, int, int]
    temperatures_K: tuple[float, ...]
    n_sweeps: int
    seed: int
    n_blocks: int = 8


def ladder(lowest_K: float, highest_K: float, also_K: Sequence[float] = ()) -> tuple[float, ...]:
    """Return temperatures from infinity down: even steps of 1/T to the highest, then even factors.

    Parameters
    ----------
    also_K
        Temperatures that shall be among them.
    """
    hot = [math.inf, *(highest_K * _N_HOT / n for n in range(1, _N_HOT))]
    n = max(2, round(math.log(lowest_K / highest_K) / math.log(_COOLING)) + 1)
    cold = np.geomspace(highest_K, lowest_K, n).tolist()
    inside = [t for t in also_K if lowest_K <= t <= highest_K]
    cold = [t for t in cold if all(abs(t / one - 1) > 0.01 for one in inside)]
    return tuple(sorted({*hot, *cold, *inside}, reverse=True))


@dataclass(frozen=True)
class Task:
    """One walk.

    Parameters
    ----------
    disorder
        Which Hamiltonian.
    n_working
        Working ions at the start.
    state
        Number of the ground state that it starts from, of "heat"; -1 otherwise.
    temperature_K, potentials
        Of "fill" and "empty": the temperature, and the chemical potentials in eV.
    """

    disorder: str
    direction: Direction
    n_working: int
    state: int = -1
    temperature_K: float = 0.0
    potentials: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """What its file is called, and its random numbers are drawn by."""
        state = f"-state{self.state}" if self.state >= 0 else ""
        at = f"-{self.temperature_K:g}K" if self.potentials else ""
        return f"{self.disorder.replace(' ', '-')}-{self.direction}-{self.n_working}{state}{at}"


@dataclass
class Walked:
    """What a walk gives at each of its points, in the order in which it passed them.

    Parameters
    ----------
    points
        (n,) temperatures in K, or chemical potentials in eV.
    energy, error
        (n,) mean energy of the whole cell in eV, and its standard deviation.
    variance
        (n,) of the energy, in eV^2.
    n_working, n_error
        (n,) mean number of working ions, and its standard deviation.
    orders
        (n, n_states, 2) order parameters, of ions and of charges.
    short_range
        (n, 3) correlations of neighbours.
    """

    points: list[float]
    energy: list[float]
    error: list[float]
    variance: list[float]
    n_working: list[float]
    n_error: list[float]
    orders: list[list[list[float]]]
    short_range: list[list[float]]
    n_attempts: int = 0

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return dataclasses.asdict(self)


class Sampler:
    """Runs walks of one Hamiltonian.

    Parameters
    ----------
    basis
        Whose nearest pairs short-range order is told by.
    """

    def __init__(
        self, cell: Cell, plan: Plan, states: Sequence[GroundState], basis: ClusterBasis
    ) -> None:
        self._cell, self._plan = cell, plan
        self._states = list(states)
        self._orders = [
            OrderParameter(cell, one) if one.fits(cell.repeats) else None for one in states
        ]
        self._short_range = ShortRange(cell, basis)

    def run(self, task: Task) -> Walked:
        """Return what a walk gives."""
        rng = named_rng(self._plan.seed, task.name)
        walk = Walk(self._cell, self._start(task, rng), rng)
        cold_first = task.direction == "heat"
        temperatures = [*self._plan.temperatures_K]
        points: list[tuple[float, float | None]] = [(t, None) for t in temperatures]
        if cold_first:
            points = [(t, None) for t in reversed(temperatures) if math.isfinite(t)]
        if task.potentials:
            points = [(task.temperature_K, mu) for mu in task.potentials]
        result = Walked([], [], [], [], [], [], [], [])
        for temperature_K, mu in points:
            self._stay(walk, temperature_K, mu, result)
        result.n_attempts = int(walk.taken[:, 0].sum())
        return result

    def _start(self, task: Task, rng: np.random.Generator) -> Spins:
        if task.state >= 0:
            state = self._states[task.state]
            return self._cell.tiled(state.spins, state.repeats)
        return random_spins(self._cell, task.n_working, rng)

    def _stay(self, walk: Walk, temperature_K: float, mu: float | None, result: Walked) -> None:
        """Sample at one temperature and chemical potential."""
        attempts = max(1, self._plan.n_sweeps * int(self._cell.acts.sum()) // self._plan.n_blocks)
        walk.refresh()
        walk.run(max(1, attempts * self._plan.n_blocks // 4), temperature_K, mu)
        samples: list[Sample] = []
        orders, short_range = [], []
        for _ in range(self._plan.n_blocks):
            samples.append(walk.run(attempts, temperature_K, mu))
            orders.append([o(walk.spins) if o else (0.0, 0.0) for o in self._orders])
            short_range.append(self._short_range(walk.spins))
        energies = np.array([one.energy for one in samples])
        numbers = np.array([one.n_working for one in samples])
        within = float(np.mean([one.energy_variance for one in samples]))
        root = math.sqrt(len(samples))
        result.points.append(temperature_K if mu is None else mu)
        result.energy.append(float(energies.mean()))
        result.error.append(float(energies.std(ddof=1) / root))
        result.variance.append(within + float(energies.var()))
        result.n_working.append(float(numbers.mean()))
        result.n_error.append(float(numbers.std(ddof=1) / root))
        result.orders.append(np.mean(orders, axis=0).reshape(-1, 2).tolist())
        result.short_range.append(np.mean(short_range, axis=0).tolist())


def log_states(cell: Cell, n_working: int) -> float:
    """Return the logarithm of the number of arrangements of what moves, at a composition."""
    working = int((cell.is_working & cell.acts).sum())
    redox = int((~cell.is_working & cell.acts).sum())
    found = log_choices(working, n_working) if working else 0.0
    return found + (log_choices(redox, n_reduced(cell, n_working)) if redox else 0.0)


def heat_capacity(walked: Walked, n_formula_units: int) -> list[float]:
    """Return (n,) k per formula unit, at the temperatures of a walk; 0 at infinity."""
    return [
        0.0 if math.isinf(t) else v / (kB * t) ** 2 / n_formula_units
        for t, v in zip(walked.points, walked.variance, strict=True)
    ]

"""Free energies, phases, order and voltage over x and T, from what the walks gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.units import kB

from gasearch.phases.energies.lattice import Floats
from gasearch.phases.free_energy import (
    from_ground_state,
    from_infinite_temperature,
    inverse_temperatures,
)
from gasearch.phases.study import Model
from gasearch.phases.tangents import FreeEnergy, Gap, Ideal
from gasearch.phases.walks.monte_carlo import Cell, random_spins
from gasearch.phases.walks.sampling import Plan, Task, Walked, heat_capacity, log_states
from gasearch.seeding import named_rng

ORDERED = 0.5
"""Order parameter from which a phase counts as ordered."""


@dataclass(frozen=True, eq=False)
class Branch:
    """One composition of a Monte Carlo cell, at descending temperatures.

    Parameters
    ----------
    free_energy, error, energy, heat_capacity
        (n_temperatures,) in eV/f.u., and k/f.u.
    orders
        (n_temperatures, n_states, 2) order parameters of ions and charges.
    short_range
        (n_temperatures, 3).
    is_from_ground_state
        (n_temperatures,) whether the walk from the ground state is the lower one.
    """

    n_working: int
    x: float
    free_energy: Floats
    error: Floats
    energy: Floats
    heat_capacity: Floats
    orders: Floats
    short_range: Floats
    is_from_ground_state: list[bool]


@dataclass(frozen=True)
class Transition:
    """Where the order of a ground state goes.

    Parameters
    ----------
    temperature_K
        Its order parameter falls below one half; None where it is there, or missing, throughout.
    cooled_K
        The same on cooling: apart from the other where the transition has a hysteresis.
    what
        "ions" or "charges".
    """

    x: float
    cell: str
    what: str
    temperature_K: float | None
    cooled_K: float | None


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """A disorder's diagram.

    Parameters
    ----------
    temperatures_K
        Descending, finite.
    branches
        By ascending x.
    gaps
        By temperature.
    """

    disorder: str
    temperatures_K: tuple[float, ...]
    branches: tuple[Branch, ...]
    gaps: tuple[tuple[Gap, ...], ...]
    transitions: tuple[Transition, ...]
    curves: tuple[FreeEnergy, ...]

    @property
    def x(self) -> Floats:
        """(n,) compositions that were sampled."""
        return np.array([one.x for one in self.branches])

    def at(self, temperature_K: float) -> int:
        """Return the number of the temperature that is nearest."""
        apart = [abs(t - temperature_K) for t in self.temperatures_K]
        return apart.index(min(apart))

    @property
    def highest_two_phase(self) -> float | None:
        """The highest temperature, in K, at which there are two phases; None if nowhere."""
        found = [t for t, gaps in zip(self.temperatures_K, self.gaps, strict=True) if gaps]
        return max(found, default=None)


def diagram_of(
    model: Model,
    cell: Cell,
    plan: Plan,
    tasks: Sequence[Task],
    get: Callable[[Task], Walked | None],
    highest_K: float,
) -> PhaseDiagram:
    """Return the diagram of a model from its walks.

    Parameters
    ----------
    get
        Returns what a walk gave.
    highest_K
        Up to which temperature it is shown.
    """
    shown = tuple(t for t in plan.temperatures_K if t <= highest_K * (1 + 1e-9))
    numbers = {task.n_working for task in tasks}
    numbers |= {round(x * cell.n_working) for x in cell.lattice.x_range}
    branches, transitions = [], []
    for n_working in sorted(numbers):
        own = [task for task in tasks if task.n_working == n_working]
        walks = [(task, walked) for task in own if (walked := get(task)) is not None]
        branches.append(_branch(model, cell, n_working, walks, len(shown)))
        transitions += _transitions(model, walks, n_working, cell)
    ideals = [_ideal(cell, t) for t in shown]
    x = np.array([one.x for one in branches])
    curves = tuple(
        FreeEnergy(
            x,
            np.array([one.free_energy[n] for one in branches]),
            np.array([one.error[n] for one in branches]),
            ideal,
        )
        for n, ideal in enumerate(ideals)
    )
    rng = named_rng(plan.seed, f"errors {model.disorder}")
    gaps = tuple(tuple(curve.gaps(rng)) for curve in curves)
    return PhaseDiagram(model.disorder, shown, tuple(branches), gaps, tuple(transitions), curves)


def _ideal(cell: Cell, temperature_K: float) -> Ideal:
    lattice = cell.lattice
    acts = np.isin(np.arange(lattice.n_sites), cell.hamiltonian.acts_on)
    return Ideal(
        kB * temperature_K,
        int((acts & lattice.is_working).sum()),
        int((acts & ~lattice.is_working).sum()),
        lattice.surplus,
        int(lattice.is_working.sum()),
        lattice.n_formula_units,
    )


def _branch(
    model: Model,
    cell: Cell,
    n_working: int,
    walks: Sequence[tuple[Task, Walked]],
    n_shown: int,
) -> Branch:
    """Return what is known of a composition; of two walks the lower one, at each temperature."""
    x, n_units, n_states = n_working / cell.n_working, cell.n_formula_units, len(model.states)
    if not walks:  # one arrangement only
        spins = random_spins(cell, n_working, named_rng(0, "the only one"))
        alone = np.full(n_shown, cell.energy(spins) / n_units)
        none = np.zeros(n_shown)
        orders, short_range = np.zeros((n_shown, n_states, 2)), np.zeros((n_shown, 3))
        return Branch(
            n_working, x, alone, none, alone, none, orders, short_range, [False] * n_shown
        )
    found = [
        _of_walk(model, cell, task, walked, log_states(cell, n_working), n_shown, x)
        for task, walked in walks
    ]
    cooled = found[0]
    if len(found) == 1:
        return cooled
    heated = found[1]
    lower = heated.free_energy < cooled.free_energy

    def chosen(name: str) -> Floats:
        one, other = getattr(heated, name), getattr(cooled, name)
        return np.asarray(np.where(lower.reshape(-1, *[1] * (one.ndim - 1)), one, other))

    return Branch(
        n_working,
        x,
        chosen("free_energy"),
        chosen("error"),
        chosen("energy"),
        chosen("heat_capacity"),
        chosen("orders"),
        chosen("short_range"),
        lower.tolist(),
    )


def _of_walk(
    model: Model,
    cell: Cell,
    task: Task,
    walked: Walked,
    log_number: float,
    n_shown: int,
    x: float,
) -> Branch:
    """Return what one walk says, at descending temperatures."""
    n_units = cell.n_formula_units
    order = slice(None) if task.direction == "cool" else slice(None, None, -1)
    points = walked.points[order]
    energy, variance, noise = (
        np.array(v)[order] for v in (walked.energy, walked.variance, walked.error)
    )
    beta = inverse_temperatures(points)
    if task.direction == "cool":
        scaled, error = from_infinite_temperature(beta, energy, variance, noise, log_number)
    else:
        ground = model.states[task.state].energy * n_units
        scaled, error = from_ground_state(beta, energy, variance, noise, ground)
    last = slice(len(points) - n_shown, None)
    return Branch(
        task.n_working,
        x,
        scaled[last] / beta[last] / n_units,
        error[last] / beta[last] / n_units,
        energy[last] / n_units,
        np.array(heat_capacity(walked, n_units))[order][last],
        np.array(walked.orders).reshape(len(points), -1, 2)[order][last],
        np.array(walked.short_range)[order][last],
        [task.direction == "heat"] * n_shown,
    )


def _transitions(
    model: Model, walks: Sequence[tuple[Task, Walked]], n_working: int, cell: Cell
) -> list[Transition]:
    """Return where the order of the ground state of this composition goes."""
    heated = [(task, walked) for task, walked in walks if task.direction == "heat"]
    if not heated:
        return []
    task, up = heated[0]
    down = next((walked for one, walked in walks if one.direction == "cool"), None)
    state = model.states[task.state]
    found = []
    for part, what in enumerate(("ions", "charges")):
        if what not in model.disorder:
            continue
        lost = _crossing(up, task.state, part)
        formed = None if down is None else _crossing(down, task.state, part)
        found.append(Transition(n_working / cell.n_working, state.cell, what, lost, formed))
    return found


def _crossing(walked: Walked, state: int, part: int) -> float | None:
    """Return the temperature at which an order parameter goes through one half; None if nowhere."""
    values = np.array(walked.orders).reshape(len(walked.points), -1, 2)[:, state, part]
    points = np.array(walked.points)
    keep = np.isfinite(points)
    points, values = points[keep], values[keep]
    ascending = np.argsort(points)
    points, values = points[ascending], values[ascending]
    above = values >= ORDERED
    if above.all() or not above.any():
        return None
    last = int(np.flatnonzero(above)[-1])
    if last + 1 >= len(points):
        return None
    share = (values[last] - ORDERED) / (values[last] - values[last + 1])
    return float(points[last] + share * (points[last + 1] - points[last]))


@dataclass(frozen=True, eq=False)
class Isotherm:
    """x against the chemical potential at one temperature, by two walks through potentials.

    Parameters
    ----------
    mu
        (n,) in eV per working ion with its electron, ascending.
    filling, emptying
        (n,) x on the way up and on the way down.
    errors
        (2, n) their standard deviations.
    """

    temperature_K: float
    mu: Floats
    filling: Floats
    emptying: Floats
    errors: Floats


def potentials_of(diagram: PhaseDiagram, cell: Cell, temperature_K: float, number: int) -> Floats:
    """Return (number,) chemical potentials in eV, ascending, that x goes from end to end with."""
    curve = diagram.curves[diagram.at(temperature_K)]
    per_ion = _per_ion(cell)
    slopes = np.diff(curve.stable()) / np.diff(curve.fine) / per_ion
    inside = np.interp(np.linspace(0.01, 0.99, number), np.linspace(0, 1, len(slopes)), slopes)
    margin = 3 * kB * temperature_K
    return np.linspace(inside.min() - margin, inside.max() + margin, number)


def _per_ion(cell: Cell) -> float:
    """Return working-ion sites per formula unit."""
    return cell.n_working / cell.n_formula_units


def isotherm(temperature_K: float, cell: Cell, filled: Walked, emptied: Walked) -> Isotherm:
    """Return x against the chemical potential."""
    size = cell.n_working
    return Isotherm(
        temperature_K,
        np.array(filled.points),
        np.array(filled.n_working) / size,
        np.array(emptied.n_working)[::-1] / size,
        np.array([filled.n_error, emptied.n_error[::-1]]) / size,
    )


def document(diagram: PhaseDiagram) -> dict[str, Any]:
    """Return a diagram as JSON can hold it."""
    return {
        "disorder": diagram.disorder,
        "two_phases_up_to_K": diagram.highest_two_phase,
        "transitions": [asdict(one) for one in diagram.transitions],
        "temperatures": [
            {
                "temperature_K": t,
                "two_phase": [asdict(gap) for gap in gaps],
                "points": [_point(branch, n) for branch in diagram.branches],
            }
            for n, (t, gaps) in enumerate(zip(diagram.temperatures_K, diagram.gaps, strict=True))
        ],
    }


def _point(branch: Branch, n: int) -> dict[str, Any]:
    return {
        "x": branch.x,
        "free_energy_eV_per_fu": float(branch.free_energy[n]),
        "error_eV_per_fu": float(branch.error[n]),
        "energy_eV_per_fu": float(branch.energy[n]),
        "heat_capacity_kB_per_fu": float(branch.heat_capacity[n]),
        "orders": branch.orders[n].tolist(),
        "short_range": branch.short_range[n].tolist(),
        "from_ground_state": branch.is_from_ground_state[n],
    }

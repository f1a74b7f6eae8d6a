"""A phase diagram from beginning to end: Hamiltonians, walks, free energies, phases.

What walks give is written down at once, so that a study may be killed and started again.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gasearch.crystal.host import Host
from gasearch.crystal.io.hosts import host_from_json, host_to_json
from gasearch.errors import UsageError
from gasearch.files import inside, make_folder, name_from, written
from gasearch.phases.energies.clusters import ClusterBasis, Reach
from gasearch.phases.energies.effective import DISORDERS, Disorder, effective
from gasearch.phases.energies.fitting import Fit, fit
from gasearch.phases.energies.hamiltonian import Hamiltonian
from gasearch.phases.energies.lattice import Lattice
from gasearch.phases.energies.training import Training
from gasearch.phases.walks.monte_carlo import Cell
from gasearch.phases.walks.orders import GroundState, ground_states
from gasearch.phases.walks.sampling import Plan, Sampler, Task, Walked, log_states

_MOST_SITES = 200_000


@dataclass(frozen=True)
class Model:
    """One disorder with its Hamiltonian and the ground states among the known orders."""

    disorder: Disorder
    fit: Fit
    states: tuple[GroundState, ...]


@dataclass(frozen=True)
class Options:
    """What a user chooses of a study.

    Parameters
    ----------
    repeats
        Of the unit cell; None: about `n_formula_units`, nearly a cube, that holds the orders found.
    n_compositions
        Of the grid of x, both ends included.
    temperature_K
        At which voltage and short-range order are shown.
    """

    reach: Reach = field(default_factory=lambda: Reach(8.0, 6.0))
    repeats: tuple[int, int, int] | None = None
    n_formula_units: int = 500
    n_compositions: int = 25
    temperature_K: float = 300.0
    lowest_K: float = 150.0
    highest_K: float = 1200.0
    n_sweeps: int = 400
    seed: int = 1
    disorders: tuple[Disorder, ...] = DISORDERS

    def check(self) -> None:
        """Refuse what makes no diagram."""
        for name, value in (
            ("--temperature", self.temperature_K),
            ("--lowest", self.lowest_K),
            ("--highest", self.highest_K),
        ):
            if not (np.isfinite(value) and value > 0):
                raise UsageError(f"{name} {value:g}: expected kelvins above 0.")
        if not self.lowest_K < self.highest_K:
            raise UsageError(
                f"--lowest {self.lowest_K:g} --highest {self.highest_K:g}: the lowest "
                "temperature must lie below the highest."
            )
        if not self.lowest_K <= self.temperature_K <= self.highest_K:
            raise UsageError(
                f"--temperature {self.temperature_K:g}: expected a value from --lowest "
                f"{self.lowest_K:g} to --highest {self.highest_K:g}."
            )
        if self.n_compositions < 3:
            raise UsageError(f"--compositions {self.n_compositions}: expected 3 or more.")
        if self.reach.pairs <= 0 or self.reach.triplets < 0:
            raise UsageError("--pairs and --triplets are distances in Å: expected above 0.")


def fitted(training: Training, options: Options) -> list[Model]:
    """Return the Hamiltonians of the disorders that are asked for, the full one first."""
    lattice = training.lattice
    full = fit(training, ClusterBasis(lattice, options.reach))
    models = [Model("ions and charges", full, tuple(ground_states(training, full)))]
    for kept in options.disorders:
        if kept != "ions and charges":
            own = effective(full.hamiltonian, training, kept, options.reach)
            states = [_as_seen(own.hamiltonian, one) for one in models[0].states]
            models.append(Model(kept, own, tuple(states)))
    return models


def _as_seen(hamiltonian: Hamiltonian, state: GroundState) -> GroundState:
    """Return a ground state with the energy that another Hamiltonian gives it."""
    cell = Cell(hamiltonian, state.repeats)
    energy = cell.energy(state.spins) / cell.n_formula_units
    return GroundState(state.x, state.cell, state.repeats, state.spins, energy)


def chosen_repeats(training: Training, options: Options) -> tuple[int, int, int]:
    """Return the repeats of the Monte Carlo cell: a common multiple of the cells searched."""
    lattice = training.lattice
    if options.repeats is not None:
        if min(options.repeats) < 1:
            raise UsageError(f"--cell {options.repeats}: every repeat must be 1 or more.")
        if int(np.prod(options.repeats)) * lattice.n_sites > _MOST_SITES:
            raise UsageError(f"--cell {options.repeats}: more than {_MOST_SITES:,} sites.")
        return options.repeats
    least = np.ones(3, dtype=np.int64)
    for one in training.cells:
        if np.array_equal(one.cell.matrix, np.diag(np.diag(one.cell.matrix))):
            least = np.lcm(least, np.diag(one.cell.matrix))
    lengths = np.linalg.norm(lattice.cell, axis=1)
    times = np.ones(3, dtype=np.int64)
    while np.prod(least * times) * lattice.n_formula_units < options.n_formula_units:
        times[np.argmin(least * times * lengths)] += 1
    a, b, c = (int(n) for n in least * times)
    return a, b, c


def composition_grid(cell: Cell, number: int) -> list[int]:
    """Return numbers of working ions, ascending, from one end of the range to the other."""
    low, high = (x * cell.n_working for x in cell.lattice.x_range)
    return sorted({round(n) for n in np.linspace(low, high, number)})


def tasks_of(model: Model, cell: Cell, options: Options) -> list[Task]:
    """Return the walks that the free energies of a model need."""
    numbers = {*composition_grid(cell, options.n_compositions)}
    held = [
        (n, round(state.x * cell.n_working))
        for n, state in enumerate(model.states)
        if state.fits(cell.repeats)
    ]
    numbers |= {n_working for _, n_working in held}
    cooled = [Task(model.disorder, "cool", n) for n in sorted(numbers) if log_states(cell, n) > 0]
    heated = [
        Task(model.disorder, "heat", n_working, n)
        for n, n_working in held
        if log_states(cell, n_working) > 0
    ]
    return [*cooled, *heated]


def scan_tasks(cell: Cell, options: Options, potentials: Sequence[float]) -> list[Task]:
    """Return the walks through chemical potentials, in eV ascending: up from empty, and down."""
    low, high = (round(x * cell.n_working) for x in cell.lattice.x_range)
    at, disorder = options.temperature_K, "ions and charges"
    return [
        Task(disorder, "fill", low, -1, at, tuple(potentials)),
        Task(disorder, "empty", high, -1, at, tuple(reversed(potentials))),
    ]


class Results:
    """What walks gave, in a folder: one file each.

    Parameters
    ----------
    key
        What it must have been made from to count.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def get(self, task: Task) -> Walked | None:
        """Return what a walk gave; None where it did not run, or was made from something else."""
        try:
            document = json.loads(self._file(task).read_text("utf-8"))
            if document.pop("key") != self._key:
                return None
            return Walked(**document)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def put(self, task: Task, walked: Walked) -> None:
        """Write down what a walk gave."""
        with written(self._file(task), replace=True) as path:
            text = json.dumps({"key": self._key, **walked.document()})
            path.write_text(text + "\n", encoding="utf-8")

    def _file(self, task: Task) -> Path:
        make_folder(self._folder)
        return inside(self._folder, f"{name_from(task.name)}.json")


@dataclass(frozen=True, eq=False)
class Walker:
    """What a process needs to run walks of one model: small, and built anew over there."""

    host: str
    reach: Reach
    on: tuple[bool, ...]
    interactions: tuple[float, ...]
    inverse_dielectric: float
    constant: float
    plan: Plan
    states: tuple[GroundState, ...]

    @classmethod
    def of(cls, model: Model, plan: Plan) -> Walker:
        """Return what runs the walks of a model."""
        hamiltonian = model.fit.hamiltonian
        lattice = hamiltonian.lattice
        acts = np.isin(np.arange(lattice.n_sites), hamiltonian.acts_on)
        return cls(
            host_to_json(lattice.host),
            hamiltonian.basis.reach,
            tuple(acts.tolist()),
            tuple(hamiltonian.interactions.tolist()),
            hamiltonian.inverse_dielectric,
            hamiltonian.constant,
            plan,
            model.states,
        )

    @property
    def digest(self) -> str:
        """Tells it from others: the Hamiltonian, the plan and the ground states."""
        states = [(one.x, one.repeats, one.spins.tolist()) for one in self.states]
        numbers = [round(v, 12) for v in (*self.interactions, self.inverse_dielectric)]
        text = json.dumps([self.host, numbers, round(self.constant, 9), asdict(self.plan), states])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def sampler(self) -> Sampler:
        """Return what runs walks."""
        hamiltonian = self._hamiltonian()
        lattice = hamiltonian.lattice
        nearest = ClusterBasis(lattice, Reach(self.reach.pairs, 0.0))
        return Sampler(Cell(hamiltonian, self.plan.repeats), self.plan, self.states, nearest)

    def _hamiltonian(self) -> Hamiltonian:
        host: Host = host_from_json(self.host)
        basis = ClusterBasis(Lattice(host.declaration), self.reach, self.on)
        return Hamiltonian(
            basis, np.array(self.interactions), self.inverse_dielectric, self.constant
        )


@functools.lru_cache(maxsize=4)
def _sampler(walker: Walker) -> Sampler:
    return walker.sampler()


_walkers: dict[str, Walker] = {}  # of this process


def _run(walker: Walker, task: Task) -> Walked:
    own = _walkers.setdefault(walker.digest, walker)
    return _sampler(own).run(task)


def walk_all(
    jobs: Sequence[tuple[Walker, Results, Task]],
    n_workers: int,
    progress: Callable[[int, int, Task], None] | None = None,
) -> None:
    """Run the walks that are not there yet, in this process or in several.

    Parameters
    ----------
    progress
        Called with how many are done, of how many, and the last one.
    """
    left = [job for job in jobs if job[1].get(job[2]) is None]
    done = len(jobs) - len(left)
    for job, walked in _walked(left, n_workers):
        job[1].put(job[2], walked)
        done += 1
        if progress is not None:
            progress(done, len(jobs), job[2])


def _walked(
    jobs: Sequence[tuple[Walker, Results, Task]], n_workers: int
) -> Iterator[tuple[tuple[Walker, Results, Task], Walked]]:
    if n_workers <= 1 or len(jobs) < 2:
        for job in jobs:
            yield job, _run(job[0], job[2])
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(n_workers, mp_context=context) as pool:
        futures = {pool.submit(_run, walker, task): n for n, (walker, _, task) in enumerate(jobs)}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield jobs[futures[future]], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def as_document(training: Training, models: Sequence[Model]) -> dict[str, Any]:
    """Return the Hamiltonians with their quality, as JSON can hold them."""
    return {
        "host": training.lattice.name,
        "n_energies": len(training.energy),
        "n_held": training.n_left_out,
        "cells": [one.name for one in training.cells],
        "models": [_model_document(one) for one in models],
    }


def _model_document(model: Model) -> dict[str, Any]:
    hamiltonian, own = model.fit.hamiltonian, model.fit
    return {
        "disorder": model.disorder,
        "n_interactions": len(hamiltonian.interactions),
        "n_told_apart": own.n_told_apart,
        "dielectric_constant": (
            1 / hamiltonian.inverse_dielectric if hamiltonian.inverse_dielectric > 1e-6 else None
        ),
        "left_out": [
            {**asdict(one), "explained": one.explained} for one in (own.crystals, *own.cells)
        ],
        "is_worth_a_diagram": own.is_worth_a_diagram,
        "ground_states": [
            {"x": one.x, "cell": one.cell, "energy_eV_per_fu": one.energy} for one in model.states
        ],
        "interactions": [
            {"sites": o.kind, "diameter": o.diameter, "energy_eV": float(v)}
            for o, v in zip(hamiltonian.basis.orbits, hamiltonian.interactions, strict=True)
        ],
    }

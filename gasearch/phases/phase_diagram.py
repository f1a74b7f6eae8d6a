"""`gasearch phase-diagram`: all of a study, resumed where it stands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gasearch.analysis.voltage import Cathode, Metal, VoltageStep, voltage_curve
from gasearch.errors import GasearchError
from gasearch.files import written
from gasearch.phases.diagram import (
    Isotherm,
    PhaseDiagram,
    diagram_of,
    document,
    isotherm,
    potentials_of,
)
from gasearch.phases.energies.fitting import LEAST_EXPLAINED, Fit
from gasearch.phases.energies.training import LEAST_RESULTS, Training
from gasearch.phases.sizes import SmallerCell, compared, halved, size_notes
from gasearch.phases.study import (
    Model,
    Options,
    Results,
    Walker,
    as_document,
    chosen_repeats,
    fitted,
    scan_tasks,
    tasks_of,
    walk_all,
)
from gasearch.phases.walks.monte_carlo import Cell
from gasearch.phases.walks.sampling import Plan, Task, ladder

_N_POTENTIALS = 31
_N_STEPS = 200  # of a voltage curve
Progress = Callable[[int, int, Task], None]


class NotWorthError(GasearchError, ValueError):
    """A Hamiltonian that predicts too little of what it did not see."""

    def __init__(self, fit: Fit) -> None:
        super().__init__(fit)
        self.fit = fit

    def __str__(self) -> str:
        own = self.fit.crystals
        return (
            f"these energies are not worth a diagram: the Hamiltonian misses crystals that it did "
            f"not see by {1000 * own.error:.1f} meV/f.u., their spread is {1000 * own.spread:.1f} "
            f"(explained {max(own.explained, 0):.0%}, at least {LEAST_EXPLAINED:.0%} is needed): "
            "search on, reach farther (--pairs, --triplets), or take --anyway."
        )


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that a phase diagram is made of.

    Parameters
    ----------
    diagrams
        By disorder, that of ions and charges first.
    smaller
        What a smaller cell gives; None where the cell is too small for one.
    notes
        What a reader must know.
    """

    training: Training
    options: Options
    repeats: tuple[int, int, int]
    models: tuple[Model, ...]
    diagrams: tuple[PhaseDiagram, ...]
    isotherm: Isotherm
    smaller: SmallerCell | None
    n_attempts: int
    notes: tuple[str, ...] = ()

    @property
    def n_formula_units(self) -> int:
        """Of the Monte Carlo cell."""
        return int(np.prod(self.repeats)) * self.training.lattice.n_formula_units

    def voltage(self, metal: Metal) -> list[VoltageStep]:
        """Return the voltage at the temperature, from the hull of F, in many small steps."""
        diagram = self.diagrams[0]
        curve = diagram.curves[diagram.at(self.options.temperature_K)]
        x = np.linspace(curve.fine[0], curve.fine[-1], _N_STEPS + 1)
        free = np.interp(x, curve.fine, curve.stable())
        cathode = Cathode.of(self.training.lattice.host)
        return list(
            voltage_curve(cathode, metal, list(zip(x.tolist(), free.tolist(), strict=True))).steps
        )

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        scan = self.isotherm
        return {
            **as_document(self.training, self.models),
            "cell": list(self.repeats),
            "n_formula_units": self.n_formula_units,
            "n_attempts": self.n_attempts,
            "temperature_K": self.options.temperature_K,
            "diagrams": [document(one) for one in self.diagrams],
            "isotherm": {
                "mu_eV": scan.mu.tolist(),
                "x_filling": scan.filling.tolist(),
                "x_emptying": scan.emptying.tolist(),
                "errors": scan.errors.tolist(),
            },
            "smaller_cell": None if self.smaller is None else self.smaller.document(),
            "notes": list(self.notes),
        }


def study(
    training: Training,
    options: Options,
    folder: Path,
    *,
    n_workers: int = 1,
    anyway: bool = False,
    progress: Progress | None = None,
    cautions: Sequence[str] = (),
) -> Study:
    """Return the phase diagram of what was searched; what was walked before is not walked again.

    Parameters
    ----------
    folder
        Where the results of walks are kept.
    anyway
        Whether to go on where the Hamiltonian is not good enough.
    cautions
        What is known of the energies: added to the notes.

    Raises
    ------
    NotWorthError
        Where the Hamiltonian explains too little, unless `anyway`.
    """
    options.check()
    repeats = chosen_repeats(training, options)
    models = fitted(training, options)
    if not (models[0].fit.is_worth_a_diagram or anyway):
        raise NotWorthError(models[0].fit)
    plan = Plan(
        repeats,
        ladder(options.lowest_K, options.highest_K, [options.temperature_K]),
        options.n_sweeps,
        options.seed,
    )
    walking = [_Walking(model, plan, options, folder) for model in models]
    wanted = [one for one in walking if one.model.disorder in options.disorders]
    small = _smaller(walking[0], plan, options, folder)
    jobs = [job for one in (*wanted, *small) for job in one.jobs]
    n_more = 2
    walk_all(jobs, n_workers, _counted(progress, n_more))
    full = walking[0]
    diagrams = tuple(one.diagram(options.highest_K) for one in wanted)
    scan = _scan(full, diagrams[0], options, n_workers, progress, len(jobs))
    n_attempts = sum(
        walked.n_attempts for _, results, task in jobs if (walked := results.get(task)) is not None
    )
    smaller = (
        compared(diagrams[0], small[0].diagram(options.highest_K), small[0].plan.repeats, options)
        if small
        else None
    )
    return Study(
        training,
        options,
        repeats,
        tuple(models),
        diagrams,
        scan,
        smaller,
        n_attempts,
        (
            *cautions,
            *_notes(training, models, diagrams, plan),
            *size_notes(smaller, models[0].fit),
        ),
    )


class _Walking:
    """A model with its walks."""

    def __init__(self, model: Model, plan: Plan, options: Options, folder: Path) -> None:
        self.model, self.plan = model, plan
        self.walker = Walker.of(model, plan)
        self.cell = Cell(model.fit.hamiltonian, plan.repeats)
        self.tasks = tasks_of(model, self.cell, options)
        self.results = Results(folder / "walks" / _name_of(plan), self.walker.digest)

    @property
    def jobs(self) -> list[tuple[Walker, Results, Task]]:
        return [(self.walker, self.results, task) for task in self.tasks]

    def diagram(self, highest_K: float) -> PhaseDiagram:
        return diagram_of(self.model, self.cell, self.plan, self.tasks, self.results.get, highest_K)


def _name_of(plan: Plan) -> str:
    return "x".join(map(str, plan.repeats))


def _smaller(full: _Walking, plan: Plan, options: Options, folder: Path) -> list[_Walking]:
    """Return the same at a few compositions in a smaller cell, to see what its size does."""
    repeats = halved(plan.repeats)
    if repeats == plan.repeats:
        return []
    few = replace(options, n_compositions=5, repeats=repeats)
    states = tuple(one for one in full.model.states if one.fits(repeats))
    model = Model(full.model.disorder, full.model.fit, states)
    return [_Walking(model, replace(plan, repeats=repeats), few, folder)]


def _scan(
    full: _Walking,
    diagram: PhaseDiagram,
    options: Options,
    n_workers: int,
    progress: Progress | None,
    n_before: int,
) -> Isotherm:
    potentials = potentials_of(diagram, full.cell, options.temperature_K, _N_POTENTIALS)
    tasks = scan_tasks(full.cell, options, np.round(potentials, 4).tolist())
    jobs = [(full.walker, full.results, task) for task in tasks]

    def shown(done: int, total: int, task: Task) -> None:
        if progress is not None:
            progress(n_before + done, n_before + total, task)

    walk_all(jobs, n_workers, shown)
    filled, emptied = (full.results.get(task) for task in tasks)
    if filled is None or emptied is None:
        raise NoResultsError
    return isotherm(options.temperature_K, full.cell, filled, emptied)


class NoResultsError(GasearchError, RuntimeError):
    """Results of walks that have gone."""

    def __str__(self) -> str:
        return "results of walks disappeared meanwhile: start the same command again."


def _counted(progress: Progress | None, n_more: int) -> Progress | None:
    """Return progress that knows of walks which come later."""
    if progress is None:
        return None
    return lambda done, total, task: progress(done, total + n_more, task)


def _notes(
    training: Training, models: Sequence[Model], diagrams: Sequence[PhaseDiagram], plan: Plan
) -> list[str]:
    own = models[0].fit.crystals
    notes = [
        *_few_notes(training, models[0].fit),
        *(
            f"note: {model.disorder}: explains {max(model.fit.crystals.explained, 0):.0%} of "
            "what it did not see: its diagram is not worth much"
            for model in models
            if not model.fit.is_worth_a_diagram
        ),
    ]
    if models[0].fit.is_worth_a_diagram and not models[0].fit.is_good:
        notes.append(
            f"note: energies near the hull are predicted to {1000 * own.low_error:.1f} meV/f.u. "
            f"({own.explained:.0%} explained): transition temperatures are as uncertain"
        )
    missing = sorted({one.cell for one in models[0].states if not one.fits(plan.repeats)})
    if missing:
        notes.append(
            f"note: the cell {_name_of(plan)} cannot hold the orders of {', '.join(missing)}: "
            "choose multiples with --cell"
        )
    late = [
        t
        for diagram in diagrams[:1]
        for t in diagram.transitions
        if t.temperature_K is not None and t.cooled_K is None
    ]
    if late:
        where = ", ".join(sorted({f"x = {t.x:.4g}" for t in late}))
        notes.append(
            f"note: the order at {where} did not form on cooling: near it F is an upper bound"
        )
    return notes


def _few_notes(training: Training, full: Fit) -> list[str]:
    """Return what energies of one cell, or a handful of them, leave open."""
    notes, n = [], len(training.energy)
    if n < LEAST_RESULTS:
        notes.append(f"note: {n} energies are few: below {LEAST_RESULTS} errors are guesses too")
    if len(training.cells) == 1:
        cell, many = training.cells[0].name, len(full.hamiltonian.interactions)
        notes.append(
            f"note: all energies are of {cell}: they tell {full.n_told_apart} combinations of "
            f"{many} interactions apart, and nothing tests what is said of longer orders; "
            "search another supercell too"
        )
    return notes


def write_document(found: Study, path: Path) -> None:
    """Write all numbers as JSON."""
    with written(path, replace=True) as place:
        place.write_text(json.dumps(found.document(), indent=1) + "\n", encoding="utf-8")

"""Which rows `search.py` has: on what landscape, by which method, up to which goals."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from landscapes import (
    NAMES,
    Landscape,
    large_minimum,
    make_landscape,
    make_large_landscape,
)
from relaxed_landscapes import TABLES, RelaxedLandscape, relaxed_landscape
from search_methods import (
    Goal,
    Problem,
    ase_ga_run,
    gasearch_run,
    ground_state_goal,
    large_goal,
    large_problem,
    niche_goal,
    one_by_one_run,
    plain,
    random_run,
    random_turns_run,
    relaxed_problem,
    screened,
    table_problem,
    tempering_keys,
    vertex_compositions,
)

from gasearch.host import Composition
from gasearch.operator import default_operators
from gasearch.proposing import ProposalSettings
from gasearch.screening.settings import GROUPS

METHODS = {
    "gasearch-budget": "gasearch, budget known",
    "gasearch": "gasearch",
    "gasearch-uncharged": "gasearch, no Coulomb",
    "plain": "gasearch, no surrogate",
    "tempering": "parallel tempering",
    "ase_ga": "ase_ga",
    "random": "random",
}
"""By the name on the command line, how the tables call them."""
MODEL_CELL, MODEL_X = (1, 3, 1), "2/3"
LARGE_CAP = 3_000
LEAST_DISTINCT = 50
"""Decorations that a composition must have to be searched alone."""
IN_FLIGHT = (1, 16, 64, 256)
ABLATION_LANDSCAPES = range(5)
ABLATION_SEED, ABLATION_RUNS = 101, 10
ALL = "all"
"""In place of x: all compositions in one run."""


@dataclass(frozen=True, eq=False)
class Tuning:
    """Pilot runs of `ase_ga` that choose its population: one composition of one landscape."""

    name: str
    landscape: Landscape
    goal: Goal
    cap: int


@dataclass(frozen=True, eq=False)
class Case:
    """One stream of evaluations, with one row of the report for each of its goals.

    Parameters
    ----------
    run
        From a seed to keys; of `ase_ga`, from a population and a seed.
    tuning
        Of `ase_ga` alone.
    """

    part: str
    landscape: str
    x: str
    method: str
    label: str
    run: Callable[..., Iterator[int]]
    goals: Mapping[str, Goal]
    cap: int
    runs: int
    first_seed: int = 1
    tuning: Tuning | None = None

    @property
    def seeds(self) -> range:
        """Of the runs."""
        return range(self.first_seed, self.first_seed + self.runs)

    def key(self, goal: str) -> tuple[str, str, str, str, str]:
        """Return what tells the row of one goal from all others."""
        return self.part, self.landscape, self.x, self.label, goal


def table_names() -> list[str]:
    """Return the tables of relaxed energies that are there."""
    return sorted(path.stem for path in TABLES.glob("nafepo4-*.csv"))


def x_text(composition: Composition) -> str:
    """Return x as a fraction."""
    return str(Fraction(composition.x).limit_denominator(100))


def _gasearch(problem: Problem, settings: ProposalSettings, **more: int) -> Callable[..., object]:
    return functools.partial(gasearch_run, problem, default_operators(), settings, **more)


def relaxed_cases(runs: int) -> Iterator[Case]:
    """Yield the rows on relaxed energies: all compositions in one run, then one at a time."""
    for name in table_names():
        table = relaxed_landscape(name)
        landscapes = {composition: table.at(composition) for composition in table.compositions}
        largest = max(landscapes.values(), key=len)
        tuning = Tuning(
            f"{name}, x = {x_text(largest.composition)}",
            largest,
            _single_goal(table, largest),
            _raw(table, [largest.composition]),
        )
        if table.compositions == table.host.compositions:
            yield from _whole_table(table, landscapes, tuning, runs)
        for composition, landscape in landscapes.items():
            if len(landscape) >= LEAST_DISTINCT:
                yield from _one_composition(table, composition, landscape, tuning, runs)


def _single_goal(table: RelaxedLandscape, landscape: Landscape) -> Goal:
    """Return the goal at one composition, in rows of that composition."""
    energies = landscape.energies
    rows = table.rows_at(landscape.composition).tolist()
    lowest = niche_goal(table, [landscape.composition])
    return {row: 0 for row in range(len(energies)) if rows[row] in lowest}


def _raw(table: RelaxedLandscape, compositions: Sequence[Composition]) -> int:
    return sum(table.host.n_raw(composition) for composition in compositions)


def _is_hull(table: RelaxedLandscape) -> bool:
    """Whether the energies make a hull: pmmcs ranks orders at one composition, no more."""
    return "pmmcs" not in table.name


def _whole_table(
    table: RelaxedLandscape,
    landscapes: Mapping[Composition, Landscape],
    tuning: Tuning,
    runs: int,
) -> Iterator[Case]:
    problem, is_hull = relaxed_problem(table), _is_hull(table)
    goals = {"niches": niche_goal(table, table.compositions)}
    hull = {"hull": niche_goal(table, vertex_compositions(table))} if is_hull else {}
    screen = screened(end_members=True, hull_aware=is_hull)

    def case(method: str, run: Callable[..., Iterator[int]], label: str = "") -> Case:
        is_ordered = method in ("ase_ga", "tempering")
        return Case(
            "relaxed",
            table.name,
            ALL,
            method,
            label or METHODS[method],
            run,
            goals if is_ordered else goals | hull,
            _raw(table, table.compositions),
            runs,
            tuning=tuning if method == "ase_ga" else None,
        )

    def at(method: Callable[..., Iterator[int]], *settings: int) -> Callable[[int], Iterator[int]]:
        def run_at(landscape: Landscape, seed: int) -> Iterator[int]:
            return method(landscape, *settings, seed)

        return functools.partial(one_by_one_run, table, landscapes, run_at)

    yield case("gasearch-budget", _gasearch(problem, screen, budget=len(table)))
    yield case("gasearch", _gasearch(problem, screen))
    yield case("plain", _gasearch(problem, plain(end_members=True)))
    yield case("random", functools.partial(random_turns_run, table))
    yield case("tempering", at(_tempered), "parallel tempering, sum over compositions")
    yield case(
        "ase_ga",
        lambda population, seed: at(ase_ga_run, population)(seed),
        "ase_ga, sum over compositions",
    )


def _tempered(landscape: Landscape, seed: int) -> Iterator[int]:
    return tempering_keys(landscape, table_problem(landscape), seed)


def _one_composition(
    table: RelaxedLandscape,
    composition: Composition,
    landscape: Landscape,
    tuning: Tuning,
    runs: int,
) -> Iterator[Case]:
    goal = _single_goal(table, landscape)
    yield from five_methods(
        "relaxed", table.name, landscape, goal, _raw(table, [composition]), tuning, runs
    )


def five_methods(
    part: str,
    name: str,
    landscape: Landscape,
    goal: Goal,
    cap: int,
    tuning: Tuning,
    runs: int,
) -> Iterator[Case]:
    """Yield the rows of one composition with a table."""
    problem = table_problem(landscape)
    streams: dict[str, Callable[..., Iterator[int]]] = {
        "gasearch": _gasearch(problem, screened()),
        "gasearch-uncharged": _gasearch(problem, uncharged()),
        "plain": _gasearch(problem, plain()),
        "random": functools.partial(random_run, landscape),
        "tempering": functools.partial(_tempered, landscape),
        "ase_ga": functools.partial(ase_ga_run, landscape),
    }
    if part == "relaxed":
        del streams["gasearch-uncharged"]
    for method, run in streams.items():
        yield Case(
            part,
            name,
            x_text(landscape.composition),
            method,
            METHODS[method],
            run,
            {"ground state": goal},
            cap,
            runs,
            tuning=tuning if method == "ase_ga" else None,
        )


def uncharged() -> ProposalSettings:
    """Return the settings of a screened search that knows nothing of Coulomb energies."""
    return screened(coulomb_starts=False, groups=without("coulomb"))


def without(left_out: str) -> tuple[str, ...]:
    """Return the groups of features but one."""
    return tuple(group for group in GROUPS if group != left_out)


def model_cases(runs: int) -> Iterator[Case]:
    """Yield the rows on the two model landscapes of 12 formula units."""
    for name in NAMES:
        landscape = make_landscape(name, MODEL_CELL, MODEL_X)
        goal, cap = ground_state_goal(landscape), len(landscape)
        tuning = Tuning(name, landscape, goal, cap)
        yield from five_methods("model", name, landscape, goal, cap, tuning, runs)


def large_cases(runs: int) -> Iterator[Case]:
    """Yield the rows on the two landscapes of 24 formula units."""
    for name in NAMES:
        landscape, minimum = make_large_landscape(name), large_minimum(name)
        problem = large_problem(landscape, minimum)
        streams = {
            "gasearch": _gasearch(problem, screened()),
            "gasearch-uncharged": _gasearch(problem, uncharged()),
            "plain": _gasearch(problem, plain()),
            "tempering": functools.partial(tempering_keys, landscape, problem),
        }
        for method, run in streams.items():
            yield Case(
                "large",
                name,
                x_text(landscape.composition),
                method,
                METHODS[method],
                run,
                {"ground state": large_goal(landscape, minimum)},
                LARGE_CAP,
                runs,
            )


def in_flight_cases(runs: int) -> Iterator[Case]:
    """Yield the rows with many candidates in flight, on the many-body landscapes."""
    small, large = (
        make_landscape("many-body", MODEL_CELL, MODEL_X),
        make_large_landscape("many-body"),
    )
    minimum = large_minimum("many-body")
    for size, problem, goal, cap in (
        (small.host.n_formula_units, table_problem(small), ground_state_goal(small), len(small)),
        (
            large.host.n_formula_units,
            large_problem(large, minimum),
            large_goal(large, minimum),
            LARGE_CAP,
        ),
    ):
        for number in IN_FLIGHT:
            yield Case(
                "in-flight",
                f"many-body, {size} f.u.",
                x_text(small.composition),
                "gasearch",
                f"{number} in flight",
                _gasearch(problem, screened(), in_flight=number),
                {"ground state": goal},
                cap,
                runs,
            )


def ablation_cases(runs: int) -> Iterator[Case]:
    """Yield the rows with features left out, on several many-body landscapes."""
    variants = {
        "all features": screened(),
        "without surroundings": screened(groups=without("surroundings")),
        "without triplets": screened(groups=without("triplets")),
        "without Coulomb": uncharged(),
        "pairs only": screened(groups=("pairs",)),
        "no surrogate": plain(),
    }
    for seed in ABLATION_LANDSCAPES:
        landscape = make_landscape("many-body", MODEL_CELL, MODEL_X, seed)
        problem, goal = table_problem(landscape), ground_state_goal(landscape)
        for label, settings in variants.items():
            yield Case(
                "ablation",
                f"many-body {seed}",
                x_text(landscape.composition),
                "plain" if label == "no surrogate" else "gasearch",
                label,
                _gasearch(problem, settings),
                {"ground state": goal},
                len(landscape),
                min(runs, ABLATION_RUNS),
                ABLATION_SEED,
            )


PARTS: dict[str, Callable[[int], Iterator[Case]]] = {
    "relaxed": relaxed_cases,
    "model": model_cases,
    "large": large_cases,
    "in-flight": in_flight_cases,
    "ablation": ablation_cases,
}
"""The rows of each part, from the number of runs per row; the part "cost" has none."""

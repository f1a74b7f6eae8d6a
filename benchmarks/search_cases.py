"""Which rows `search.py` has, by part; those on relaxed energies: `search_tables.py`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from landscapes import NAMES, large_minimum, make_landscape, make_large_landscape
from search_case import (
    METHODS,
    Case,
    Tuning,
    searched_by,
    single_cases,
    uncharged,
    without,
    x_text,
)
from search_methods import (
    ground_state_goal,
    large_goal,
    large_problem,
    plain,
    screened,
    table_problem,
    tempering_keys,
)
from search_tables import relaxed_cases

MODEL_CELL, MODEL_X = (1, 3, 1), "2/3"
LARGE_CAP = 3_000
IN_FLIGHT = (1, 16, 64, 256)
ABLATION_LANDSCAPES = range(5)
ABLATION_SEED, ABLATION_RUNS = 101, 10


def model_cases(runs: int) -> Iterator[Case]:
    """Yield the rows on the two model landscapes of 12 formula units."""
    for name in NAMES:
        landscape = make_landscape(name, MODEL_CELL, MODEL_X)
        goal, cap = ground_state_goal(landscape), len(landscape)
        tuning = Tuning(name, landscape, goal, cap)
        yield from single_cases("model", name, landscape, goal, cap, tuning, runs)


def large_cases(runs: int) -> Iterator[Case]:
    """Yield the rows on the two landscapes of 24 formula units."""
    for name in NAMES:
        landscape, minimum = make_large_landscape(name), large_minimum(name)
        problem = large_problem(landscape, minimum)
        streams = {
            "gasearch": searched_by(problem, screened()),
            "gasearch-uncharged": searched_by(problem, uncharged()),
            "plain": searched_by(problem, plain()),
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
                searched_by(problem, screened(), in_flight=number),
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
                searched_by(problem, settings),
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

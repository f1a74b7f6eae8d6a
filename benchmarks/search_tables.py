"""The rows of `search.py` on relaxed energies: a whole table, and one composition at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

from landscapes import Landscape
from relaxed_landscapes import TABLES, RelaxedLandscape, relaxed_landscape
from search_case import (
    ALL,
    METHODS,
    Case,
    Tuning,
    searched_by,
    single_cases,
    tempered,
    uncharged,
    x_text,
)
from search_methods import (
    Goal,
    ase_ga_run,
    coulomb_turns_run,
    niche_goal,
    one_by_one_run,
    plain,
    random_turns_run,
    relaxed_problem,
    screened,
    vertex_compositions,
)

from gasearch.crystal.host import Composition

LEAST_DISTINCT = 50
"""Decorations that a composition must have to be searched alone."""


def table_names() -> list[str]:
    """Return the tables of relaxed energies that are there."""
    return sorted(path.stem for path in TABLES.glob("nafepo4-*.csv"))


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
            1 if method == "coulomb-order" else runs,
            tuning=tuning if method == "ase_ga" else None,
        )

    def at(method: Callable[..., Iterator[int]], *settings: int) -> Callable[[int], Iterator[int]]:
        def run_at(landscape: Landscape, seed: int) -> Iterator[int]:
            return method(landscape, *settings, seed)

        return functools.partial(one_by_one_run, table, landscapes, run_at)

    yield case("gasearch-budget", searched_by(problem, screen, budget=len(table)))
    yield case("gasearch", searched_by(problem, screen))
    blind = uncharged(end_members=True, hull_aware=is_hull)
    yield case("gasearch-uncharged", searched_by(problem, blind))
    yield case("plain", searched_by(problem, plain(end_members=True)))
    yield case("coulomb-order", functools.partial(coulomb_turns_run, table))
    yield case("random", functools.partial(random_turns_run, table))
    yield case("tempering", at(tempered), "parallel tempering, sum over compositions")
    yield case(
        "ase_ga",
        lambda population, seed: at(ase_ga_run, population)(seed),
        "ase_ga, sum over compositions",
    )


def _one_composition(
    table: RelaxedLandscape,
    composition: Composition,
    landscape: Landscape,
    tuning: Tuning,
    runs: int,
) -> Iterator[Case]:
    goal = _single_goal(table, landscape)
    yield from single_cases(
        "relaxed", table.name, landscape, goal, _raw(table, [composition]), tuning, runs
    )

"""The methods that `search.py` compares, each as a stream of the decorations that it evaluates.

A stream tells decorations by keys: rows of a table, canonical words where there is no table. What
has to be met is a `Goal`. Nothing here knows of rows of the report.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase_ga_baseline import AseGaRun
from energies import Digits
from landscapes import Landscape, LargeLandscape, LargeMinimum, canonical_words
from relaxed_landscapes import RelaxedLandscape
from tempering import tempering_visits

from gasearch.crystal.host import Composition, Host
from gasearch.operators.contract import WeightedOperator
from gasearch.run.sections import GROUPS, Group, ScreeningSection
from gasearch.search.proposer import ProposalSettings, Proposer
from gasearch.search.surrogate.coulomb import CoulombEnergy
from gasearch.store.records import Outcome

Run = Callable[[int], Iterator[int]]
"""From a seed to the keys of what is evaluated, in that order."""
Goal = Mapping[int, int]
"""From keys to the target that each meets; a run ends when all targets are met."""

AS_EQUAL = 1e-7
"""Energies of one decoration agree within this, in eV/f.u."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is searched.

    Parameters
    ----------
    evaluate
        From an occupation (n_sites,) to its key and the energy of the whole cell in eV, which is
        not finite where a decoration has none.
    """

    host: Host
    compositions: tuple[Composition, ...]
    evaluate: Callable[[Digits], tuple[int, float]]


def table_problem(landscape: Landscape) -> Problem:
    """Return one composition with a table; keys are its rows."""

    def evaluate(occupation: Digits) -> tuple[int, float]:
        row = int(landscape.rows(occupation[None])[0])
        return row, float(landscape.energies[row]) * landscape.host.n_formula_units

    return Problem(landscape.host, (landscape.composition,), evaluate)


def relaxed_problem(table: RelaxedLandscape) -> Problem:
    """Return all compositions of a table of relaxed energies; keys are its rows."""

    def evaluate(occupation: Digits) -> tuple[int, float]:
        row = int(table.rows(occupation[None])[0])
        return row, float(table.energies[row]) if table.is_ok[row] else np.nan

    return Problem(table.host, table.compositions, evaluate)


def large_problem(landscape: LargeLandscape, minimum: LargeMinimum) -> Problem:
    """Return a composition without a table; keys are canonical words.

    To meet anything lower than the reference minimum is an error: the reference is then wrong.
    """

    def evaluate(occupation: Digits) -> tuple[int, float]:
        energy = float(landscape.energy_of(occupation[None])[0])
        if energy < minimum.energy - AS_EQUAL:
            found = landscape.fingerprint(occupation)
            raise ValueError(f"{found} lies below the minimum of {landscape.name}: {energy} eV.")
        key = int(canonical_words(landscape.host, occupation[None])[0])
        return key, energy * landscape.host.n_formula_units

    return Problem(landscape.host, (landscape.composition,), evaluate)


def ground_state_goal(landscape: Landscape) -> Goal:
    """Return the goal of a table at one composition: its lowest decoration."""
    return {landscape.ground_state: 0}


def large_goal(landscape: LargeLandscape, minimum: LargeMinimum) -> Goal:
    """Return the goal of a large landscape: the reference minimum."""
    occupation = landscape.host.canonicalizer.occupation(minimum.fingerprint)
    return {int(canonical_words(landscape.host, occupation[None])[0]): 0}


def niche_goal(table: RelaxedLandscape, compositions: Sequence[Composition]) -> Goal:
    """Return the goal of a lowest decoration at each composition, or one that cannot be told apart.

    Over all compositions: all niche minima. Over those of the hull's vertices: the right hull.
    """
    return {int(row): n for n, c in enumerate(compositions) for row in table.rows_within(c)}


def vertex_compositions(table: RelaxedLandscape) -> list[Composition]:
    """Return the compositions of the hull's vertices, by ascending x."""
    return [table.compositions[table.composition_numbers[row]] for row in table.hull_vertices]


def random_run(landscape: Landscape, seed: int) -> Iterator[int]:
    """Yield all distinct decorations as even draws from the raw ones would first meet them.

    Sorting exponential waiting times is the same as drawing and skipping repeats.
    """
    waiting = np.random.default_rng(seed).exponential(size=len(landscape))
    return iter(np.argsort(waiting / landscape.orbit_sizes).tolist())


def random_turns_run(table: RelaxedLandscape, seed: int) -> Iterator[int]:
    """Yield all rows of a table: one decoration of each composition in turn, drawn as above."""
    waiting = np.random.default_rng(seed).exponential(size=len(table)) / table.orbit_sizes
    parts = [table.rows_at(composition) for composition in table.compositions]
    return in_turn([rows[waiting[rows].argsort()].tolist() for rows in parts])


def coulomb_order_run(landscape: Landscape, seed: int) -> Iterator[int]:
    """Yield all distinct decorations by ascending Coulomb energy; no seed changes that."""
    del seed
    energies = CoulombEnergy(landscape.host)(landscape.occupations)
    return iter(energies.argsort(kind="stable").tolist())


def coulomb_turns_run(table: RelaxedLandscape, seed: int) -> Iterator[int]:
    """Yield all rows of a table: that of lowest Coulomb energy of each composition in turn."""
    del seed
    energies = CoulombEnergy(table.host)(table.occupations)
    parts = [table.rows_at(composition) for composition in table.compositions]
    return in_turn([rows[energies[rows].argsort(kind="stable")].tolist() for rows in parts])


def in_turn(orders: Sequence[Sequence[int]]) -> Iterator[int]:
    """Yield the first of each order, then the second of each that has one, and so on."""
    for turn in itertools.zip_longest(*orders):
        yield from (row for row in turn if row is not None)


def screened(
    *,
    end_members: bool = False,
    coulomb_starts: bool = True,
    hull_aware: bool = True,
    groups: tuple[Group, ...] = GROUPS,
) -> ProposalSettings:
    """Return the settings of a screened search; all others are defaults."""
    return ProposalSettings(
        screening=ScreeningSection(features=groups),
        coulomb=coulomb_starts,
        end_members=end_members,
        hull_aware=hull_aware,
    )


def plain(*, end_members: bool = False) -> ProposalSettings:
    """Return the settings of a search by operators and rank fitness alone."""
    return ProposalSettings(end_members=end_members)


def gasearch_run(
    problem: Problem,
    operators: Sequence[WeightedOperator],
    settings: ProposalSettings,
    seed: int,
    *,
    budget: int = 0,
    in_flight: int = 1,
) -> Iterator[int]:
    """Yield what gasearch proposes; candidate k knows the results of those up to k - in_flight.

    Parameters
    ----------
    budget
        That the engine is told; 0: none.
    """
    seeded = replace(settings, search=settings.search.model_copy(update={"seed": seed}))
    proposer = Proposer(problem.host, operators, problem.compositions, seeded)
    waiting: deque[Outcome] = deque()
    for number in itertools.count(1):
        while waiting and waiting[0].candidate <= number - in_flight:
            proposer.add_outcome(waiting.popleft())
        proposal = proposer.propose(number, budget)
        if proposal is None:
            return
        key, energy = problem.evaluate(np.frombuffer(proposal.occupation, dtype=np.uint8))
        verdict = "ok" if np.isfinite(energy) else "failed"
        waiting.append(Outcome(number, number, proposal.composition, energy, verdict, 1))
        yield key


def ase_ga_run(landscape: Landscape, population: int, seed: int) -> Iterator[int]:
    """Yield what the paper's search would relax; see `ase_ga_baseline.py`."""
    if len(landscape) == 1:
        return iter([0])
    return AseGaRun(landscape, seed, population).evaluations()


def tempering_keys(
    landscape: Landscape | LargeLandscape, problem: Problem, seed: int
) -> Iterator[int]:
    """Yield what parallel tempering evaluates, no decoration twice; see `tempering_visits`."""
    for occupation, _ in tempering_visits(landscape, seed):
        yield problem.evaluate(occupation)[0]


def one_by_one_run(
    table: RelaxedLandscape,
    landscapes: Mapping[Composition, Landscape],
    run_at: Callable[[Landscape, int], Iterator[int]],
    seed: int,
) -> Iterator[int]:
    """Yield what a search for one composition evaluates at each in turn, as rows of the table.

    Somebody who knows the answer stops each where its minimum is found.
    """
    for composition, landscape in landscapes.items():
        rows = table.rows_at(composition).tolist()
        goal = set(table.rows_within(composition).tolist())
        for row in run_at(landscape, seed):
            yield rows[row]
            if rows[row] in goal:
                break


def evaluations_needed(
    run: Iterator[int], goals: Mapping[str, Goal], cap: int
) -> tuple[dict[str, int | None], int]:
    """Return how many evaluations a run took to each goal, and how many of all were distinct.

    None stands for a goal that was not reached within the cap.
    """
    left = {name: set(goal.values()) for name, goal in goals.items()}
    found: dict[str, int | None] = dict.fromkeys(goals)
    met: set[int] = set()
    for number, key in enumerate(itertools.islice(run, cap), start=1):
        met.add(key)
        for name in [name for name, targets in left.items() if goals[name].get(key) in targets]:
            left[name].discard(goals[name][key])
            if not left[name]:
                del left[name]
                found[name] = number
        if not left:
            break
    return found, len(met)

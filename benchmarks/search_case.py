"""One row of `search.py`: what it is, and the methods at one composition with a table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from landscapes import Landscape
from search_methods import (
    Goal,
    Problem,
    ase_ga_run,
    coulomb_order_run,
    gasearch_run,
    plain,
    random_run,
    screened,
    table_problem,
    tempering_keys,
)

from gasearch.crystal.host import Composition
from gasearch.operators.contract import default_operators
from gasearch.run.sections import GROUPS, Group
from gasearch.search.proposer import ProposalSettings

METHODS = {
    "gasearch-budget": "gasearch, budget known",
    "gasearch": "gasearch",
    "gasearch-uncharged": "gasearch, no Coulomb",
    "plain": "gasearch, no surrogate",
    "tempering": "parallel tempering",
    "ase_ga": "ase_ga",
    "coulomb-order": "by Coulomb energy",
    "random": "random",
}
"""By the name on the command line, how the tables call them."""
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


def x_text(composition: Composition) -> str:
    """Return x as a fraction."""
    return str(Fraction(composition.x).limit_denominator(100))


def searched_by(
    problem: Problem, settings: ProposalSettings, **more: int
) -> Callable[..., Iterator[int]]:
    """Return the run of gasearch with the operators of a run that names none."""
    return functools.partial(gasearch_run, problem, default_operators(), settings, **more)


def tempered(landscape: Landscape, seed: int) -> Iterator[int]:
    """Yield what parallel tempering evaluates, as rows of a table."""
    return tempering_keys(landscape, table_problem(landscape), seed)


def single_cases(
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
        "gasearch": searched_by(problem, screened()),
        "gasearch-uncharged": searched_by(problem, uncharged()),
        "plain": searched_by(problem, plain()),
        "coulomb-order": functools.partial(coulomb_order_run, landscape),
        "random": functools.partial(random_run, landscape),
        "tempering": functools.partial(tempered, landscape),
        "ase_ga": functools.partial(ase_ga_run, landscape),
    }
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
            1 if method == "coulomb-order" else runs,
            tuning=tuning if method == "ase_ga" else None,
        )


def uncharged(*, end_members: bool = False, hull_aware: bool = True) -> ProposalSettings:
    """Return the settings of a screened search that knows nothing of Coulomb energies."""
    return screened(
        end_members=end_members,
        coulomb_starts=False,
        hull_aware=hull_aware,
        groups=without("coulomb"),
    )


def without(left_out: Group) -> tuple[Group, ...]:
    """Return the groups of features but one."""
    return tuple(group for group in GROUPS if group != left_out)

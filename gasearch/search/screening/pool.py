"""Candidates to choose from at one composition: children, random ones, and the model's descents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition, Host
from gasearch.operators.contract import WeightedOperator
from gasearch.search.history import SearchHistory
from gasearch.search.population import Member
from gasearch.search.screening.exchanges import descend
from gasearch.store.records import JsonValue

Digits = NDArray[np.uint8]
Floats = NDArray[np.float64]
DrawOperator = Callable[[np.random.Generator], WeightedOperator]

DESCENT = "surrogate_descent"
_RANDOM_SHARE = 0.1
_STARTS, _STEPS, _KEPT = 3, 12, 10
_NEIGHBOURS, _SITES_TIMES_NEIGHBOURS = 200, 10_000
"""Neighbours predicted in each step of a descent: fewer in large cells, where each costs more."""


@dataclass(frozen=True, eq=False)
class Choice:
    """A decoration that could be proposed, and how it came about.

    Parameters
    ----------
    operator
        What made it.
    score
        Of several choices the one of highest score is taken.
    details
        For the record alone: nothing follows from them.
    """

    decoration: Decoration
    operator: str
    parents: tuple[Member, ...] = ()
    score: float = 0.0
    details: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Pool:
    """Many possible candidates at one composition, as arrays; equivalents may repeat.

    Parameters
    ----------
    occupations
        (n, n_sites).
    operators
        (n,) what made each.
    parents
        (n,) the members that each was made from.
    """

    occupations: Digits
    operators: Sequence[str]
    parents: Sequence[tuple[Member, ...]]

    def __len__(self) -> int:
        return len(self.operators)


class Children:
    """Draws children as the operators make them.

    Parameters
    ----------
    draw_operator
        Returns an operator, the more often the higher its rate.
    """

    def __init__(self, history: SearchHistory, draw_operator: DrawOperator) -> None:
        self._history = history
        self._draw_operator = draw_operator

    def draw(
        self,
        niches: Sequence[Composition],
        rng: np.random.Generator,
        *,
        at: Composition | None = None,
    ) -> Choice | None:
        """Return one child of parents in some niches; None where they have none.

        Parameters
        ----------
        at
            Where the child is wanted: operators that keep x then take parents from there alone.
        """
        operator = self._draw_operator(rng)
        if at is not None and not operator.changes_x:
            niches = [at]
        parents = self._history.population.parents(operator.operator.n_parents, niches, rng)
        if parents is None:
            return None
        child = operator([parent.decoration for parent in parents], rng)
        return None if child is None else Choice(child, operator.name, parents)

    def at(self, composition: Composition, size: int, rng: np.random.Generator) -> Iterator[Choice]:
        """Yield up to `size` children at one composition, some of them random decorations."""
        history = self._history
        near = neighbouring(history.compositions, composition)
        for _ in range(size):
            if rng.random() < _RANDOM_SHARE or not history.population.members(composition):
                yield Choice(Decoration.random(history.host, composition, rng), "random")
                continue
            child = self.draw(near, rng, at=composition)
            if child is not None and child.decoration.composition == composition:
                yield child


def neighbouring(
    compositions: Sequence[Composition], composition: Composition
) -> list[Composition]:
    """Return a composition and those with one working ion more or less."""
    return [c for c in compositions if abs(c.n_working - composition.n_working) <= 1]


def children_pool(
    children: Children, composition: Composition, size: int, rng: np.random.Generator
) -> Pool | None:
    """Return a pool of children at one composition; None where there are none."""
    drawn = list(children.at(composition, size, rng))
    if not drawn:
        return None
    return Pool(
        np.array([choice.decoration.occupation for choice in drawn]),
        [choice.operator for choice in drawn],
        [choice.parents for choice in drawn],
    )


def with_descents(
    pool: Pool, host: Host, energies: Callable[[Digits], Floats], rng: np.random.Generator
) -> Pool:
    """Return a pool with what descents of the predicted energy meet from its lowest members.

    Parameters
    ----------
    energies
        What the model predicts, from occupations (n, n_sites) to (n,).
    """
    starts = np.argsort(energies(pool.occupations), kind="stable")[:_STARTS]
    occupations, operators, parents = [pool.occupations], [*pool.operators], [*pool.parents]
    for start in starts.tolist():
        path = descend(
            host,
            energies,
            pool.occupations[start],
            rng,
            steps=_STEPS,
            neighbours=min(_NEIGHBOURS, _SITES_TIMES_NEIGHBOURS // host.n_sites + 1),
            kept=_KEPT,
        )
        met = np.concatenate(path)
        occupations.append(met)
        operators += [DESCENT] * len(met)
        parents += [pool.parents[start]] * len(met)
    return Pool(np.concatenate(occupations), operators, parents)

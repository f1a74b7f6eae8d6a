"""Choosing, of all that could be relaxed next, what promises most by the surrogate."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition
from gasearch.run.screening_settings import ScreeningSettings
from gasearch.search.history import SearchHistory
from gasearch.search.population import Member
from gasearch.search.screening.acquisition import Promise
from gasearch.search.screening.enumerated import EnumeratedCompositions
from gasearch.search.screening.pool import Children, Pool, children_pool, with_descents
from gasearch.search.surrogate.fitting import SurrogateSchedule, one_thread
from gasearch.search.surrogate.regression import Surrogate
from gasearch.store.records import JsonValue

Digits = NDArray[np.uint8]

SCREENED = "screened"
"""The operator of candidates that were chosen from the list of a whole composition."""
_LOOKED_AT = 128  # those that the model puts lowest, for which deviations are computed
_TEMPERATURE = 0.05  # eV/f.u. above the hull at which a composition is drawn e times less
_PATIENCE = 50  # results without a lower minimum at which it is drawn half as often
_LEAST_WEIGHT = 0.02


@dataclass(frozen=True, eq=False)
class Choice:
    """A decoration chosen by the surrogate.

    Parameters
    ----------
    score
        What it promises, in eV/f.u.
    details
        Told in the database, used by nobody.
    """

    decoration: Decoration
    operator: str
    parents: tuple[Member, ...]
    score: float
    details: Mapping[str, JsonValue]


class Screen:
    """Ranks what could be proposed, by what each relaxation promises.

    Compositions that can be listed compete with all their open decorations; of the others one at a
    time, with a pool of children and of what lies down the model's slopes from the lowest of them.
    """

    def __init__(
        self,
        history: SearchHistory,
        schedule: SurrogateSchedule,
        enumerated: EnumeratedCompositions,
        children: Children,
        settings: ScreeningSettings,
    ) -> None:
        self._history = history
        self._schedule = schedule
        self._enumerated = enumerated
        self._children = children
        self._settings = settings

    def draw(
        self, surrogate: Surrogate, among: Sequence[Composition], rng: np.random.Generator
    ) -> Choice | None:
        """Return the best of what could be proposed at some compositions; None: only repeats."""
        promise = Promise(self._history, hull_aware=self._settings.hull_aware)
        if rng.random() < self._settings.aging:
            among = [min(among, key=self._waiting_since)]
        listed = [c for c in among if c in self._enumerated]
        drawn = [c for c in among if c not in self._enumerated]
        if drawn:
            drawn = [drawn[0] if len(drawn) == 1 else self._drawn(drawn, promise, rng)]
        with one_thread():
            choices = [
                *(self._listed(composition, surrogate, promise) for composition in listed),
                *(self._pooled(composition, surrogate, promise, rng) for composition in drawn),
            ]
        return max((c for c in choices if c), key=lambda choice: choice.score, default=None)

    def _waiting_since(self, composition: Composition) -> tuple[int, Composition]:
        return self._history.last_served.get(composition, 0), composition

    def _drawn(
        self, compositions: Sequence[Composition], promise: Promise, rng: np.random.Generator
    ) -> Composition:
        """Return one of several, the more often the nearer to the hull and the more it moves."""
        weights = [self._weight(composition, promise) for composition in compositions]
        bounds = np.cumsum(weights) / np.sum(weights)
        return compositions[int(np.searchsorted(bounds, rng.random(), side="right"))]

    def _weight(self, composition: Composition, promise: Promise) -> float:
        history = self._history
        still = history.n_results - history.improved_at.get(composition, history.n_results)
        near = np.exp(-promise.above_hull(composition) / _TEMPERATURE)
        return float(near / (1 + still / _PATIENCE / len(history.compositions))) + _LEAST_WEIGHT

    def _listed(
        self, composition: Composition, surrogate: Surrogate, promise: Promise
    ) -> Choice | None:
        whole = self._enumerated[composition]
        fitted = self._schedule.fitted
        if fitted is None:
            return None
        rows = whole.lowest(self._schedule, fitted, _LOOKED_AT)
        if not len(rows):
            return None
        features = whole.features(self._schedule)[rows]
        mean, deviation = surrogate.predict(features, self._schedule.index(composition))
        score = promise.score(composition, mean, deviation)
        best = int(score.argmax())
        decoration = Decoration(self._history.host, whole.occupations[rows[best]])
        details = _details(float(mean[best]), float(deviation[best]), int(whole.is_open.sum()))
        return Choice(decoration, SCREENED, (), float(score[best]), details)

    def _pooled(
        self,
        composition: Composition,
        surrogate: Surrogate,
        promise: Promise,
        rng: np.random.Generator,
    ) -> Choice | None:
        pool = children_pool(self._children, composition, self._settings.pool, rng)
        if pool is None:
            return None
        predicted = functools.partial(self._mean, surrogate, composition)
        pool = self._unseen(with_descents(pool, self._history.host, predicted, rng))
        if not len(pool):
            return None
        features = self._schedule.features(pool.occupations, composition)
        index = self._schedule.index(composition)
        rows = np.argsort(surrogate.mean(features, index), kind="stable")[:_LOOKED_AT]
        mean, deviation = surrogate.predict(features[rows], index)
        score = promise.score(composition, mean, deviation)
        best = int(score.argmax())
        row = int(rows[best])
        decoration = Decoration(self._history.host, pool.occupations[row])
        details = _details(float(mean[best]), float(deviation[best]), len(pool))
        return Choice(
            decoration, pool.operators[row], pool.parents[row], float(score[best]), details
        )

    def _mean(
        self, surrogate: Surrogate, composition: Composition, occupations: Digits
    ) -> NDArray[np.float64]:
        features = self._schedule.features(occupations, composition)
        return surrogate.mean(features, self._schedule.index(composition))

    def _unseen(self, pool: Pool) -> Pool:
        """Return what nobody proposed yet, each decoration once."""
        distinct = self._history.host.canonicalizer.first_rows(pool.occupations)
        seen = self._history.seen
        rows = [row for fingerprint, row in distinct.items() if fingerprint not in seen]
        return Pool(
            pool.occupations[rows],
            [pool.operators[row] for row in rows],
            [pool.parents[row] for row in rows],
        )


def _details(mean: float, deviation: float, n_ranked: int) -> dict[str, JsonValue]:
    return {
        "predicted_eV_per_fu": mean,
        "deviation_eV_per_fu": deviation,
        "ranked": n_ranked,
    }

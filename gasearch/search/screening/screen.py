"""The surrogate-based choice of the next candidate: what the acquisition function puts first."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition
from gasearch.run.sections import ScreeningSection
from gasearch.search.history import SearchHistory
from gasearch.search.screening.acquisition import Acquisition
from gasearch.search.screening.enumerated import EnumeratedCompositions
from gasearch.search.screening.pool import Children, Choice, Pool, children_pool, with_descents
from gasearch.search.surrogate.fitting import SurrogateSchedule, one_thread
from gasearch.search.surrogate.regression import Surrogate
from gasearch.store.records import JsonValue

Digits = NDArray[np.uint8]
Floats = NDArray[np.float64]
Heights = Mapping[Composition, float]
"""The hull at each composition, in eV/f.u.; empty where there is none."""

SCREENED = "screened"
"""The operator of candidates that were chosen among all of an enumerated composition."""
_N_SCORED = 128  # those of lowest predicted energy, for which deviations are computed
_TEMPERATURE = 0.05  # eV/f.u. above the hull at which a composition is drawn e times less often
_PATIENCE = 50  # results without a lower minimum at which it is drawn half as often
_LEAST_WEIGHT = 0.02


class Screen:
    """Ranks what could be proposed by an acquisition function.

    Enumerated compositions compete with all their open decorations; of the others one at a time,
    with a pool of children and of descents of the predicted energy from the lowest of them.
    """

    def __init__(
        self,
        history: SearchHistory,
        schedule: SurrogateSchedule,
        enumerated: EnumeratedCompositions,
        children: Children,
        settings: ScreeningSection,
        acquisition: Acquisition,
        *,
        hull_aware: bool,
    ) -> None:
        self._history = history
        self._schedule = schedule
        self._enumerated = enumerated
        self._children = children
        self._settings = settings
        self._acquisition = acquisition
        self._hull_aware = hull_aware

    def draw(
        self, surrogate: Surrogate, among: Sequence[Composition], rng: np.random.Generator
    ) -> Choice | None:
        """Return the best of what could be proposed at some compositions; None: only repeats."""
        hull = self._history.hull_per_fu() if self._hull_aware else {}
        if rng.random() < self._settings.aging:
            among = [min(among, key=self._waiting_since)]
        enumerated = [c for c in among if c in self._enumerated]
        drawn = [c for c in among if c not in self._enumerated]
        if drawn:
            drawn = [drawn[0] if len(drawn) == 1 else self._drawn(drawn, hull, rng)]
        with one_thread():
            choices = [
                *(self._of_all(composition, surrogate, hull) for composition in enumerated),
                *(self._of_pool(composition, surrogate, hull, rng) for composition in drawn),
            ]
        return max((c for c in choices if c), key=lambda choice: choice.score, default=None)

    def _waiting_since(self, composition: Composition) -> tuple[int, Composition]:
        return self._history.last_served.get(composition, 0), composition

    def _drawn(
        self, compositions: Sequence[Composition], hull: Heights, rng: np.random.Generator
    ) -> Composition:
        """Return one of several, the more often the nearer to the hull and the more it moves."""
        weights = [self._weight(composition, hull) for composition in compositions]
        bounds = np.cumsum(weights) / np.sum(weights)
        return compositions[int(np.searchsorted(bounds, rng.random(), side="right"))]

    def _weight(self, composition: Composition, hull: Heights) -> float:
        history = self._history
        lowest = history.lowest_per_fu(composition)
        above = 0.0 if lowest is None or composition not in hull else lowest - hull[composition]
        still = history.n_results - history.improved_at.get(composition, history.n_results)
        near = np.exp(-above / _TEMPERATURE)
        return float(near / (1 + still / _PATIENCE / len(history.compositions))) + _LEAST_WEIGHT

    def _of_all(
        self, composition: Composition, surrogate: Surrogate, hull: Heights
    ) -> Choice | None:
        listed = self._enumerated[composition]
        fitted = self._schedule.fitted
        if fitted is None:
            return None
        rows = listed.lowest(self._schedule, fitted, _N_SCORED)
        if not len(rows):
            return None
        features = listed.features(self._schedule)[rows]
        best, score, details = self._best(composition, surrogate, hull, features)
        decoration = Decoration(self._history.host, listed.occupations[rows[best]])
        details["ranked"] = int(listed.is_open.sum())
        return Choice(decoration, SCREENED, (), score, details)

    def _of_pool(
        self,
        composition: Composition,
        surrogate: Surrogate,
        hull: Heights,
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
        rows = np.argsort(surrogate.mean(features, index), kind="stable")[:_N_SCORED]
        best, score, details = self._best(composition, surrogate, hull, features[rows])
        row = int(rows[best])
        decoration = Decoration(self._history.host, pool.occupations[row])
        details["ranked"] = len(pool)
        return Choice(decoration, pool.operators[row], pool.parents[row], score, details)

    def _best(
        self, composition: Composition, surrogate: Surrogate, hull: Heights, features: Floats
    ) -> tuple[int, float, dict[str, JsonValue]]:
        """Return the row of highest score among features (n, n_features), its score and details."""
        mean, deviation = surrogate.predict(features, self._schedule.index(composition))
        lowest = self._history.lowest_per_fu(composition)
        score = self._acquisition(mean, deviation, lowest, hull.get(composition))
        best = int(score.argmax())
        details: dict[str, JsonValue] = {
            "predicted_eV_per_fu": float(mean[best]),
            "deviation_eV_per_fu": float(deviation[best]),
        }
        return best, float(score[best]), details

    def _mean(self, surrogate: Surrogate, composition: Composition, occupations: Digits) -> Floats:
        features = self._schedule.features(occupations, composition)
        return surrogate.mean(features, self._schedule.index(composition))

    def _unseen(self, pool: Pool) -> Pool:
        """Return what was not proposed yet, each decoration once."""
        distinct = self._history.host.canonicalizer.first_rows(pool.occupations)
        seen = self._history.seen
        rows = [row for fingerprint, row in distinct.items() if fingerprint not in seen]
        return Pool(
            pool.occupations[rows],
            [pool.operators[row] for row in rows],
            [pool.parents[row] for row in rows],
        )

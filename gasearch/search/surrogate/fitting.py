"""When the surrogate is fitted, and to which of the results that a proposal may use."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import scipy.linalg  # noqa: F401 -- its BLAS must be loaded before the number of threads is set
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from gasearch.crystal.host import Composition
from gasearch.run.sections import ScreeningSection
from gasearch.search.history import SearchHistory
from gasearch.search.surrogate.features import Features
from gasearch.search.surrogate.regression import Results, Surrogate, fit_surrogate

Floats = NDArray[np.float64]

_FIRST_REFITS = 100
_LEAST_RESULTS = 8


def is_refit(number: int) -> bool:
    """Whether the model is fitted anew for candidate `number`: at all of the first, then rarer.

    Between two refits lies about a hundredth of the candidates.
    """
    return number < 2 * _FIRST_REFITS or number % (number // _FIRST_REFITS) == 0


class SurrogateSchedule:
    """Fits the surrogate at fixed candidate numbers, to the results that are known by then.

    The surrogate of candidate k follows from the results at the last refit up to k, and from the
    candidates before k whose results it does not have: these are expected to come out as predicted,
    so that what is relaxed at once is spread.

    Attributes
    ----------
    n_fits
        Models that were made; it changes whenever `mean` does.
    """

    def __init__(self, history: SearchHistory, settings: ScreeningSection) -> None:
        self._history = history
        self._settings = settings
        self._index = {c: n for n, c in enumerate(history.compositions)}
        self._rows: dict[int, Floats] = {}
        self._n_valid = self._n_ended = 0
        self._fitted_to = -1
        self._fitted: Surrogate | None = None
        self._pending: tuple[int, Surrogate] | None = None
        self.n_fits = 0

    def begin(self, number: int) -> None:
        """Go on to candidate `number`; whether or not it is drawn, this is where refits happen."""
        if is_refit(number):
            self._n_valid = len(self._history.valid)
            self._n_ended = len(self._history.ended)

    @functools.cached_property
    def features(self) -> Features:
        """What the model sees of a decoration."""
        return Features(self._history.host, self._history.compositions, self._settings)

    def index(self, composition: Composition) -> int:
        """Return the number by which the model knows a composition."""
        return self._index[composition]

    @property
    def fitted(self) -> Surrogate | None:
        """The model of the results at the last refit; None where it is not worth using."""
        if self._fitted_to != self._n_valid:
            self._fitted_to = self._n_valid
            self._fitted = self._fit() if self._n_valid >= _LEAST_RESULTS else None
            self._pending = None
            self.n_fits += 1
        model = self._fitted
        return model if model is not None and model.validation.is_useful else None

    @property
    def last_fit(self) -> tuple[int, Surrogate] | None:
        """The results and the model of the last refit, whether it is used or not."""
        return None if self._fitted is None else (self._fitted_to, self._fitted)

    @property
    def surrogate(self) -> Surrogate | None:
        """The model, with candidates whose results it lacks taken as they are predicted."""
        fitted = self.fitted
        if fitted is None:
            return None
        n_candidates = len(self._history.candidates)
        if self._pending is None or self._pending[0] != n_candidates:
            with one_thread():
                self._pending = (n_candidates, self._expecting(fitted))
        return self._pending[1]

    def _expecting(self, fitted: Surrogate) -> Surrogate:
        known = set(self._history.ended[: self._n_ended])
        waiting = [number for number in self._history.candidates if number not in known]
        if not waiting:
            return fitted
        return fitted.with_pending(self._features_of(waiting), self._compositions_of(waiting))

    def _fit(self) -> Surrogate:
        valid = self._history.valid[: self._n_valid]
        numbers = [number for number, _ in valid]
        energies = np.array([energy for _, energy in valid])
        shares = [composition.x for composition in self._history.compositions]
        with one_thread():
            results = Results(self._features_of(numbers), self._compositions_of(numbers), energies)
            return fit_surrogate(results, self.features.groups, shares)

    def _compositions_of(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        compositions = [self._history.composition_of(number) for number in numbers]
        return np.array([self._index[c] for c in compositions], dtype=np.int64)

    def _features_of(self, numbers: Sequence[int]) -> Floats:
        """Return (n, n_features) of candidates, computed once for each."""
        new: dict[Composition, list[int]] = {}
        for number in numbers:
            if number not in self._rows:
                new.setdefault(self._history.composition_of(number), []).append(number)
        for composition, several in new.items():
            joined = b"".join(self._history.candidates[n].occupation for n in several)
            digits = np.frombuffer(joined, dtype=np.uint8).reshape(len(several), -1)
            self._rows |= zip(several, self.features(digits, composition), strict=True)
        return np.array([self._rows[number] for number in numbers])


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Return a context in which BLAS uses one thread: sums then are the same everywhere."""
    limited: AbstractContextManager[object] = _controller().limit(limits=1)
    return limited

"""Adaptive rates: operators whose children improved their niches are drawn more often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gasearch.operators.contract import WeightedOperator

_FLOOR = 0.2
"""Share of its weight that an operator keeps whatever it achieved."""
_CREDIT = 0.7
"""Credit for a new minimum is 1, and so many times less for each rank below it."""
_RANKS = 10  # further down there is none
_PRIOR_CREDIT, _PRIOR_TRIALS = 1.0, 5.0
_MEMORY = 0.995
"""What is left of an old credit after each newer trial of the same operator."""


class OperatorRates:
    """Operators with their rates: a function of the results so far, in their order.

    Parameters
    ----------
    adaptive
        Whether rates follow the credit; if not, they are the weights.
    """

    def __init__(self, operators: Sequence[WeightedOperator], *, adaptive: bool) -> None:
        self._operators = tuple(operators)
        self._place = {operator.name: n for n, operator in enumerate(operators)}
        self._weights = np.array([operator.weight for operator in operators])
        self._credit = np.full(len(operators), _PRIOR_CREDIT)
        self._trials = np.full(len(operators), _PRIOR_TRIALS)
        self._adaptive = adaptive
        self._bounds = self._updated()

    def add(self, operator: str, rank: int | None) -> None:
        """Take the result of a child: its rank in its niche, None without a place there."""
        place = self._place.get(operator)
        if place is None or not self._adaptive:
            return
        self._credit[place] *= _MEMORY
        self._trials[place] = self._trials[place] * _MEMORY + 1
        if rank is not None and rank < _RANKS:
            self._credit[place] += _CREDIT**rank
        self._bounds = self._updated()

    def draw(self, rng: np.random.Generator) -> WeightedOperator:
        """Return an operator."""
        place = int(np.searchsorted(self._bounds, rng.random(), side="right"))
        return self._operators[min(place, len(self._operators) - 1)]

    @property
    def rates(self) -> dict[str, float]:
        """Share of each operator, by name."""
        shares = np.diff(self._bounds, prepend=0.0)
        return {
            operator.name: round(float(share), 4)
            for operator, share in zip(self._operators, shares, strict=True)
        }

    def _updated(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        success = self._credit / self._trials
        rates = self._weights * (_FLOOR + (1 - _FLOOR) * success / success.max())
        return np.cumsum(rates / rates.sum())

"""How much a relaxation promises: the expected lowering of a niche's minimum, and of the hull."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gasearch.crystal.host import Composition
from gasearch.search.history import SearchHistory

Floats = NDArray[np.float64]


def expected_improvement(mean: Floats, deviation: Floats, threshold: float) -> Floats:
    """Return (n,) how far below a threshold a normal variable lies on average, 0 where above.

    Jones, Schonlau and Welch, J. Global Optim. 13, 455 (1998), eq. 15. All in one unit.
    """
    safe = np.maximum(deviation, 1e-12)
    below = (threshold - mean) / safe
    density = np.exp(-0.5 * below**2) / np.sqrt(2 * np.pi)
    return np.asarray(safe * (below * ndtr(below) + density))


class Promise:
    """The score of candidates: half the expected lowering of their niche, half that of the hull.

    Both in eV/f.u., so that compositions can be compared. Where energies make no hull, or before
    both ends of the range are known, the niche alone counts.
    """

    def __init__(self, history: SearchHistory, *, hull_aware: bool) -> None:
        self._history = history
        self._hull = history.hull_per_fu() if hull_aware else {}

    def score(self, composition: Composition, mean: Floats, deviation: Floats) -> Floats:
        """Return (n,) scores in eV/f.u.; the higher, the more a relaxation promises."""
        lowest = self._history.lowest_per_fu(composition)
        if lowest is None:
            return np.asarray(deviation + mean.min() - mean)
        niche = expected_improvement(mean, deviation, lowest)
        if composition not in self._hull:
            return niche
        return (niche + expected_improvement(mean, deviation, self._hull[composition])) / 2

    def above_hull(self, composition: Composition) -> float:
        """Return how far the niche's minimum lies above the hull, in eV/f.u.; 0 if not known."""
        lowest = self._history.lowest_per_fu(composition)
        if lowest is None or composition not in self._hull:
            return 0.0
        return lowest - self._hull[composition]

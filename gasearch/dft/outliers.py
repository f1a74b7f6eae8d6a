"""DFT energies that are far from what the potential and the other results of their level say.

Potential and DFT differ by references and by x; what is left over between neighbours is small. A
result that stands out of it by far has other settings, another electronic state, or is broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gasearch.store import dft_jobs
from gasearch.store.population_store import PopulationStore

_LEAST = 3  # results with an energy of the potential, below which nothing stands out
_FAR = 0.25  # eV per formula unit, at least
_TIMES = 6.0  # of the spread of the others


def outlier_notes(store: PopulationStore, level: str) -> list[str]:
    """Return a line for each result of a DFT level that stands out."""
    model = {row.candidate: row.energy for row in store.evaluations()}
    rows = [row for row in dft_jobs.dft_rows(store, level) if row.candidate in model]
    per_fu = [(row.energy - model[row.candidate]) / store.run.n_formula_units for row in rows]
    away = deviations([row.x for row in rows], per_fu)
    return [
        f"note: the energy of candidate {row.candidate} (x = {row.x:.4g}) at level {level} is "
        f"{1000 * by:+.0f} meV/f.u. away from what the potential and the other {len(rows) - 1} "
        "results say: compare its inputs and outputs with theirs"
        for row, by, is_far in zip(rows, away, are_far(away), strict=True)
        if is_far
    ]


def deviations(x: Sequence[float], difference: Sequence[float]) -> NDArray[np.float64]:
    """Return how far each difference between two methods (n,) is from a line in x.

    The line takes no notice of a few outliers: its slope is the median of those between all pairs.
    """
    places, values = np.asarray(x, dtype=np.float64), np.asarray(difference, dtype=np.float64)
    slopes = [
        (values[j] - values[i]) / (places[j] - places[i])
        for i, j in combinations(range(len(places)), 2)
        if not np.isclose(places[i], places[j])
    ]
    rest = values - (float(np.median(slopes)) if slopes else 0.0) * places
    return np.asarray(rest - np.median(rest)) if len(rest) else rest


def are_far(away: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which deviations (n,), in eV per formula unit, are beyond the spread of the others."""
    if len(away) < _LEAST:
        return np.zeros(len(away), dtype=bool)
    spread = 1.4826 * float(np.median(np.abs(away)))
    return np.asarray(np.abs(away) > max(_FAR, _TIMES * spread))

"""Which candidates get the second, tighter relaxation that the hull uses."""

from __future__ import annotations

from gasearch.analysis.hull import NoEndMemberError, formation_hull
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import CompositionRow, EvaluationRow

_FIRST = 16  # candidates of a composition that are read at first
_ROUNDING = 1e-9  # eV


def near_hull(
    store: PopulationStore, x_range: tuple[float, float], window_per_fu: float
) -> list[int]:
    """Return candidates within a window above the hull, in eV/f.u., never relaxed tightly.

    None of them lies higher above the lowest of its composition than above the hull, so only these
    are read, of however many there are.
    """
    n_formula_units = store.run.n_formula_units
    window = window_per_fu * n_formula_units + _ROUNDING
    niches = [niche for niche in store.by_composition() if niche.best is not None]
    rows = [row for niche in niches for row in _lowest(store, niche, window)]
    energies = [row.energy for row in rows]
    try:
        hull = formation_hull([row.x for row in rows], energies, n_formula_units, x_range)
    except NoEndMemberError:
        return []
    tried = set(store.asked_for("tight"))
    near = [
        row.candidate
        for row, above in zip(rows, hull.above_hull_per_fu, strict=True)
        if above <= window_per_fu and row.candidate not in tried
    ]
    return sorted(near)


def _lowest(store: PopulationStore, niche: CompositionRow, window: float) -> list[EvaluationRow]:
    """Return the lowest candidate of a composition, and those within a window above it, in eV."""
    limit = _FIRST
    while True:
        rows = store.evaluations("ok", composition=niche.composition, limit=limit)
        highest = niche.best_energy + window
        if len(rows) < limit or rows[-1].energy > highest:
            return [row for n, row in enumerate(rows) if n == 0 or row.energy <= highest]
        limit *= 4

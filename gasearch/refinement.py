"""Which candidates deserve the second, tighter relaxation that the hull uses."""

from __future__ import annotations

from gasearch.hull import NoEndMemberError, formation_hull
from gasearch.store.population_store import PopulationStore


def near_hull(
    store: PopulationStore, x_range: tuple[float, float], window_per_fu: float
) -> list[int]:
    """Return candidates within a window above the hull, in eV/f.u., never relaxed tightly."""
    rows = store.evaluations(verdict="ok")
    try:
        hull = formation_hull(
            [row.x for row in rows],
            [row.energy for row in rows],
            store.run.n_formula_units,
            x_range,
        )
    except NoEndMemberError:
        return []
    tried = set(store.asked_for("tight"))
    near = [
        row.candidate
        for row, above in zip(rows, hull.above_hull_per_fu, strict=True)
        if above <= window_per_fu and row.candidate not in tried
    ]
    return sorted(near)

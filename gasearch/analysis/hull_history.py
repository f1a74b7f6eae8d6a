"""How the hull came down while the search went on, from the recorded results alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gasearch.analysis.hull import lower_hull
from gasearch.analysis.joint_hull import JointHull
from gasearch.errors import UsageError
from gasearch.store.population_store import PopulationStore
from gasearch.store.sql.events import RECORDED

EVERY = 100
OWN_PURPOSES = ("search", "tight")
"""Of relaxations at the level of the search."""


@dataclass(frozen=True)
class HullSnapshot:
    """The hull at one moment of a search.

    Parameters
    ----------
    n_candidates
        Candidates whose first relaxation had ended, well or not.
    vertices
        (x, energy) in ascending x; in eV per formula unit, not a formation energy.
    """

    n_candidates: int
    vertices: tuple[tuple[float, float], ...]

    def formation(self, now: JointHull) -> list[tuple[float, float]]:
        """Return (x, formation energy in eV/f.u.) against the ends as they are now; [] without."""
        if now.missing_ends():
            return []
        return [(x, now.formation_energy(x, energy)) for x, energy in self.vertices]


def hull_history(store: PopulationStore, every: int = EVERY) -> list[HullSnapshot]:
    """Return the hull after each `every` candidates, and as it is now.

    In the order in which results were committed. A tighter relaxation counts from when it ended:
    the lowest valid energy of a candidate is the one that counts, so no hull ever rises.
    """
    if every < 1:
        raise UsageError(f"--every {every}: expected a whole number above 0.")
    x_of = {row.candidate: row.x for row in store.evaluations(verdict=None)}
    n_units = store.run.n_formula_units
    lowest: dict[float, float] = {}  # energy in eV/f.u. by x
    vertices: tuple[tuple[float, float], ...] = ()
    history: list[HullSnapshot] = []
    n_candidates = 0
    for event in store.events(kind=RECORDED):
        number, purpose, energy = event.candidate, event.data["purpose"], event.data["energy"]
        if purpose not in OWN_PURPOSES or number is None:
            continue
        if purpose == "search":
            if n_candidates and n_candidates % every == 0:
                history.append(HullSnapshot(n_candidates, vertices))
            n_candidates += 1
        if event.data["verdict"] == "ok" and isinstance(energy, float):
            x, per_fu = x_of[number], energy / n_units
            if per_fu < lowest.get(x, np.inf):
                lowest[x] = per_fu
                vertices = _vertices(lowest)
    return [*history, HullSnapshot(n_candidates, vertices)] if n_candidates else []


def _vertices(lowest: dict[float, float]) -> tuple[tuple[float, float], ...]:
    x, energy = lower_hull(np.array(list(lowest)), np.array(list(lowest.values())))
    return tuple(zip(x.tolist(), energy.tolist(), strict=True))

"""How the hull came down while the search went on, from the record alone."""

from __future__ import annotations

from dataclasses import dataclass

from gasearch.analysis.hull import LowerHull
from gasearch.errors import UsageError
from gasearch.store.population_store import PopulationStore
from gasearch.store.sql.events import RECORDED

EVERY = 100
_OWN = ("search", "tight")


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


def hull_history(store: PopulationStore, every: int = EVERY) -> list[HullSnapshot]:
    """Return the hull after each `every` candidates, and as it is now.

    In the order in which results were committed. A tighter relaxation counts from when it ended:
    the lowest valid energy of a candidate is the one that counts, so no hull ever rises.
    """
    if every < 1:
        raise UsageError(f"--every {every}: expected a whole number above 0.")
    x = {row.candidate: row.x for row in store.evaluations(verdict=None)}
    n_units = store.run.n_formula_units
    hull, n_candidates = LowerHull(), 0
    history: list[HullSnapshot] = []
    for event in store.events(kind=RECORDED):
        number, purpose, energy = event.candidate, event.data["purpose"], event.data["energy"]
        if purpose not in _OWN or number is None:
            continue
        if purpose == "search":
            if n_candidates and n_candidates % every == 0:
                history.append(HullSnapshot(n_candidates, tuple(hull)))
            n_candidates += 1
        if event.data["verdict"] == "ok" and isinstance(energy, float):
            hull.add(x[number], energy / n_units)
    if n_candidates:
        history.append(HullSnapshot(n_candidates, tuple(hull)))
    return history

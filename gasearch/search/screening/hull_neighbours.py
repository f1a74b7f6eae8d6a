"""Refinement of the hull: each neighbour of a hull member is relaxed, or left out with a margin.

Neighbours are one exchange of two sites away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.analysis.hull import ON_HULL
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition
from gasearch.run.sections import ScreeningSection
from gasearch.search.history import SearchHistory
from gasearch.search.population import Member
from gasearch.search.screening.exchanges import exchanges
from gasearch.search.screening.pool import Choice
from gasearch.search.surrogate.fitting import SurrogateSchedule, one_thread
from gasearch.store.records import JsonValue

NEIGHBOUR = "neighbour"
"""The operator of candidates that are one exchange away from a hull member."""


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The neighbours of one member that were not proposed yet.

    Parameters
    ----------
    n_neighbours
        Distinct decorations one exchange away, evaluated or not.
    occupations
        (n, n_sites) of those that were not proposed yet.
    margin, deviation
        (n,) how far the model puts each above the member, and how sure it is, in eV/f.u.; infinite
        deviation without a model.
    """

    member: Member
    composition: Composition
    n_neighbours: int
    occupations: NDArray[np.uint8]
    margin: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def is_open(self, sigmas: float) -> NDArray[np.bool_]:
        """(n,) whether a neighbour may well lie below the member."""
        return np.asarray(~(self.margin > sigmas * self.deviation))


class HullRefinement:
    """Proposes the neighbours of what the search found to be lowest.

    Members are the decorations on the hull; the minimum of every niche where energies make no hull.
    """

    def __init__(
        self,
        history: SearchHistory,
        schedule: SurrogateSchedule,
        settings: ScreeningSection,
        *,
        hull_aware: bool,
    ) -> None:
        self._history = history
        self._schedule = schedule
        self._settings = settings
        self._hull_aware = hull_aware

    def draw(self) -> Choice | None:
        """Return the open neighbour that is likeliest to lie lower; None: none is open."""
        choices = [self._likeliest(around) for around in self._neighbourhoods()]
        return max((c for c in choices if c), key=lambda choice: choice.score, default=None)

    def _likeliest(self, around: Neighbourhood) -> Choice | None:
        rows = np.flatnonzero(around.is_open(self._settings.refine_sigmas))
        if not len(rows):
            return None
        sigmas = around.margin[rows] / around.deviation[rows]
        row = int(rows[int(np.argmin(sigmas))])
        decoration = Decoration(self._history.host, around.occupations[row])
        score = -float(sigmas.min())
        return Choice(decoration, NEIGHBOUR, (around.member,), score, _details(around, row))

    def report(self) -> list[dict[str, JsonValue]]:
        """Return what became of the neighbours of each member, as the event "refined" has it."""
        return [self._summary(around) for around in self._neighbourhoods()]

    def _summary(self, around: Neighbourhood) -> dict[str, JsonValue]:
        is_open = around.is_open(self._settings.refine_sigmas)
        left_out = np.flatnonzero(~is_open)
        nearest = left_out[np.argmin(around.margin[left_out])] if len(left_out) else None
        margin = None if nearest is None else float(around.margin[nearest])
        sigmas = None if nearest is None else float((around.margin / around.deviation)[nearest])
        return {
            "candidate": around.member.number,
            "x": around.composition.x,
            "neighbours": around.n_neighbours,
            "evaluated": around.n_neighbours - len(around.occupations),
            "screened_out": len(left_out),
            "open": int(is_open.sum()),
            "nearest_margin_eV_per_fu": margin,
            "nearest_margin_sigmas": sigmas,
        }

    def _neighbourhoods(self) -> Iterator[Neighbourhood]:
        """Yield those of all members, by x."""
        for composition, member in self._members():
            around = exchanges(self._history.host, member.decoration.occupation)
            texts = self._history.host.canonicalizer.first_rows(around)
            texts.pop(member.decoration.fingerprint, None)
            unseen = [row for text, row in texts.items() if text not in self._history.seen]
            margin, deviation = self._predicted(composition, member, around[unseen])
            yield Neighbourhood(member, composition, len(texts), around[unseen], margin, deviation)

    def _members(self) -> Iterator[tuple[Composition, Member]]:
        history = self._history
        hull = history.hull_per_fu() if self._hull_aware else {}
        for composition in history.compositions:
            member = history.population.minimum(composition)
            energy = history.lowest_per_fu(composition)
            if member is None or energy is None:
                continue
            if composition not in hull or energy - hull[composition] <= ON_HULL:
                yield composition, member

    def _predicted(
        self, composition: Composition, member: Member, occupations: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        surrogate = self._schedule.fitted
        if surrogate is None or not len(occupations):
            return np.zeros(len(occupations)), np.full(len(occupations), np.inf)
        with one_thread():
            features = self._schedule.features(occupations, composition)
            mean, deviation = surrogate.predict(features, self._schedule.index(composition))
        energy = member.energy / self._history.host.n_formula_units
        error = surrogate.validation.error_per_fu
        return mean - energy, np.sqrt(deviation**2 + error**2)


def _details(around: Neighbourhood, row: int) -> dict[str, JsonValue]:
    energy_per_fu = around.member.energy / around.member.decoration.host.n_formula_units
    if not np.isfinite(around.deviation[row]):
        return {}
    return {
        "predicted_eV_per_fu": float(energy_per_fu + around.margin[row]),
        "deviation_eV_per_fu": float(around.deviation[row]),
    }

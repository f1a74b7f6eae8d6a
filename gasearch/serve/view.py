"""A search at one moment: its energies, its hull and how that came down; computed, never stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gasearch.analysis.hull import ON_HULL, lower_hull
from gasearch.crystal.host import Composition, Host
from gasearch.relax.audit import VERDICTS
from gasearch.serve.rows import Table

OK = VERDICTS.index("ok")
_SAME_X = 1e-9


@dataclass(frozen=True, eq=False)
class View:
    """A search as it was when it was looked at; all arrays are (n,), of its valid candidates."""

    table: Table
    host: Host

    @cached_property
    def compositions(self) -> tuple[Composition, ...]:
        """The compositions of candidates, in the order of their places in the table."""
        known = {one.formula: one for one in self.host.compositions}
        nothing = Composition(0, float("nan"), "")  # a damaged row: it is in no figure
        return tuple(known.get(formula, nothing) for formula in self.table.compositions)

    @cached_property
    def _valid(self) -> NDArray[np.bool_]:
        x = np.array([one.x for one in self.compositions])
        is_ok = self.table.verdict == OK
        is_known = np.isfinite(x[self.table.composition]) if len(x) else is_ok
        return np.asarray(is_ok & is_known & np.isfinite(self.table.energy))

    @cached_property
    def number(self) -> NDArray[np.int64]:
        """The candidates."""
        return self.table.number[self._valid]

    @cached_property
    def composition(self) -> NDArray[np.int64]:
        """Their compositions, as places in `compositions`."""
        return self.table.composition[self._valid]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Their numbers among the results of the search."""
        return self.table.order[self._valid]

    @cached_property
    def x(self) -> NDArray[np.float64]:
        """Their filled shares of the working-ion sites."""
        return np.array([one.x for one in self.compositions])[self.composition]

    @cached_property
    def energy(self) -> NDArray[np.float64]:
        """Their energies in eV per formula unit."""
        return self.table.energy[self._valid] / self.host.n_formula_units

    @cached_property
    def lowest(self) -> NDArray[np.float64]:
        """(n_compositions,) lowest energy of each composition in eV per formula unit, or inf."""
        return self._lowest(np.full(len(self.energy), fill_value=True))

    def _lowest(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        found = np.full(len(self.compositions), np.inf)
        np.minimum.at(found, self.composition[chosen], self.energy[chosen])
        return found

    @cached_property
    def has_hull(self) -> bool:
        """Whether both ends of the range have a valid energy."""
        return all((np.abs(self.x - end) < _SAME_X).any() for end in self.host.x_range)

    def formation(self, x: NDArray[np.float64], energy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return energies against the line between the lowest of both ends, in eV/f.u."""
        low, high = self.host.x_range
        first, last = (self.energy[np.abs(self.x - end) < _SAME_X].min() for end in (low, high))
        slope = (last - first) / (high - low) if high > low else 0.0
        return np.asarray(energy - first - slope * (x - low))

    @cached_property
    def vertices(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(m,) x and energies in eV/f.u. of the hull; not formation energies."""
        return self._hull(self.lowest)

    def _hull(self, lowest: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = np.array([one.x for one in self.compositions])
        has_one = np.isfinite(lowest)
        return lower_hull(x[has_one], lowest[has_one])

    @cached_property
    def above_hull(self) -> NDArray[np.float64]:
        """Heights above the hull in eV/f.u.; above the lowest at the same x where there is none."""
        if not self.has_hull:
            return self.energy - self.lowest[self.composition]
        above = self.energy - np.interp(self.x, *self.vertices)
        return np.where(np.abs(above) <= ON_HULL, 0.0, above)

    @cached_property
    def ground_states(self) -> NDArray[np.int64]:
        """(m,) the first candidates on the hull, by x, as places in the other arrays."""
        if not self.has_hull:
            return np.zeros(0, dtype=np.int64)
        on_hull = np.flatnonzero(self.above_hull <= ON_HULL)
        ranking = on_hull[np.lexsort((self.number[on_hull], self.x[on_hull]))]
        _, first = np.unique(np.round(self.x[ranking], 9), return_index=True)
        return np.asarray(ranking[first])

    def hull_after(self, n_results: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return the hull of the first results of the search; None while an end was missing.

        Each counts with the energy that it has now, which a tighter relaxation may have lowered.
        """
        lowest = self._lowest(self.order <= n_results)
        x, energy = self._hull(lowest)
        ends = self.host.x_range
        if not len(x) or abs(x[0] - ends[0]) > _SAME_X or abs(x[-1] - ends[1]) > _SAME_X:
            return None
        return x, energy

    def steps(self, composition: int) -> NDArray[np.int64]:
        """Return the candidates that were the lowest of a composition when their results came.

        (k,) places in the other arrays, in the order of results.
        """
        own = np.flatnonzero((self.composition == composition) & (self.order > 0))
        own = own[np.argsort(self.order[own])]
        energies = self.energy[own]
        before = np.concatenate([[np.inf], np.minimum.accumulate(energies)[:-1]])
        return np.asarray(own[energies < before])

    @property
    def n_results(self) -> int:
        """Results of the search, well or not."""
        return int(self.table.order.max(initial=0))

    def counts(self) -> dict[str, int]:
        """Return candidates by the verdict of their search relaxation, in the order of verdicts."""
        found = np.bincount(self.table.search_verdict + 1, minlength=len(VERDICTS) + 1)[1:]
        return {name: int(n) for name, n in zip(VERDICTS, found, strict=True) if n}

    def finished_since(self, after_s: float) -> int:
        """Return how many candidates had their result after a time, in seconds since 1970."""
        return int((self.table.finished > after_s).sum())


def shown_x(compositions: Sequence[Composition]) -> list[float]:
    """Return the shares that a reader may choose from."""
    return sorted({round(one.x, 9) for one in compositions})

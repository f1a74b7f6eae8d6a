"""Enumerated compositions: small enough that all their decorations are ranked, or all relaxed."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.host import Composition, Host
from gasearch.search.history import SearchHistory
from gasearch.search.surrogate.coulomb import coulomb_energy
from gasearch.search.surrogate.fitting import SurrogateSchedule
from gasearch.search.surrogate.regression import Surrogate

Floats = NDArray[np.float64]
Digits = NDArray[np.uint8]

_MOST_RAW = 1_000_000  # about a second
_MOST_DISTINCT = 40_000
_MOST_IN_ALL = 200_000
"""Decorations of all enumerated compositions together: their features take some 150 MB."""


class EnumeratedComposition:
    """All distinct decorations of one composition, and which of them were not proposed yet.

    Attributes
    ----------
    occupations
        (n, n_sites), canonical.
    is_open
        (n,).
    """

    def __init__(self, host: Host, composition: Composition, seen: set[str]) -> None:
        self.composition = composition
        chunks = [chunk for chunk, _ in host.enumerate_distinct(composition)]
        self.occupations: Digits = np.concatenate(chunks)
        self._row_of = host.canonicalizer.first_rows(self.occupations)
        self.is_open = np.array([fingerprint not in seen for fingerprint in self._row_of])
        self._features: Floats | None = None
        self._mean: tuple[int, Floats] | None = None
        self._host = host

    def close(self, fingerprint: str) -> None:
        """Note that a decoration was proposed."""
        self.is_open[self._row_of[fingerprint]] = False

    @functools.cached_property
    def coulomb(self) -> Floats:
        """(n,) Coulomb energies on the undistorted host, in eV/f.u."""
        return coulomb_energy(self._host)(self.occupations)

    def features(self, schedule: SurrogateSchedule) -> Floats:
        """Return (n, n_features), computed once."""
        if self._features is None:
            self._features = schedule.features(self.occupations, self.composition)
        return self._features

    def lowest(
        self, schedule: SurrogateSchedule, fitted: Surrogate, number: int
    ) -> NDArray[np.int64]:
        """Return (number,) rows of open decorations, those of lowest predicted energy."""
        if self._mean is None or self._mean[0] != schedule.n_fits:
            index = schedule.index(self.composition)
            self._mean = (schedule.n_fits, fitted.mean(self.features(schedule), index))
        mean = np.where(self.is_open, self._mean[1], np.inf)
        n = min(number, int(self.is_open.sum()))
        rows = np.argpartition(mean, n - 1)[:n] if n < len(mean) else np.arange(len(mean))
        return np.asarray(np.sort(rows[np.isfinite(mean[rows])]))


class EnumeratedCompositions:
    """The compositions that are small enough; each is enumerated when it is first needed."""

    def __init__(self, history: SearchHistory) -> None:
        self._history = history
        self._made: dict[Composition, EnumeratedComposition] = {}
        self._small = _small(history.host, history.compositions)

    def __contains__(self, composition: Composition) -> bool:
        return composition in self._small

    def __getitem__(self, composition: Composition) -> EnumeratedComposition:
        if composition not in self._made:
            host, seen = self._history.host, self._history.seen
            self._made[composition] = EnumeratedComposition(host, composition, seen)
        return self._made[composition]

    def close(self, composition: Composition, fingerprint: str) -> None:
        """Note that a decoration was proposed."""
        if composition in self._made:
            self._made[composition].close(fingerprint)


def _small(host: Host, compositions: Sequence[Composition]) -> frozenset[Composition]:
    """Return those that can be enumerated: the smallest ones, as far as memory goes."""
    few = [c for c in compositions if host.are_counted and host.n_raw(c) <= _MOST_RAW]
    sizes = sorted((host.n_distinct(c), c) for c in few)
    chosen, total = set(), 0
    for n_distinct, composition in sizes:
        total += n_distinct
        if n_distinct > _MOST_DISTINCT or total > _MOST_IN_ALL:
            break
        chosen.add(composition)
    return frozenset(chosen)


def covered(
    history: SearchHistory, among: Sequence[Composition], remaining: int
) -> dict[Composition, int]:
    """Return the compositions that can be relaxed completely, with how many are left of each.

    Each composition has an equal share of what remains; what a small one does not need goes to the
    larger ones, in ascending order of size.

    Parameters
    ----------
    remaining
        Candidates that may still be proposed.
    """
    counted = [(history.open_up_to(c, remaining), c) for c in among]
    few = sorted((n_open, c) for n_open, c in counted if n_open is not None)
    found: dict[Composition, int] = {}
    left, waiting = remaining, len(among)
    for n_open, composition in few:
        if n_open * waiting > left:
            break
        found[composition] = n_open
        left -= n_open
        waiting -= 1
    return found


def is_their_turn(n_open: int, remaining: int, rng: np.random.Generator) -> bool:
    """Return whether the next candidate belongs to the covered compositions.

    Drawn with probability `n_open / remaining`, it is certain once they need all that remains.
    """
    return bool(n_open > rng.random() * remaining)

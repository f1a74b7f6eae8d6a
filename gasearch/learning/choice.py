"""Which candidates of a round are worth a DFT job: by named shares of its jobs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.analysis.hull import ON_HULL
from gasearch.crystal.decoration import Decoration
from gasearch.learning.expected.predictions import Expectations, Expected, Key
from gasearch.learning.settings import SHARES, ChoiceSection
from gasearch.run.sections import ScreeningSection
from gasearch.search.surrogate.features import Features


@dataclass(frozen=True)
class Chosen:
    """A candidate with the rule that sends it to DFT.

    Parameters
    ----------
    rule
        "lowest", "uncertain" or "different".
    reason
        What the rule saw, in one line.
    """

    row: Expected
    rule: str
    reason: str


def choose(
    expected: Expectations, settings: ChoiceSection, jobs: int, known: Collection[Key]
) -> list[Chosen]:
    """Return what is worth DFT, in the order of the rules; fewer than `jobs` where no more is left.

    Shares that a rule cannot fill go to the lowest.

    Parameters
    ----------
    jobs
        How many at the most.
    known
        Decorations that have a DFT result, of any round: they are taken again only where they are
        on the expected hull in a geometry that DFT has not seen.
    """
    return _Choice(expected, settings, known).made(jobs)


class _Choice:
    """The rules at work."""

    def __init__(
        self, expected: Expectations, settings: ChoiceSection, known: Collection[Key]
    ) -> None:
        self._expected = expected
        self._settings = settings
        self._known = set(known)
        self._ends = _ends(expected)
        self._open = [row for row in expected.candidates if self._is_open(row)]
        self._taken: dict[Key, Chosen] = {}

    def _is_open(self, row: Expected) -> bool:
        if row.has_job:
            return False
        is_member = row.above_hull_per_fu <= ON_HULL
        return row.key not in self._known or is_member

    def made(self, jobs: int) -> list[Chosen]:
        """Return the choice."""
        numbers = _numbers(self._settings, jobs)
        for rule, candidates in (
            ("lowest", self._lowest()),
            ("uncertain", self._uncertain()),
            ("different", self._different()),
        ):
            self._take(rule, candidates, numbers[rule])
        self._take("lowest", self._lowest(), jobs - len(self._taken))
        return list(self._taken.values())

    def _take(self, rule: str, candidates: Iterable[tuple[Expected, str]], number: int) -> None:
        fresh = ((row, why) for row, why in candidates if row.key not in self._taken)
        for row, why in itertools.islice(fresh, max(0, number)):
            self._taken[row.key] = Chosen(row, rule, why)

    def _lowest(self) -> Iterator[tuple[Expected, str]]:
        """Yield the ends, then the lowest of each composition, then the second of each ..."""
        place = Counter[float]()
        ranked = []
        for row in self._expected.candidates:  # by x and energy
            place[row.x] += 1
            if self._is_open(row):
                ranked.append((place[row.x], row))
        for number, row in sorted(ranked, key=self._by_place):
            height = (
                ""
                if math.isnan(row.above_hull_per_fu)
                else (f", {1000 * row.above_hull_per_fu:.1f} meV/f.u. above the hull")
            )
            yield row, f"no. {number} from below at x = {row.x:.4g}{height}"

    def _by_place(self, ranked: tuple[int, Expected]) -> tuple[float, ...]:
        number, row = ranked
        height = row.above_hull_per_fu
        is_inside = row.x not in self._ends
        return (number, is_inside, math.inf if math.isnan(height) else height, row.x, row.id)

    def _uncertain(self) -> Iterator[tuple[Expected, str]]:
        """Yield those near the hull by their uncertainty, where there is one.

        That of the largest force where the model has a committee, for it follows the true errors
        better (`benchmarks/results/uncertainty.md`); else that of the corrected energy.
        """
        window = self._settings.window_per_fu
        near = [row for row in self._open if row.above_hull_per_fu <= window]
        by_force = any(row.force_sigma > 0 for row in near)

        def sigma(row: Expected) -> float:
            return row.force_sigma if by_force else row.sigma_per_fu

        known = [row for row in near if sigma(row) > 0]
        for row in sorted(known, key=lambda row: (-sigma(row), row.x, row.id)):
            what = f"{sigma(row):.2f} eV/Å" if by_force else f"{1000 * sigma(row):.1f} meV/f.u."
            yield row, f"+- {what}, {1000 * row.above_hull_per_fu:.1f} meV/f.u. above the hull"

    def _different(self) -> Iterator[tuple[Expected, str]]:
        """Yield again and again the one most unlike all that are known or were taken."""
        far = _Distances(self._expected, self._open)
        for row in self._expected.candidates:
            if row.has_job or row.key in self._known or row.key in self._taken:
                far.note(row)
        left = [row for row in self._open if row.key not in self._taken]
        while left:
            row = max(left, key=lambda row: (far.of(row), -_height(row), -row.id))
            distance = far.of(row)
            left.remove(row)
            far.note(row)
            if math.isinf(distance):
                yield row, f"the first at x = {row.x:.4g}"
            else:
                yield row, f"{distance:.2f} from the nearest with DFT at x = {row.x:.4g}"


class _Distances:
    """How unlike candidates are those that are known, at one composition of one run."""

    def __init__(self, expected: Expectations, rows: Iterable[Expected]) -> None:
        self._hosts = expected.hosts
        self._features: dict[str, Features] = {}
        self._points: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._nearest: dict[tuple[str, int], float] = {}
        self._alike: dict[tuple[str, str], list[Expected]] = {}
        for row in rows:
            self._alike.setdefault((row.run, row.formula), []).append(row)
            self._nearest[row.run, row.id] = math.inf

    def of(self, row: Expected) -> float:
        """Return the distance to the nearest known one, in standard deviations of a feature."""
        return self._nearest[row.run, row.id]

    def note(self, known: Expected) -> None:
        """Let a candidate be known."""
        here = self._point(known)
        for row in self._alike.get((known.run, known.formula), ()):
            distance = float(np.sqrt(np.mean((self._point(row) - here) ** 2)))
            own = (row.run, row.id)
            self._nearest[own] = min(self._nearest[own], distance)

    def _point(self, row: Expected) -> NDArray[np.float64]:
        own = (row.run, row.id)
        if own not in self._points:
            host = self._hosts[row.run]
            decoration = Decoration.from_fingerprint(host, row.fingerprint)
            features = self._features_of(row.run)
            (self._points[own],) = features(decoration.occupation[None], decoration.composition)
        return self._points[own]

    def _features_of(self, run: str) -> Features:
        if run not in self._features:
            host = self._hosts[run]
            clusters = ScreeningSection(features=("points", "pairs", "triplets"))
            self._features[run] = Features(host, host.compositions, clusters)
        return self._features[run]


def _numbers(settings: ChoiceSection, jobs: int) -> Mapping[str, int]:
    """Return how many jobs each rule has: whole numbers by its share, what is left the lowest."""
    found = {name: int(getattr(settings, name) * jobs) for name in SHARES}
    found["lowest"] += jobs - sum(found.values())
    return found


def _ends(expected: Expectations) -> tuple[float, float]:
    shares = [row.x for row in expected.candidates]
    return (min(shares), max(shares)) if shares else (0.0, 1.0)


def _height(row: Expected) -> float:
    return math.inf if math.isnan(row.above_hull_per_fu) else row.above_hull_per_fu

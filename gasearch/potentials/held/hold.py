"""What a hold asks of each species, and the penalty where a site does not fulfil it. No torch here.

Written down as JSON it is part of the level of theory.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gasearch.crystal.species import Species
from gasearch.errors import UsageError

By = Literal["moments", "bonds"]
STIFFNESS: Mapping[By, float] = {"moments": 10.0, "bonds": 3.0}
"""eV per squared Bohr magneton, and eV per squared valence unit.

The softest that keep all orders of NaxFePO4: a third loses 1 of 10 (moments) and 3 of 10 (bonds),
ten times as much keeps all (`benchmarks/results/held.md`).
"""
UNITS: Mapping[By, str] = {"moments": "Bohr magnetons", "bonds": "valence units"}
HINGE = 0.25
"""How far beyond the middle between two states a hold begins, as a share of their difference.

0.2 to 0.4 keep all orders of NaxFePO4; 0.1 loses 1 of 10 by moments and 3 by bonds.
"""
LEAST_GAP: Mapping[By, float] = {"moments": 0.2, "bonds": 0.25}
"""Smallest difference between two states that can be held; below it a site says nothing."""


class NothingToHoldError(UsageError):
    """States of an element that look alike: there is nothing to hold them by."""

    def __init__(self, by: By, first: str, second: str, values: tuple[float, float]) -> None:
        super().__init__(by, first, second, values)
        self.by = by
        self.first = first
        self.second = second
        self.values = values

    def __str__(self) -> str:
        one, other = self.values
        what = "moment" if self.by == "moments" else "bond valence sum"
        return (
            f"{self.first} and {self.second} look alike to this potential ({what} {one:.2f} and "
            f"{other:.2f} {UNITS[self.by]}, at least {LEAST_GAP[self.by]:g} apart needed): they "
            f"cannot be held by {self.by}."
        )


@dataclass(frozen=True)
class Hold:
    """Between which values each species is left alone, and how stiff the walls are.

    Parameters
    ----------
    by
        The quantity of a site: its moment, in Bohr magnetons, or its bond valence sum.
    ranges
        Lowest and highest value of each species that is held; infinite where one side is open.
    stiffness
        In eV per squared unit of the quantity; the penalty of a site is half of it times the
        squared distance from its range.
    bond_lengths
        By "Fe-O" and the like, the length in Å of a bond of valence 1; for `by = "bonds"`.
    """

    by: By
    ranges: Mapping[Species, tuple[float, float]]
    stiffness: float
    bond_lengths: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.stiffness < math.inf:
            raise UsageError(f"stiffness = {self.stiffness!r}: expected a number above 0, in eV.")

    @property
    def species(self) -> tuple[Species, ...]:
        """The species that are held, sorted."""
        return tuple(sorted(self.ranges))

    @property
    def digest(self) -> str:
        """What identifies the hold: the sha256 of its JSON, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON writes it; null for an open side."""
        return {
            "by": self.by,
            "stiffness": self.stiffness,
            "ranges": {
                str(species): [_closed(low), _closed(high)]
                for species, (low, high) in sorted(self.ranges.items())
            },
            "bond_lengths": dict(sorted(self.bond_lengths.items())),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Hold:
        """Return the hold that `to_json` wrote."""
        ranges = {
            Species.parse(text): (
                -math.inf if low is None else float(low),
                math.inf if high is None else float(high),
            )
            for text, (low, high) in document["ranges"].items()
        }
        return cls(
            document["by"], ranges, float(document["stiffness"]), dict(document["bond_lengths"])
        )

    def in_words(self) -> str:
        """Return the ranges in one line, such as "Fe2+ below 4.03, Fe3+ above 4.28"."""
        told = []
        for species, (low, high) in sorted(self.ranges.items()):
            sides = [f"above {low:.2f}"] * (low > -math.inf) + [f"below {high:.2f}"] * (
                high < math.inf
            )
            told.append(f"{species} {' and '.join(sides)}")
        return f"{', '.join(told)} {UNITS[self.by]}"


def held_ranges(
    by: By, values: Mapping[Species, float], hinge: float = HINGE
) -> dict[Species, tuple[float, float]]:
    """Return the range of each species from what its sites look like where nothing holds them.

    Between neighbouring oxidation states of an element, in the order of their values, each wall
    stands beyond the middle by `hinge` times their difference, on the side of its own state: a site
    at its natural value is left alone, one at the middle is pushed back.

    Parameters
    ----------
    values
        Moment or valence sum of each species.

    Raises
    ------
    NothingToHoldError
        Where two states are closer than `LEAST_GAP`, or valence sums fall where charges rise.
    """
    if not 0 < hinge < 0.5:
        raise UsageError(f"hinge = {hinge!r}: expected a number between 0 and 0.5.")
    ranges: dict[Species, tuple[float, float]] = {}
    for element in sorted({species.element for species in values}):
        states = sorted(species for species in values if species.element == element)
        if len(states) > 1:
            ranges |= _ranges_of(by, states, values, hinge)
    return ranges


def _ranges_of(
    by: By, states: list[Species], values: Mapping[Species, float], hinge: float
) -> dict[Species, tuple[float, float]]:
    """Return the ranges of the states of one element, in ascending charge."""
    rising = values[states[-1]] > values[states[0]]
    ranges = {state: [-math.inf, math.inf] for state in states}
    for lower, higher in itertools.pairwise(states):
        gap = values[higher] - values[lower]
        is_order_kept = (gap > 0) == rising and (rising or by == "moments")
        if abs(gap) < LEAST_GAP[by] or not is_order_kept:
            pair = (values[lower], values[higher])
            raise NothingToHoldError(by, str(lower), str(higher), pair)
        middle = (values[lower] + values[higher]) / 2
        side = 1 if rising else 0
        ranges[lower][side] = middle - hinge * gap
        ranges[higher][1 - side] = middle + hinge * gap
    return {state: (low, high) for state, (low, high) in ranges.items()}


def _closed(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""What DFT says of a round's predictions, and when they are good enough."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gasearch.learning.settings import DoneSection

_SAME_EV_PER_FU = 1e-3
"""Orders that are nearer than this in DFT count as equal: within the noise of two calculations."""
_SAME_X = 1e-6


@dataclass(frozen=True)
class Compared:
    """A candidate of a round with what was expected of it and what DFT says.

    Parameters
    ----------
    expected_per_fu, dft_per_fu
        In eV per formula unit.
    force_error
        Mean absolute difference of the components of forces, in eV/Å; None where it is not known.
    sigma_per_fu
        Of what was expected, in eV per formula unit; None where it is not known.
    cell_error
        Mean strain between the axes and where the energy of DFT is lowest; None where not known.
    """

    cell: str
    fingerprint: str
    x: float
    expected_per_fu: float
    dft_per_fu: float
    force_error: float | None
    sigma_per_fu: float | None
    cell_error: float | None = None


@dataclass(frozen=True)
class Agreement:
    """How well a round's predictions agree with DFT.

    Parameters
    ----------
    formation_error_per_fu
        Mean absolute error of formation energies, in eV per formula unit, both against their own
        ends; None without both ends.
    order_tau
        Kendall's tau of the orders of one composition and cell; None without a pair.
    force_error
        Mean absolute error of the components of forces, in eV/Å.
    spread
        Root mean square of error over standard deviation, where there are standard deviations: 1
        where these are right.
    cell_error
        Mean strain between axes and where the energy of DFT is lowest.
    """

    n: int
    formation_error_per_fu: float | None
    order_tau: float | None
    force_error: float | None
    spread: float | None
    cell_error: float | None = None

    def is_within(self, settings: DoneSection) -> bool:
        """Whether all that is known is within the tolerances, and formation energies are known."""
        return (
            self.formation_error_per_fu is not None
            and self.formation_error_per_fu <= settings.energy_per_fu
            and (self.order_tau is None or self.order_tau >= settings.order)
            and (self.force_error is None or self.force_error <= settings.forces)
            and (self.cell_error is None or self.cell_error <= settings.cells)
        )

    def to_json(self) -> dict[str, Any]:
        """Return what round.json says of it."""
        return asdict(self)


def agreement(
    new: Sequence[Compared],
    all_known: Sequence[Compared],
    ends: tuple[float, float] | None = None,
) -> Agreement:
    """Return how well predictions agree with DFT.

    Parameters
    ----------
    new
        The candidates of this round.
    all_known
        They and all others that the same potential relaxed and DFT computed: ends and partners.
    ends
        Both ends of x, without which there are no formation energies; the outermost of all that are
        known if None.
    """
    line = _line(all_known, ends)
    inner = [] if line is None else [one for one in new if not line.is_end(one)]
    errors = [] if line is None else [abs(line.error(one)) for one in inner]
    forces = [one.force_error for one in new if one.force_error is not None]
    cells = [one.cell_error for one in new if one.cell_error is not None]
    spreads = (
        []
        if line is None
        else [line.error(one) / one.sigma_per_fu for one in inner if one.sigma_per_fu]
    )
    return Agreement(
        n=len(new),
        formation_error_per_fu=float(np.mean(errors)) if errors else None,
        order_tau=_tau(new, all_known),
        force_error=float(np.mean(forces)) if forces else None,
        spread=float(np.sqrt(np.mean(np.square(spreads)))) if spreads else None,
        cell_error=float(np.mean(cells)) if cells else None,
    )


@dataclass(frozen=True)
class _Line:
    """The straight lines between both ends, of what was expected and of DFT."""

    low: Compared
    high: Compared

    @property
    def is_point(self) -> bool:
        """Whether there is one x alone: then energies are against the lowest of DFT."""
        return self.high.x - self.low.x <= _SAME_X

    def is_end(self, one: Compared) -> bool:
        if self.is_point:
            return one == self.low
        return math.isclose(one.x, self.low.x) or math.isclose(one.x, self.high.x)

    def error(self, one: Compared) -> float:
        """Return the error of a formation energy, in eV per formula unit."""
        share = 0.0 if self.is_point else (one.x - self.low.x) / (self.high.x - self.low.x)
        differences = [e.expected_per_fu - e.dft_per_fu for e in (one, self.low, self.high)]
        return differences[0] - (1 - share) * differences[1] - share * differences[2]


def _line(known: Sequence[Compared], ends: tuple[float, float] | None) -> _Line | None:
    if not known:
        return None
    low = min(known, key=lambda one: (one.x, one.dft_per_fu))
    high = min(known, key=lambda one: (-one.x, one.dft_per_fu))
    reached = (low.x, high.x)
    if ends is not None and max(abs(a - b) for a, b in zip(reached, ends, strict=True)) > _SAME_X:
        return None
    return _Line(low, high) if ends is not None or high.x > low.x else None


def _tau(new: Sequence[Compared], known: Sequence[Compared]) -> float | None:
    """Return Kendall's tau over pairs of one composition and cell with at least one new order."""
    fresh = {(one.cell, one.fingerprint) for one in new}
    signs = []
    for one, other in itertools.combinations(known, 2):
        if one.cell != other.cell or not math.isclose(one.x, other.x):
            continue
        if not {(one.cell, one.fingerprint), (other.cell, other.fingerprint)} & fresh:
            continue
        true = one.dft_per_fu - other.dft_per_fu
        if abs(true) >= _SAME_EV_PER_FU:
            signs.append(np.sign(true * (one.expected_per_fu - other.expected_per_fu)))
    return float(np.mean(signs)) if signs else None


def is_done(results: Sequence[Mapping[str, Any]], settings: DoneSection) -> bool:
    """Whether the last rounds agree with DFT, and the hull stays the same.

    Parameters
    ----------
    results
        What round.json says of each round that is over, in their order.
    """
    last = list(results)[-settings.in_a_row :]
    if len(last) < settings.in_a_row:
        return False
    stays = bool(last[-1]["hull"]) and all(_is_same(row["hull"], last[-1]["hull"]) for row in last)
    return stays and all(Agreement(**row["agreement"]).is_within(settings) for row in last)


def _is_same(hull: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two hulls have the same members, or at one x some that DFT does not tell apart.

    The same crystal repeated in another supercell is such a one.
    """
    pairs = list(zip(*(sorted(one, key=lambda m: m["x"]) for one in (hull, other)), strict=False))
    return len(hull) == len(other) and all(
        math.isclose(one["x"], two["x"], abs_tol=_SAME_X)
        and (
            (one["cell"], one["fingerprint"]) == (two["cell"], two["fingerprint"])
            or abs(one["formation_per_fu"] - two["formation_per_fu"]) < _SAME_EV_PER_FU
        )
        for one, two in pairs
    )

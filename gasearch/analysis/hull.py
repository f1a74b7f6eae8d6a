"""Formation energies and the lower convex hull over x, at one level; derived, never stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.errors import GasearchError

ON_HULL = 1e-9
"""Distance above the hull, in eV/f.u., up to which a point counts as on it."""
Place = tuple[float, float] | tuple[None, None]
"""Formation energy and height above the hull, in eV/f.u.; None without both ends of the range."""


class NoEndMemberError(GasearchError, LookupError):
    """Formation energies asked for before both ends of the range have a valid energy."""

    def __init__(self, missing: Sequence[float]) -> None:
        super().__init__(missing)
        self.missing = tuple(missing)

    def __str__(self) -> str:
        which = " and ".join(dict.fromkeys(f"x = {x:g}" for x in self.missing))
        return f"no formation energies yet: no candidate with verdict ok at {which}."


@dataclass(frozen=True, eq=False)
class Hull:
    """Formation energies of points and their distance above the lower convex hull.

    Parameters
    ----------
    x
        (n,) filled share of the working-ion sites.
    formation_energy_per_fu
        (n,) in eV per formula unit, against the lowest points at both ends.
    above_hull_per_fu
        (n,) in eV per formula unit; 0 on the hull.
    """

    x: NDArray[np.float64]
    formation_energy_per_fu: NDArray[np.float64]
    above_hull_per_fu: NDArray[np.float64]

    @property
    def on_hull(self) -> NDArray[np.bool_]:
        """(n,) whether a point is a vertex of the hull, or as low as one at the same x."""
        return np.asarray(self.above_hull_per_fu <= ON_HULL)


def formation_hull(
    x: Sequence[float],
    energy: Sequence[float],
    n_formula_units: int,
    ends: tuple[float, float],
) -> Hull:
    """Return the hull of points at one level of theory.

    The ends of the range are themselves minima over the points there.

    Parameters
    ----------
    x
        (n,) filled shares.
    energy
        (n,) of the whole cell, in eV.
    n_formula_units
        In the cell.
    ends
        x_min and x_max of the host's neutral range.

    Raises
    ------
    NoEndMemberError
        Where an end of the range has no point.
    """
    shares, per_fu = np.asarray(x, dtype=float), np.asarray(energy, dtype=float) / n_formula_units
    low, high = ends
    at_low, at_high = np.isclose(shares, low), np.isclose(shares, high)
    missing = [end for end, here in ((low, at_low), (high, at_high)) if not here.any()]
    if missing:
        raise NoEndMemberError(missing)
    formation = per_fu - per_fu[at_low].min()
    if high > low:
        slope = (per_fu[at_high].min() - per_fu[at_low].min()) / (high - low)
        formation = formation - slope * (shares - low)
    hull_x, hull_energy = lower_hull(shares, formation)
    above = formation - np.interp(shares, hull_x, hull_energy)
    return Hull(shares, formation, np.where(np.abs(above) <= ON_HULL, 0.0, above))


def places(
    x: Sequence[float],
    energy: Sequence[float],
    n_formula_units: int,
    ends: tuple[float, float],
) -> list[Place]:
    """Return (formation energy, height above the hull) of points, in eV/f.u.

    (None, None) of each where an end of the range has no point; arguments as `formation_hull`.
    """
    try:
        hull = formation_hull(x, energy, n_formula_units, ends)
    except NoEndMemberError:
        return [(None, None)] * len(x)
    formation, above = hull.formation_energy_per_fu.tolist(), hull.above_hull_per_fu.tolist()
    return list(zip(formation, above, strict=True))


class NotFiniteError(GasearchError, ValueError):
    """A point of a hull whose x or energy is no finite number."""

    def __init__(self, x: float, energy: float) -> None:
        super().__init__(x, energy)
        self.x = x
        self.energy = energy

    def __str__(self) -> str:
        return f"x = {self.x}, energy = {self.energy}: a hull takes finite numbers only."


def lower_hull(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the vertices of the lower convex hull, in ascending x (monotone chain, O(n log n)).

    A straight line added to all y changes no vertex: they may be formation energies or not.
    """
    vertices: list[tuple[float, float]] = []
    for px, py in sorted(zip(x.tolist(), y.tolist(), strict=True)):
        if not (math.isfinite(px) and math.isfinite(py)):
            raise NotFiniteError(px, py)
        if vertices and px == vertices[-1][0]:
            continue  # the lower one at this x came first
        while len(vertices) > 1 and not _turns_left(vertices[-2], vertices[-1], (px, py)):
            vertices.pop()
        vertices.append((px, py))
    return np.array([v[0] for v in vertices]), np.array([v[1] for v in vertices])


def _turns_left(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])

"""Formation energies and the lower convex hull over x, at one level; derived, never stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gasearch.errors import GasearchError

ON_HULL = 1e-9
"""Distance above the hull, in eV/f.u., up to which a point counts as on it."""


class NoEndMemberError(GasearchError, LookupError):
    """Formation energies asked for before both ends of the range have a valid energy."""

    def __init__(self, missing: Sequence[float]) -> None:
        super().__init__(missing)
        self.missing = tuple(missing)

    def __str__(self) -> str:
        which = " and ".join(f"x = {x:g}" for x in self.missing)
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


def lower_hull(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the vertices of the lower convex hull, in ascending x (monotone chain, O(n log n))."""
    vertices: list[tuple[float, float]] = []
    for px, py in sorted(zip(x.tolist(), y.tolist(), strict=True)):
        if vertices and px == vertices[-1][0]:
            continue  # the lower one at this x came first
        while len(vertices) > 1 and not _turns_left(vertices[-2], vertices[-1], (px, py)):
            vertices.pop()
        vertices.append((px, py))
    return np.array([v[0] for v in vertices]), np.array([v[1] for v in vertices])


class NotFiniteError(GasearchError, ValueError):
    """A point of a hull that is not made of numbers."""

    def __init__(self, x: float, energy: float) -> None:
        super().__init__(x, energy)
        self.x = x
        self.energy = energy

    def __str__(self) -> str:
        return f"x = {self.x}, energy = {self.energy}: a hull takes finite numbers only."


class LowerHull:
    """The lower convex hull of points that come one by one.

    Its vertices are kept in a search tree of random shape (a treap) whose nodes never change, so
    that a point costs O(log n) on average over the points, and a copy costs nothing. Energies may
    be formation energies or not: a straight line added to all changes no vertex and no distance.
    """

    def __init__(self) -> None:
        self._root: _Node | None = None
        self._random = Random(0)

    def __len__(self) -> int:
        """Return the number of vertices, in O(n)."""
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        """Yield the vertices (x, energy) in ascending x."""
        yield from _in_order(self._root)

    def copy(self) -> LowerHull:
        """Return a hull with the same vertices, which goes its own way from here on; O(1)."""
        other = LowerHull()
        other._root = self._root
        other._random.setstate(self._random.getstate())
        return other

    def add(self, x: float, energy: float) -> bool:
        """Take a point; return whether it is a vertex now."""
        if not (math.isfinite(x) and math.isfinite(energy)):
            raise NotFiniteError(x, energy)
        left, right = _split(self._root, x)
        after = _first(right)
        if after is not None and after.x == x:
            if after.energy <= energy:
                return False
            right = _without_first(right)
        elif not _is_below(x, energy, _last(left), after):
            return False
        point = (x, energy)
        left, right = _pruned_left(left, point), _pruned_right(right, point)
        new = _Node(x, energy, self._random.random(), None, None)
        self._root = _merge(_merge(left, new), right)
        return True

    def height(self, x: float) -> float:
        """Return the energy of the hull at x; infinite outside of its range. O(log n)."""
        before, after = None, None
        node = self._root
        while node is not None:
            if node.x == x:
                return node.energy
            if node.x < x:
                before, node = node, node.right
            else:
                after, node = node, node.left
        if before is None or after is None:
            return math.inf
        share = (x - before.x) / (after.x - before.x)
        return before.energy + share * (after.energy - before.energy)

    def above(self, x: float, energy: float) -> float:
        """Return how far a point lies above the hull: negative below it, and outside its range."""
        return energy - self.height(x)


class _Node(NamedTuple):
    """A vertex in the tree: ordered by x from left to right, and by priority from top to bottom."""

    x: float
    energy: float
    priority: float
    left: _Node | None
    right: _Node | None


def _is_below(x: float, energy: float, before: _Node | None, after: _Node | None) -> bool:
    """Return whether a point lies below the line between two vertices, or outside of them."""
    if before is None or after is None:
        return True
    return _turns_left(_xy(before), (x, energy), _xy(after))


def _in_order(node: _Node | None) -> Iterator[tuple[float, float]]:
    stack: list[_Node] = []
    while stack or node is not None:
        while node is not None:
            stack.append(node)
            node = node.left
        node = stack.pop()
        yield _xy(node)
        node = node.right


def _split(node: _Node | None, x: float) -> tuple[_Node | None, _Node | None]:
    """Return what lies before x, and what lies at x or after it."""
    if node is None:
        return None, None
    if node.x < x:
        before, after = _split(node.right, x)
        return node._replace(right=before), after
    before, after = _split(node.left, x)
    return before, node._replace(left=after)


def _merge(before: _Node | None, after: _Node | None) -> _Node | None:
    if before is None or after is None:
        return before or after
    if before.priority > after.priority:
        return before._replace(right=_merge(before.right, after))
    return after._replace(left=_merge(before, after.left))


def _first(node: _Node | None) -> _Node | None:
    while node is not None and node.left is not None:
        node = node.left
    return node


def _last(node: _Node | None) -> _Node | None:
    while node is not None and node.right is not None:
        node = node.right
    return node


def _without_first(node: _Node | None) -> _Node | None:
    if node is None or node.left is None:
        return None if node is None else node.right
    return node._replace(left=_without_first(node.left))


def _without_last(node: _Node | None) -> _Node | None:
    if node is None or node.right is None:
        return None if node is None else node.left
    return node._replace(right=_without_last(node.right))


def _pruned_left(node: _Node | None, point: tuple[float, float]) -> _Node | None:
    """Return the vertices before a new one without those that it makes superfluous."""
    while (nearest := _last(node)) is not None:
        rest = _without_last(node)
        beyond = _last(rest)
        if beyond is None or _turns_left(_xy(beyond), _xy(nearest), point):
            break
        node = rest
    return node


def _pruned_right(node: _Node | None, point: tuple[float, float]) -> _Node | None:
    """Return the vertices after a new one without those that it makes superfluous."""
    while (nearest := _first(node)) is not None:
        rest = _without_first(node)
        beyond = _first(rest)
        if beyond is None or _turns_left(point, _xy(nearest), _xy(beyond)):
            break
        node = rest
    return node


def _xy(node: _Node) -> tuple[float, float]:
    return node.x, node.energy


def _turns_left(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])

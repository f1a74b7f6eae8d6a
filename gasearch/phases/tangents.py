"""Which compositions separate into two: common tangents of a free energy over x."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator

from gasearch.analysis.hull import lower_hull
from gasearch.phases.energies.lattice import Floats

_FINE = 1_001
_REPEATS = 60
_CLEAR = 2.0  # standard deviations


@dataclass(frozen=True)
class Gap:
    """Compositions that are two phases at a temperature.

    Parameters
    ----------
    x_from, x_to
        The two phases.
    error_from, error_to
        Standard deviations that follow from those of the free energies.
    depth
        How far the free energy of one phase lies above the tangent at most, in eV/f.u.
    mu
        Slope of the tangent, in eV/f.u. per unit of x.
    """

    x_from: float
    x_to: float
    error_from: float
    error_to: float
    depth: float
    mu: float


class FreeEnergy:
    """F over x at one temperature, between the compositions too.

    Parameters
    ----------
    x
        (n,) ascending.
    free_energy, error
        (n,) in eV/f.u.
    ideal
        Free energy of mixing without interactions, of (m,) x, in eV/f.u.: what is left of F without
        it is smooth, and is interpolated (modified Akima).
    """

    def __init__(self, x: Floats, free_energy: Floats, error: Floats, ideal: Ideal) -> None:
        self.x, self.values, self.error = x, free_energy, error
        self._ideal = ideal
        self.fine: Floats = np.unique(np.concatenate([np.linspace(x[0], x[-1], _FINE), x]))

    def curve(self, values: Floats | None = None) -> Floats:
        """Return (n_fine,) F at `fine`, in eV/f.u."""
        own = self.values if values is None else values
        if len(self.x) < 3:
            return np.interp(self.fine, self.x, own)
        rest = Akima1DInterpolator(self.x, own - self._ideal(self.x), method="makima")(self.fine)
        return np.asarray(rest + self._ideal(self.fine))

    def stable(self) -> Floats:
        """Return (n_fine,) the lower convex hull of F at `fine`, in eV/f.u."""
        return _hull(self.fine, self.curve())

    def gaps(self, rng: np.random.Generator) -> list[Gap]:
        """Return the two-phase regions, by ascending x.

        There is one where a composition that was sampled lies above the hull of the others by more
        than twice its standard deviation; its ends are those of the common tangent of F, between
        the compositions that were sampled.
        """
        found = self._gaps(self.values)
        spread: list[list[tuple[float, float]]] = [[] for _ in found]
        for _ in range(_REPEATS if found and self.error.any() else 0):
            other = self._gaps(self.values + self.error * rng.normal(size=len(self.x)), 0.0)
            for n, gap in enumerate(found):
                near = [g for g in other if g.x_from < gap.x_to and g.x_to > gap.x_from]
                if near:
                    widest = max(near, key=lambda g: g.x_to - g.x_from)
                    spread[n].append((widest.x_from, widest.x_to))
        result = []
        for gap, ends in zip(found, spread, strict=True):
            low, high = np.std(ends, axis=0).tolist() if len(ends) > 1 else (0.0, 0.0)
            result.append(replace(gap, error_from=low, error_to=high))
        return result

    def _gaps(self, values: Floats, clear: float = _CLEAR) -> list[Gap]:
        vx, _ = lower_hull(self.x, values)
        above = values - np.interp(self.x, *lower_hull(self.x, values))
        curve = self.curve(values)
        fx, fy = lower_hull(self.fine, curve)
        found = []
        for low, high in itertools.pairwise(vx.tolist()):
            inside = (self.x > low + 1e-9) & (self.x < high - 1e-9)
            if np.any(above[inside] > np.maximum(clear * self.error[inside], 1e-7)):
                gap = self._refined(float(low), float(high), fx, fy, curve)
                found += [gap] if gap not in found else []  # one tangent over several compositions
        return found

    def _refined(self, low: float, high: float, fx: Floats, fy: Floats, curve: Floats) -> Gap:
        """Return the longest tangent of the interpolated F that lies mostly between two x."""
        overlap = np.minimum(fx[1:], high) - np.maximum(fx[:-1], low)
        n = int(overlap.argmax())
        x, y = fx[n : n + 2], fy[n : n + 2]
        inside = (self.fine >= x[0]) & (self.fine <= x[1])
        depth = float((curve[inside] - np.interp(self.fine[inside], x, y)).max())
        slope = float((y[1] - y[0]) / (x[1] - x[0]))
        return Gap(float(x[0]), float(x[1]), 0.0, 0.0, depth, slope)


@dataclass(frozen=True)
class Ideal:
    """The free energy of mixing of independent ions, of charges, or of both.

    Parameters
    ----------
    kT
        In eV.
    n_working, n_redox
        Sites of a unit cell that are disordered; 0 for what is not.
    surplus
        Working ions of a unit cell less its reduced ions.
    all_working
        Working-ion sites of a unit cell, which x counts.
    """

    kT: float
    n_working: int
    n_redox: int
    surplus: int
    all_working: int
    n_formula_units: int

    def __call__(self, x: NDArray[np.float64]) -> Floats:
        """Return (n,) in eV/f.u."""
        filled = x * self.all_working
        total = np.zeros_like(x)
        if self.n_working:
            total += self.n_working * _entropy(filled / self.n_working)
        if self.n_redox:
            total += self.n_redox * _entropy((filled - self.surplus) / self.n_redox)
        return np.asarray(-self.kT * total / self.n_formula_units)


def _entropy(share: Floats) -> Floats:
    from scipy.special import entr

    inside = np.clip(share, 0.0, 1.0)
    return np.asarray(entr(inside) + entr(1 - inside))


def _hull(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.interp(x, *lower_hull(x, y)))

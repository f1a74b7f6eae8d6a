"""Free energies from mean energies, by integration from where they are exact.

From infinite temperature, where all arrangements count alike: d(beta F)/d beta = <E>. From a
ground state, whose F at the lowest temperature is its energy. Between neighbouring temperatures the
integral is that of a cubic through the energies and their slopes, which are minus the variances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from ase.units import kB

from gasearch.phases.energies.lattice import Floats


def log_choices(n: int, k: int) -> float:
    """Return the natural logarithm of the number of ways to choose k of n."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def inverse_temperatures(temperatures_K: Sequence[float]) -> Floats:
    """Return (n,) 1/kT in 1/eV; 0 for an infinite temperature."""
    return np.array([0.0 if math.isinf(t) else 1 / (kB * t) for t in temperatures_K])


def from_infinite_temperature(
    beta: Floats, energy: Floats, variance: Floats, error: Floats, log_states: float
) -> tuple[Floats, Floats]:
    """Return (n,) beta F and its standard deviations, from the logarithm of the states at beta = 0.

    Parameters
    ----------
    beta
        (n,) ascending from 0, in 1/eV.
    energy, variance, error
        (n,) mean energies of the whole cell in eV, their variances, and standard deviations of the
        means.
    """
    steps, errors = _steps(beta, energy, variance, error)
    return np.concatenate([[0.0], np.cumsum(steps)]) - log_states, errors


def from_ground_state(
    beta: Floats, energy: Floats, variance: Floats, error: Floats, ground_energy: float
) -> tuple[Floats, Floats]:
    """Return (n,) beta F and its standard deviations, from F = E of a ground state at last.

    Parameters
    ----------
    beta
        (n,) ascending; at the last one next to nothing is excited.
    ground_energy
        Of the whole cell, in eV.
    """
    steps, errors = _steps(beta[::-1], energy[::-1], variance[::-1], error[::-1])
    found = beta[-1] * ground_energy + np.concatenate([[0.0], np.cumsum(steps)])
    return found[::-1], errors[::-1]


def _steps(beta: Floats, energy: Floats, variance: Floats, error: Floats) -> tuple[Floats, Floats]:
    """Return (n - 1,) integrals between neighbours, and (n,) deviations of their running sums."""
    widths = np.diff(beta)
    steps = widths / 2 * (energy[:-1] + energy[1:]) + widths**2 / 12 * np.diff(variance)
    # an energy weighs half of the two intervals beside it; in the sum up to it, half of one
    inner = np.zeros(len(beta))
    inner[1:-1] = ((widths[:-1] + widths[1:]) / 2 * error[1:-1]) ** 2
    first = (widths[0] / 2 * error[0]) ** 2 if len(widths) else 0.0
    own = np.concatenate([[0.0], (widths / 2 * error[1:]) ** 2])
    before = np.concatenate([[0.0], first + np.cumsum(inner[:-1])])
    return steps, np.sqrt(before + own)

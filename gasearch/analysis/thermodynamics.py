"""Free energies of one cell at a temperature, from its evaluated decorations.

F(x, T) = -kT ln sum_i g_i exp(-E_i / kT), with E_i the energy of the whole cell and g_i the number
of decorations that are equivalent to i; divided by the formula units of the cell afterwards. Each
decoration that was not evaluated would lower F: where a composition was not exhausted, this is an
upper bound on the F of that cell. No such bound holds for its entropy, or for a voltage, which is a
difference of two F. Vibrations are not in it. In a small cell kT ln g / N is not small: compare two
sizes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.units import kB
from numpy.typing import ArrayLike

from gasearch.analysis.hull import NoEndMemberError, lower_hull
from gasearch.analysis.joint_hull import Member
from gasearch.analysis.voltage import Cathode, Metal
from gasearch.errors import UsageError
from gasearch.store.records import EvaluationRow

UPPER_BOUND = (
    "F is an upper bound on that of a cell where not all of its decorations were evaluated; "
    "no bound holds for entropy and voltage; vibrations are not in it"
)
TWO_SIZES = (
    "note: give run folders of at least two cell sizes: a small cell carries a spurious "
    "kT ln g / N (g equivalent decorations, N formula units), which vanishes only as cells grow"
)


class TemperatureError(UsageError):
    """A temperature that is not above 0 K."""

    def __init__(self, temperature_K: float) -> None:
        super().__init__(temperature_K)
        self.temperature_K = temperature_K

    def __str__(self) -> str:
        return (
            f"--temperature {self.temperature_K:g}: expected kelvins above 0; without it, voltages "
            "are those of T = 0."
        )


@dataclass(frozen=True)
class Ensemble:
    """The canonical ensemble of decorations of a cell at one composition.

    Parameters
    ----------
    free_energy
        F of the whole cell, in eV.
    energy
        The mean energy of the whole cell, in eV.
    entropy_per_K
        (energy - F) / T of the whole cell, in eV/K.
    """

    free_energy: float
    energy: float
    entropy_per_K: float


def ensemble(energies: ArrayLike, log_sizes: ArrayLike, temperature_K: float) -> Ensemble:
    """Return the ensemble of decorations that are each there exp(log_sizes) times.

    Parameters
    ----------
    energies
        (n,) of the whole cell, in eV.
    log_sizes
        (n,) natural logarithms of the numbers of equivalent decorations.
    """
    if not (math.isfinite(temperature_K) and temperature_K > 0):
        raise TemperatureError(temperature_K)
    energy, log_size = np.asarray(energies, dtype=float), np.asarray(log_sizes, dtype=float)
    kT = kB * temperature_K
    lowest = energy.min()
    exponents = log_size - (energy - lowest) / kT
    largest = exponents.max()
    weights = np.exp(exponents - largest)
    log_sum = largest + math.log(weights.sum())
    mean_above = float((weights * (energy - lowest)).sum() / weights.sum())
    free_above = -kT * log_sum
    return Ensemble(
        free_energy=float(lowest + free_above),
        energy=float(lowest + mean_above),
        entropy_per_K=float((mean_above - free_above) / temperature_K),
    )


@dataclass(frozen=True)
class ThermalPoint:
    """One composition of a cell at a temperature.

    Parameters
    ----------
    n_evaluated, n_distinct
        Distinct decorations with a valid energy, and those that there are.
    formation_free_energy_eV_per_fu
        F against the straight line between the F of both ends.
    entropy_kB_per_fu
        Configurational, in units of k.
    """

    x: float
    formula: str
    n_evaluated: int
    n_distinct: int
    lowest_energy_eV_per_fu: float
    free_energy_eV_per_fu: float
    formation_free_energy_eV_per_fu: float
    entropy_kB_per_fu: float

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is missing, so that F is that of the cell, not a bound on it."""
        return self.n_evaluated >= self.n_distinct


@dataclass(frozen=True)
class ThermalStep:
    """From one composition of a cell to the next.

    Parameters
    ----------
    voltage_V
        Of the hull of F: what is in equilibrium, mixtures of two compositions included.
    slope_voltage_V
        Of the two compositions themselves, whether mixtures are lower or not.
    """

    x_from: float
    x_to: float
    voltage_V: float
    slope_voltage_V: float


@dataclass(frozen=True)
class ThermalCurve:
    """Free energies and voltages of one cell at one temperature."""

    run: str
    cell: str
    n_formula_units: int
    temperature_K: float
    points: tuple[ThermalPoint, ...]
    steps: tuple[ThermalStep, ...]

    @property
    def is_exhausted(self) -> bool:
        """Whether all decorations of the cell were evaluated."""
        return all(point.is_exhausted for point in self.points)


def thermal_curve(member: Member, metal: Metal | None, temperature_K: float) -> ThermalCurve:
    """Return what a run says of its cell at a temperature.

    Parameters
    ----------
    metal
        Of the working ion, at the same level; without it there are no voltages.

    Raises
    ------
    NoEndMemberError
        Where an end of the range has no valid energy.
    """
    host, n_units = member.host, member.run.n_formula_units
    by_formula: dict[str, list[EvaluationRow]] = {}
    for row in member.rows:
        by_formula.setdefault(row.composition, []).append(row)
    chosen = [c for c in host.compositions if c.formula in by_formula]
    missing = [end.x for end in (host.compositions[0], host.compositions[-1]) if end not in chosen]
    if missing:
        raise NoEndMemberError(missing)
    found = [_ensemble(by_formula[c.formula], temperature_K) for c in chosen]
    x, free = [c.x for c in chosen], [one.free_energy / n_units for one in found]
    formation = _formation(x, free)
    points = tuple(
        ThermalPoint(
            x=composition.x,
            formula=composition.formula,
            n_evaluated=len(by_formula[composition.formula]),
            n_distinct=host.n_distinct_beyond(composition, len(by_formula[composition.formula])),
            lowest_energy_eV_per_fu=by_formula[composition.formula][0].energy / n_units,
            free_energy_eV_per_fu=one.free_energy / n_units,
            formation_free_energy_eV_per_fu=above,
            entropy_kB_per_fu=one.entropy_per_K / kB / n_units,
        )
        for composition, one, above in zip(chosen, found, formation, strict=True)
    )
    steps: tuple[ThermalStep, ...] = ()
    if metal is not None:
        steps = thermal_steps(Cathode.of(host), metal, list(zip(x, free, strict=True)))
    return ThermalCurve(member.name, member.cell, n_units, temperature_K, points, steps)


def thermal_steps(
    cathode: Cathode, metal: Metal, free_energies: Sequence[tuple[float, float]]
) -> tuple[ThermalStep, ...]:
    """Return the voltages between neighbouring compositions, from dF/dx.

    Parameters
    ----------
    free_energies
        (x, F) in ascending x; in eV per formula unit.
    """
    x, free = np.array(free_energies, dtype=float).T
    heights = np.interp(x, *lower_hull(x, free)).tolist()
    steps = []
    pairs = zip(itertools.pairwise(free_energies), itertools.pairwise(heights), strict=True)
    for ((x_from, before), (x_to, after)), (hull_before, hull_after) in pairs:
        dx, changes = x_to - x_from, (hull_after - hull_before, after - before)
        voltages_V = [cathode.voltage(metal, dx, d_free) for d_free in changes]
        steps.append(ThermalStep(x_from, x_to, *voltages_V))
    return tuple(steps)


def _ensemble(rows: Sequence[EvaluationRow], temperature_K: float) -> Ensemble:
    energies = [row.energy for row in rows]
    return ensemble(energies, [math.log(row.orbit_size) for row in rows], temperature_K)


def _formation(x: Sequence[float], free: Sequence[float]) -> list[float]:
    if x[-1] == x[0]:
        return [0.0] * len(x)
    slope = (free[-1] - free[0]) / (x[-1] - x[0])
    return [f - free[0] - slope * (at - x[0]) for at, f in zip(x, free, strict=True)]

"""From energies to a Hamiltonian, with what it is wrong by where energies were left out.

A Bayesian linear model, as the search's surrogate: prior variances of points, pairs, triplets and
of the screened charges, and the noise, are those that make the energies most probable. Far clusters
have smaller priors, and energies far above the hull count less, for they matter at no temperature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from gasearch.analysis.hull import lower_hull
from gasearch.phases.energies.clusters import ClusterBasis
from gasearch.phases.energies.hamiltonian import Hamiltonian, coulomb
from gasearch.phases.energies.lattice import Floats
from gasearch.phases.energies.training import Training, is_enough
from gasearch.search.surrogate.fitting import one_thread
from gasearch.search.surrogate.regression import Evidence, Moments

NEAR_HULL = 0.05
"""eV/f.u. above the hull up to which an order counts as low."""
_FADING = 0.05  # eV/f.u. above the hull at which an energy counts a quarter
_OF_HULL, _OF_ENDS = 3.0, 20.0
_ON_HULL = 1e-4  # eV/f.u.
_DECAY, _NEAREST = 4.0, 3.0  # Å
_SAME = 1e-5  # of the largest singular value
_NAMES = {1: "points", 2: "pairs", 3: "triplets"}
LEAST_EXPLAINED, GOOD_EXPLAINED = 0.5, 0.75
GOOD_ERROR = 0.013
"""eV/f.u.: half of kT at 300 K."""


@dataclass(frozen=True)
class LeftOut:
    """Errors of energies that a fit did not see.

    Parameters
    ----------
    what
        In words.
    n
        How many.
    error, low_error
        Root mean squares in eV/f.u.: of all, and of those near the hull; NaN where there is none.
    spread
        Standard deviation of these energies within their compositions, in eV/f.u.
    """

    what: str
    n: int
    error: float
    low_error: float
    spread: float

    @property
    def explained(self) -> float:
        """Share of the spread that the fit explains: 1 is perfect, 0 as good as the mean."""
        return 1 - (self.error / self.spread) ** 2 if self.spread > 0 else float("nan")


@dataclass(frozen=True, eq=False)
class Fit:
    """A Hamiltonian with what is known of its quality.

    Parameters
    ----------
    noise
        Standard deviation of energies near the hull about the model, in eV/f.u.
    crystals
        Errors where each crystal was left out in turn, in whatever cells it was computed.
    cells
        Errors where each supercell was left out in turn.
    deviation
        (n,) standard deviation of the fitted formation energies that the model itself expects.
    n_told_apart
        Combinations of interactions, the screened charges among them, that the energies tell apart:
        a small cell meets itself again, so that many clusters are one there.
    """

    hamiltonian: Hamiltonian
    n_results: int
    noise: float
    crystals: LeftOut
    cells: tuple[LeftOut, ...]
    deviation: Floats
    n_told_apart: int = 0

    @property
    def is_worth_a_diagram(self) -> bool:
        """Whether it explains at least half of what it did not see."""
        return self.crystals.explained >= LEAST_EXPLAINED

    @property
    def is_good(self) -> bool:
        """Whether its errors are small against what is asked of it."""
        return self.crystals.explained >= GOOD_EXPLAINED and self.crystals.low_error <= GOOD_ERROR


def fit(training: Training, basis: ClusterBasis, *, charges: bool = True) -> Fit:
    """Return the Hamiltonian of some energies; a function of these alone.

    Parameters
    ----------
    charges
        Whether the Coulomb energy of formal charges is part of it.
    """
    with one_thread():
        model = _Model(training, basis, charges)
        every = np.ones(len(training.x), dtype=bool)
        solved = model.solve(every)
        missed = model.left_out(solved)
        cells = []
        for number, one in enumerate(training.cells):
            held = training.cell_of == number
            if held.any() and not held.all() and _is_enough(training.x[~held]):
                errors = training.formation - model.predict(model.solve(~held))
                cells.append(model.judged(f"{one.name}, not seen", errors, held))
        return Fit(
            hamiltonian=model.hamiltonian(solved),
            n_results=len(every),
            noise=float(model.unit * np.sqrt(solved.noise)),
            crystals=model.judged("each crystal, not seen", missed, every),
            cells=tuple(cells),
            deviation=model.deviation(solved),
            n_told_apart=model.n_told_apart,
        )


def _is_enough(x: Floats) -> bool:
    return is_enough(len(x), len(np.unique(np.round(x, 6))))


@dataclass(frozen=True, eq=False)
class _Solved:
    weights: Floats
    scales: Floats
    factor: tuple[Floats, bool]
    noise: float


class _Model:
    """Columns of the linear model: orbits, charges, a constant and a slope."""

    def __init__(self, training: Training, basis: ClusterBasis, charges: bool) -> None:
        self.training, self.basis, self.charges = training, basis, charges
        sums = np.concatenate([basis.sums(one.cell, one.spins) for one in training.cells])
        counts = np.array([len(o) for o in basis.orbits]) / basis.lattice.n_formula_units
        distance = np.array([o.diameter for o in basis.orbits])
        fading = np.exp(-np.maximum(distance - _NEAREST, 0) / _DECAY)
        self._factors: Floats = fading / np.sqrt(counts)
        self.groups = [_NAMES[o.size] for o in basis.orbits]
        parts = [sums * self._factors]
        if charges:
            energies = np.concatenate([coulomb(one.cell, one.spins) for one in training.cells])
            self._charge_scale = 1 / max(float(energies.std()), 1e-9)
            parts.append(energies[:, None] * self._charge_scale)
            self.groups.append("coulomb")
        features = np.column_stack(parts)
        self._means = features.mean(axis=0)
        self.groups += ["constant", "constant"]
        x = training.x
        self.columns: Floats = np.column_stack([features - self._means, np.ones_like(x), x])
        vertices = lower_hull(x, training.formation)
        self.above: Floats = training.formation - np.interp(x, *vertices)
        self._is_end = np.isclose(x, basis.lattice.x_range[0]) | np.isclose(
            x, basis.lattice.x_range[1]
        )
        self._share: Floats = self._weights()
        self.unit = max(float(training.formation.std()), 1e-9)
        self._crystals = _alike(np.column_stack([features, x]))

    def _weights(self) -> Floats:
        """Return (n,) what an energy counts, 1 over its expected error: 1 near the hull.

        Less high above the hull; compositions with few orders more than their number; most of all
        members of the hull, and the ends, against which all others are compared.
        """
        x = np.round(self.training.x, 6)
        place, counts = np.unique(x, return_inverse=True, return_counts=True)[1:]
        share = (counts[place] / counts.max()) ** -0.25 / (1 + self.above / _FADING) ** 2
        share[self.above < _ON_HULL] *= _OF_HULL
        share /= np.median(share[self.above < _FADING])
        share[self._is_end & (self.above < _ON_HULL)] = _OF_ENDS
        return np.asarray(share)

    def solve(self, chosen: NDArray[np.bool_]) -> _Solved:
        share = self._share[chosen, None]
        columns = self.columns[chosen] * share
        target = self.training.formation[chosen] / self.unit * share[:, 0]
        moments = Moments(
            columns.T @ columns, columns.T @ target, float(target @ target), len(target)
        )
        prior = Evidence(moments, self.groups).most_probable(self.unit)
        precision = moments.gram * np.outer(prior.scales, prior.scales) / prior.noise
        precision[np.diag_indices_from(precision)] += 1
        factor = cho_factor(precision, lower=True)
        found = cho_solve(factor, prior.scales * moments.projected / prior.noise)
        return _Solved(prior.scales * found, prior.scales, factor, prior.noise)

    def predict(self, solved: _Solved) -> Floats:
        """Return (n,) formation energies in eV/f.u."""
        return np.asarray(self.unit * (self.columns @ solved.weights))

    def left_out(self, solved: _Solved) -> Floats:
        """Return (n,) errors in eV/f.u. of each crystal by the fit to all others."""
        scaled = self.columns * solved.scales * self._share[:, None]
        missed = (self.training.formation - self.predict(solved)) * self._share
        result = np.empty(len(missed))
        for members in self._crystals:
            rows = scaled[members]
            leverage = rows @ cho_solve(solved.factor, rows.T) / solved.noise
            rest = np.eye(len(members)) - leverage
            result[members] = np.linalg.solve(rest + 1e-9 * np.eye(len(members)), missed[members])
        return np.asarray(result / self._share)

    def deviation(self, solved: _Solved) -> Floats:
        """Return (n,) standard deviations of the fitted energies, in eV/f.u."""
        rows = self.columns * solved.scales
        spread = np.einsum("nc,cn->n", rows, cho_solve(solved.factor, rows.T))
        return np.asarray(self.unit * np.sqrt(np.maximum(spread, 0)))

    @property
    def n_told_apart(self) -> int:
        """How many combinations of the columns vary independently, constant and slope aside."""
        values = np.linalg.svd(self.columns[:, :-2], compute_uv=False)
        return int((values > _SAME * values.max(initial=0.0)).sum())

    def judged(self, what: str, errors: Floats, chosen: NDArray[np.bool_]) -> LeftOut:
        chosen = chosen & ~self._is_end  # what all others are compared with
        low = chosen & (self.above <= NEAR_HULL)
        return LeftOut(
            what,
            int(chosen.sum()),
            _rms(errors[chosen]),
            _rms(errors[low]),
            _spread(self.training.formation[chosen], self.training.x[chosen]),
        )

    def hamiltonian(self, solved: _Solved) -> Hamiltonian:
        """Return the model as interactions that any supercell can use."""
        own = self.unit * solved.weights
        n = len(self.basis)
        constant = own[-2] - float(self._means @ own[:-2])
        low, high = self.training.ends
        x_low, x_high = self.basis.lattice.x_range
        slope = own[-1] + (high - low) / (x_high - x_low)
        constant += low - (high - low) / (x_high - x_low) * x_low
        interactions = own[:n] * self._factors + self._of_slope(slope)
        screening = float(own[n] * self._charge_scale) if self.charges else 0.0
        return Hamiltonian(self.basis, interactions, screening, constant + slope * self._middle)

    @property
    def _counted(self) -> tuple[list[int], bool]:
        """Orbits of points that x is counted by, and whether they are the working ions."""
        lattice, orbits = self.basis.lattice, self.basis.orbits
        points = [k for k, o in enumerate(orbits) if o.size == 1]
        ions = [k for k in points if lattice.is_working[orbits[k].sites[0, 0]]]
        return ions or points, bool(ions)

    def _of_slope(self, slope: float) -> Floats:
        """Return (n_orbits,) interactions of points that make an energy slope times x - middle."""
        lattice, result = self.basis.lattice, np.zeros(len(self.basis))
        result[self._counted[0]] = slope / 2 * lattice.n_formula_units / lattice.is_working.sum()
        return result

    @property
    def _middle(self) -> float:
        """The x at which as many spins are up as down, among those that x is counted by."""
        lattice = self.basis.lattice
        n_working = int(lattice.is_working.sum())
        if self._counted[1]:
            return 0.5
        return (2 * lattice.surplus + lattice.n_sites - n_working) / (2 * n_working)


def _alike(features: Floats) -> list[NDArray[np.int64]]:
    """Return rows with the same features together: one crystal, in whatever cells."""
    found: dict[bytes, list[int]] = {}
    for n, row in enumerate(np.round(features, 5) + 0.0):
        found.setdefault(row.tobytes(), []).append(n)
    return [np.array(rows) for rows in found.values()]


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


def _spread(energy: Floats, x: Floats) -> float:
    """Return the standard deviation about the mean of each composition."""
    place = np.unique(np.round(x, 6), return_inverse=True)[1]
    means = np.bincount(place, energy) / np.bincount(place)
    return float((energy - means[place]).std())

"""A Bayesian linear model of energies on features, over all compositions at once.

The kernels of a Gaussian process are sums over groups of features, each with a weight of its own;
as every kernel is linear, mean and deviation cost no more than the number of features, however
many results there are (Rasmussen and Williams, Gaussian Processes for Machine Learning, MIT Press
2006, sections 2.1 and 5.4). scikit-learn's `GaussianProcessRegressor`, which is cubic in the
results, and its `BayesianRidge`, which has one weight for all features, are what the tests compare
it with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_BROAD = 1e4
"""Prior variance of what is known too little: constant and slope of the energy over x."""
_START = {"composition": 1.0, "coulomb": 1.0, "pairs": 1.0, "points": 0.1}
_START_OTHERS = 0.1
_NOISE = 1e-2
_CENTRE, _WIDTH, _NOISE_WIDTH = 0.3, 2.5, 2.0
"""Log-normal priors of the variances: centre, and widths in natural logarithms."""
_STEPS = (4.0, 4.0, 2.0, 2.0)
_LENGTH = 0.15
"""How far in x the energies of compositions follow each other."""
_LEAST_RESULTS = 8
_BLOCK = 16_384
"""Results whose columns are held at once."""


@dataclass(frozen=True, eq=False)
class Results:
    """What the model learns from.

    Parameters
    ----------
    features
        (n, n_features).
    composition
        (n,) index of the composition of each.
    energy
        (n,) in eV/f.u.
    """

    features: Floats
    composition: Integers
    energy: Floats

    def __len__(self) -> int:
        return len(self.energy)


@dataclass(frozen=True)
class CrossValidation:
    """Errors of predictions for results that were left out, one at a time.

    Parameters
    ----------
    n_results
        Of compositions with at least two.
    error_per_fu, mean_error_per_fu
        Root mean squares in eV/f.u.: of the model, and of the mean of the other results at the same
        composition.
    """

    n_results: int
    error_per_fu: float
    mean_error_per_fu: float

    @property
    def is_useful(self) -> bool:
        """Whether the model predicts better than the mean of each composition."""
        return self.n_results >= _LEAST_RESULTS and self.error_per_fu < self.mean_error_per_fu


@dataclass(frozen=True)
class Prior:
    """Variances that a fit has settled on.

    Parameters
    ----------
    variances
        Of each group of features, by name, in units of `unit` squared.
    scales
        (n_columns,) prior standard deviations of the coefficients, in units of `unit`.
    noise
        Variance of the results about the model, in units of `unit` squared.
    unit
        In eV/f.u.
    """

    variances: dict[str, float]
    scales: Floats
    noise: float
    unit: float


class Surrogate:
    """Energies per formula unit as a linear function of features, with uncertainty.

    Made by `fit_surrogate`.

    Parameters
    ----------
    precision
        (n_columns, n_columns) of the scaled coefficients.
    weights
        (n_columns,) posterior mean of the coefficients, in units of `unit`.
    validation
        Errors where results were left out.
    """

    def __init__(
        self,
        design: Design,
        prior: Prior,
        precision: Floats,
        weights: Floats,
        validation: CrossValidation,
    ) -> None:
        self.design = design
        self.prior = prior
        self._precision = precision
        self._factor = _cholesky(precision)
        self._weights = weights
        self.validation = validation

    def mean(self, features: Floats, composition: int) -> Floats:
        """Return (n,) energies in eV/f.u. of features (n, n_features) at one composition."""
        own, common = self.design.split(self._weights)
        at = float(self.design.of_composition[composition] @ common)
        trend = self.design.trend(composition)
        return np.asarray(trend + self.prior.unit * (features @ own + at))

    def predict(self, features: Floats, composition: int) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (n,), in eV/f.u., of the undisturbed energy."""
        columns = self.design.columns(features, np.full(len(features), composition))
        spread = _half(self._factor, (columns * self.prior.scales).T)
        deviation = self.prior.unit * np.sqrt(np.einsum("cn,cn->n", spread, spread))
        return self.mean(features, composition), deviation

    def with_pending(self, features: Floats, composition: Integers) -> Surrogate:
        """Return a surrogate that expects results (n, n_features) to come out as predicted."""
        columns = self.design.columns(features, composition) * self.prior.scales
        precision = self._precision + columns.T @ columns / self.prior.noise
        return Surrogate(self.design, self.prior, precision, self._weights, self.validation)


def fit_surrogate(results: Results, groups: Sequence[str], shares: Sequence[float]) -> Surrogate:
    """Return the model of some results; a function of them and of their order alone.

    Prior variances of the groups and the noise are those that make the results most probable
    (times weak log-normal priors), found by a fixed sequence of steps from a fixed start.

    Parameters
    ----------
    groups
        (n_features,) the group of each feature.
    shares
        (n_compositions,) x of each composition.
    """
    design = Design(groups, np.asarray(shares, dtype=float), results)
    target = results.energy - design.trends[results.composition]
    unit = _spread_within(target, results.composition)
    evidence = Evidence(_moments(design, results, target / unit), design.groups)
    return posterior(design, evidence.most_probable(unit), results)


def posterior(design: Design, prior: Prior, results: Results) -> Surrogate:
    """Return the model of some results, with the variances as they are given."""
    target = (results.energy - design.trends[results.composition]) / prior.unit
    moments = _moments(design, results, target, prior.scales)
    precision = moments.gram / prior.noise
    precision[np.diag_indices_from(precision)] += 1
    factor = _cholesky(precision)
    scaled = cho_solve((factor, True), moments.projected) / prior.noise
    left_out = np.empty(len(target))
    for rows, columns in design.blocks(results, prior.scales):
        spread = _half(factor, columns.T)
        leverage = np.einsum("cn,cn->n", spread, spread) / prior.noise
        missed = prior.unit * (target[rows] - columns @ scaled)
        left_out[rows] = missed / np.maximum(1 - leverage, 1e-6)
    validation = _validated(left_out, prior.unit * target, results.composition)
    return Surrogate(design, prior, precision, prior.scales * scaled, validation)


class Moments(NamedTuple):
    """What a fit needs of results: sums over them.

    Parameters
    ----------
    gram
        (n_columns, n_columns) products of columns.
    projected
        (n_columns,) products of columns and target.
    square
        Of the target.
    n
        Results.
    """

    gram: Floats
    projected: Floats
    square: float
    n: int


def _moments(
    design: Design, results: Results, target: Floats, scales: Floats | None = None
) -> Moments:
    n_columns = len(design.groups)
    gram, projected = np.zeros((n_columns, n_columns)), np.zeros(n_columns)
    for rows, columns in design.blocks(results, scales):
        gram += columns.T @ columns
        projected += columns.T @ target[rows]
    return Moments(gram, projected, float(target @ target), len(target))


def _cholesky(precision: Floats) -> Floats:
    return np.asarray(np.linalg.cholesky(precision))


def _half(factor: Floats, columns: Floats) -> Floats:
    """Return the inverse of a lower triangular matrix times columns."""
    return np.asarray(solve_triangular(factor, columns, lower=True, check_finite=False))


class Design:
    """Columns of the model: the features by group, then what the composition alone decides."""

    def __init__(self, groups: Sequence[str], shares: Floats, results: Results) -> None:
        names = list(groups)
        self._divisor = np.sqrt([names.count(name) for name in names])
        kernel = np.exp(-0.5 * ((shares[:, None] - shares) / _LENGTH) ** 2)
        smooth = np.linalg.cholesky(kernel + 1e-3 * np.eye(len(shares)))
        middle = shares - shares.mean()
        self.of_composition = np.column_stack([np.ones_like(shares), middle, smooth])
        self.groups = [*names, "constant", "constant", *["composition"] * len(shares)]
        self.trends = _line(shares, results)

    def trend(self, composition: int) -> float:
        """Return what is taken off the energies at a composition, in eV/f.u."""
        return float(self.trends[composition])

    def columns(self, features: Floats, composition: Integers) -> Floats:
        """Return (n, n_columns)."""
        return np.concatenate(
            [features / self._divisor, self.of_composition[composition]],
            axis=1,
        )

    def blocks(
        self, results: Results, scales: Floats | None = None
    ) -> Iterator[tuple[slice, Floats]]:
        """Yield rows and their columns, scaled, a block at a time: all at once take much memory."""
        for start in range(0, len(results.energy), _BLOCK):
            rows = slice(start, start + _BLOCK)
            columns = self.columns(results.features[rows], results.composition[rows])
            yield rows, columns if scales is None else columns * scales

    def split(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return coefficients of the bare features, and of the composition."""
        n = len(self._divisor)
        return weights[:n] / self._divisor, weights[n:]


def _line(shares: Floats, results: Results) -> Floats:
    """Return (n_compositions,) a straight line through the results, in eV/f.u."""
    x = shares[results.composition]
    if np.ptp(x) < 1e-9:
        return np.full(len(shares), results.energy.mean())
    slope, constant = np.polynomial.Polynomial.fit(x, results.energy, 1).convert().coef[::-1]
    return np.asarray(constant + slope * shares)


def _spread_within(target: Floats, composition: Integers) -> float:
    """Return the standard deviation within compositions, or over all where that says nothing."""
    sums, counts = np.bincount(composition, target), np.bincount(composition)
    means = sums / np.maximum(counts, 1)
    within = float(np.sqrt(np.mean((target - means[composition]) ** 2)))
    over_all = float(target.std())
    return max(within, 0.01 * over_all, 1e-9)


def _validated(left_out: Floats, target: Floats, composition: Integers) -> CrossValidation:
    counts = np.bincount(composition)
    means = np.bincount(composition, target) / np.maximum(counts, 1)
    several = counts[composition] > 1
    n = counts[composition][several]
    by_mean = (target - means[composition])[several] * n / (n - 1)
    if not several.any():
        return CrossValidation(0, float("nan"), float("nan"))
    return CrossValidation(
        int(several.sum()),
        float(np.sqrt(np.mean(left_out[several] ** 2))),
        float(np.sqrt(np.mean(by_mean**2))),
    )


class Evidence:
    """How probable results are, by the prior variances of the groups and the noise."""

    def __init__(self, moments: Moments, groups: Sequence[str]) -> None:
        self._moments = moments
        self._names = sorted(set(groups) - {"constant"})
        places = {name: k for k, name in enumerate([*self._names, "constant"])}
        self._place = np.array([places[group] for group in groups])

    def most_probable(self, unit: float) -> Prior:
        """Return the variances that steps up from a fixed start lead to."""
        start = [_START.get(name, _START_OTHERS) for name in self._names]
        best = np.log([*start, _NOISE])
        value = self._log_posterior(best)
        for factor in _STEPS:
            for place in range(len(best)):
                for step in (np.log(factor), -np.log(factor)):
                    tried = best.copy()
                    tried[place] += step
                    found = self._log_posterior(tried)
                    if found > value + 1e-9:
                        best, value = tried, found
                        break
        variances = np.append(np.exp(best[:-1]), _BROAD).tolist()
        named = dict(zip([*self._names, "constant"], variances, strict=True))
        return Prior(named, self._scales(best[:-1]), float(np.exp(best[-1])), unit)

    def _scales(self, logarithms: Floats) -> Floats:
        """Return (n_columns,) prior standard deviations."""
        return np.asarray(np.sqrt(np.append(np.exp(logarithms), _BROAD))[self._place])

    def _log_posterior(self, logarithms: Floats) -> float:
        noise, scales = float(np.exp(logarithms[-1])), self._scales(logarithms[:-1])
        precision = self._moments.gram * np.outer(scales, scales) / noise
        precision[np.diag_indices_from(precision)] += 1
        factor = _cholesky(precision)
        half = _half(factor, scales * self._moments.projected / noise)
        fit = self._moments.square / noise - float(half @ half)
        determinant = self._moments.n * np.log(noise) + 2 * float(np.log(np.diag(factor)).sum())
        prior = ((logarithms[:-1] - np.log(_CENTRE)) / _WIDTH) ** 2
        prior_noise = ((logarithms[-1] - np.log(_NOISE)) / _NOISE_WIDTH) ** 2
        return float(-0.5 * (fit + determinant + prior.sum() + prior_noise))

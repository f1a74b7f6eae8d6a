"""A Gaussian process of the difference between two levels of theory, over orders of a host.

The difference is a straight line in x, which is free, plus independent parts: a smooth bow in x,
the scale of what the potential says of an order, a linear function of the order's features, and a
part of each order's own. How strong the parts are is not known, and with a handful of energies no
choice of strengths is safe: predictions are averaged over a fixed sample of them, each weighted by
how probable it makes the energies (Rasmussen and Williams, Gaussian Processes for Machine Learning,
MIT Press 2006, sections 2.7, 5.4).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.special import ndtri

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

NOISE = 1e-3
"""eV/f.u. by which an energy that was computed is not known."""
N_DRAWS = 400
_WEIGHS = 1e-4
"""Draws that weigh less are left out of predictions."""
_UNDETERMINED = 1e-9


class Strengths(NamedTuple):
    """Standard deviations of the parts of the difference, in eV/f.u. where no other unit is given.

    Parameters
    ----------
    bow
        Of the smooth function of x.
    length
        How far in x it keeps its value, as a share of the range of x.
    scale
        Of the factor by which the potential's energies of orders are to be multiplied.
    features
        Of what is linear in the features.
    own
        Of what each order has of its own.
    """

    bow: float
    length: float
    scale: float
    features: float
    own: float


_CENTRES = Strengths(bow=0.1, length=0.5, scale=0.25, features=0.02, own=0.01)
_WIDTHS = Strengths(bow=1.2, length=0.4, scale=0.8, features=1.0, own=1.0)
"""Of log-normal priors: medians, and widths in natural logarithms."""


@functools.cache
def drawn_strengths(number: int = N_DRAWS) -> tuple[Strengths, ...]:
    """Return a sample of the prior, evenly spread (an additive recurrence), always the same."""
    n = len(_CENTRES)
    root = 1.0
    for _ in range(64):
        root = (1 + root) ** (1 / (n + 1))
    steps = root ** -np.arange(1.0, n + 1)
    places = ndtri((0.5 + np.arange(1, number + 1)[:, None] * steps) % 1)
    values = np.array(_CENTRES) * np.exp(places * np.array(_WIDTHS))
    return tuple(Strengths(*row) for row in values.tolist())


@dataclass(frozen=True, eq=False)
class Orders:
    """What the process sees of orders.

    Parameters
    ----------
    place
        (n,) where x stands in its range, from 0 to 1.
    height
        (n,) the potential's energy above its reference at this x, in eV/f.u.
    features
        (n, n_features) of mean 0 at each x, and of mean square 1 all together.
    identity
        (n, n_words) equal for equivalent orders alone.
    """

    place: Floats
    height: Floats
    features: Floats
    identity: Integers

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Orders:
        return Orders(self.place[rows], self.height[rows], self.features[rows], self.identity[rows])


class Covariances:
    """Products of two sets of orders, from which covariances follow for any strengths."""

    def __init__(self, first: Orders, second: Orders) -> None:
        self._apart = (first.place[:, None] - second.place) ** 2
        self._heights = np.multiply.outer(first.height, second.height)
        self._features = first.features @ second.features.T
        self._same = np.all(first.identity[:, None] == second.identity, axis=2)

    def __call__(self, s: Strengths) -> Floats:
        """Return (n_first, n_second) in (eV/f.u.)^2, without noise."""
        result = s.bow**2 * np.exp(self._apart / (-2 * s.length**2))
        result += s.scale**2 * self._heights
        result += s.features**2 * self._features
        result += s.own**2 * self._same
        return np.asarray(result)


def _variance(orders: Orders, s: Strengths) -> Floats:
    """Return (n,) prior variances, the straight line left out."""
    own = s.bow**2 + s.own**2
    features = np.einsum("nf,nf->n", orders.features, orders.features)
    return np.asarray(own + s.scale**2 * orders.height**2 + s.features**2 * features)


def _line(place: Floats, n_terms: int) -> Floats:
    return np.column_stack([np.ones_like(place), place])[:, :n_terms]


class Process:
    """The process at given strengths, after some differences are known.

    Parameters
    ----------
    known
        n orders, no two of them equivalent.
    difference
        (n,) in eV/f.u.
    """

    def __init__(
        self, known: Orders, difference: Floats, covariances: Covariances, strengths: Strengths
    ) -> None:
        self.strengths = strengths
        self._known = known
        kernel = covariances(strengths)
        kernel[np.diag_indices_from(kernel)] += NOISE**2
        self._factor = np.linalg.cholesky(kernel)
        self._terms = _line(known.place, n_line_terms(known.place))
        solved = self._solve(self._terms)
        self._normal = self._terms.T @ solved
        self._inverse_normal = np.linalg.inv(self._normal)
        self.coefficients = self._inverse_normal @ (solved.T @ difference)
        self._weights = self._solve(difference - self._terms @ self.coefficients)
        self._difference = difference

    def _solve(self, right: Floats) -> Floats:
        return np.asarray(cho_solve((self._factor, True), right, check_finite=False))

    def log_evidence(self) -> float:
        """Return how probable the differences are, whatever the straight line is; a logarithm.

        But for a constant: of contrasts that no straight line changes (restricted likelihood).
        """
        n_free = len(self._difference) - self._terms.shape[1]
        fit = float(self._difference @ self._weights) + n_free * np.log(2 * np.pi)
        determinant = 2 * np.log(np.diag(self._factor)).sum()
        return float(-0.5 * (fit + determinant + np.linalg.slogdet(self._normal)[1]))

    def predict(self, orders: Orders, covariances: Covariances) -> tuple[Floats, Floats]:
        """Return means and variances (n,) of the differences of orders.

        Parameters
        ----------
        covariances
            Of the orders with those known.
        """
        cross = covariances(self.strengths).T
        solved = self._solve(cross)
        terms = _line(orders.place, self._terms.shape[1])
        mean = terms @ self.coefficients + cross.T @ self._weights
        left = terms - solved.T @ self._terms
        variance = _variance(orders, self.strengths) - np.einsum("kn,kn->n", cross, solved)
        variance += np.einsum("np,pq,nq->n", left, self._inverse_normal, left)
        return mean, np.maximum(variance, 0)

    def left_out(self) -> tuple[Floats, Floats]:
        """Return means and variances (n,) of differences, each predicted from all the others.

        The variance is infinite where the others do not determine the straight line.
        """
        precision = self._solve(np.eye(len(self._difference)))
        solved = precision @ self._terms
        precision -= solved @ self._inverse_normal @ solved.T
        diagonal = np.diag(precision)
        undetermined = diagonal < _UNDETERMINED
        safe = np.where(undetermined, 1.0, diagonal)
        mean = self._difference - self._weights / safe
        return (
            np.where(undetermined, self._difference, mean),
            np.where(undetermined, np.inf, 1 / safe),
        )

    def scale(self) -> tuple[float, float]:
        """Return mean and variance of the factor on the potential's energies of orders."""
        height, variance = self._known.height, self.strengths.scale**2
        solved = self._solve(height)
        left = self._terms.T @ solved
        seen = float(height @ solved - left @ self._inverse_normal @ left)
        return 1 + variance * float(height @ self._weights), variance * (1 - variance * seen)


def n_line_terms(place: Floats) -> int:
    """Return how many terms of a straight line some values of x determine: 0, 1 or 2."""
    if not len(place):
        return 0
    return 1 if np.ptp(place) < _UNDETERMINED else 2


class Mixture:
    """Processes of many strengths, weighted by the evidence."""

    def __init__(self, known: Orders, difference: Floats) -> None:
        self.known = known
        self._difference = difference
        covariances = Covariances(known, known)
        every = [Process(known, difference, covariances, s) for s in drawn_strengths()]
        self._log_weights = np.array([one.log_evidence() for one in every])
        self._every = every
        weights = _normalised(self._log_weights)
        chosen = np.flatnonzero(weights >= _WEIGHS * weights.max())
        self._chosen = [every[k] for k in chosen]
        self.weights = weights[chosen] / weights[chosen].sum()

    def predict(self, orders: Orders) -> tuple[Floats, Floats]:
        """Return means and variances (n,) of the differences of orders, in eV/f.u."""
        covariances = Covariances(orders, self.known)
        found = [one.predict(orders, covariances) for one in self._chosen]
        return _mixed(*(np.array(part) for part in zip(*found, strict=True)), self.weights)

    def left_out(self) -> tuple[Floats, Floats]:
        """Return means and variances (n,) of differences, each predicted from all the others.

        As refits would have it, to the weights of the strengths: what the one left out adds to
        the evidence of each is taken back.
        """
        found = [one.left_out() for one in self._every]
        means, variances = (np.array(part) for part in zip(*found, strict=True))
        ratio = (self._difference - means) ** 2 / variances
        added = -0.5 * (ratio + np.log(2 * np.pi * variances))
        added = np.where(np.isinf(variances), 0.0, added)
        weights = np.apply_along_axis(_normalised, 0, self._log_weights[:, None] - added)
        return _mixed(means, variances, weights)

    def scale(self) -> tuple[float, float]:
        """Return mean and standard deviation of the factor on energies of orders."""
        means, variances = (
            np.array(p) for p in zip(*(o.scale() for o in self._chosen), strict=True)
        )
        mean, variance = _mixed(means[:, None], variances[:, None], self.weights)
        return float(mean[0]), float(np.sqrt(variance[0]))


def _normalised(logarithms: Floats) -> Floats:
    weights = np.exp(logarithms - logarithms.max())
    return np.asarray(weights / weights.sum())


def _mixed(means: Floats, variances: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance (n,) of a mixture of (n_draws, n) ones."""
    shares = weights.reshape(len(weights), -1)
    mean = (shares * means).sum(axis=0)
    return mean, (shares * (variances + (means - mean) ** 2)).sum(axis=0)

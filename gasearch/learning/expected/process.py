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
from collections.abc import Sequence
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
N_DRAWS = 300
"""Of the prior, and as many where the first ones are probable."""
_WIDER, _LEAST_VARIANCE = 1.3, 0.02
_WEIGHS = 1e-3
"""Draws that weigh so much less than the heaviest are left out of predictions."""
_SAME_PLACE = 1e-9


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


_CENTRES = Strengths(bow=0.25, length=0.8, scale=0.25, features=0.02, own=0.02)
_WIDTHS = Strengths(bow=1.2, length=0.4, scale=0.8, features=1.0, own=1.0)
"""Of log-normal priors: medians, and widths in natural logarithms."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Strengths that predictions are averaged over, always the same for the same energies.

    Parameters
    ----------
    places
        (n_draws, n_strengths) logarithms, in widths of the prior from its centre.
    log_prior
        (n_draws,) logarithm of the prior's density over that of the draws.
    """

    places: Floats
    log_prior: Floats

    @property
    def strengths(self) -> list[Strengths]:
        """The strengths themselves."""
        values = np.array(_CENTRES) * np.exp(self.places * np.array(_WIDTHS))
        return [Strengths(*row) for row in values.tolist()]

    @classmethod
    def of_prior(cls) -> Draws:
        """Return draws of the prior."""
        return cls(_even_normals(), np.zeros(N_DRAWS))

    def with_closer(self, weights: Floats) -> Draws:
        """Return as many more where the weights (n_draws,) are, and these (of the prior)."""
        mean = weights @ self.places
        apart = self.places - mean
        covariance = _WIDER**2 * (apart.T * weights) @ apart + _LEAST_VARIANCE * np.eye(len(mean))
        factor = np.linalg.cholesky(covariance)
        places = np.concatenate([self.places, mean + _even_normals() @ factor.T])
        from_mean = np.linalg.solve(factor, (places - mean).T)
        ratio = 0.5 * ((places**2).sum(axis=1) - (from_mean**2).sum(axis=0))
        ratio -= np.log(np.diag(factor)).sum()
        return Draws(places, -np.logaddexp(0.0, ratio))


@functools.cache
def _even_normals() -> Floats:
    """Return (N_DRAWS, n_strengths) normal numbers, evenly spread (an additive recurrence)."""
    n = len(_CENTRES)
    root = 1.0
    for _ in range(64):
        root = (1 + root) ** (1 / (n + 1))
    steps = root ** -np.arange(1.0, n + 1)
    return np.asarray(ndtri((0.5 + np.arange(1, N_DRAWS + 1)[:, None] * steps) % 1))


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
        undetermined = _determine_the_line(self._known.place)
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


def _determine_the_line(place: Floats) -> NDArray[np.bool_]:
    """Return (n,) the orders without which a straight line would have fewer terms."""
    n_terms = n_line_terms(place)
    rest = (np.delete(place, n) for n in range(len(place)))
    return np.array([n_line_terms(others) < n_terms for others in rest])


def n_line_terms(place: Floats) -> int:
    """Return how many terms of a straight line some values of x determine: 0, 1 or 2."""
    if not len(place):
        return 0
    return 1 if np.ptp(place) < _SAME_PLACE else 2


class Mixture:
    """Processes of many strengths, weighted by prior and evidence.

    Parameters
    ----------
    draws
        Strengths to average over; by default those that suit the differences.
    """

    def __init__(self, known: Orders, difference: Floats, draws: Draws | None = None) -> None:
        self.known = known
        self._difference = difference
        self._covariances = Covariances(known, known)
        self.draws = draws or self._suited()
        strengths = self.draws.strengths
        log_weights = self._log_evidence(strengths) + self.draws.log_prior
        weights = _normalised(log_weights)
        chosen = np.flatnonzero(weights >= _WEIGHS * weights.max())
        self._chosen = [self._process(strengths[k]) for k in chosen]
        self._log_weights = log_weights[chosen]
        self.weights = weights[chosen] / weights[chosen].sum()

    def _process(self, strengths: Strengths) -> Process:
        return Process(self.known, self._difference, self._covariances, strengths)

    def _suited(self) -> Draws:
        first = Draws.of_prior()
        return first.with_closer(_normalised(self._log_evidence(first.strengths)))

    def _log_evidence(self, strengths: Sequence[Strengths]) -> Floats:
        return np.array([self._process(s).log_evidence() for s in strengths])

    def predict(self, orders: Orders) -> tuple[Floats, Floats]:
        """Return means and variances (n,) of the differences of orders, in eV/f.u."""
        covariances = Covariances(orders, self.known)
        found = [one.predict(orders, covariances) for one in self._chosen]
        return _mixed(found, self.weights[:, None])

    def left_out(self) -> tuple[Floats, Floats]:
        """Return means and variances (n,) of differences, each predicted from all the others.

        As a refit would have it, to the weights of the strengths: what the one left out adds to
        the evidence of each is taken back.
        """
        found = [one.left_out() for one in self._chosen]
        means, variances = (np.array(part) for part in zip(*found, strict=True))
        added = -0.5 * ((self._difference - means) ** 2 / variances + np.log(2 * np.pi * variances))
        added = np.where(np.isinf(variances), 0.0, added)
        weights = [_normalised(self._log_weights - column) for column in added.T]
        return _mixed(found, np.array(weights).T)

    def scale(self) -> tuple[float, float]:
        """Return mean and standard deviation of the factor on energies of orders."""
        found = [tuple(np.array([value]) for value in one.scale()) for one in self._chosen]
        mean, variance = _mixed(found, self.weights[:, None])
        return float(mean[0]), float(np.sqrt(variance[0]))


def _normalised(logarithms: Floats) -> Floats:
    weights = np.exp(logarithms - logarithms.max())
    return np.asarray(weights / weights.sum())


def _mixed(found: Sequence[tuple[Floats, ...]], weights: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance (n,) of a mixture of normal distributions.

    Parameters
    ----------
    found
        Means and variances (n,) of each.
    weights
        (n_found, n) or (n_found, 1), which sum up to 1.
    """
    means, variances = (np.array(part) for part in zip(*found, strict=True))
    mean = (weights * means).sum(axis=0)
    return mean, (weights * (variances + (means - mean) ** 2)).sum(axis=0)

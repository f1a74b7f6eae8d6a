"""The committee of a trained network, in closed form: Bayesian regression of its last linear layer.

The energy per atom of a frame is linear in the mean of what goes into that layer. Given the frames,
its weights have a Gaussian posterior, whose principal axes are the members. How strong the prior is,
and how large the errors, is chosen by leaving out one decoration after the other, since frames of
one decoration are nearly repetitions; errors of decorations that the network was not trained on,
where there are any, correct the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gasearch.potentials.contract import Array
from gasearch.potentials.networks.committee import Committee, readout_sums
from gasearch.potentials.networks.network import Network, make_graph
from gasearch.training.data.samples import Sample, Unit, join

_PRIORS = np.logspace(-10, 2, 49)
"""Strengths of the prior that are tried, relative to the largest eigenvalue of the data."""


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The posterior of the weights of a linear layer: Gaussian, around those of the network.

    Parameters
    ----------
    covariance
        (F, F), in the square of what is predicted over that of the features.
    prior
        What was added to the diagonal of the features' second moments.
    """

    covariance: Array
    prior: float


def fit_last_layer(features: Array, targets: Array, groups: Sequence[str]) -> LastLayer:
    """Return the posterior under the prior that predicts left-out groups best.

    Parameters
    ----------
    features
        (n, F).
    targets
        (n,) what is linear in them.
    groups
        Of each row: what is left out together.
    """
    moments = features.T @ features
    largest = float(np.linalg.eigvalsh(moments)[-1])
    tried = [left_out(features, targets, groups, prior) for prior in largest * _PRIORS]
    scores = [np.log(np.mean(e**2 / q)) + np.mean(np.log(q)) for e, q in tried]
    best = int(np.argmin(scores))
    errors, variances = tried[best]
    prior = float(largest * _PRIORS[best])
    inverse = np.linalg.inv(moments + prior * np.eye(len(moments)))
    return LastLayer(np.mean(errors**2 / variances) * inverse, prior)


def left_out(
    features: Array, targets: Array, groups: Sequence[str], prior: float
) -> tuple[Array, Array]:
    """Return errors (n,) of ridge predictions without the own group, and their relative variances.

    In closed form: the hat matrix of all frames has those of all smaller fits in it.
    """
    moments = features.T @ features + prior * np.eye(features.shape[1])
    hat = features @ np.linalg.solve(moments, features.T)
    residuals = targets - hat @ targets
    errors, variances = np.empty((2, len(targets)))
    names = np.array(groups)
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        block = hat[np.ix_(own, own)]
        rest = np.eye(len(own)) - block
        errors[own] = np.linalg.solve(rest, residuals[own])
        variances[own] = np.diag(np.linalg.solve(rest, block))
    return errors, variances


def mean_inputs(network: Network, samples: Sequence[Sample], batch_size: int = 8) -> Array:
    """Return the mean (n, F) over the atoms of each frame of what goes into the last layer."""
    found: list[NDArray[np.float64]] = []
    for start in range(0, len(samples), batch_size):
        data = join([Unit((one,)) for one in samples[start : start + batch_size]])
        with torch.no_grad():
            graph = make_graph(data.batch, data.slots, data.edges, network.dtype)
            sums = readout_sums(network, graph)
        found.append((sums / torch.tensor(data.batch.counts)[:, None]).numpy())
    return np.concatenate(found)

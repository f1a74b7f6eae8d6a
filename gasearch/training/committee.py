"""The committee of a trained network, in closed form: Bayesian regression of its last linear layer.

The energy per atom of a frame is linear in the mean of what goes into that layer. Given the frames,
its weights have a Gaussian posterior, whose principal axes are the members. The strength of the
prior is chosen by leaving out one decoration after the other, since frames of one decoration are
nearly repetitions, and the size of the whole by errors on decorations that were held out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gasearch.potentials.contract import Array
from gasearch.potentials.networks.committee import Committee, readout_sums
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import Network, make_graph
from gasearch.potentials.networks.network_potential import NetworkPotential, reference_table
from gasearch.training.data.frames import Frame
from gasearch.training.data.samples import Sample, Unit, join, make_sample
from gasearch.training.data.splitting import Split
from gasearch.training.evaluation.predict import predict

_PRIORS = np.logspace(-10, 2, 49)
"""Strengths of the prior that are tried, relative to the largest eigenvalue of the data."""
_WITHIN = 0.6827
_MOST = 64


def fit_committee(network: Network, card: ModelCard, split: Split, size: int) -> Committee | None:
    """Return the committee of a trained network; None where it has no last linear layer.

    Parameters
    ----------
    card
        With the energy reference that goes with the network.
    split
        Frames that the network was trained on, and others by whose errors the committee is
        calibrated. Where there are no others, energies are as certain as the regression says, and
        forces by the errors of frames that were trained on, which is a little too hopeful.
    size
        Members; 0 for no committee.
    """
    committee = posterior(network, card, split.training, size)
    if committee is None:
        return None
    scale, force_scale = ratios(network, card, committee, split.validation or split.training)
    scale = scale if split.validation else 1.0
    return Committee(scale * committee.members, force_scale / scale)


def posterior(
    network: Network, card: ModelCard, frames: Sequence[Frame], size: int
) -> Committee | None:
    """Return the committee as the regression of energies gives it; forces are not calibrated."""
    known = [frame for frame in frames if frame.energy is not None]
    if size == 0 or not known or network.readout is None:
        return None
    samples = [make_sample(f.atoms, card.species_map, network.cutoff, f) for f in known]
    features, targets = mean_inputs(network, samples), _targets(card, samples)
    found = fit_last_layer(features, targets, [frame.decoration for frame in known])
    return Committee(principal_axes(found.covariance, features)[:size])


def ratios(
    network: Network, card: ModelCard, committee: Committee, frames: Sequence[Frame]
) -> tuple[float, float]:
    """Return which multiples of its deviations 68 % of the errors on frames stay below.

    Of energies and of largest forces; 1 where none is known. Of many frames some are taken.
    """
    chosen = frames[:: math.ceil(len(frames) / _MOST)]
    potential = NetworkPotential(network, replace(card, committee=committee))
    structures = [frame.atoms for frame in chosen]
    said, found = potential.uncertainty(structures), predict(potential, structures)
    if said is None:
        return 1.0, 1.0
    both = list(zip(chosen, found, strict=True))
    energies = [math.nan if f.energy is None else abs(p.energy - f.energy) for f, p in both]
    forces = [math.nan if f.forces is None else _largest(p.forces - f.forces) for f, p in both]
    return _ratio(energies, said.energy_eV), _ratio(forces, said.force_eV_per_A)


def _ratio(errors: Sequence[float], sigmas: Array) -> float:
    """Return which multiple of the deviations 68 % of the errors stay below; 1 if none is known."""
    ratios = np.asarray(errors) / sigmas
    known = ratios[np.isfinite(ratios)]
    return float(np.quantile(known, _WITHIN)) if len(known) else 1.0


def _largest(errors: Array) -> float:
    return float(np.linalg.norm(errors, axis=1).max())


def _targets(card: ModelCard, samples: Sequence[Sample]) -> Array:
    """Return energies per atom (n,) without their reference, in eV."""
    table = reference_table(card.reference, [int(one.slots.max()) for one in samples])
    return np.array([
        float(one.targets.energies - table[one.slots].sum()) / len(one.slots) for one in samples
    ])  # fmt: skip


def principal_axes(covariance: Array, features: Array) -> Array:
    """Return vectors (F, F) whose squares sum to a covariance, by how much features see of each.

    Parameters
    ----------
    features
        (n, F).
    """
    values, vectors = np.linalg.eigh(covariance)
    factor = vectors * np.sqrt(np.maximum(values, 0))
    _, _, turns = np.linalg.svd(features @ factor)
    return np.asarray(turns @ factor.T)


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

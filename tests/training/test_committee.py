"""Committees in closed form: against explicit fits without each decoration, and calibrated."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from crystals import perovskites

from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import Network, NetworkOutput
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.training.committee import fit_committee, fit_last_layer, left_out, principal_axes
from gasearch.training.data.frames import Frame
from gasearch.training.data.splitting import Split
from gasearch.training.evaluation.predict import predict

SPECIES = {"F-": 9, "Na+": 11, "Fe2+": 26, "Fe3+": 31}


class Linear(Network):
    """Gaussians of the distances to each neighbour, and a linear layer."""

    architecture = "linear"
    arguments = {}  # noqa: RUF012
    cutoff = 3.0

    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(4, 1, bias=False, dtype=torch.float64)

    @property
    def readout(self):
        return self.last

    def forward(self, graph):
        centres = torch.linspace(1.8, 2.4, 4, dtype=torch.float64)
        by_edge = torch.exp(-20 * (graph.distances[:, None] - centres) ** 2)
        by_edge = by_edge * (1 - graph.distances[:, None] / self.cutoff).clamp(min=0) ** 2
        atoms = by_edge.new_zeros(len(graph.slots), 4).index_add(0, graph.i, by_edge)
        return NetworkOutput(graph.sum_by_system(self.last(atoms).squeeze(1)), None, atoms)


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 6)) * [3, 1, 1, 0.3, 0.1, 0.03]
    targets = features @ rng.normal(size=6) + 0.1 * rng.normal(size=30)
    return features, targets, [str(number % 7) for number in range(30)]


def posterior_without(features, targets, own, prior):
    """Return weights and covariance of Bayesian regression with unit noise, written out."""
    precision = prior * np.eye(features.shape[1])
    for x in features[~own]:
        precision += np.outer(x, x)
    covariance = np.linalg.inv(precision)
    return covariance @ sum(y * x for x, y in zip(features[~own], targets[~own], strict=True)), (
        covariance
    )


def test_what_is_left_out_is_predicted_as_by_an_explicit_posterior(problem):
    features, targets, groups = problem
    errors, variances = left_out(features, targets, groups, 0.3)
    for name in set(groups):
        own = np.array(groups) == name
        weights, covariance = posterior_without(features, targets, own, 0.3)
        np.testing.assert_allclose(errors[own], targets[own] - features[own] @ weights)
        expected = np.einsum("ij,jk,ik->i", features[own], covariance, features[own])
        np.testing.assert_allclose(variances[own], expected)


def test_the_prior_predicts_better_than_others_and_sizes_the_posterior(problem):
    features, targets, groups = problem
    found = fit_last_layer(features, targets, groups)

    def score(prior):
        errors, variances = left_out(features, targets, groups, prior)
        size = np.mean(errors**2 / variances)
        gauss = errors**2 / (size * variances) + np.log(2 * np.pi * size * variances)
        return gauss.mean(), size

    best, size = score(found.prior)
    assert all(best < score(found.prior * factor)[0] for factor in (0.03, 0.3, 3, 30))
    weight = np.linalg.inv(found.covariance) * size
    np.testing.assert_allclose(weight, features.T @ features + found.prior * np.eye(6), atol=1e-8)


def test_axes_make_up_the_covariance_and_come_by_what_features_see_of_them(problem):
    features = problem[0]
    covariance = fit_last_layer(*problem).covariance
    axes = principal_axes(covariance, features)
    np.testing.assert_allclose(axes.T @ axes, covariance, atol=1e-12)
    seen = ((features @ axes.T) ** 2).sum(axis=0)
    assert (np.diff(seen) <= 1e-12).all()
    top = np.linalg.norm(features @ axes[:2].T) ** 2
    whole = np.trace(features @ covariance @ features.T)
    values = np.linalg.eigvalsh(features @ covariance @ features.T)
    assert top == pytest.approx(values[-2:].sum())
    assert top < whole


def frames_of(weights, n, seed):
    """Return frames whose energies are those of the network, shifted by decoration."""
    rng, made = np.random.default_rng(seed), []
    model = Linear()
    model.last.weight.data = torch.tensor([weights], dtype=torch.float64)
    card = ModelCard("true", SpeciesMap.from_json(SPECIES))
    for number in range(n):
        atoms = perovskites()[0]
        atoms.rattle(0.05 + 0.02 * rng.random(), rng=rng)
        found = NetworkPotential(model, card).evaluate(Batch.from_atoms([atoms]))
        forces = found.forces.numpy() + rng.normal(0, 0.1, (len(atoms), 3))
        energy = float(found.energies) + 0.3 * rng.normal()
        made.append(Frame(atoms, energy, forces, decoration=str(number // 2)))
    return made


def test_68_percent_of_held_out_errors_are_within_what_a_committee_says():
    frames = frames_of([1.0, -2.0, 0.5, 0.3], 40, 1)
    split = Split(tuple(frames[:16]), tuple(frames[16:]))
    network, card = Linear(), ModelCard("network", SpeciesMap.from_json(SPECIES))
    network.last.weight.data = torch.tensor([[1.0, -2.0, 0.5, 0.3]], dtype=torch.float64)
    committee = fit_committee(network, card, split, 3)
    assert committee.members.shape == (3, 4)
    potential = NetworkPotential(network, replace(card, committee=committee))
    structures = [frame.atoms for frame in split.validation]
    said, found = potential.uncertainty(structures), predict(potential, structures)
    both = list(zip(found, split.validation, strict=True))
    energies = np.abs([p.energy - f.energy for p, f in both]) / said.energy_eV
    forces = [np.linalg.norm(p.forces - f.forces, axis=1).max() for p, f in both]
    within = [np.mean(energies < 1), np.mean(np.array(forces) / said.force_eV_per_A < 1)]
    assert within == pytest.approx([0.68, 0.68], abs=0.03)


def test_no_committee_is_made_where_none_is_asked_for_or_can_be():
    frames = frames_of([1.0, -2.0, 0.5, 0.3], 4, 1)
    card = ModelCard("network", SpeciesMap.from_json(SPECIES))
    assert fit_committee(Linear(), card, Split(tuple(frames), ()), 0) is None
    without = [replace(frame, energy=None) for frame in frames]
    assert fit_committee(Linear(), card, Split(tuple(without), ()), 4) is None

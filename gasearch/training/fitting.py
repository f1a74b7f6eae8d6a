"""Fits a network to a split of frames; files are read and written in `gasearch.training.train`."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gasearch.crystal.species import SPINS, MomentRanges, Species
from gasearch.errors import UsageError
from gasearch.potentials.networks.model_card import ModelCard, TrainingDomain
from gasearch.potentials.networks.network import Network
from gasearch.potentials.networks.network_potential import identity, reference_table
from gasearch.training.committee import fit_committee
from gasearch.training.data.columns import ACCEPTED
from gasearch.training.data.frames import Frame, all_species, data_hash, without_repeats
from gasearch.training.data.label_pairs import LabelPair, label_pairs
from gasearch.training.data.samples import Sample, Unit, frame_unit, join, pair_unit
from gasearch.training.data.splitting import Split
from gasearch.training.energy_reference import fit_reference
from gasearch.training.loop import Trainer, TrainingProgress, TrainingTask
from gasearch.training.losses import evaluate_minibatch
from gasearch.training.settings import LossSettings, TrainingSettings
from gasearch.training.state import Counters

_BAND = 0.1  # of the gap between two states' moments: ambiguous
_SLACK = 1.0  # Bohr magnetons beyond the mean of the lowest and the highest state


class NoEnergiesError(UsageError):
    """Training data without any energy."""

    def __str__(self) -> str:
        return (
            "no training frame has an energy: a potential cannot be fitted to forces alone "
            f"({ACCEPTED})."
        )


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model.

    Parameters
    ----------
    network
        With the weights of the best epoch.
    card
        With energy reference, moment ranges and domain.
    counters
        History included.
    """

    network: Network
    card: ModelCard
    counters: Counters


def fit(
    network: Network,
    card: ModelCard,
    split: Split,
    settings: TrainingSettings,
    state_file: Path | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> Fitted:
    """Train a network on a split; its weights change.

    Parameters
    ----------
    state_file
        What a killed training continues from; nothing is written if None.
    """
    if all(frame.energy is None for frame in split.training):
        raise NoEnergiesError
    name = _identity(network, card, split, settings)
    task, reference = _prepare(network, card, split, settings)
    counters = Trainer(task, state_file, name).run(progress)
    samples = [unit.samples[0] for unit in task.training if len(unit.samples) == 1]
    finished = replace(
        card,
        reference=reference,
        moment_ranges=moment_ranges(network, samples),
        working_ion_metal=dict(settings.working_ion_metal) or card.working_ion_metal,
        domain=TrainingDomain.from_frames([frame.atoms for frame in split.training]),
        data_hash=data_hash(split.training),
        committee=None,
    )
    committee = fit_committee(network, finished, split, settings.committee)
    return Fitted(network, replace(finished, committee=committee), counters)


def moment_ranges(network: Network, samples: Sequence[Sample]) -> MomentRanges:
    """Return the moments by which this network tells the oxidation states of an element apart.

    Between two neighbouring states lies their mid-point, with an ambiguous band around it. Empty
    where the network has no moments.
    """
    found: dict[Species, list[float]] = {}
    if network.has_moments:
        for sample in samples:
            for species, moment in _moments(network, sample):
                found.setdefault(species, []).append(moment)
    means = {one: float(np.mean(moments)) for one, moments in found.items()}
    ranges: dict[Species, tuple[float, float]] = {}
    for element in sorted({one.element for one in means}):
        states = sorted((mean, one) for one, mean in means.items() if one.element == element)
        edges = [states[0][0] - _SLACK, *_middles(states), states[-1][0] + _SLACK]
        for k, (_, one) in enumerate(states):
            ranges[one] = (round(edges[2 * k], 3), round(edges[2 * k + 1], 3))
    return {one: (max(0.0, low), high) for one, (low, high) in ranges.items()}


def _middles(states: Sequence[tuple[float, Species]]) -> list[float]:
    """Return both edges of the ambiguous band between each two neighbours."""
    edges = []
    for (lower, _), (upper, _) in itertools.pairwise(states):
        middle, band = (lower + upper) / 2, _BAND * (upper - lower)
        edges += [middle - band, middle + band]
    return edges


def _moments(network: Network, sample: Sample) -> list[tuple[Species, float]]:
    """Return species and moment of each redox site of a structure."""
    output = evaluate_minibatch(network, join([Unit((sample,))]), learn=False).output
    if output.moments is None:
        return []
    from ase.data import chemical_symbols

    rows = zip(
        sample.batch.numbers.tolist(),
        sample.batch.charges.tolist(),
        (SPINS[code] for code in sample.batch.spins.tolist()),
        output.moments.tolist(),
        strict=True,
    )
    named = ((Species(chemical_symbols[z], q, s), abs(moment)) for z, q, s, moment in rows)
    return [(species, moment) for species, moment in named if species.ion.moment > 0]


def _prepare(
    network: Network, card: ModelCard, split: Split, settings: TrainingSettings
) -> tuple[TrainingTask, dict[int, float]]:
    """Return what is to be learned, and the energy reference that is not."""
    chosen = without_repeats(split.training) if settings.drop_repeats else split.training
    training = _frame_units(chosen, card, network, settings.loss)
    validation = _frame_units(split.validation, card, network, settings.loss)
    samples = [unit.samples[0] for unit in training]
    reference = fit_reference(network, samples, card.species_map)
    known = [*samples, *(unit.samples[0] for unit in validation)]
    table = reference_table(reference, [int(one.slots.max()) for one in known])
    inside, outside = _pairs(split)
    scale = settings.loss.difference_scale
    if settings.loss.difference > 0:
        training += [pair_unit(p, card.species_map, network.cutoff, scale) for p in inside]
    validation += [pair_unit(p, card.species_map, network.cutoff, scale) for p in outside]
    return TrainingTask(network, training, validation, table, settings), reference


def _frame_units(
    frames: Sequence[Frame], card: ModelCard, network: Network, loss: LossSettings
) -> list[Unit]:
    """Return the frames as units; weights have mean 1, hops the share that the settings say."""
    weights = np.array([loss.hop_share if frame.hop else 1.0 for frame in frames])
    weights /= weights.mean() if weights.sum() > 0 else 1.0
    return [
        frame_unit(frame, card.species_map, network.cutoff, float(weight))
        for frame, weight in zip(frames, weights, strict=True)
    ]


def _pairs(split: Split) -> tuple[list[LabelPair], list[LabelPair]]:
    """Return the label pairs within the training set, and those with a held-out order."""
    held_out = set(split.held_out)
    pairs = label_pairs([*split.training, *split.validation])
    inside = [pair for pair in pairs if not held_out.intersection(pair.decorations)]
    return inside, [pair for pair in pairs if held_out.intersection(pair.decorations)]


def _identity(network: Network, card: ModelCard, split: Split, settings: TrainingSettings) -> str:
    """Return what a training's course depends on, as a digest."""
    chosen: dict[str, Any] = settings.to_json()
    for operational in ("save_every_s", "device", "committee"):
        chosen.pop(operational)
    document = {
        "settings": chosen,
        "start": identity(network, card),
        "training": data_hash(split.training),
        "validation": data_hash(split.validation),
        "species": [str(one) for one in all_species(split.training)],
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

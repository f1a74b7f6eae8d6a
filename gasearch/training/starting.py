"""What a training starts from: a package's own weights, a model on disk, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gasearch.crystal.species import Species
from gasearch.potentials.networks.architectures import declaration
from gasearch.potentials.networks.declaration import (
    Architecture,
    FileWeights,
    OwnWeights,
    StartError,
    resolve,
)
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import Network, TrainingData
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.potentials.trust import read_trusted
from gasearch.training.data.frames import Frame, all_species

STARTS = ("ga", "clone", "blind", "fresh")
"""Words for a start; anything else is the folder of a model, or a trusted file of its package.

"ga" and "clone" need an architecture with weights of its own; "fresh" begins with random weights;
"blind", the control, gives all oxidation states of an element one slot.
"""
_SURROGATE = 31  # the slot of Ga: the field's convention for Fe3+
_FIRST_SPARE = 95  # slots beyond those of CHGNet's elements


def starting_model(
    name: str,
    frames: Sequence[Frame],
    start: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> tuple[Network, ModelCard]:
    """Return the network to train and its card, whose reference and domain are still to come.

    Parameters
    ----------
    name
        Of the architecture.
    frames
        Whose species need slots.
    start
        One of `STARTS`, the folder of a model, or a file of the architecture's own package that the
        user trusts; the best that the architecture has if None.
    arguments
        Of a fresh network, such as {"n_features": 48}.
    seed
        Of random weights.
    """
    declared = declaration(name)
    if start is None:
        start = "ga" if declared.own_weights else "fresh"
    if start not in STARTS:
        return _from_path(name, declared, Path(start), frames)
    if declared.own_weights and start != "fresh":
        own: OwnWeights = resolve(declared.own_weights)
        return own(start, slots_for(all_species(frames)))
    if start not in ("fresh", "blind"):
        raise StartError(name, start, "it has no weights of its own; take 'fresh' or a model")
    slots = slots_for(all_species(frames), is_blind=start == "blind")
    return _fresh(name, declared, frames, slots, arguments or {}, seed)


def _fresh(
    name: str,
    declared: Architecture,
    frames: Sequence[Frame],
    slots: Mapping[Species, int],
    arguments: Mapping[str, Any],
    seed: int,
) -> tuple[Network, ModelCard]:
    """Return a network with random weights."""
    kind = declared.network()
    has_charges = any(frame.partial_charges is not None for frame in frames)
    data = TrainingData(slots, [frame.atoms for frame in frames], has_charges)
    chosen = kind.arguments_for(data, arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = kind(**chosen)
        except TypeError as error:
            raise StartError(name, "fresh", str(error)) from error
    card = ModelCard(name, SpeciesMap(slots), notes={"start": "random weights", "seed": seed})
    return network, card


def slots_for(species: Sequence[Species], *, is_blind: bool = False) -> dict[Species, int]:
    """Return a slot for each species: the element's for its lowest state, spare ones for others.

    The first spare slot is Ga's where no Ga occurs. A blind map gives all states the element's.
    """
    spare = [_SURROGATE] if all(one.number != _SURROGATE for one in species) else []
    spare += range(_FIRST_SPARE, _FIRST_SPARE + len(species))
    slots: dict[Species, int] = {}
    taken: set[int] = set()
    for one in sorted(species):
        has_own = one.number not in taken
        slots[one] = one.number if has_own or is_blind else spare.pop(0)
        taken.add(one.number)
    return slots


def _from_path(
    name: str, declared: Architecture, path: Path, frames: Sequence[Frame]
) -> tuple[Network, ModelCard]:
    """Return the model in a folder, or in a file of the architecture's own package."""
    if path.is_file() and declared.file_weights:
        open_file: FileWeights = resolve(declared.file_weights)
        return open_file(read_trusted(path), slots_for(all_species(frames)))
    if not path.is_dir():
        raise StartError(name, str(path), f"expected a folder or one of {', '.join(STARTS)}")
    from gasearch.potentials.networks.checkpoint import read_checkpoint

    network, card = read_checkpoint(path)
    if network.architecture != name:
        raise StartError(name, str(path), f"that is a {network.architecture} model")
    for one in all_species(frames):
        card.species_map.slot(one)  # raises where there is none
    return network, card

"""Where the weights of a CHGNet come from: its package, and checkpoints of its trainer.

A charge-aware CHGNet starts from the package's weights in one of two ways. With "clone" the higher
oxidation state gets a copy of its element's embedding: exactly the model it was, blind until it is
trained. With "ga" it keeps what the slot's own element had learned, Ga's for Fe3+: aware at once,
a small trivalent ion that pulls its oxygens in. The energy reference is the element's either way.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gasearch.crystal.moments import MOMENT_RANGES
from gasearch.crystal.species import Species
from gasearch.potentials.chgnet import ARCHITECTURES
from gasearch.potentials.chgnet.network import N_ELEMENTS, ChgnetNetwork
from gasearch.potentials.networks.declaration import StartError, UnsupportedModelError
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import Network
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap

FE3_AS_GA: Mapping[str, str | int] = {"Fe3+": "Ga"}
_RANGES = MOMENT_RANGES["chgnet"]
_FILES = {
    "0.3.0": "0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
    "r2scan": "r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
}
_REFERENCE = "composition_model.fc.weight"
_EMBEDDING = "atom_embedding.embedding.weight"
_NOT_ARGUMENTS = {"composition_model", "graph_converter_algorithm", "version"}


def stock(
    version: str = "0.3.0", species: Mapping[str, str | int] | None = None, device: str = "cpu"
) -> NetworkPotential:
    """Return a CHGNet of the package, untouched.

    Parameters
    ----------
    version
        "0.3.0" or "r2scan".
    species
        What stands for an oxidation state: {"Fe3+": "Ga"} gives the energies of a crystal with Ga
        in it. Without it all oxidation states of an element are one.
    """
    network, reference = _read(_pretrained(version))
    name = "chgnet" if version == "0.3.0" else f"chgnet-{version}"
    card = ModelCard(name, SpeciesMap.parse(species or {}), reference, _RANGES)
    return NetworkPotential(network, card, device)


def from_pretrained(
    start: str = "ga", surrogates: Mapping[str, str | int] = FE3_AS_GA
) -> tuple[ChgnetNetwork, ModelCard]:
    """Return a network to be trained, with its card.

    Parameters
    ----------
    start
        What the higher oxidation states know at first: "clone" or "ga", see above; "blind" gives
        both states of an element one slot, as a control.
    surrogates
        Which slot they have: {"Fe3+": "Ga"}, or a number above 94 for a slot of their own, which
        has nothing to keep and so asks for "clone".
    """
    species_map = SpeciesMap.parse(surrogates)
    if start == "blind":
        slots = {species: species.number for species in species_map.slots}
        species_map = SpeciesMap(slots, is_open=True)
    network, reference = _read(_pretrained(), max([N_ELEMENTS, *species_map.slots.values()]))
    for species, slot in species_map.slots.items():
        reference[slot] = reference[species.number]
        if start == "clone" or slot > N_ELEMENTS:
            rows = network.model.atom_embedding.embedding.weight.data
            rows[slot - 1] = rows[species.number - 1]
    notes = {"start": start, "base": "chgnet 0.3.0"}
    return network, ModelCard("chgnet", species_map, reference, _RANGES, notes=notes)


def from_package(start: str, slots: Mapping[Species, int]) -> tuple[ChgnetNetwork, ModelCard]:
    """Return a network to be trained on these species, from the package's weights."""
    surrogates = {str(one): slot for one, slot in slots.items() if slot != one.number}
    if start == "ga" and any(slot > N_ELEMENTS for slot in surrogates.values()):
        raise StartError("chgnet", start, "one species only can take Ga's place; take 'clone'")
    return from_pretrained(start, surrogates or FE3_AS_GA)


def from_trainer_weights(content: bytes, slots: Mapping[Species, int]) -> tuple[Network, ModelCard]:
    """Return a network to be trained from a file of the trainer: slots keep what they know."""
    found = from_trainer_file(content, SpeciesMap(slots, is_open=True), "chgnet")
    return found.network, found.card


def from_trainer_file(
    content: bytes, species_map: SpeciesMap, name: str, device: str = "cpu"
) -> NetworkPotential:
    """Return the potential of a file of CHGNet's trainer, opened without running its code.

    A dictionary of a model alone, as `CHGNet.as_dict` gives it, serves too.
    """
    ARCHITECTURES["chgnet"].require()
    try:
        document = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        network, reference = _read(document.get("model", document))
    except (AttributeError, KeyError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
        first = str(error).strip().split("\n")[0]
        problem = f"is not as CHGNet's trainer writes it ({first})"
        raise UnsupportedModelError("CHGNet", problem) from error
    card = ModelCard(name, species_map, reference, _RANGES)
    return NetworkPotential(network, card, device)


def _pretrained(version: str = "0.3.0") -> dict[str, Any]:
    """Return weights and arguments that ship with the package, read as tensors and nothing else."""
    ARCHITECTURES["chgnet"].require()
    import chgnet

    path = Path(chgnet.__file__).parent / "pretrained" / _FILES[version]
    document = torch.load(path, map_location="cpu", weights_only=True)
    model: dict[str, Any] = document["model"]
    return model


def _read(
    model: Mapping[str, Any], n_slots: int = N_ELEMENTS
) -> tuple[ChgnetNetwork, dict[int, float]]:
    """Return the network and the energy reference (eV per atom, by slot) of CHGNet's own format."""
    arguments = {k: v for k, v in model["model_args"].items() if k not in _NOT_ARGUMENTS}
    network = ChgnetNetwork(n_slots, **json.loads(json.dumps(arguments)))
    state = {k: v for k, v in model["state_dict"].items() if k != _REFERENCE}
    rows = torch.zeros(n_slots, state[_EMBEDDING].shape[1])
    rows[: len(state[_EMBEDDING])] = state[_EMBEDDING]
    network.model.load_state_dict({**state, _EMBEDDING: rows})
    energies = model["state_dict"].get(_REFERENCE)
    found = [] if energies is None else energies[0].to(torch.float64).tolist()
    return network, dict(enumerate(found, start=1))

"""A model on disk: a folder with `model.json` and `weights.safetensors`, and nothing to execute.

The JSON file says what the model is and has the sha256 of the weights; the weights are tensors and
nothing else. So a checkpoint from a stranger can be loaded without running a stranger's code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gasearch.crystal.species import Species
from gasearch.errors import GasearchError, UsageError
from gasearch.potentials.networks.architectures import ARCHITECTURES, architecture
from gasearch.potentials.networks.committee import Committee, readout_width
from gasearch.potentials.networks.model_card import ModelCard, TrainingDomain
from gasearch.potentials.networks.network import Network
from gasearch.potentials.networks.network_potential import (
    NetworkPotential,
    description,
    weights_bytes,
)
from gasearch.potentials.networks.species_map import SpeciesMap

FORMAT = 1
MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
_KEYS = (
    "name", "architecture", "arguments", "species", "is_open", "reference", "moment_ranges",
    "working_ion_metal", "domain", "data_hash", "weights_sha256", "card",
)  # fmt: skip


class CheckpointError(UsageError):
    """A folder that holds no model, or a damaged one."""

    def __init__(self, folder: str, problem: str) -> None:
        super().__init__(folder, problem)
        self.folder = folder
        self.problem = problem

    def __str__(self) -> str:
        return f"model {self.folder}: {self.problem}."


def save_checkpoint(folder: Path, network: Network, card: ModelCard) -> None:
    """Write a model; one that is there is replaced, the JSON file last."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = weights_bytes(network)
    document = _document(network, card, hashlib.sha256(weights).hexdigest())
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    _replace(folder / WEIGHTS_FILE, weights)
    _replace(folder / MODEL_FILE, text.encode())


def load_checkpoint(folder: Path, device: str = "cpu") -> NetworkPotential:
    """Return the potential of a model on disk.

    Raises
    ------
    CheckpointError
        For a folder without a model, a damaged file, or a model of a newer gasearch.
    MissingPackageError
        Where the package of the architecture is not installed.
    """
    network, card = read_checkpoint(folder)
    return NetworkPotential(network, card, device)


def read_checkpoint(folder: Path) -> tuple[Network, ModelCard]:
    """Return network and card of a model on disk, on the CPU: to train further, or to look at."""
    document = read_model_file(folder)
    weights = _read(folder, WEIGHTS_FILE)
    if hashlib.sha256(weights).hexdigest() != document["weights_sha256"]:
        problem = f"{WEIGHTS_FILE} is not the file that {MODEL_FILE} describes: its sha256 differs"
        raise CheckpointError(str(folder), f"{problem}; get an undamaged copy")
    network, card = _network(folder, document, weights), card_from_json(folder, document)
    _check_committee(folder, network, card)
    return network, card


def read_model_file(folder: Path) -> dict[str, Any]:
    """Return `model.json`, checked for format and completeness; imports no architecture."""
    text = _read(folder, MODEL_FILE)
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CheckpointError(str(folder), f"{MODEL_FILE} is no JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("format"), int):
        raise CheckpointError(str(folder), f"{MODEL_FILE} is no model description of gasearch")
    if document["format"] > FORMAT:
        found = f"its format is {document['format']}, this gasearch reads up to {FORMAT}"
        raise CheckpointError(str(folder), f"{found}; upgrade gasearch")
    missing = [key for key in _KEYS if key not in document]
    if missing:
        raise CheckpointError(str(folder), f"{MODEL_FILE} lacks {', '.join(missing)}")
    return document


def card_from_json(folder: Path, document: Mapping[str, Any]) -> ModelCard:
    """Return the card that a model description holds."""
    try:
        domain, committee = document["domain"], document.get("committee")
        return ModelCard(
            name=document["name"],
            species_map=SpeciesMap.from_json(document["species"], document["is_open"]),
            reference={int(slot): float(e) for slot, e in document["reference"].items()},
            moment_ranges={
                Species.parse(text): (float(low), float(high))
                for text, (low, high) in document["moment_ranges"].items()
            },
            working_ion_metal=document["working_ion_metal"],
            domain=None if domain is None else TrainingDomain.from_json(domain),
            data_hash=document["data_hash"],
            committee=None if committee is None else Committee.from_json(committee),
            notes=document["card"],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"{MODEL_FILE} makes no sense: {type(error).__name__}: {error}"
        raise CheckpointError(str(folder), problem) from error


def versions(network: Network) -> dict[str, str]:
    """Return the versions of the packages that a model depends on."""
    known = ARCHITECTURES.get(network.architecture)
    package = (known.distribution or known.package) if known else ""
    return {name: _version(name) for name in ("gasearch", "torch", package) if name}


def _document(network: Network, card: ModelCard, weights_sha256: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": card.name,
        **description(network, card),
        "moment_ranges": {str(s): list(window) for s, window in card.moment_ranges.items()},
        "working_ion_metal": dict(card.working_ion_metal),
        "domain": None if card.domain is None else card.domain.to_json(),
        "data_hash": card.data_hash,
        "versions": versions(network),
        "weights_sha256": weights_sha256,
        **({} if card.committee is None else {"committee": card.committee.to_json()}),
        "card": dict(card.notes),
    }


def _network(folder: Path, document: Mapping[str, Any], weights: bytes) -> Network:
    """Return the network with its weights; a description that does not fit them is refused."""
    kind = architecture(document["architecture"])
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        network = kind(**document["arguments"])
        network.load_state_dict(load(weights), assign=True)  # in the dtype they were saved in
    except GasearchError:
        raise
    except (RuntimeError, SafetensorError, TypeError, ValueError, KeyError) as error:
        first = str(error).strip().split("\n")[0]
        problem = f"its weights do not fit its description: {type(error).__name__}: {first}"
        raise CheckpointError(str(folder), problem) from error
    return network


def _check_committee(folder: Path, network: Network, card: ModelCard) -> None:
    """Raise where the members have other weights than the last layer of the network."""
    if card.committee is None:
        return
    found, known = card.committee.members.shape[1], readout_width(network)
    if found != known:
        problem = f"{MODEL_FILE} has a committee of {found} weights each, its network {known}"
        raise CheckpointError(str(folder), f"{problem}; get an undamaged copy")


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        problem = f"no {name} can be read there ({error.strerror})"
        raise CheckpointError(str(folder), problem) from error


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"

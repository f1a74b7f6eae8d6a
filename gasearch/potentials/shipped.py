"""Models that come with gasearch, in `gasearch/models`, trained on the frames in `data`.

Each is a checkpoint as anybody's (see `networks.checkpoint`) and a registered name. Their
cards say what they were trained on, how wrong they are and what they must not be used for. No torch
is imported before one is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gasearch.potentials.networks.network_potential import NetworkPotential

MODELS = Path(__file__).parents[1] / "models"
DEFAULT = "chgnet-nafepo4"
"""What the name "default" stands for."""
UNIVERSAL = "chgnet"
"""What knows all elements and no oxidation states: to be held."""


def shipped_names() -> list[str]:
    """Return the names of the shipped models, in alphabetical order."""
    return sorted(path.parent.name for path in MODELS.glob("*/model.json"))


def model_description(name: str) -> dict[str, Any]:
    """Return the `model.json` of a shipped model."""
    document: dict[str, Any] = json.loads((MODELS / name / "model.json").read_text("utf-8"))
    return document


def load_shipped(name: str, device: str = "cpu") -> NetworkPotential:
    """Return a shipped model on a device.

    Raises
    ------
    MissingPackageError
        Where the package of its architecture is not installed.
    """
    from gasearch.potentials.networks.checkpoint import load_checkpoint

    return load_checkpoint(MODELS / name, device)


def default(device: str = "cpu") -> NetworkPotential:
    """Return the shipped default."""
    return load_shipped(DEFAULT, device)


def chgnet_nafepo4(device: str = "cpu") -> NetworkPotential:
    """Return CHGNet, fine-tuned from its own weights, with Ga's place for Fe3+."""
    return load_shipped("chgnet-nafepo4", device)


def chgnet_lifepo4(device: str = "cpu") -> NetworkPotential:
    """Return CHGNet for LixFePO4, made like that for NaxFePO4."""
    return load_shipped("chgnet-lifepo4", device)


def mace_nafepo4(device: str = "cpu") -> NetworkPotential:
    """Return a small MACE."""
    return load_shipped("mace-nafepo4", device)


def painn_nafepo4(device: str = "cpu") -> NetworkPotential:
    """Return a small PaiNN."""
    return load_shipped("painn-nafepo4", device)


def cpainn_nafepo4(device: str = "cpu") -> NetworkPotential:
    """Return a small cPaiNN: PaiNN with moments."""
    return load_shipped("cpainn-nafepo4", device)

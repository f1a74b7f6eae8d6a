"""Models of other packages: pickles, opened only where the user trusts them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.potentials.trust import read_trusted


class ForeignLoader(Protocol):
    """What opens the models of one package."""

    def __call__(
        self, content: bytes, species_map: SpeciesMap, name: str, device: str
    ) -> NetworkPotential:
        """Return the potential of a trusted file with this content."""
        ...


LOADERS: Mapping[str, str] = {
    ".pth.tar": "gasearch.potentials.chgnet.weights:from_trainer_file",
    ".model": "gasearch.potentials.mace.weights:from_model_file",
    "best_model": "gasearch.potentials.painn.weights:from_schnetpack_file",
    "best_inference_model": "gasearch.potentials.painn.weights:from_schnetpack_file",
}
"""By how the file's name ends: `module:function`, a `ForeignLoader`."""


def is_foreign(path: Path) -> bool:
    """Return whether a file looks like the model of another package, by its name."""
    return path.name.endswith(tuple(LOADERS))


def load_foreign(
    path: Path, species: Mapping[str, str | int], name: str, device: str = "cpu"
) -> NetworkPotential:
    """Return the potential of another package's model file.

    Parameters
    ----------
    species
        As in run.toml: {"Fe3+": "Ga"}. Species that are not named keep their elements.
    name
        How the user asked for it.

    Raises
    ------
    UntrustedFileError
        Unless the user trusted this content before; the file is not opened then.
    """
    species_map = SpeciesMap.parse(species)
    content = read_trusted(path)
    place = next(place for ending, place in LOADERS.items() if path.name.endswith(ending))
    module, _, function = place.partition(":")
    loader: ForeignLoader = getattr(importlib.import_module(module), function)
    return loader(content, species_map, name, device)

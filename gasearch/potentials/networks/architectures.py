"""Which architectures there are: each folder of `gasearch.potentials` declares its own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import gasearch.potentials
from gasearch.errors import UsageError
from gasearch.plugins import nearest
from gasearch.potentials.networks.declaration import Architecture, ForeignLoader, resolve
from gasearch.potentials.trust import read_trusted

if TYPE_CHECKING:
    from gasearch.potentials.networks.network import Network
    from gasearch.potentials.networks.network_potential import NetworkPotential


class UnknownArchitectureError(UsageError):
    """A name that no architecture has."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        guess = nearest(self.name, ARCHITECTURES)
        return f"unknown architecture {self.name!r}{guess}; known: {', '.join(ARCHITECTURES)}."


def _declared() -> dict[str, Architecture]:
    """Return what the folders of `gasearch.potentials` declare, by name."""
    found: dict[str, Architecture] = {}
    for module in pkgutil.iter_modules(gasearch.potentials.__path__, "gasearch.potentials."):
        if module.ispkg:
            found |= getattr(importlib.import_module(module.name), "ARCHITECTURES", {})
    return found


ARCHITECTURES = _declared()
"""By name; an extension adds its own."""


def declaration(name: str) -> Architecture:
    """Return what an architecture declares, or raise `UnknownArchitectureError`."""
    if name not in ARCHITECTURES:
        raise UnknownArchitectureError(name)
    return ARCHITECTURES[name]


def architecture(name: str) -> type[Network]:
    """Return the class of an architecture; imports its package.

    Raises
    ------
    MissingPackageError
        Where the package itself is missing. A package that is there and broken shows its own error.
    """
    return declaration(name).network()


def foreign_name(text: str) -> bool:
    """Return whether a name is that of a model file of another package, by how it ends."""
    return text.endswith(tuple(foreign_endings()))


def foreign_endings() -> dict[str, str]:
    """Return how model files of other packages end, with what loads them."""
    return {end: place for one in ARCHITECTURES.values() for end, place in one.loaders.items()}


def load_foreign(
    path: Path, species: Mapping[str, str | int], name: str, device: str = "cpu"
) -> NetworkPotential:
    """Return the potential of another package's model file, a pickle.

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
    from gasearch.potentials.networks.species_map import SpeciesMap

    species_map = SpeciesMap.parse(species)
    content = read_trusted(path)
    endings = foreign_endings()
    load: ForeignLoader = resolve(next(endings[end] for end in endings if path.name.endswith(end)))
    return load(content, species_map, name, device)

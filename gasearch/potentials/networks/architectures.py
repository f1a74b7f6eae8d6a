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
from gasearch.potentials.networks.declaration import (
    Architecture,
    ForeignLoader,
    UnsupportedModelError,
    resolve,
)
from gasearch.potentials.networks.sniffing import TORCHSCRIPT, kind_of
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


def foreign_loader(path: Path, content: bytes) -> str:
    """Return what loads a model file of another package, by its content, else by its name.

    "" where it is none.

    Raises
    ------
    UnsupportedModelError
        For a compiled model, which has lost what a search needs.
    """
    kind = kind_of(content)
    if kind == TORCHSCRIPT:
        problem = (
            "is compiled (TorchScript): its elements are fixed, and it gives no species a slot. "
            "Take the plain model, which mace's trainer writes beside it (NAME.model beside "
            "NAME_compiled.model)"
        )
        raise UnsupportedModelError(f"model, {path.name},", problem)
    for one in ARCHITECTURES.values():
        if kind in one.contents:
            return one.contents[kind]
    endings = foreign_endings()
    return next((endings[end] for end in endings if path.name.endswith(end)), "")


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
    load: ForeignLoader = resolve(foreign_loader(path, content))
    return load(content, species_map, name, device)

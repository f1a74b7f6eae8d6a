"""What an architecture declares about itself: its class, its package, and where weights come from.

The folder of an architecture names everything by `module:name`, so that a list of what there is
takes no second; nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gasearch.errors import GasearchError, UsageError

if TYPE_CHECKING:  # a list of what there is shall not take the seconds that torch does
    from gasearch.crystal.species import Species
    from gasearch.potentials.networks.model_card import ModelCard
    from gasearch.potentials.networks.network import Network
    from gasearch.potentials.networks.network_potential import NetworkPotential
    from gasearch.potentials.networks.species_map import SpeciesMap


class MissingPackageError(GasearchError, ImportError):
    """A package that an architecture is built on and that is not installed."""

    def __init__(self, package: str, install: str) -> None:
        super().__init__(package, install)
        self.package = package
        self.install = install

    def __str__(self) -> str:
        return f"No {self.package} here; try: {self.install}"


class StartError(UsageError):
    """A start of a training that an architecture does not have."""

    def __init__(self, name: str, start: str, problem: str) -> None:
        super().__init__(name, start, problem)
        self.name = name
        self.start = start
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.name} cannot start from {self.start!r}: {self.problem}."


class UnsupportedModelError(UsageError):
    """A model made elsewhere that holds no network of the expected kind, or one not computed here.

    Parameters
    ----------
    kind
        As in a sentence: "CHGNet", "MACE model".
    problem
        As it goes on: "has no head 'mp'".
    """

    def __init__(self, kind: str, problem: str) -> None:
        super().__init__(kind, problem)
        self.kind = kind
        self.problem = problem

    def __str__(self) -> str:
        return f"this {self.kind} {self.problem}, which gasearch does not support."


class ForeignLoader(Protocol):
    """Makes a potential of a model file of the architecture's own package, as it is."""

    def __call__(
        self, content: bytes, species_map: SpeciesMap, name: str, device: str
    ) -> NetworkPotential:
        """Return the potential of a file with this content, which the user trusts."""
        ...


class OwnWeights(Protocol):
    """Gives the weights that the package brings, made ready for oxidation states."""

    def __call__(self, start: str, slots: Mapping[Species, int]) -> tuple[Network, ModelCard]:
        """Return the network to train, with its card.

        Parameters
        ----------
        start
            What a species knows at first whose slot is not its element's: "ga" what the slot's own
            element had learned, "clone" what its element has; "blind" gives both one slot.
        slots
            Of all species in the training data.
        """
        ...


class FileWeights(Protocol):
    """Gives the weights of a model file of the package, made ready for oxidation states."""

    def __call__(self, content: bytes, slots: Mapping[Species, int]) -> tuple[Network, ModelCard]:
        """Return the network to train, with its card; the user trusts the file."""
        ...


@dataclass(frozen=True)
class Architecture:
    """All that the rest of gasearch knows of an architecture.

    Parameters
    ----------
    place
        "module:Class", a subclass of `Network`.
    package
        What it imports, or "" where torch is enough.
    install
        The command that brings the package.
    distribution
        Of the package, where that has another name than what is imported.
    loaders
        By how the name of a model file of the package ends: "module:function", a `ForeignLoader`.
    contents
        The same by the content of a file, as `gasearch.potentials.networks.sniffing` tells it.
    own_weights
        "module:function", an `OwnWeights`; "" for a package without weights.
    file_weights
        "module:function", a `FileWeights`; "" where trainings do not start from such files.
    """

    place: str
    package: str = ""
    install: str = ""
    distribution: str = ""
    loaders: Mapping[str, str] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    own_weights: str = ""
    file_weights: str = ""

    @property
    def folder(self) -> str:
        """The Python package that it lives in."""
        return self.place.partition(":")[0].rpartition(".")[0]

    @property
    def is_installed(self) -> bool:
        """Whether its package is here; imports nothing."""
        return not self.package or importlib.util.find_spec(self.package) is not None

    def require(self) -> None:
        """Raise `MissingPackageError` where the package is not installed; imports nothing."""
        if not self.is_installed:
            raise MissingPackageError(self.package, self.install)

    def network(self) -> type[Network]:
        """Return its class; imports its package, which shows its own error where it is broken."""
        self.require()
        found: type[Network] = resolve(self.place)
        return found


def resolve(place: str) -> Any:
    """Return what "module:name" names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)

"""Which architectures there are, and where: by name, imported only when asked for."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gasearch.errors import GasearchError, UsageError
from gasearch.plugins import nearest

if TYPE_CHECKING:  # a list of what there is shall not take the seconds that torch does
    from gasearch.potentials.networks.network import Network


@dataclass(frozen=True)
class Architecture:
    """Where an architecture lives and what it needs.

    Parameters
    ----------
    place
        "module:Class", a subclass of `Network`.
    package
        What it imports, or "" where torch is enough.
    install
        The command that brings the package.
    """

    place: str
    package: str = ""
    install: str = ""


_CHGNET = "pip install 'gasearch[chgnet]'"
_MACE = "pip install 'gasearch[mace]'"
_SCHNETPACK = "pip install 'gasearch[schnetpack]' && pip install --no-deps schnetpack==2.1.1"

ARCHITECTURES: dict[str, Architecture] = {
    "chgnet": Architecture("gasearch.potentials.chgnet.network:ChgnetNetwork", "chgnet", _CHGNET),
    "mace": Architecture("gasearch.potentials.mace.network:MaceNetwork", "mace", _MACE),
    "painn": Architecture(
        "gasearch.potentials.painn.network:PainnNetwork", "schnetpack", _SCHNETPACK
    ),
    "cpainn": Architecture(
        "gasearch.potentials.painn.network:CpainnNetwork", "schnetpack", _SCHNETPACK
    ),
}
"""By name; an extension adds its own."""


class UnknownArchitectureError(UsageError):
    """A name that no architecture has."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        guess = nearest(self.name, ARCHITECTURES)
        return f"unknown architecture {self.name!r}{guess}; known: {', '.join(ARCHITECTURES)}."


class MissingPackageError(GasearchError, ImportError):
    """A package that an architecture is built on and that is not installed."""

    def __init__(self, package: str, install: str) -> None:
        super().__init__(package, install)
        self.package = package
        self.install = install

    def __str__(self) -> str:
        return f"No {self.package} here; try: {self.install}"


def architecture(name: str) -> type[Network]:
    """Return the class of an architecture; imports its package.

    Raises
    ------
    MissingPackageError
        Where the package itself is missing. A package that is there and broken shows its own error.
    """
    if name not in ARCHITECTURES:
        raise UnknownArchitectureError(name)
    known = ARCHITECTURES[name]
    module, _, attribute = known.place.partition(":")
    require_package(known.package, known.install)
    found: type[Network] = getattr(importlib.import_module(module), attribute)
    return found


def require_package(package: str, install: str) -> None:
    """Raise `MissingPackageError` where a package is not installed; imports nothing."""
    if package and importlib.util.find_spec(package) is None:
        raise MissingPackageError(package, install)


def require(name: str) -> None:
    """Raise `MissingPackageError` where the package of an architecture is not installed."""
    require_package(ARCHITECTURES[name].package, ARCHITECTURES[name].install)

"""Which potentials and architectures there are here. Imports none of them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from gasearch.plugins import registered
from gasearch.potentials.networks.architectures import ARCHITECTURES
from gasearch.potentials.networks.declaration import Architecture
from gasearch.potentials.shipped import DEFAULT, model_description, shipped_names


@dataclass(frozen=True)
class Listed:
    """A name that a user may write.

    Parameters
    ----------
    name
        As the command line and run.toml take it.
    place
        "module:Name" that it stands for.
    package
        What it needs beside gasearch and torch, or "".
    available
        Whether that package is installed; it is not imported.
    install
        The command that brings the package, or "".
    about
        Of a shipped model: what it is, in a few words; "" otherwise.
    """

    name: str
    place: str
    package: str
    available: bool
    install: str
    about: str = ""


def potentials() -> list[Listed]:
    """Return the registered potentials, by name."""
    by_folder = {one.folder: one for one in ARCHITECTURES.values()}
    shipped = shipped_names()
    found = []
    for name, point in registered("potential").items():
        model = DEFAULT if name == "default" else name
        if model in shipped:
            found.append(_shipped(name, model, point.value))
            continue
        known = by_folder.get(point.module, Architecture(point.value))
        own = importlib.util.find_spec(point.module.partition(".")[0])
        found.append(_listed(name, point.value, known, is_here=own is not None))
    return found


def missing_packages(name: str) -> list[str]:
    """Return what to install before a registered potential can be used; [] where all is here."""
    return [
        f"note: {name} needs {row.package}, which is not installed here: {row.install}"
        for row in potentials()
        if row.name == name and not row.available and row.install
    ]


def architectures() -> list[Listed]:
    """Return the architectures that can be trained, by name."""
    return [_listed(name, one.place, one) for name, one in sorted(ARCHITECTURES.items())]


def _shipped(name: str, model: str, place: str) -> Listed:
    document = model_description(model)
    known = ARCHITECTURES[document["architecture"]]
    about = f"the same as {model}" if name != model else str(document["card"].get("about", ""))
    return _listed(name, place, known, about)


def _listed(
    name: str, place: str, known: Architecture, about: str = "", *, is_here: bool = True
) -> Listed:
    available = is_here and known.is_installed
    return Listed(name, place, known.package, available, known.install, about)

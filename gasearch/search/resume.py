"""Whether a run may be resumed: the same search, the same host, and which versions changed."""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gasearch.errors import UsageError
from gasearch.run.config import default_of
from gasearch.store.records import AWARENESS, RunRecord

SEEDS_FOUND = "seeds.found"
"""Recorded beside the settings: the seeds themselves, so that their files may go."""
CALIBRATION_FOUND = "potential.calibration"
"""Recorded beside the settings: what the states of the host look like to a held potential."""
WINDOWS_FOUND = "relax.windows"
"""Recorded beside the settings: by which moments a reader tells the species of the host apart."""
_FOUND = frozenset({SEEDS_FOUND, CALIBRATION_FOUND, WINDOWS_FOUND, AWARENESS})
_BEFORE = {
    "screening.surrogate": False,
    "screening.exact": False,
    "screening.refine": 0.0,
    "screening.adaptive": False,
    "screening.acquisition": "expected_improvement",
    "seeds.coulomb": False,
}
"""What held in runs that were started before these keys existed."""
_PACKAGES = ("gasearch", "numpy", "torch", "ase", "ase-ga", "spglib", "scipy")


class ChangedRunError(UsageError):
    """A resumed run whose run.toml defines another search than the one in the database."""

    def __init__(self, key: str, stored: object, found: object, folder: Path) -> None:
        super().__init__(key, stored, found, folder)
        self.key = key
        self.stored = stored
        self.found = found
        self.folder = folder

    def __str__(self) -> str:
        return (
            f"{self.key} defines the search and cannot change on resume: it was started with "
            f"{self.stored!r}, run.toml now says {self.found!r}. Put it back, or start another "
            f"run folder than {self.folder}."
        )


class ChangedHostError(UsageError):
    """A resumed run whose structure file, or built-in host, is not the one that it started with."""

    def __init__(self, structure: str, differing: Sequence[str], folder: Path) -> None:
        super().__init__(structure, differing, folder)
        self.structure = structure
        self.differing = tuple(differing)
        self.folder = folder

    def __str__(self) -> str:
        return (
            f"the host {self.structure!r} was changed since the search was started "
            f"({', '.join(self.differing)}): put it back, or start another run folder than "
            f"{self.folder}."
        )


def refuse_changed_settings(run: RunRecord, now: Mapping[str, Any], folder: Path) -> None:
    """Refuse settings that define another search than the recorded one.

    Parameters
    ----------
    now
        Keys that define the search, such as {"relax.fmax": 0.02}.
    """
    named = {*run.settings, *now} - _FOUND
    # whether the search is reproducible decides which keys define it: name that one first
    for key in sorted(named, key=lambda key: (key != "search.reproducible", key)):
        stored = run.settings.get(key, _BEFORE.get(key))
        if stored is None and now[key] == default_of(key):
            continue  # a key that came with a later version, left at its default
        if stored != now.get(key):
            raise ChangedRunError(key, stored, now.get(key), folder)


def refuse_changed_host(run: RunRecord, now: str, structure: str, folder: Path) -> None:
    """Refuse another host than the recorded one.

    Parameters
    ----------
    now
        As JSON.
    structure
        Its name in run.toml.
    """
    differing = host_differences(run.host, now)
    if differing:
        raise ChangedHostError(structure, differing, folder)


def host_differences(stored: str, now: str) -> list[str]:
    """Return in what two hosts differ, such as ["cell", "positions"]; both as JSON."""
    before, after = json.loads(stored), json.loads(now)
    return [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]


def changed_keys(stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is new or other now."""
    return {key: value for key, value in now.items() if stored.get(key) != value}


def versions() -> dict[str, str]:
    """Return the versions that results depend on: of Python, and of packages by name."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


_version = functools.cache(version)  # it reads a file


def changed_versions(recorded: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return the recorded versions of those packages that have another one now."""
    now = versions()
    return {n: recorded[n] for n in names if n in recorded and recorded[n] != now[n]}

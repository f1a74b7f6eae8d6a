"""`gasearch init`: a new run folder."""

from __future__ import annotations

import filecmp
import importlib.util
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gasearch.crystal.host import Host
from gasearch.crystal.io.guess.ions import NoGuessError
from gasearch.crystal.io.supercells import supercell_of
from gasearch.errors import GasearchError, UsageError
from gasearch.files import written
from gasearch.plugins import nearest, registered
from gasearch.potentials.shipped import DEFAULT, UNIVERSAL, shipped_names
from gasearch.run.choice import default_choice, named_choice
from gasearch.run.config import run_settings
from gasearch.run.folder import RunFolder
from gasearch.run.host import HostSection, build_host
from gasearch.run.host_file import (
    HostFile,
    HostReading,
    NamedHost,
    default_supercell,
    read_cell,
    read_host,
)
from gasearch.run.sections import SearchSection
from gasearch.run.template import is_unfinished, run_file_text, unfinished_run_file

_MAX_WORKERS = 4
_INPUTS = "inputs"
_SEARCH = SearchSection()


class UnfinishedHostError(GasearchError, ValueError):
    """A host that could not be guessed; its run.toml is there to be completed."""

    def __init__(self, guess: NoGuessError, folder: RunFolder) -> None:
        super().__init__(guess, folder)
        self.guess = guess
        self.folder = folder

    def __str__(self) -> str:
        return (
            f"{self.guess.path}: the sublattices cannot be guessed: {self.guess.problem}. Wrote "
            f"{self.folder.run_file}, where they are to be completed."
        )


def initialize(
    folder: RunFolder,
    host: str = "nafepo4-olivine",
    supercell: Any = None,
    potential: str | None = None,
    budget: int = _SEARCH.budget,
    seed: int = _SEARCH.seed,
    reading: HostReading | None = None,
) -> tuple[Host, NamedHost]:
    """Write a run.toml into a new folder, with a copy of the structure file; return the host.

    Nothing is written unless a search could start from it, or its sublattices are all that is
    missing: then a run.toml to be completed. "default" is written as the name that
    it stands for, so that a later gasearch searches with the same model.

    Parameters
    ----------
    host
        The name of a built-in host, or a structure file.
    supercell
        In any form that run.toml has; None for the default, which depends on the host.
    potential
        None for what suits the host: the shipped default on crystals as it was trained on, else
        CHGNet with a hold (see `gasearch.run.choice`).
    budget
        Candidates to relax.
    reading
        How a structure file is read.

    Returns
    -------
    The host, and what was read of it with notes for the user.
    """
    _refuse_started(folder)
    try:
        named = read_host(host, reading)
    except NoGuessError as error:
        _refuse_options(folder, potential, budget, seed)
        own: dict[str, Any] = {
            "potential.name": _as_written(potential or UNIVERSAL, folder.path),
            "search.budget": budget,
            "search.seed": seed,
        }
        if potential is None:
            own["potential.hold"] = "auto"
        source = Path(host).resolve()
        _write_unfinished(folder, own, source, reading or HostReading(), error)
        raise UnfinishedHostError(error, folder) from error
    declaration = named.declaration
    _refuse_options(folder, potential, budget, seed)
    if supercell is None:
        supercell, line = default_supercell(named)
        named = replace(named, lines=(*named.lines, *filter(None, [line])))
    else:
        supercell = supercell_of(declaration, supercell)
    crystal = Host.build(declaration, supercell)
    choice = default_choice(crystal) if potential is None else named_choice(potential, crystal)
    potential = _as_written(choice.name, folder.path)
    named = replace(named, lines=(*named.lines, *filter(None, [choice.note])))
    text = run_file_text(
        declaration,
        {
            "host.structure": f"{_INPUTS}/{named.file.name}" if named.file else host,
            "host.supercell": supercell,
            "potential.name": potential,
            "search.budget": budget,
            "search.seed": seed,
            **_new_runs(potential),
            **choice.settings,
        },
        named.lines,
    )
    section = run_settings(tomllib.loads(text), str(folder.run_file)).host
    built = _with_inputs(folder, named.file, section)
    _write_run_file(folder, text)
    return built, named


def _refuse_started(folder: RunFolder) -> None:
    """Refuse a folder that holds a run; one whose sublattices are still missing is none."""
    run_file = folder.run_file
    is_empty = not run_file.exists() or is_unfinished(run_file.read_text(encoding="utf-8"))
    if not is_empty or folder.database.exists() or folder.place_record.exists():
        raise UsageError(
            f"{folder.path} holds a run already; go on with: gasearch run {folder.quoted}"
        )


def _write_unfinished(
    folder: RunFolder,
    own: Mapping[str, Any],
    source: Path,
    reading: HostReading,
    error: NoGuessError,
) -> None:
    """Write a run.toml whose sublattices the user must complete, with the structure file."""
    file = read_cell(source, reading)
    elements = list(dict.fromkeys(e for shares in file.structure.shares for e in shares))
    structure = f"{_INPUTS}/{file.name}"
    values = {
        "host.structure": structure,
        "host.supercell": [1, 1, 1],
        **own,
        **_new_runs(own["potential.name"]),
    }
    text = unfinished_run_file(values, elements, [*file.lines, error.problem])
    with _structure_files(file) as found:
        _copy_all(found, folder)
    _write_run_file(folder, text)


def _write_run_file(folder: RunFolder, text: str) -> None:
    """Write run.toml; one that was unfinished gives way."""
    with written(folder.run_file, replace=folder.run_file.exists()) as path:
        path.write_text(text, encoding="utf-8")


def _with_inputs(folder: RunFolder, file: HostFile | None, section: HostSection) -> Host:
    """Return the host as a run builds it, and put its structure files into the folder.

    Nothing is put there if it cannot be built.
    """
    if file is None:
        return build_host(section, folder.path)
    with _structure_files(file) as found:
        own = section.model_copy(update={"structure": str(found[-1])})
        built = build_host(own, folder.path)
        _copy_all(found, folder)
    return built


@contextmanager
def _structure_files(file: HostFile) -> Iterator[list[Path]]:
    """Have the user's file and, behind it, the one in its place, if there is one."""
    with tempfile.TemporaryDirectory(prefix="gasearch-") as place:
        found = [file.source]
        if file.text:
            found.append(Path(place) / file.name)
            found[-1].write_text(file.text, encoding="utf-8")
        yield found


def _copy_all(paths: list[Path], folder: RunFolder) -> None:
    for path in paths:
        _copy(path, folder.path / _INPUTS / path.name)


def _new_runs(potential: str) -> dict[str, Any]:
    """Return what new runs write in place of defaults, on which older run.toml files rely."""
    found: dict[str, Any] = {
        "search.reproducible": True,
        "execution.workers": min(os.cpu_count() or 1, _MAX_WORKERS),
    }
    has_reader = potential in shipped_names() and importlib.util.find_spec("chgnet") is not None
    return found | ({"relax.reader": "chgnet"} if has_reader else {})


def _as_written(potential: str, folder: Path) -> str:
    """Return how a run.toml in a folder names a potential."""
    if potential == "default":
        return DEFAULT
    if ":" not in potential and Path(potential).exists():
        return _from_folder(Path(potential), folder)
    return potential


def _from_folder(model: Path, folder: Path) -> str:
    """Return how a run.toml in a folder names a trained model or file that lies elsewhere."""
    relative = os.path.relpath(model.resolve(), folder.resolve())
    return relative if "/" in relative else f"./{relative}"


def _copy(source: Path, target: Path) -> None:
    if target.resolve() == source or (target.is_file() and filecmp.cmp(source, target, False)):
        return
    with written(target) as path:
        shutil.copyfile(source, path)


def _refuse_options(folder: RunFolder, potential: str | None, budget: int, seed: int) -> None:
    known = registered("potential")
    is_name = potential is not None and ":" not in potential and not Path(potential).exists()
    if potential is not None and is_name and potential not in known:
        raise UsageError(
            f"unknown potential {potential!r}{nearest(potential, known)}. Known: "
            f"{', '.join(known)}; or the folder of a trained model, or your own as "
            "module:factory or ./file.py:factory."
        )
    if budget < 1:
        raise UsageError(f"--budget {budget}: expected a whole number above 0.")
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed {seed}: expected a whole number from 0 to 2^63 - 1.")
    if folder.path.exists() and not folder.path.is_dir():
        raise UsageError(f"{folder.path} is a file: name a folder.")

"""`gasearch init`: a new run folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from gasearch.crystal.declaration import HostDeclaration
from gasearch.crystal.host import Host
from gasearch.crystal.species import Species
from gasearch.crystal.supercell import supercell_of
from gasearch.errors import UsageError
from gasearch.files import written
from gasearch.plugins import nearest, registered
from gasearch.potentials.networks.architectures import foreign_name
from gasearch.potentials.shipped import DEFAULT, UNIVERSAL, default_for, shipped_names
from gasearch.run.config import run_settings
from gasearch.run.folder import RunFolder
from gasearch.run.host import HostSection, build_host
from gasearch.run.host_file import HostReading, NamedHost, default_supercell, read_host
from gasearch.run.template import run_file_text

_MAX_WORKERS = 4
_INPUTS = "inputs"


def initialize(
    folder: RunFolder,
    host: str,
    supercell: Any,
    potential: str | None,
    budget: int,
    seed: int,
    reading: HostReading | None = None,
) -> tuple[Host, NamedHost]:
    """Write a run.toml into a new folder, with a copy of the structure file; return the host.

    Nothing is written unless a search could start from it. "default" is written as the name that
    it stands for, so that a later gasearch searches with the same model.

    Parameters
    ----------
    supercell
        In any form that run.toml has; None for the default, which depends on the host.
    potential
        None for the shipped default where it knows the host's species, else CHGNet with a hold.
    """
    if any(path.exists() for path in (folder.run_file, folder.database, folder.place_record)):
        raise UsageError(
            f"{folder.path} holds a run already; go on with: gasearch run {folder.quoted}"
        )
    named = read_host(host, reading)
    declaration = named.declaration
    if potential is None:
        potential = default_for(species_of_declaration(declaration))
    _refuse_options(folder, potential, budget, seed)
    potential = _as_written(potential, folder.path)
    if supercell is None:
        supercell, line = default_supercell(named)
        named = replace(named, lines=(*named.lines, *filter(None, [line])))
    else:
        supercell = supercell_of(declaration, supercell)
        Host.build(declaration, supercell)
    is_builtin = named.structure is None
    text = run_file_text(
        declaration,
        {
            "host.structure": host if is_builtin else f"{_INPUTS}/{named.file_name}",
            "host.supercell": supercell,
            "potential.name": potential,
            "search.budget": budget,
            "search.seed": seed,
            **_new_runs(potential),
        },
        named.lines,
    )
    section = run_settings(tomllib.loads(text), str(folder.run_file)).host
    built = _with_inputs(folder, named, section)
    with written(folder.run_file) as path:
        path.write_text(text, encoding="utf-8")
    return built, named


def _with_inputs(folder: RunFolder, named: NamedHost, section: HostSection) -> Host:
    """Return the host as a run builds it, and put its structure files into the folder.

    Nothing is put there if it cannot be built.
    """
    if named.structure is None:
        return build_host(section, folder.path)
    with tempfile.TemporaryDirectory(prefix="gasearch-") as place:
        source = named.source
        if named.text:
            source = Path(place) / named.file_name
            source.write_text(named.text, encoding="utf-8")
        built = build_host(section.model_copy(update={"structure": str(source)}), folder.path)
        for path in dict.fromkeys([named.source, source]):
            _copy(path, folder.path / _INPUTS / path.name)
    return built


def _new_runs(potential: str) -> dict[str, Any]:
    """Return what new runs write in place of defaults, on which older run.toml files rely."""
    found: dict[str, Any] = {
        "search.reproducible": True,
        "execution.workers": min(os.cpu_count() or 1, _MAX_WORKERS),
    }
    if potential == UNIVERSAL or foreign_name(potential):
        found |= {"potential.hold": "auto"}
    has_reader = potential in shipped_names() and importlib.util.find_spec("chgnet") is not None
    return found | ({"relax.reader": "chgnet"} if has_reader else {})


def species_of_declaration(declaration: HostDeclaration) -> frozenset[Species]:
    """Return all species that a host may hold."""
    mobile = (species for declared in declaration.sublattices for species in declared.species)
    filled = (species for species in mobile if not species.is_vacancy)
    return frozenset(filled) | frozenset(declaration.framework.values())


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
    if target.resolve() == source:
        return
    with written(target) as path:
        shutil.copyfile(source, path)


def _refuse_options(folder: RunFolder, potential: str, budget: int, seed: int) -> None:
    known = registered("potential")
    if ":" not in potential and potential not in known and not Path(potential).exists():
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

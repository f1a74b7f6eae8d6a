"""`gasearch init`: a new run folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gasearch.crystal.declaration import HostDeclaration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.crystal.io.hosts import guess_declaration
from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.files import written
from gasearch.plugins import nearest, registered
from gasearch.potentials.networks.architectures import foreign_name
from gasearch.potentials.shipped import DEFAULT, UNIVERSAL, default_for, shipped_names
from gasearch.run.config import run_settings
from gasearch.run.folder import NoRunError, RunFolder
from gasearch.run.host import build_host
from gasearch.run.sections import SearchSection
from gasearch.run.template import run_file_text

_MAX_WORKERS = 4
_INPUTS = "inputs"
_SEARCH = SearchSection()


def initialize(
    folder: RunFolder,
    host: str = "nafepo4-olivine",
    supercell: Sequence[int] = (1, 2, 1),
    potential: str | None = None,
    budget: int = _SEARCH.budget,
    seed: int = _SEARCH.seed,
) -> Host:
    """Write a run.toml into a new folder, with a copy of the structure file; return the host.

    Nothing is written unless a search could start from it. "default" is written as the name that
    it stands for, so that a later gasearch searches with the same model.

    Parameters
    ----------
    host
        The name of a built-in host, or a structure file.
    supercell
        Three repeats of its unit cell.
    potential
        None for the shipped default where it knows the host's species, else CHGNet with a hold.
    budget
        Candidates to relax.
    """
    if any(path.exists() for path in (folder.run_file, folder.database, folder.place_record)):
        raise UsageError(
            f"{folder.path} holds a run already; go on with: gasearch run {folder.quoted}"
        )
    declaration = named_host(host)
    if potential is None:
        potential = default_for(species_of_declaration(declaration))
    _refuse_options(folder, potential, budget, seed)
    potential = _as_written(potential, folder.path)
    Host.build(declaration, supercell)
    structure = host if host in BUILTIN_HOSTS else f"{_INPUTS}/{Path(host).name}"
    text = run_file_text(
        declaration,
        {
            "host.structure": structure,
            "host.supercell": supercell,
            "potential.name": potential,
            "search.budget": budget,
            "search.seed": seed,
            **_new_runs(potential),
        },
    )
    section = run_settings(tomllib.loads(text), str(folder.run_file)).host
    if host in BUILTIN_HOSTS:
        built = build_host(section, folder.path)
    else:
        source = Path(host).resolve()
        built = build_host(section.model_copy(update={"structure": str(source)}), folder.path)
        _copy(source, folder.path / structure)
    with written(folder.run_file) as path:
        path.write_text(text, encoding="utf-8")
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


def named_host(host: str) -> HostDeclaration:
    """Return a built-in host, or a guess of what a structure file holds."""
    if host in BUILTIN_HOSTS:
        return builtin_host(host)
    if not Path(host).exists():
        known = ", ".join(BUILTIN_HOSTS)
        raise NoRunError(
            f"--host {host!r}: no built-in host{nearest(host, BUILTIN_HOSTS)}, and no file. "
            f"Built in: {known}."
        )
    return guess_declaration(host)


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

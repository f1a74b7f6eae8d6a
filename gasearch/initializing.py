"""`gasearch init`: a new run folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from gasearch.builtin_hosts import BUILTIN_HOSTS, builtin_host
from gasearch.errors import UsageError
from gasearch.host import Host
from gasearch.host_declaration import HostDeclaration
from gasearch.host_files import guess_declaration
from gasearch.plugins import nearest, registered
from gasearch.run_folder import NoRunError, RunFolder, build_host
from gasearch.templates import run_file_text

_MAX_WORKERS = 4


def initialize(
    folder: RunFolder, host: str, supercell: Sequence[int], potential: str, budget: int, seed: int
) -> Host:
    """Write a run.toml into a new folder, with a copy of the structure file; return the host.

    Nothing is written unless the run file is valid.
    """
    if folder.run_file.exists() or folder.database.exists():
        raise UsageError(f"{folder.path} holds a run already: gasearch run {folder.path}")
    _refuse_options(potential, budget, seed)
    declaration = named_host(host)
    built = Host.build(declaration, supercell)
    structure = host if host in BUILTIN_HOSTS else f"inputs/{Path(host).name}"
    workers = min(os.cpu_count() or 1, _MAX_WORKERS)
    text = run_file_text(declaration, structure, supercell, potential, budget, seed, workers)
    folder.path.mkdir(parents=True, exist_ok=True)
    if host not in BUILTIN_HOSTS:
        target = folder.path / structure
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(host, target)
    folder.run_file.write_text(text, encoding="utf-8")
    build_host(folder.settings().host, folder.path)
    return built


def named_host(host: str) -> HostDeclaration:
    """Return a built-in host, or a guess of what a structure file holds."""
    if host in BUILTIN_HOSTS:
        return builtin_host(host)
    if not Path(host).exists():
        known = ", ".join(BUILTIN_HOSTS)
        raise NoRunError(
            f"--host {host!r}: no built-in host{nearest(host, BUILTIN_HOSTS)} ({known}) and no file."
        )
    return guess_declaration(host)


def _refuse_options(potential: str, budget: int, seed: int) -> None:
    known = registered("potential")
    if ":" not in potential and potential not in known:
        raise UsageError(
            f"unknown potential {potential!r}{nearest(potential, known)}. Known: "
            f"{', '.join(known)}; or your own as module:factory or ./file.py:factory."
        )
    if budget < 1:
        raise UsageError(f"--budget {budget}: expected a whole number above 0.")
    if seed < 0:
        raise UsageError(f"--seed {seed}: expected a whole number of at least 0.")

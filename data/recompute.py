"""Compute the frames of a file again with GPAW, at the level that gasearch has by default now.

    python data/recompute.py HOST IN.xyz OUT.xyz --work FOLDER [--jobs 2]

HOST is a built-in one; a frame's `decoration` names its supercell (121-... is 1x2x1).
Each frame is a folder in FOLDER; what is computed there is not computed again, so the same command
goes on after a kill. OUT.xyz has the frames that are done, in the order of IN.xyz, without those in
which DFT has put a hole elsewhere than the labels say; how many these are is told.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import ase.io
import numpy as np
import typer
from ase import Atoms

from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.dft.codes.gpaw import SCRIPT, job_input, retries, with_retry
from gasearch.dft.levels import dft_level
from gasearch.run.dft_section import DftSection

_SPLIT = 4.0  # Bohr magnetons: Fe2+ has 3.6 to 3.8 in GPAW's spheres, Fe3+ 4.2 to 4.4


def _compute(frame: Atoms, host: Host, folder: Path) -> None:
    """Compute a frame in its folder, with one retry after another until one converges."""
    folder.mkdir(parents=True, exist_ok=True)
    written = job_input(frame, host, DftSection(), relax=False)
    (folder / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
    bare = frame.copy()
    bare.calc = None
    ase.io.write(folder / "start.traj", bare)
    for number in range(len([name for name in retries(written) if name != "surrogate"])):
        (folder / "job.json").write_text(json.dumps(with_retry(written, number, number + 1)))
        with (folder / "log").open("a") as log:
            command = [sys.executable, SCRIPT.name]
            if not subprocess.run(command, cwd=folder, stdout=log, stderr=log).returncode:
                return


def _is_done(folder: Path) -> bool:
    return (folder / "outcome.json").exists()


def _labelled(frame: Atoms, folder: Path, level: str) -> Atoms | None:
    """Return a frame with what was computed; None where it failed or lost its charge order."""
    if not (folder / "result.traj").exists():
        return None
    found = ase.io.read(folder / "result.traj")
    assert isinstance(found, Atoms)
    iron = found.symbols == "Fe"
    is_oxidised = np.abs(found.get_magnetic_moments())[iron] > _SPLIT
    if not np.array_equal(is_oxidised, frame.get_initial_charges()[iron] == 3):
        return None
    found.info = {**frame.info, "level": level}
    found.set_initial_charges(frame.get_initial_charges())
    return found


def main(
    host: str,
    given: Path,
    out: Path,
    work: Annotated[Path, typer.Option(help="Folder of the jobs.")],
    jobs: int = 1,
) -> None:
    """Compute the frames of a file again, and write those that are done."""
    frames = ase.io.read(given, ":")
    declaration = builtin_host(host)
    hosts: dict[str, Host] = {}
    for frame in frames:
        cell = frame.info["decoration"].split("-")[0]
        hosts[cell] = hosts.get(cell) or Host.build(declaration, tuple(map(int, cell)))
    cells = [hosts[frame.info["decoration"].split("-")[0]] for frame in frames]
    folders = [work / f"{given.stem}-{n}" for n in range(len(frames))]
    level = {cell: dft_level("gpaw", DftSection(), one, relax=False) for cell, one in hosts.items()}

    def write() -> None:
        done = [(f, p) for f, p in zip(frames, folders, strict=True) if _is_done(p)]
        labelled = [
            _labelled(f, p, level[f.info["decoration"].split("-")[0]].name) for f, p in done
        ]
        kept = [one for one in labelled if one is not None]
        ase.io.write(out, kept, format="extxyz")
        typer.echo(f"{len(done)} of {len(frames)} done, {len(done) - len(kept)} left out")

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [one for one in zip(frames, cells, folders, strict=True) if not _is_done(one[2])]
        for _ in pool.map(lambda one: _compute(*one), waiting):
            write()
    write()


if __name__ == "__main__":
    typer.run(main)

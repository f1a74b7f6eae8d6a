"""Compute the frames of a file again with GPAW, at the level that gasearch has by default now.

    python data/recompute.py HOST IN.xyz OUT.xyz --work FOLDER [--jobs 2]

HOST is a built-in one; a frame's `decoration` names its supercell (121-... is 1x2x1).
Each frame is a folder in FOLDER; what is computed there is not computed again, so the same command
goes on after a kill, and tries again what failed. OUT.xyz has the frames that are done, in the
order of IN.xyz, without those in which DFT has put a hole elsewhere than the labels say.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import ase.io
import typer
from ase import Atoms

from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.moments import MOMENT_RANGES
from gasearch.crystal.species import species_of
from gasearch.dft.codes.gpaw import SCRIPT, job_input, require_gpaw, retries, with_retry
from gasearch.dft.levels import dft_level
from gasearch.run.dft_section import DftSection

_SECTION = DftSection()
_RANGES = MOMENT_RANGES["gpaw"]


@dataclass(frozen=True)
class Job:
    """A frame, the host in its supercell, the name of the level, and where it is computed."""

    frame: Atoms
    host: Host
    level: str
    folder: Path

    @property
    def is_done(self) -> bool:
        """Whether it has a result."""
        outcome = self.folder / "outcome.json"
        return outcome.exists() and json.loads(outcome.read_text())["end"] == "done"

    def compute(self) -> None:
        """Compute the frame, with one retry after another until one converges."""
        self.folder.mkdir(parents=True, exist_ok=True)
        written = job_input(self.frame, self.host, _SECTION, relax=False)
        (self.folder / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
        bare = self.frame.copy()
        bare.calc = None
        ase.io.write(self.folder / "start.traj", bare)
        for number in range(len(retries({**written, "surrogates": {}}))):
            job = with_retry(written, number, number + 1)
            (self.folder / "job.json").write_text(json.dumps(job))
            with (self.folder / "log").open("a") as log:
                command = [sys.executable, SCRIPT.name]
                subprocess.run(command, cwd=self.folder, stdout=log, stderr=log, check=False)
            if self.is_done:
                return

    def labelled(self) -> Atoms | None:
        """Return the frame with what was computed; None where it has another charge order."""
        found = ase.io.read(self.folder / "result.traj")
        assert isinstance(found, Atoms)
        for moment, species in zip(
            found.get_magnetic_moments(), species_of(self.frame), strict=True
        ):
            lowest, highest = _RANGES.get(species, (0.0, float("inf")))
            if not lowest <= abs(moment) <= highest:
                return None
        found.info = {**self.frame.info, "level": self.level}
        found.info.pop("plane_wave_excess", None)  # its energy is corrected by the job itself
        found.set_initial_charges(self.frame.get_initial_charges())
        return found


def hosts_and_levels(
    name: str, frames: Sequence[Atoms], section: DftSection
) -> list[tuple[Host, str]]:
    """Return of each frame the host in the supercell that its decoration names, and its level."""
    declaration = builtin_host(name)
    cells = [frame.info["decoration"].split("-")[0] for frame in frames]
    hosts = {cell: Host.build(declaration, tuple(map(int, cell))) for cell in set(cells)}
    levels = {c: dft_level("gpaw", section, one, relax=False).name for c, one in hosts.items()}
    return [(hosts[cell], levels[cell]) for cell in cells]


def main(
    host: str,
    given: Path,
    out: Path,
    work: Annotated[Path, typer.Option(help="Folder of the jobs.")],
    at_once: Annotated[int, typer.Option("--jobs")] = 1,
) -> None:
    """Compute the frames of a file again, and write those that are done."""
    require_gpaw(_SECTION)
    frames = ase.io.read(given, ":")
    places = hosts_and_levels(host, frames, _SECTION)
    jobs = [
        Job(frame, one, level, work / level / f"{given.stem}-{number}")
        for number, (frame, (one, level)) in enumerate(zip(frames, places, strict=True))
    ]

    def write() -> None:
        done = [job.labelled() for job in jobs if job.is_done]
        kept = [frame for frame in done if frame is not None]
        ase.io.write(out, kept, format="extxyz")
        typer.echo(
            f"{len(done)} of {len(jobs)} done, {len(done) - len(kept)} of other order left out"
        )

    with ThreadPoolExecutor(at_once) as pool:
        for _ in pool.map(Job.compute, [job for job in jobs if not job.is_done]):
            write()
    write()


if __name__ == "__main__":
    typer.run(main)

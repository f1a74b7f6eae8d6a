"""Samples of a job: further geometries of its decoration that are computed for training alone.

A code that is run here computes them after the job itself, in the same folder and from the same
electrons. For others each has a folder with inputs of its own. None is a result of the candidate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from gasearch.crystal.host import Host
from gasearch.dft.codes.outputs import ELSEWHERE, find_output, read_steps, refuse_other_settings
from gasearch.dft.codes.registry import is_run_here
from gasearch.dft.errors import JobFolderError, NoOutputError, RefusedOutputError
from gasearch.dft.jobs.folders import JobFolder
from gasearch.errors import UsageError
from gasearch.store.dft_jobs import DftJobRow

SAMPLES = "samples.traj"
SAMPLES_RESULT = "samples-result.traj"
LEFT_OUT = "samples-left-out.json"

SamplesOf = Callable[[int], Sequence[Atoms]]
"""Returns the samples of a candidate's job, by the candidate's number."""


@dataclass(frozen=True, eq=False)
class ComputedSamples:
    """What became of the samples of a job.

    Parameters
    ----------
    frames
        (atoms with results, whether its electrons converged, tag) of each that was computed.
    left_out
        How many were not, by reason.
    """

    frames: Sequence[tuple[Atoms, bool, str]] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def write_samples(folder: Path, start: Atoms, samples: Sequence[Atoms]) -> None:
    """Write the samples of a job that begins with a structure; refuse those of another order."""
    for count, sample in enumerate(samples, start=1):
        same = np.array_equal(sample.numbers, start.numbers) and np.array_equal(
            sample.get_initial_charges(), start.get_initial_charges()
        )
        if not same or not sample.info.get("tag"):
            problem = f"sample {count} is no geometry of the job in {folder}"
            expected = 'expected its atoms and oxidation states in its order, and info["tag"]'
            raise UsageError(f"{problem}: {expected}.")
    if samples:
        write_bare(folder / SAMPLES, samples)


def write_bare(path: Path, structures: Sequence[Atoms]) -> None:
    """Write structures with their labels and without results, to the last digit."""
    bare = [atoms.copy() for atoms in structures]
    partial = path.with_name(f".{path.name}")
    ase.io.write(partial, bare, format="traj")
    partial.replace(path)


def sample_folder(job: JobFolder, number: int) -> Path:
    """Return the folder in which another code computes a sample; the first is number 1."""
    return job.path / f"sample-{number}"


def computed_samples(
    job: JobFolder, row: DftJobRow, settings: Mapping[str, Any], host: Host
) -> ComputedSamples:
    """Return the samples of a job that are computed, and how many are not, by reason.

    Parameters
    ----------
    settings
        Of the job's level: outputs of other settings are left out.
    """
    if is_run_here(row.code):
        outcome = job.read_json("outcome.json") or {}
        reasons = outcome.get("samples", {}).get("left_out", {}).values()
        frames = [(one, True, str(one.info["tag"])) for one in _frames(job.path / SAMPLES_RESULT)]
        return ComputedSamples(frames, Counter(map(str, reasons)))
    if settings.get("geometry") != ELSEWHERE:
        settings = {**settings, "geometry": "as given"}  # single points, of relaxations too
    found: list[tuple[Atoms, bool, str]] = []
    left_out = Counter[str]()
    for count, sample in enumerate(_frames(job.path / SAMPLES), start=1):
        try:
            output = find_output(sample_folder(job, count))
            refuse_other_settings(output, row.level, settings, host, sample)
            found += [(*step, str(sample.info["tag"])) for step in read_steps(output)]
        except NoOutputError:
            left_out["samples without an output"] += 1
        except RefusedOutputError as error:
            left_out[error.problem] += 1
    return ComputedSamples(found, left_out)


def _frames(path: Path) -> list[Atoms]:
    if not path.exists():
        return []
    try:
        return list(ase.io.read(path, index=":"))
    except Exception as error:
        raise JobFolderError(f"{path} cannot be read ({error}): remove it.") from error

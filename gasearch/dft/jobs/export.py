"""`gasearch dft export`: job folders for a workflow of the user's own, and frames for training."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from gasearch.analysis.export import decoration_name
from gasearch.crystal.decoration import Decoration
from gasearch.dft.classify import Classified, classify, ranges_of_level
from gasearch.dft.codes.outputs import find_output, read_steps
from gasearch.dft.codes.registry import CODES, code_named, is_run_here
from gasearch.dft.errors import (
    JobFolderError,
    NoOutputError,
    RefusedOutputError,
    UnknownJobError,
)
from gasearch.dft.jobs.folders import MOMENTS, JobFolder
from gasearch.dft.jobs.prepare import Workplace, prepare_job, register, write_start
from gasearch.dft.jobs.samples import SamplesOf, computed_samples, sample_folder, write_samples
from gasearch.dft.levels import DftLevel, dft_level, level_of_frames
from gasearch.errors import UsageError
from gasearch.files import inside, make_folder, written
from gasearch.store import dft_jobs


def export_jobs(
    place: Workplace,
    numbers: Sequence[int],
    code: str,
    *,
    relax: bool,
    ferromagnetic: bool,
    samples: SamplesOf | None = None,
) -> list[JobFolder]:
    """Write a folder of inputs for each candidate; those that are there are left as they are.

    Parameters
    ----------
    samples
        Returns further geometries of a candidate, as in `prepare_job`; each has inputs for a single
        point in a folder of its own, sample-1, sample-2 and so on.
    """
    given = samples or (lambda number: ())  # noqa: ARG005
    write_inputs = code_named(code).write_inputs
    if write_inputs is None:
        if not ferromagnetic:
            others = ", ".join(one.name for one in CODES.values() if one.write_inputs)
            raise UsageError(f"--antiferromagnetic is for the codes {others}.")
        return [
            prepare_job(place, number, code, relax=relax, samples=partial(given, number))
            for number in numbers
        ]
    level = dft_level(code, place.section, place.host, relax=relax, ferromagnetic=ferromagnetic)
    jobs = []
    for number in numbers:
        job = place.job(number, level)
        jobs.append(job)
        if job.exists:
            continue
        atoms = place.structure(number)
        own = Decoration.from_bytes(place.host, place.store.proposal(number).occupation)
        name = f"candidate {number} {own.formula}"
        fixed = {"ferromagnetic": ferromagnetic, "lattice": place.host.atoms}
        further = given(number)
        job.make()
        _write_texts(job.path, write_inputs(atoms, place.section, name, relax=relax, **fixed))
        write_start(job.path, atoms)
        write_samples(job.path, atoms, further)
        for count, sample in enumerate(further, start=1):
            named = (sample, place.section, f"{name}, sample {count}")
            _write_texts(sample_folder(job, count), write_inputs(*named, relax=False, **fixed))
        register(place, job, number, level, "relax" if relax else "single-point", "exported")
    return jobs


def _write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    for file, text in texts.items():
        make_folder((folder / file).parent)
        with written(folder / file, replace=True) as partly:
            partly.write_text(text, encoding="utf-8")


@dataclass(frozen=True, eq=False)
class TrainingFrames:
    """Results of DFT as labelled frames.

    Parameters
    ----------
    left_out
        How many steps are not among them, by reason.
    """

    frames: tuple[Atoms, ...]
    left_out: Mapping[str, int]


def training_frames(place: Workplace, level: str | None) -> TrainingFrames:
    """Return the results of DFT as labelled frames: each step of a relaxation that kept an order.

    Oxidation states are those that the moments show, so frames on either side of a hole's jump
    carry different labels. Steps whose electrons did not converge are left out. Samples that a job
    computed besides are frames too, with their own tags. The level of all is that of single points.

    Parameters
    ----------
    level
        Its name; may be left out where all results have the same settings of the electrons.
    """
    names = chosen_levels(place, level)
    levels = dft_jobs.dft_levels(place.store)
    settings = {one.name: one.settings for one in levels}
    of_frames = {
        one.name: level_of_frames(DftLevel(one.code, one.name, one.settings)) for one in levels
    }
    frames = []
    left_out = Counter[str]()
    for row in dft_jobs.jobs(place.store):
        if row.level not in names or row.state != "collected":
            continue
        job = JobFolder(inside(place.folder.path, row.folder))
        ranges = ranges_of_level(place.host, row.code, place.section, settings[row.level])
        samples = computed_samples(job, row, settings[row.level], place.host)
        left_out.update(samples.left_out)
        steps = [(*one, f"relax{n}") for n, one in enumerate(_steps(place, job, row))]
        for atoms, is_converged, tag in (*steps, *samples.frames):
            moments = _moments(atoms)
            if not is_converged:
                left_out["the electrons did not converge"] += 1
            elif moments is None:
                left_out["without an energy or moments"] += 1
            else:
                found = classify(None, atoms, moments, ranges, place.host)
                if found.decoration is None:
                    left_out["without a charge order"] += 1
                else:
                    frame = _frame(place, found, atoms, tag, row)
                    frame.info["level"] = of_frames[row.level]
                    frames.append(frame)
    return TrainingFrames(tuple(frames), dict(sorted(left_out.items())))


def _moments(atoms: Atoms) -> NDArray[np.float64] | None:
    """Return the moments (n_atoms,) of a step; None without them, or without an energy."""
    results: Mapping[str, Any] = {} if atoms.calc is None else atoms.calc.results
    moments = np.asarray(results.get("magmoms", ()), dtype=np.float64)
    return moments if moments.shape == (len(atoms),) and "energy" in results else None


def _steps(place: Workplace, job: JobFolder, row: dft_jobs.DftJobRow) -> list[tuple[Atoms, bool]]:
    """Return what a job computed, step by step where its output still has the steps.

    With each goes whether its electrons converged.
    """
    trajectory = job.path / "relax.traj"
    if is_run_here(row.code) and trajectory.is_file():
        return _read_steps(trajectory)
    output = _collected_output(job)
    if output is not None and not is_run_here(row.code):
        return _read_steps(output)
    if row.found is None:
        return []
    relaxed = dft_jobs.dft_relaxed(place.store, row.found, row.level)
    atoms = relaxed.atoms.copy()
    results: dict[str, Any] = {"energy": relaxed.energy, "magmoms": relaxed.moments}
    if np.isfinite(relaxed.forces).all():
        results["forces"] = relaxed.forces
    atoms.calc = SinglePointCalculator(atoms, **results)
    return [(atoms, True)]


def _collected_output(job: JobFolder) -> Path | None:
    """Return the output that a job was collected from, while it is there."""
    try:
        named = (job.read_json(MOMENTS) or {}).get("output")
        output = find_output(job.path) if named is None else Path(str(named))
    except NoOutputError:
        return None
    moved = job.path / output.name
    return next((path for path in (output, moved) if path.is_file()), None)


def _read_steps(path: Path) -> list[tuple[Atoms, bool]]:
    try:
        return read_steps(path)
    except RefusedOutputError as error:
        raise JobFolderError(f"{path} cannot be read ({error.problem}): remove it.") from error


def _frame(
    place: Workplace, found: Classified, atoms: Atoms, tag: str, row: dft_jobs.DftJobRow
) -> Atoms:
    decoration = found.decoration
    frame: Atoms = found.atoms.copy()
    known = ("energy", "forces", "stress", "magmoms")
    results = {name: atoms.calc.results[name] for name in known if name in atoms.calc.results}
    frame.calc = SinglePointCalculator(frame, **results)
    if decoration is not None:
        name = decoration_name(place.host, decoration.fingerprint)
        frame.info.update(x=decoration.x, decoration=name, orbit_size=decoration.orbit_size)
    frame.info.update(tag=tag, gaid=row.candidate)
    return frame


def chosen_levels(place: Workplace, level: str | None) -> set[str]:
    """Return the level that is named, or all with results, if they differ in geometry alone."""
    levels = dft_jobs.dft_levels(place.store)
    names = [one.name for one in levels]
    if level is not None:
        if level not in names:
            known = ", ".join(names) or "none"
            raise UnknownJobError(f"no DFT level {level!r} here; there are: {known}.")
        return {level}
    used = [one for one in levels if dft_jobs.dft_rows(place.store, one.name)]
    if not used:
        raise UnknownJobError(
            f"no DFT result was collected in {place.folder.path} yet; see: "
            f"gasearch dft status {place.folder.quoted}"
        )
    electrons = {json.dumps({**one.settings, "geometry": ""}, sort_keys=True) for one in used}
    if len(electrons) > 1:
        raise UnknownJobError(
            "there are results of several DFT levels, which one file must not mix: choose one "
            f"with --level ({', '.join(one.name for one in used)})."
        )
    return {one.name for one in used}


def write_frames(frames: Sequence[Atoms], path: Path) -> None:
    """Write frames as extxyz, in the form of the shipped data."""
    if not frames:
        raise UnknownJobError("no DFT result with a charge order to write.")
    with written(path) as partial:
        ase.io.write(partial, list(frames), format="extxyz")

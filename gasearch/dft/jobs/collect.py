"""What a code computed becomes an evaluation, filed under the charge order that came out."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.species import MomentRanges
from gasearch.dft.classify import RULE, Classified, classify, ranges_of_level
from gasearch.dft.codes.outputs import (
    ELSEWHERE,
    Computed,
    find_output,
    read_output,
    refuse_other_settings,
    settings_of_level,
)
from gasearch.dft.codes.registry import is_run_here
from gasearch.dft.errors import NoOutputError, RefusedOutputError, UnknownJobError
from gasearch.dft.jobs.folders import MOMENTS, STATUS, JobFolder, Status, job_folders
from gasearch.dft.jobs.prepare import Workplace, read_start, register, write_start
from gasearch.dft.jobs.same_geometry import like, refuse_other_geometry
from gasearch.dft.levels import DftLevel
from gasearch.errors import UsageError
from gasearch.relax.audit import damage
from gasearch.relax.geometry import mean_bond_lengths, redox_sites
from gasearch.relax.relaxed import Relaxed
from gasearch.store import dft_jobs
from gasearch.store.records import JsonValue, Proposal

_FILES = ("result.traj", "outcome.json")


def collect_job(place: Workplace, job: JobFolder, output: Path | None = None) -> Status:
    """Read the result of a job, classify it, file it; return where the job stands now.

    What is not whole, or of another crystal or level, is refused.

    Parameters
    ----------
    output
        A file other than the one that is looked for in the folder.
    """
    status = job.status()
    computed = _own_result(job, status) if output is None else read_output(output)
    if not computed.code:
        computed = replace(computed, code=status.code)
    start = read_start(job)
    _refuse_other_crystal(computed, start)
    refuse_other_settings(computed.source, status.level, status.settings, place.host, start)
    refuse_other_geometry(computed, start, status.settings)
    asked = Decoration.from_bytes(place.host, place.store.proposal(status.candidate).occupation)
    ranges = ranges_of_level(place.host, computed.code, place.section, status.settings)
    found = classify(asked, computed.atoms, computed.moments, ranges, place.host)
    record = dft_jobs.DftRecord(
        folder=place.relative(job),
        charge_order=found.order,
        reason=found.reason,
        became=_proposal(found.decoration, status.candidate, place),
        relaxed=_relaxed(computed, found, start),
        data=_event_data(computed, found),
    )
    dft_jobs.add_level(place.store, status.level, status.code, status.settings)
    place.note(job, status)  # a database from a backup may not know the job
    number, _ = dft_jobs.record(place.store, record)
    status = job.change(
        state="collected",
        reason=found.reason,
        charge_order=found.order,
        found=number,
        energy_eV=computed.energy,
    )
    document = {"rule": RULE, "windows": _as_json(ranges), **record.data}
    job.write_json(MOMENTS, {**document, "output": str(computed.source.resolve())})
    return status


def _own_result(job: JobFolder, status: Status) -> Computed:
    """Return the result in a job's folder; of a code that runs here, what its script left."""
    if not is_run_here(status.code):
        return read_output(find_output(job.path))
    outcome = job.read_json("outcome.json")
    result = job.path / "result.traj"
    if outcome is None or not result.is_file():
        raise NoOutputError(job.path, "it is not computed to its end; run: gasearch dft run")
    if outcome.get("end") != "done":
        raise RefusedOutputError(job.path, str(outcome.get("reason") or "it has failed"))
    computed = read_output(result)
    return replace(
        computed,
        code=status.code,
        n_steps=int(outcome.get("n_steps", 0)),
        wall_s=float(outcome.get("wall_s", 0.0)),
    )


def _refuse_other_crystal(computed: Computed, start: Atoms) -> None:
    if sorted(computed.atoms.symbols) != sorted(start.symbols):
        raise RefusedOutputError(
            computed.source,
            f"it holds {computed.atoms.symbols.formula}, the job is {start.symbols.formula}",
        )


def _proposal(
    decoration: Decoration | None, asked: int | None, place: Workplace
) -> Proposal | None:
    """Return the decoration that came out as a candidate from elsewhere."""
    if decoration is None:
        return None
    return Proposal.of(
        None,
        decoration,
        "dft",
        parents=() if asked is None else (asked,),
        origin="dft",
        details={"after": place.store.n_candidates},
    )


def _relaxed(computed: Computed, found: Classified, start: Atoms | None) -> Relaxed:
    atoms, nan = found.atoms, float("nan")
    forces = computed.forces
    has_order = found.decoration is not None
    broken = damage(like(start, atoms), atoms) if start is not None and has_order else ""
    bonds = mean_bond_lengths(atoms, redox_sites(atoms)) if has_order else np.empty(0)
    return Relaxed(
        atoms=atoms,
        energy=computed.energy,
        forces=np.full((len(atoms), 3), nan) if forces is None else forces,
        stress=np.full((3, 3), nan),
        fmax=nan if forces is None else float(np.linalg.norm(forces, axis=1).max()),
        smax=nan,
        n_calls=max(1, computed.n_steps + 1),
        converged=True,
        moments=np.asarray(computed.moments),
        bond_lengths=bonds,
        verdict="broken" if broken else "ok",
        reason=broken,
        audit=RULE,
        wall_s=computed.wall_s,
    )


def _event_data(computed: Computed, found: Classified) -> dict[str, JsonValue]:
    """Return what the event of a result says, whether it has an order or not."""
    sites: list[JsonValue] = [
        {
            "atom": site.index,
            "element": site.element,
            "moment": round(site.moment, 4),
            "species": None if site.species is None else str(site.species),
        }
        for site in found.sites
    ]
    return {
        "charge_order": found.order,
        "energy_eV": computed.energy,
        "reason": found.reason,
        "sites": sites,
    }


def _as_json(ranges: MomentRanges) -> dict[str, JsonValue]:
    return {
        str(one): [low, high if math.isfinite(high) else None]
        for one, (low, high) in ranges.items()
    }


def jobs_of(place: Workplace, paths: list[Path]) -> list[tuple[JobFolder, Path | None]]:
    """Return the jobs to collect, each with the file that was named for it, if one was.

    Without paths, all that neither are collected nor have failed. A path is a job's folder, or a
    file in one.
    """
    if not paths:
        known = [(job, job.status()) for job in job_folders(place.folder.path)]
        return [(job, None) for job, status in known if status.state not in ("collected", "failed")]
    return [_job_of(path) for path in paths]


def adopt(
    place: Workplace, path: Path, number: int, level: str, code: str
) -> tuple[JobFolder, Path | None]:
    """Make a job of an output that was computed elsewhere, and return it with that output."""
    (number,) = place.chosen([number])
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_-]*", level) or level == place.store.level.name:
        raise UsageError(
            f"--level {level!r}: expected another name of letters, digits, . + _ or -."
        )
    if not path.exists():
        raise UnknownJobError(f"there is no {path}.")
    output = find_output(path) if path.is_dir() else path
    job = JobFolder.of(place.folder.path, number, level)
    if not job.exists:
        computed = read_output(output)  # refused before anything is made for it
        _refuse_other_crystal(computed, place.structure(number))
        settings = _settings_elsewhere(place, computed.source, level, code)
        job.make()
        write_start(job.path, place.structure(number))
        register(place, job, number, DftLevel(code, level, settings), "elsewhere", "exported")
    return job, output


def _settings_elsewhere(
    place: Workplace, output: Path, level: str, code: str
) -> dict[str, JsonValue]:
    """Return the settings of a level that is known from outputs alone: what the first one says."""
    known = [one for one in dft_jobs.dft_levels(place.store) if one.name == level]
    if known:
        settings = dict(known[0].settings)
        refuse_other_settings(output, level, settings, place.host)
        return settings
    own = {"code": code, "name": level, "geometry": ELSEWHERE}
    return own | settings_of_level(output, place.host)


def _job_of(path: Path) -> tuple[JobFolder, Path | None]:
    if not path.exists():
        raise UnknownJobError(f"there is no {path}.")
    inside = path if path.is_dir() else path.parent
    for folder in (inside, *inside.parents):
        if (folder / STATUS).is_file():
            own = None if path.is_dir() and folder == path else path
            named = find_output(path) if own is not None and path.is_dir() else own
            is_own = named is not None and named.name in _FILES and named.parent == folder
            return JobFolder(folder), None if is_own else named
    raise UnknownJobError(
        f"{path} lies in no job folder (none above it has a {STATUS}): say whose result it is, "
        "with --candidate and --level."
    )

"""From a candidate of a run to a prepared job folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
from ase import Atoms

from gasearch.crystal.host import Host
from gasearch.crystal.io.hosts import host_from_json
from gasearch.dft.classify import not_judged, ranges_of_level, unjudged
from gasearch.dft.codes.potential import at_home
from gasearch.dft.codes.registry import code_named, program_of
from gasearch.dft.errors import JobFolderError, UnknownJobError
from gasearch.dft.jobs.folders import START, JobFolder, Status
from gasearch.dft.jobs.samples import write_bare, write_samples
from gasearch.dft.levels import DftLevel, dft_level
from gasearch.dft.spins import assumptions, doubts, with_usual_spins
from gasearch.run.dft_section import DftSection
from gasearch.run.folder import RunFolder
from gasearch.store import dft_jobs
from gasearch.store.errors import UnknownCandidateError
from gasearch.store.population_store import PopulationStore

JOB = "job.json"
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Workplace:
    """A run whose candidates are computed with DFT.

    Parameters
    ----------
    store
        Open for writing, unless the work only looks.
    """

    folder: RunFolder
    store: PopulationStore
    host: Host
    section: DftSection

    @classmethod
    def of(cls, folder: RunFolder, store: PopulationStore) -> Workplace:
        """Return the workplace of a run; its host is the one in the database."""
        host = host_from_json(store.run.host)
        section = at_home(folder.settings().dft, folder.path)
        return cls(folder, store, host, with_usual_spins(section, host))

    def chosen(self, ids: Sequence[int]) -> list[int]:
        """Return the candidates that the user names, or those promoted without a job yet."""
        if not ids:
            return dft_jobs.promoted_without_job(self.store)
        missing = [str(number) for number in ids if not self._is_relaxed(number)]
        if missing:
            raise UnknownJobError(
                f"candidate {', '.join(missing)} has no relaxed structure with verdict ok here; "
                f"see: gasearch best {self.folder.quoted}"
            )
        return list(dict.fromkeys(ids))

    def _is_relaxed(self, number: int) -> bool:
        try:
            return self.store.evaluation(number).verdict == "ok"
        except UnknownCandidateError:
            return False

    def structure(self, number: int) -> Atoms:
        """Return the geometry that DFT begins with: the lowest valid evaluation of the search."""
        return self.store.relaxed(number).atoms

    def assumptions(self, code: str) -> list[str]:
        """Return what inputs for this host assume of moments and U, where a code has them."""
        has_electrons = code_named(code).has_electrons
        return assumptions(self.host, self.folder.settings().dft) if has_electrons else []

    def doubts(self, code: str) -> list[str]:
        """Return what of it is likely to be wrong, and what the moments of a code do not tell."""
        section = self.folder.settings().dft
        settings = dft_level(code, self.section, self.host).settings
        ranges = ranges_of_level(self.host, code, self.section, settings)
        alike = unjudged(self.host, ranges)
        of_electrons = doubts(self.host, section) if code_named(code).has_electrons else []
        return [*of_electrons, *([not_judged(alike)] if alike else [])]

    def job(self, number: int, level: DftLevel) -> JobFolder:
        """Return the folder of a job, whether it exists or not."""
        return JobFolder.of(self.folder.path, number, level.name)

    def relative(self, job: JobFolder) -> str:
        """Return how the database names the folder of a job."""
        path, run = job.path.resolve(), self.folder.path.resolve()
        if not path.is_relative_to(run):
            raise UnknownJobError(f"{job.path} is no job of the run in {self.folder.path}.")
        return path.relative_to(run).as_posix()

    def note(self, job: JobFolder, status: Status) -> None:
        """Write to the database where a job stands."""
        dft_jobs.put_job(
            self.store,
            status.candidate,
            status.level,
            status.code,
            self.relative(job),
            status.state,
            status.reason,
        )


def prepare_job(
    place: Workplace,
    number: int,
    code: str,
    *,
    relax: bool,
    samples: Sequence[Atoms] | Callable[[], Sequence[Atoms]] = (),
) -> JobFolder:
    """Return the folder of a job that gasearch itself can run, made unless it is there.

    Parameters
    ----------
    samples
        Further geometries of the candidate's decoration, or what gives them for a new job: with
        its labels, in any cell, each with `info["tag"]`. They are computed after the job itself,
        for training alone. A job that is there keeps those that it has.
    """
    program = program_of(code)
    level = dft_level(code, place.section, place.host, relax=relax)
    job = place.job(number, level)
    if job.exists:
        return job
    atoms = place.structure(number)
    settings = program.job_input(atoms, place.host, place.section, relax=relax)
    job.make()
    write_start(job.path, atoms)
    write_samples(job.path, atoms, samples() if callable(samples) else samples)
    shutil.copyfile(program.script, job.path / program.script.name)
    for name in program.shared:
        for known in sorted(job.path.parent.glob(f"*-{level.name}/{name}"))[:1]:
            shutil.copyfile(known, job.path / name)
    job.write_json(SETTINGS, settings)
    job.write_json(JOB, program.with_retry(settings, 0, 0))
    register(place, job, number, level, settings["task"], "prepared")
    return job


def register(
    place: Workplace, job: JobFolder, number: int, level: DftLevel, task: str, state: str
) -> Status:
    """Write the status file last of all, and the row in the database."""
    dft_jobs.add_level(place.store, level.name, level.code, level.settings)
    status = Status(
        candidate=number,
        level=level.name,
        code=level.code,
        task=task,
        state="exported" if state == "exported" else "prepared",
        settings=dict(level.settings),
    )
    status = job.write(status)
    place.note(job, status)
    return status


def write_start(folder: Path, atoms: Atoms) -> None:
    """Write the structure that a job begins with, labels included, to the last digit."""
    write_bare(folder / START, [atoms])


def read_start(job: JobFolder) -> Atoms:
    """Return the structure that a job began with."""
    try:
        atoms = ase.io.read(job.path / START)
    except Exception as error:
        raise JobFolderError(f"{job.path / START} cannot be read ({error}): restore it.") from error
    if not isinstance(atoms, Atoms):
        raise JobFolderError(f"{job.path / START} holds no structure: restore it.")
    return atoms

"""Where the DFT jobs of a run stand: from their status files, and from the processes themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gasearch import processes
from gasearch.dft.errors import JobFolderError
from gasearch.dft.jobs.folders import JobFolder, Status, job_folders
from gasearch.run.folder import RunFolder


@dataclass(frozen=True)
class JobLine:
    """One job, for people and as JSON.

    Parameters
    ----------
    state
        "interrupted" where a process that should run does not.
    step, fmax
        Of the relaxation, while it runs.
    """

    folder: str
    candidate: int
    level: str
    state: str
    attempt: int
    step: int | None
    fmax: float | None
    charge_order: str | None
    found: int | None
    energy_eV: float | None
    reason: str


def overview(folder: RunFolder, found: Mapping[str, int | None]) -> list[JobLine]:
    """Return all jobs of a run, by candidate and level.

    Parameters
    ----------
    found
        The candidates that came out, by the name of the folder, as the database has them now.
    """
    lines = []
    for job in job_folders(folder.path):
        try:
            lines.append(_line(job, job.status(), found))
        except JobFolderError as error:
            nothing = dict.fromkeys(("step", "fmax", "charge_order", "found", "energy_eV"))
            lines.append(JobLine(job.path.name, 0, "", "damaged", 0, reason=str(error), **nothing))
    return lines


def _line(job: JobFolder, status: Status, found: Mapping[str, int | None]) -> JobLine:
    runs = status.state == "running"
    is_lost = runs and not processes.is_alive(status.process)
    progress: dict[str, Any] = (job.read_json("progress.json") or {}) if runs else {}
    return JobLine(
        folder=job.path.name,
        candidate=status.candidate,
        level=status.level,
        state="interrupted" if is_lost else status.state,
        attempt=status.attempt,
        step=progress.get("step"),
        fmax=progress.get("fmax"),
        charge_order=status.charge_order,
        found=found.get(job.path.name, status.found),
        energy_eV=status.energy_eV,
        reason=status.reason,
    )


def counted(lines: Sequence[JobLine]) -> str:
    """Return how many jobs are in which state, in words."""
    states = dict.fromkeys(line.state for line in lines)
    parts = [f"{sum(line.state == s for line in lines)} {s}" for s in states]
    return f"{len(lines)} DFT jobs: {', '.join(parts)}" if lines else "no DFT jobs here yet"

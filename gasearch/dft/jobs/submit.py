"""How a DFT job is started, and found again: by its folder and its status file.

Where [execution] names a scheduler, a job is a job of that scheduler; elsewhere it is a process of
this machine, in a session of its own. Either goes on when its driver dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from typing import Any

from gasearch import processes
from gasearch.dft.codes.contract import Program
from gasearch.dft.jobs.folders import JobFolder, Status
from gasearch.execution.contract import JobHandle, JobRequest, JobState, Resources
from gasearch.execution.jobs import find_job, runs_here, submit_job
from gasearch.run.dft_section import PREFIX_VALUES, DftSection
from gasearch.run.execution_section import ExecutionSection
from gasearch.run.folder import RunFolder

_MPI = ("mpiexec", "-n", "{ranks}")
_LOCK = ".computing"  # that the program holds while it computes


class Submitter:
    """What starts the jobs of a run.

    Parameters
    ----------
    dft
        [dft] of run.toml: what a job needs.
    execution
        [execution] of run.toml: whose scheduler it goes to.
    """

    def __init__(self, folder: RunFolder, dft: DftSection, execution: ExecutionSection) -> None:
        self._folder = folder
        self._dft = dft
        self._execution = execution

    @property
    def is_local(self) -> bool:
        """Whether jobs are processes of this machine."""
        return runs_here(self._execution)

    @property
    def poll_s(self) -> float:
        """How often to ask where a job is."""
        return 0.2 if self.is_local else self._execution.poll_s

    def submit(self, job: JobFolder, program: Program, attempt: int) -> JobHandle:
        """Start the program of a prepared folder."""
        request = JobRequest(
            command=command_line(program, self._dft),
            folder=job.path,
            resources=Resources(
                nodes=self._dft.nodes,
                ranks=self._dft.ranks,
                cpus_per_rank=self._dft.cpus_per_rank,
                gpus_per_node=self._dft.gpus_per_node,
                walltime=self._dft.walltime,
            ),
            name=f"gasearch-{job.path.name.partition('-')[0]}",
            log_name=log_name(attempt),
        )
        return submit_job(self._execution, self._folder.path, request)

    def find(self, job: JobFolder, status: Status) -> JobHandle | None:
        """Return what computes a job now, whoever started it, or None."""
        record = status.process
        handle: JobHandle | None = None
        if status.state == "running" and record:
            handle = find_job(self._execution, self._folder.path, record)
        if handle is not None and handle.poll() in ("waiting", "running"):
            return handle
        return UnknownProgram(job) if is_computing(job) else None


class UnknownProgram:
    """A program that holds the lock of a job's folder: started by hand, or never recorded."""

    def __init__(self, job: JobFolder) -> None:
        self._job = job

    @property
    def record(self) -> dict[str, Any]:
        """Nothing names it."""
        return {}

    @property
    def exit_status(self) -> int | None:
        """Not known."""
        return None

    def poll(self) -> JobState:
        """Return whether it holds the lock."""
        return "running" if is_computing(self._job) else "ended"

    def cancel(self) -> None:
        """Leave it alone: who started it ends it."""


def is_computing(job: JobFolder) -> bool:
    """Return whether some program on this machine computes in the folder."""
    try:
        file = os.open(job.path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def command_line(program: Program, section: DftSection) -> list[str]:
    """Return the words that start one job: a prefix for its ranks, the interpreter, the script."""
    prefix = section.prefix or (_MPI if section.ranks > 1 else ())
    words = list(prefix)
    for name in PREFIX_VALUES:
        words = [word.replace(f"{{{name}}}", str(getattr(section, name))) for word in words]
    return [*words, *program.command(section), program.script.name]


def log_name(attempt: int) -> str:
    """Return the file that takes what the program prints."""
    return f"process-{attempt}.log"


def in_words(record: Mapping[str, Any] | None) -> str:
    """Return a program as a user finds it."""
    if not record:
        return "another program"
    if record.get("kind") == "scheduler":
        return f"job {record.get('job')} of {record.get('provider')}"
    return processes.in_words(record)

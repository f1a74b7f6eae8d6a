"""Long programs as jobs of a scheduler, which outlive their driver."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gasearch.execution.contract import ExecutionError, JobRequest, JobState
from gasearch.execution.parsl.providers import (
    first_line,
    make_provider,
    make_setup,
    require_parsl,
)
from gasearch.run.execution_section import PROVIDERS, ExecutionSection

_STATES: dict[str, JobState] = {
    "PENDING": "waiting",
    "HELD": "waiting",
    "RUNNING": "running",
    "UNKNOWN": "running",
    "MISSING": "lost",
}


class SchedulerJob:
    """A job that was submitted, by this driver or an earlier one.

    Parameters
    ----------
    record
        As it was returned by `record`.
    """

    def __init__(
        self,
        section: ExecutionSection,
        folder: Path,
        record: Mapping[str, Any],
        provider: Any = None,
    ) -> None:
        require_parsl()
        self._record = dict(record)
        self._provider = provider if provider is not None else _provider(section, folder)
        _know_jobs(self._provider, [self._id])

    @property
    def _id(self) -> str:
        return str(self._record["job"])

    @property
    def record(self) -> dict[str, Any]:
        """The scheduler's number."""
        return dict(self._record)

    @property
    def exit_status(self) -> int | None:
        """Not known: schedulers do not say."""
        return None

    def poll(self) -> JobState:
        """Ask the scheduler; one that does not answer leaves a job where it was."""
        (status,) = self._provider.status([self._id])
        return _STATES.get(status.state.name, "ended")

    def cancel(self) -> None:
        """Take it from the scheduler."""
        self._provider.cancel([self._id])


def submit_scheduler_job(
    section: ExecutionSection, folder: Path, request: JobRequest
) -> SchedulerJob:
    """Submit a program with the account and the queue of [execution], and its own resources."""
    require_parsl()
    resources = request.resources
    if section.provider in PROVIDERS:
        provider: Any = make_provider(section, resources)
    else:
        provider = _provider(section, folder)
    provider.script_dir = str(request.folder.resolve())
    values = {"OMP_NUM_THREADS": str(resources.cpus_per_rank), **request.environment}
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
    command = f"env {variables} {shlex.join(request.command)} >> {shlex.quote(request.log_name)}"
    line = f"cd {shlex.quote(str(request.folder.resolve()))} && {command} 2>&1"
    ranks = max(1, -(-resources.ranks // resources.nodes))
    try:
        job = provider.submit(line, ranks, request.name)
    except Exception as error:
        problem = f"the scheduler takes no job from {request.folder}: {first_line(error)}"
        raise ExecutionError(problem) from error
    if not job:
        raise ExecutionError(f"the scheduler takes no job from {request.folder}.")
    record = {"kind": "scheduler", "provider": section.provider, "job": str(job)}
    return SchedulerJob(section, folder, record, provider)


def _provider(section: ExecutionSection, folder: Path) -> Any:
    if section.provider in PROVIDERS:
        return make_provider(section)
    return make_setup(section, folder).executor.provider


def _know_jobs(provider: Any, jobs: Sequence[str]) -> None:
    """Make jobs that another provider submitted known to this one, which can be asked then."""
    from parsl.jobs.states import JobState, JobStatus

    paths = dict.fromkeys(("job_stdout_path", "job_stderr_path"), os.devnull)
    for job in jobs:
        known = {"job_id": job, "status": JobStatus(JobState.PENDING), **paths}
        provider.resources.setdefault(job, known)


def cancel_jobs(section: ExecutionSection, folder: Path, provider: str, jobs: Sequence[str]) -> int:
    """Cancel jobs of a scheduler by their numbers; return how many it took.

    Parameters
    ----------
    provider
        That submitted them, as run.toml named it then.
    """
    require_parsl()
    then: Mapping[str, Any] = {"provider": provider, "engine": "parsl"}
    setup = make_setup(section.model_copy(update=then), folder)
    at_hand = setup.executor.provider
    if setup.is_local or at_hand is None or not jobs:
        return 0
    _know_jobs(at_hand, jobs)
    return sum(bool(is_cancelled) for is_cancelled in at_hand.cancel(list(jobs)))

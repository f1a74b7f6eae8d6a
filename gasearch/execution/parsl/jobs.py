"""Long programs as jobs of a scheduler, which outlive their driver."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from gasearch.execution.contract import ExecutionError, JobRequest, JobState
from gasearch.execution.parsl.providers import know_jobs, make_provider, make_site
from gasearch.run.execution_section import PROVIDERS, ExecutionSection
from gasearch.run.folder import RunFolder

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
        folder: RunFolder,
        record: Mapping[str, Any],
        provider: Any = None,
    ) -> None:
        self._record = dict(record)
        self._provider = provider if provider is not None else _provider(section, folder)
        know_jobs(self._provider, [self._id])

    @property
    def _id(self) -> str:
        return str(self._record["job"])

    @property
    def record(self) -> dict[str, Any]:
        """The scheduler's number."""
        return dict(self._record)

    @property
    def exit_status(self) -> int | None:
        """Not told by schedulers."""
        return None

    def poll(self) -> JobState:
        """Ask the scheduler; one that does not answer leaves a job where it was."""
        (status,) = self._provider.status([self._id])
        return _STATES.get(status.state.name, "ended")

    def cancel(self) -> None:
        """Take it from the scheduler."""
        self._provider.cancel([self._id])


def submit_scheduler_job(
    section: ExecutionSection, folder: RunFolder, request: JobRequest
) -> SchedulerJob:
    """Submit a program with the account and the queue of [execution], and its own resources."""
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
        first = str(error).strip().splitlines()[0]
        raise ExecutionError(
            f"the scheduler takes no job from {request.folder}: {first}"
        ) from error
    if not job:
        raise ExecutionError(f"the scheduler takes no job from {request.folder}.")
    record = {"kind": "scheduler", "provider": section.provider, "job": str(job)}
    return SchedulerJob(section, folder, record, provider)


def _provider(section: ExecutionSection, folder: RunFolder) -> Any:
    if section.provider in PROVIDERS:
        return make_provider(section)
    return make_site(section, folder).executor.provider

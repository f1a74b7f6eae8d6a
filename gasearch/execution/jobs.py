"""Long programs that outlive their driver, such as DFT codes: where they run, and found again.

Where [execution] names a scheduler, a program is a job of that scheduler; elsewhere it is a process
of this machine, in a session of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gasearch import processes
from gasearch.execution.contract import ExecutionError, JobHandle, JobRequest, JobState
from gasearch.run.execution_section import ExecutionSection

_PATIENCE_S = 10.0  # that a program gets to end when it is asked to


def runs_here(section: ExecutionSection) -> bool:
    """Return whether long programs are processes of this machine."""
    return section.engine == "local" or section.provider == "local"


def submit_job(section: ExecutionSection, folder: Path, request: JobRequest) -> JobHandle:
    """Start a long program with resources of its own.

    Parameters
    ----------
    folder
        Of the run.
    """
    if runs_here(section):
        return start_local_job(request)
    from gasearch.execution.parsl.jobs import submit_scheduler_job

    return submit_scheduler_job(section, folder, request)


def find_job(section: ExecutionSection, folder: Path, record: Mapping[str, Any]) -> JobHandle:
    """Return a program that was started by this driver or an earlier one.

    Parameters
    ----------
    record
        As its handle returned it.
    """
    if record.get("kind") != "scheduler":
        return LocalJob(record)
    from gasearch.execution.parsl.jobs import SchedulerJob

    then = {"engine": "parsl", "provider": record.get("provider", section.provider)}
    return SchedulerJob(section.model_copy(update=then), folder, record)


class LocalJob:
    """A program that was started here, by this driver or an earlier one.

    Parameters
    ----------
    record
        As it was returned by `record`.
    child
        The process, where this driver started it.
    """

    def __init__(
        self, record: Mapping[str, Any], child: subprocess.Popen[bytes] | None = None
    ) -> None:
        self._record = dict(record)
        self._child = child

    @property
    def record(self) -> dict[str, Any]:
        """Its process: host, pid and start time."""
        return dict(self._record)

    @property
    def exit_status(self) -> int | None:
        """How it ended; not known of a process that an earlier driver started."""
        return None if self._child is None else self._child.poll()

    def poll(self) -> JobState:
        """Return whether it runs; one on another machine counts as running."""
        if self._child is not None:
            return "running" if self._child.poll() is None else "ended"
        return "running" if processes.is_alive(self._record) else "ended"

    def cancel(self) -> None:
        """Ask it to end, and kill it with its whole session where it does not."""
        if self._record.get("host") != processes.identity()["host"]:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.poll() == "ended":
                return
            with suppress(ProcessLookupError):
                os.killpg(self._record["pid"], number)  # it leads a session of its own
            self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + _PATIENCE_S
        while self.poll() == "running" and time.monotonic() < end:
            time.sleep(0.05)


def start_local_job(request: JobRequest) -> LocalJob:
    """Start a program; its ranks are the business of its command."""
    threads = str(request.resources.cpus_per_rank)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, **request.environment}
    try:
        with (request.folder / request.log_name).open("ab") as log:
            child = subprocess.Popen(
                list(request.command),
                cwd=request.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        problem = f"{request.command[0]} cannot be started in {request.folder}: {error.strerror}."
        raise ExecutionError(problem) from error
    return LocalJob({"kind": "process", **processes.identity(child.pid)}, child)

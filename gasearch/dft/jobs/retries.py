"""One DFT job with its retries, advanced a little at a time, beside others."""

from __future__ import annotations

import signal
import time
from typing import Any

from gasearch.dft.codes.registry import program_of
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.jobs.collect import collect_job
from gasearch.dft.jobs.folders import JobFolder, Status
from gasearch.dft.jobs.prepare import JOB, SETTINGS, Workplace
from gasearch.dft.jobs.samples import LEFT_OUT, SAMPLES_RESULT
from gasearch.dft.jobs.submit import (
    Submitter,
    UnknownProgram,
    in_words,
    is_computing,
    log_name,
)
from gasearch.execution.contract import ExecutionError, JobHandle

_ALREADY_RUNNING = 3  # exit status of a program that finds another in its folder
_OUTCOME = "outcome.json"


class RetriedJob:
    """A job from where its folder says that it is until it is collected, has failed, or stays.

    Parameters
    ----------
    submitter
        What starts its programs.
    """

    def __init__(self, place: Workplace, submitter: Submitter, job: JobFolder) -> None:
        self.job = job
        self._place = place
        self._submitter = submitter
        self._status = _adopted(job)
        self._program = program_of(self._status.code)
        self._settings = self._program.refreshed(job.read_json(SETTINGS) or {}, place.section)
        self._handle = submitter.find(job, self._status)
        self._is_found = self._handle is not None
        self._has_started = False
        self._running_since_s: float | None = None
        self._asked_s = float("-inf")
        self._ended_s: float | None = None
        self.doing = "begins"
        if self._handle is None and self._status.state == "failed":
            forget_result(job)
            self._status = job.change(state="prepared", reason="", retry=0, tried=())

    @property
    def _retries(self) -> list[str]:
        return self._program.retries(self._settings)

    @property
    def outlives_driver(self) -> bool:
        """Whether its program is left alone when the driver is stopped."""
        return not self._submitter.is_local or isinstance(self._handle, UnknownProgram)

    def advance(self) -> Status | None:
        """Go on without waiting; return where the job ended, once it has."""
        if self._handle is not None and self._is_under_way(self._handle):
            return None
        outcome = self._outcome()
        if outcome is None and not self._has_started:
            return self._start()
        if outcome is None:
            return self._left_to_go_on()
        if outcome["end"] == "done":
            return self._collected()
        self._status = self._after_failure(outcome)
        return self._status if self._status.state == "failed" else self._start()

    def interrupt(self, reason: str) -> None:
        """End the program of this machine, and leave a folder that can go on."""
        if self._handle is None or self.outlives_driver:
            return
        self._handle.cancel()
        self._handle = None
        self._status = self.job.change(reason=reason)
        self._left_to_go_on()

    def _is_under_way(self, handle: JobHandle) -> bool:
        """Return whether the program still runs; if it does not, note how it ended."""
        now_s = time.monotonic()
        if now_s - self._asked_s < self._submitter.poll_s:
            return True
        self._asked_s = now_s
        state = handle.poll()
        limit_s = self._place.section.wall_limit_s
        if state == "running":
            self._running_since_s = self._running_since_s or now_s
        is_late = self._running_since_s is not None and now_s - self._running_since_s > limit_s
        if state in ("waiting", "running") and not is_late:
            self.doing = self._in_words(state)
            return True
        if is_late and state == "running":
            handle.cancel()
        elif self._awaits_files(now_s):
            return True
        self._note_end(handle, state, is_late)
        return False

    def _awaits_files(self, now_s: float) -> bool:
        """Return whether a scheduler's job ended so recently that files may be on their way."""
        self._ended_s = self._ended_s or now_s
        is_recent = now_s - self._ended_s < 2 * self._submitter.poll_s
        return not self._submitter.is_local and is_recent and self._outcome() is None

    def _note_end(self, handle: JobHandle, state: str, is_late: bool) -> None:
        self._handle, self._running_since_s, self._ended_s = None, None, None
        if self._outcome() is not None:
            return
        reason = "the scheduler does not know it any more" if state == "lost" else ""
        reason = reason or self._how_it_ended(handle.exit_status)
        if is_late:
            reason = f"it took longer than dft.wall_limit_s = {self._place.section.wall_limit_s:g}"
        self._status = self.job.change(reason=reason)

    def _how_it_ended(self, code: int | None) -> str:
        """Return why a program left no outcome."""
        if code is not None and code < 0:
            return f"its process was ended by signal {-code} ({signal.Signals(-code).name})"
        if code == _ALREADY_RUNNING:
            return "another process computes it already"
        try:
            log = self.job.path / log_name(self._status.attempt)
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        said = lines[-1].strip() if lines else "it said nothing"
        return f"its process ended{'' if code is None else f' with status {code}'}: {said}"

    def _start(self) -> Status | None:
        """Start the program with the retry that the job is on; return where it is if that fails."""
        attempt = self._status.attempt + 1
        written = self._program.with_retry(self._settings, self._status.retry, attempt)
        self.job.write_json(JOB, written)
        forget_outcome(self.job)
        try:
            self._handle = self._submitter.submit(self.job, self._program, attempt)
        except ExecutionError as error:
            self._status = self.job.change(reason=str(error).rstrip("."))
            return self._left_to_go_on()
        self._has_started, self._is_found = True, False
        self._running_since_s, self._asked_s = None, time.monotonic()
        self._status = self.job.change(
            state="running", attempt=attempt, reason="", process=self._handle.record
        )
        self._place.note(self.job, self._status)
        self.doing = self._in_words("running")
        return None

    def _in_words(self, state: str) -> str:
        """Return what the program does just now."""
        if state == "waiting":
            return f"{in_words(self._status.process)} waits in its queue"
        left = self.job.read_json("progress.json") or {}
        force = f", largest force {left['fmax']:.2f} eV/Å" if left.get("step") is not None else ""
        step = f"{left.get('stage', 'first')} step {left.get('step', 0)}"
        on = f"{self._retries[self._status.retry]}, " if self._status.retry else ""
        count = self._program.n_iterations
        done = f", {count(self.job.path, self._status.attempt)} iterations" if count else ""
        lead = f"{in_words(self._status.process)} computes it already: waiting; "
        return f"{lead if self._is_found else ''}{on}{step}{force}{done}"

    def _outcome(self) -> dict[str, Any] | None:
        """Return what the newest attempt left, or None."""
        outcome = self.job.read_json(_OUTCOME)
        return outcome if outcome and outcome.get("attempt") == self._status.attempt else None

    def _left_to_go_on(self) -> Status:
        """Leave a job that was killed as one that can go on."""
        reason = self._status.reason or "no end recorded: its process was killed or crashed"
        status = self.job.change(state="prepared", reason=f"{reason}; the same command goes on")
        self._place.note(self.job, status)
        return status

    def _after_failure(self, outcome: dict[str, Any]) -> Status:
        """Go on to the next retry if the electrons did not converge; else give the job up."""
        reason, status = str(outcome["reason"]), self._status
        tried = (*status.tried, f"{self._retries[status.retry]}: {reason}")
        if outcome["end"] == "scf":
            if status.retry + 1 < len(self._retries):
                forget_outcome(self.job)
                return self.job.change(
                    state="prepared", retry=status.retry + 1, tried=tried, reason=""
                )
            reason = f"{reason}, nor with any retry"
        status = self.job.change(state="failed", tried=tried, reason=reason)
        self._place.note(self.job, status)
        return status

    def _collected(self) -> Status:
        try:
            return collect_job(self._place, self.job)
        except RefusedOutputError as error:
            status = self.job.change(state="failed", reason=error.problem)
            self._place.note(self.job, status)
            return status


def _adopted(job: JobFolder) -> Status:
    """Return where a job stands, with a start that its driver did not live to record."""
    status = job.status()
    begun = (job.read_json(JOB) or {}).get("attempt", 0)
    if begun <= status.attempt:
        return status
    left = (job.read_json(_OUTCOME) or {}).get("attempt")
    if left == begun or is_computing(job):
        return job.change(state="running", attempt=begun, process=None)
    return status


def forget_outcome(job: JobFolder) -> None:
    """Remove what an earlier attempt said of its end."""
    (job.path / _OUTCOME).unlink(missing_ok=True)


def forget_result(job: JobFolder) -> None:
    """Remove what an earlier attempt computed, so that the next one computes it anew."""
    forget_outcome(job)
    for name in ("result.traj", "orbitals.json", "basis.json", SAMPLES_RESULT, LEFT_OUT):
        (job.path / name).unlink(missing_ok=True)

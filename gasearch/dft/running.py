"""`gasearch dft run`: jobs one after another, each as a process of its own, up its retry ladder."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from gasearch.dft import gpaw, processes
from gasearch.dft.collect import Collected, collect_job
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.folders import JobFolder, Status, one_runner
from gasearch.dft.ladder import next_rung, on_rung, rungs
from gasearch.dft.preparing import JOB, Workplace, prepare_gpaw

_POLL_S = 0.5
_PATIENCE_S = 10.0  # that a process gets to end when it is asked to
Say = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """What became of one job.

    Parameters
    ----------
    line
        For people.
    """

    job: JobFolder
    status: Status
    line: str


def run_jobs(
    place: Workplace,
    numbers: Sequence[int],
    *,
    relax: bool,
    say: Say,
    progress: Say,
    surrogate: bool = False,
) -> list[Ended]:
    """Compute candidates one after another; what is computed already is left as it is.

    A job that was interrupted goes on where it was. One that had failed is tried again: it is
    among `numbers` because somebody asked for it by name.

    Parameters
    ----------
    say
        Takes lines that stay.
    progress
        Takes what the job under way does just now.
    surrogate
        Begin on the last rung, with a geometry that was relaxed with surrogate elements; also for
        jobs whose charge order was not kept.
    """
    gpaw.require_gpaw(place.section)
    ended = []
    with one_runner(place.folder.path), _gentle_end():
        for count, number in enumerate(numbers, start=1):
            job = prepare_gpaw(place, number, relax=relax)
            head = f"{count} of {len(numbers)}: {job.path.name}"
            status = job.status()
            if surrogate:
                status = _from_surrogate(job, status)
            if status.state == "collected":
                ended.append(Ended(job, status, f"{head} is collected already: {summary(status)}"))
            else:
                status = _compute(place, job, lambda text, h=head: progress(f"{h}, {text}"))  # type: ignore[misc]
                ended.append(Ended(job, status, f"{head}: {summary(status)}"))
            say(ended[-1].line)
    return ended


def _from_surrogate(job: JobFolder, status: Status) -> Status:
    """Put a job that is not under way onto the last rung, unless it kept its charge order."""
    written = job.read_json("settings.json") or {}
    is_busy = status.state == "running" and processes.is_alive(status.process)
    if is_busy or status.charge_order == "kept" or not written.get("surrogates"):
        return status
    _forget_outcome(job)
    rung = len(rungs(written)) - 1
    return job.change(state="prepared", reason="", rung=rung, tried=(), charge_order=None)


def summary(status: Status) -> str:
    """Return in one line what became of a job."""
    if status.state != "collected":
        return f"{status.state}{f' ({status.reason})' if status.reason else ''}"
    energy = "" if status.energy_eV is None else f", {status.energy_eV:.4f} eV"
    became = f" to candidate {status.found}" if status.charge_order == "moved" else ""
    why = f" ({status.reason})" if status.reason else ""
    return f"charge order {status.charge_order}{became}{energy}{why}"


def _compute(place: Workplace, job: JobFolder, progress: Say) -> Status:
    """Climb the ladder of one job until it is collected, has failed, or was killed."""
    written = job.read_json("settings.json") or {}
    status = job.status()
    if processes.is_alive(status.process) and status.state == "running":
        progress(f"{processes.in_words(status.process or {})} computes it already: waiting")
        while processes.is_alive(status.process):
            time.sleep(_POLL_S)
    elif status.state == "failed":
        _forget_outcome(job)
        status = job.change(state="prepared", reason="", rung=0, tried=())
    refreshed = _refreshed(place, written)
    while True:
        outcome = _outcome(job, status)
        if outcome is None:
            status = _start(place, job, refreshed, status, progress)
            outcome = _outcome(job, status)
        if outcome is None:
            return _stays(place, job, status)
        if outcome["end"] == "done":
            return _collected(place, job)
        status = _next(place, job, refreshed, status, outcome)
        if status.state == "failed":
            return status


def _outcome(job: JobFolder, status: Status) -> dict[str, Any] | None:
    """Return what the newest attempt left, or None."""
    outcome = job.read_json("outcome.json")
    return outcome if outcome and outcome.get("attempt") == status.attempt else None


def _forget_outcome(job: JobFolder) -> None:
    (job.path / "outcome.json").unlink(missing_ok=True)


def _refreshed(place: Workplace, written: dict[str, Any]) -> dict[str, Any]:
    """Return the input with what may change between starts, as run.toml has it now."""
    section, own = place.section, place.section.gpaw
    return {
        **written,
        "fmax": section.fmax,
        "max_steps": section.max_steps,
        "max_step_length": section.max_step_length,
        "mixer": list(own.mixer),
        "max_scf": own.max_scf,
    }


def _start(
    place: Workplace, job: JobFolder, written: dict[str, Any], status: Status, progress: Say
) -> Status:
    """Start the process of a job and wait until it ends."""
    attempt = status.attempt + 1
    name = rungs(written)[status.rung]
    job.write_json(JOB, on_rung(written, status.rung, attempt))
    _forget_outcome(job)
    command = [*gpaw.command_of(place.section), gpaw.SCRIPT.name]
    with (job.path / f"process-{attempt}.log").open("wb") as log:
        child = subprocess.Popen(
            command, cwd=job.path, stdout=log, stderr=log, start_new_session=True
        )
        try:
            status = job.change(
                state="running",
                attempt=attempt,
                reason="",
                process=processes.identity(child.pid),
            )
            place.note(job, status)
            _wait(child, job, attempt, name, place.section.wall_limit_s, progress)
            is_late = child.poll() is None
        except KeyboardInterrupt:
            _end(child)
            _stays(place, job, job.change(reason="interrupted"))
            raise
        finally:
            _end(child)
    reason = _how_it_ended(child.returncode, job, attempt)
    if is_late:
        reason = f"it took longer than dft.wall_limit_s = {place.section.wall_limit_s:g}"
    return job.change(reason=reason) if reason else status


def _wait(
    child: subprocess.Popen[bytes],
    job: JobFolder,
    attempt: int,
    rung: str,
    limit_s: float,
    progress: Say,
) -> None:
    start = time.monotonic()
    while child.poll() is None and time.monotonic() - start < limit_s:
        told = job.read_json("progress.json") or {}
        force = f", largest force {told['fmax']:.2f} eV/Å" if told.get("step") is not None else ""
        step = f"{told.get('stage', 'first')} step {told.get('step', 0)}"
        on = "" if rung == "as set" else f"{rung}, "
        progress(f"{on}{step}{force}, {_iterations(job, attempt)} iterations")
        try:
            child.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            continue


def _iterations(job: JobFolder, attempt: int) -> int:
    try:
        text = (job.path / f"gpaw-{attempt}.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return text.count("\niter:")


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process that still runs: because of Ctrl-C, an error here, or the time limit."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)  # it leads a session of its own
        try:
            child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _how_it_ended(code: int, job: JobFolder, attempt: int) -> str:
    """Return why a process left no outcome; "" where it left one."""
    if job.read_json("outcome.json") is not None:
        return ""
    if code < 0:
        return f"its process was ended by signal {-code} ({signal.Signals(-code).name})"
    if code == 3:
        return "another process computes it already"
    log = job.path / f"process-{attempt}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = lines[-1].strip() if lines else "it said nothing"
    return f"its process ended with status {code}: {said}"


def _stays(place: Workplace, job: JobFolder, status: Status) -> Status:
    """Leave a job that was killed as one that can go on."""
    reason = status.reason or "its process ended without a word"
    status = job.change(state="prepared", reason=f"{reason}; the same command goes on")
    place.note(job, status)
    return status


def _next(
    place: Workplace,
    job: JobFolder,
    written: dict[str, Any],
    status: Status,
    outcome: dict[str, Any],
) -> Status:
    """Climb to the next rung, or give the job up; only electrons that do not converge climb."""
    reason = str(outcome["reason"])
    tried = (*status.tried, f"{rungs(written)[status.rung]}: {reason}")
    rung = next_rung(written, status.rung) if outcome["end"] == "scf" else None
    if rung is not None:
        _forget_outcome(job)
        return job.change(state="prepared", rung=rung, tried=tried, reason="")
    if outcome["end"] == "scf":
        reason = f"{reason}, nor on any rung of the ladder"
    status = job.change(state="failed", tried=tried, reason=reason)
    place.note(job, status)
    return status


def _collected(place: Workplace, job: JobFolder) -> Status:
    try:
        found: Collected = collect_job(place, job)
    except RefusedOutputError as error:
        status = job.change(state="failed", reason=error.problem)
        place.note(job, status)
        return status
    return found.status


@contextmanager
def _gentle_end() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: with the job's process ended, its folder resumable."""

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

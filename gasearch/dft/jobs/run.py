"""`gasearch dft run`: jobs, some at once, each a program of its own that outlives its driver."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType

from gasearch.dft.codes.registry import program_of
from gasearch.dft.jobs.folders import JobFolder, Status, one_runner
from gasearch.dft.jobs.prepare import SETTINGS, Workplace, prepare_job
from gasearch.dft.jobs.retries import RetriedJob, forget_result
from gasearch.dft.jobs.samples import SamplesOf
from gasearch.dft.jobs.submit import Submitter

_TICK_S = 0.1
Say = Callable[[str], None]


def run_jobs(
    place: Workplace,
    numbers: Sequence[int],
    *,
    relax: bool,
    say: Say,
    progress: Say,
    surrogate: bool = False,
    at_once: int | None = None,
    samples: SamplesOf | None = None,
) -> list[Status]:
    """Compute candidates, some at once; return where their jobs ended.

    What is computed already is left as it is.

    A job that was interrupted goes on where it was, and one that still runs is waited for. One that
    had failed is tried again: it is among `numbers` because somebody asked for it by name.

    Parameters
    ----------
    say
        Takes lines that stay.
    progress
        Takes what the jobs under way do just now.
    surrogate
        Begin with the last retry, a geometry relaxed with surrogate elements; also for jobs
        whose charge order was not kept.
    at_once
        Programs at the most; as [dft] says if None.
    samples
        Returns further geometries of a candidate, which a new job computes too; see `prepare_job`.
    """
    submitter = Submitter(place.folder, place.section, place.folder.settings().execution)
    if submitter.is_local:
        program_of(place.section.code).require(place.section)
    with one_runner(place.folder.path), _sigterm_as_ctrl_c():
        pool = _JobPool(place, submitter, numbers, say, progress, samples)
        return pool.run(at_once or place.section.jobs, relax=relax, surrogate=surrogate)


class _JobPool:
    """Jobs of which so many are under way beside each other."""

    def __init__(
        self,
        place: Workplace,
        submitter: Submitter,
        numbers: Sequence[int],
        say: Say,
        progress: Say,
        samples: SamplesOf | None,
    ) -> None:
        self._place = place
        self._submitter = submitter
        self._numbers = numbers
        self._say = say
        self._progress = progress
        self._samples = samples or (lambda number: ())  # noqa: ARG005
        self._under_way: dict[int, RetriedJob] = {}
        self._ended: dict[int, Status] = {}

    def run(self, at_once: int, *, relax: bool, surrogate: bool) -> list[Status]:
        waiting = list(self._numbers)
        try:
            while waiting or self._under_way:
                while waiting and len(self._under_way) < at_once:
                    self._begin(waiting.pop(0), relax=relax, surrogate=surrogate)
                self._advance()
        except BaseException:
            self._interrupt()
            raise
        return [self._ended[number] for number in self._numbers]

    def _interrupt(self) -> None:
        for number, one in self._under_way.items():
            one.interrupt("interrupted")
            if one.outlives_driver:
                self._say(f"{self._head(number, one.job)} goes on; the same command finds it")

    def _begin(self, number: int, *, relax: bool, surrogate: bool) -> None:
        code, samples = self._place.section.code, partial(self._samples, number)
        job = prepare_job(self._place, number, code, relax=relax, samples=samples)
        status = job.status()
        if surrogate:
            status = _from_surrogate(job, status, self._submitter)
        if status.state == "collected":
            self._end(number, job, status, f" is collected already: {summary(status)}")
        else:
            self._under_way[number] = RetriedJob(self._place, self._submitter, job)

    def _advance(self) -> None:
        for number, one in list(self._under_way.items()):
            status = one.advance()
            if status is not None:
                del self._under_way[number]
                self._end(number, one.job, status, f": {summary(status)}")
        if self._under_way:
            lines = [f"{self._head(n, one.job)}, {one.doing}" for n, one in self._under_way.items()]
            self._progress("; ".join(lines))
            time.sleep(_TICK_S)

    def _head(self, number: int, job: JobFolder) -> str:
        return f"{self._numbers.index(number) + 1} of {len(self._numbers)}: {job.path.name}"

    def _end(self, number: int, job: JobFolder, status: Status, how: str) -> None:
        self._ended[number] = status
        self._say(f"{self._head(number, job)}{how}")


def _from_surrogate(job: JobFolder, status: Status, submitter: Submitter) -> Status:
    """Let a job that is not under way begin with the last retry, unless it kept its order."""
    written = job.read_json(SETTINGS) or {}
    if status.charge_order == "kept" or not written.get("surrogates"):
        return status
    if submitter.find(job, status) is not None:
        return status
    forget_result(job)
    last = len(program_of(status.code).retries(written)) - 1
    return job.change(state="prepared", reason="", retry=last, tried=(), charge_order=None)


def summary(status: Status) -> str:
    """Return in one line what became of a job."""
    if status.state != "collected":
        return f"{status.state}{f' ({status.reason})' if status.reason else ''}"
    energy = "" if status.energy_eV is None else f", {status.energy_eV:.4f} eV"
    became = f" to candidate {status.found}" if status.charge_order == "moved" else ""
    why = f" ({status.reason})" if status.reason else ""
    return f"charge order {status.charge_order}{became}{energy}{why}"


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: with the jobs' processes ended, folders resumable."""

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Run folders whose GPAW is `fake_gpaw.py`, as processes or in the process of the tests."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import fake_gpaw
import pytest

from gasearch import processes
from gasearch.dft.codes import potential_job
from gasearch.dft.codes.outputs import read_output
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.jobs.folders import job_folders
from gasearch.dft.jobs.prepare import Workplace
from gasearch.dft.jobs.run import run_jobs
from gasearch.run.folder import RunFolder

FAKE = Path(fake_gpaw.__file__)
N_POLLS = 3  # that a slow program takes here


def behave(folder, *what):
    """Say what each attempt of a job shall do, the last for all further ones."""
    (folder / "behaviour.json").write_text(json.dumps(what))


def starts(folder):
    """Return [candidate, retry, first mixing parameter, what happened] of each start."""
    path = folder / "starts.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


class FakeProgram:
    """What `fake_gpaw.py` does, without a process: at once, or "slow" while it is polled."""

    def __init__(self, request):
        self._folder = request.folder
        self._job, self._what = fake_gpaw.begin(request.folder)
        self._polls_left = {"slow": N_POLLS, "hang": 10**9}.get(self._what, 0)
        self.record = processes.identity()
        self.exit_status = None

    def poll(self):
        self._polls_left -= 1
        if self._polls_left >= 0:
            return "running"
        if self.exit_status is None:
            self.exit_status = fake_gpaw.end(self._folder, self._job, self._what)
        return "ended"

    def cancel(self):
        self._polls_left, self.exit_status = 0, -15


class PotentialProgram:
    """What `potential_job.py` does, in this process: torch is loaded once for many jobs."""

    def __init__(self, request):
        with contextlib.chdir(request.folder):
            self.exit_status = potential_job.main()
        self.record = processes.identity()

    def poll(self):
        return "ended"

    def cancel(self):
        """It has ended."""


def with_potential(folder, name="pmmcs"):
    """Let `gasearch dft run` compute with a potential."""
    set_keys(folder, "dft", code="potential")
    set_keys(folder, "dft.potential", name=name)


def compute(folder, *numbers, watch=lambda line: None, **options):
    """Run the jobs of candidates; return where they ended and all lines that were said."""
    run, lines = RunFolder(folder), []

    def progress(line):
        lines.append(line)
        watch(line)

    with run.open_store(read_only=False) as store:
        place = Workplace.of(run, store)
        show = {"say": lines.append, "progress": progress}
        ended = run_jobs(place, numbers, **{"relax": True, **options}, **show)
    return ended, lines


def start_driver(folder, *words, **keywords):
    """Start `gasearch dft run` as a process."""
    command = [sys.executable, "-m", "gasearch", "dft", "run", str(folder), *words]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, **{**streams, **keywords})


def wait_until(condition, limit_s=120.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def statuses(folder):
    return [job.status() for job in job_folders(folder)]


def set_keys(folder, section, **keys):
    """Set keys of a section of run.toml, which may be new."""
    text = (folder / "run.toml").read_text()
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    if f"[{section}]" in text:
        text = text.replace(f"[{section}]\n", f"[{section}]\n{lines}\n")
    else:
        text += f"\n[{section}]\n{lines}\n"
    (folder / "run.toml").write_text(text)


def refused(path):
    """Return the one line by which an output is refused."""
    with pytest.raises(RefusedOutputError) as error:
        read_output(path)
    assert "\n" not in str(error.value)
    return str(error.value)

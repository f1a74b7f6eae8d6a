"""A DFT job on disk: RUN/dft/<candidate>-<level>/ with inputs, outputs and a status file.

The status file is replaced whole, so that a reader never sees half of it. It says what the job is,
where it stands, and why. Who starts a job holds the lock of the run's `dft` folder.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from gasearch import processes
from gasearch.dft.errors import JobFolderError, JobRunningError
from gasearch.files import inside, make_folder, name_from, write_json

State = Literal["prepared", "exported", "running", "collected", "failed"]
STATES: tuple[State, ...] = get_args(State)
STATUS = "status.json"
START = "start.traj"
MOMENTS = "moments.json"
_VERSION = 1
_RETRY = "rung"  # what the file has always called it


@dataclass(frozen=True)
class Status:
    """Where a job stands.

    Parameters
    ----------
    candidate
        Whose charge order was asked for.
    level
        Name of the level of theory.
    task
        "relax", or "single-point".
    attempt
        How often it was started.
    retry
        Which of the code's retries it is on; 0 is the settings as they are.
    reason
        Why it is where it is, in one line; "" where there is nothing to say.
    tried
        What came of the retries before this one.
    process
        That computes, or computed last; see `gasearch.processes`.
    charge_order
        "kept", "moved" or "delocalised", once collected.
    found
        The candidate that it became; None where it has no order, or is not collected.
    settings
        Of the level.
    """

    candidate: int
    level: str
    code: str
    task: str
    state: State
    settings: Mapping[str, Any]
    attempt: int = 0
    retry: int = 0
    reason: str = ""
    tried: tuple[str, ...] = ()
    process: Mapping[str, Any] | None = None
    charge_order: str | None = None
    found: int | None = None
    energy_eV: float | None = None
    created: float = field(default_factory=time.time)
    changed: float = field(default_factory=time.time)


@dataclass(frozen=True)
class JobFolder:
    """The files of one job.

    Parameters
    ----------
    path
        The folder.
    """

    path: Path

    @classmethod
    def of(cls, run: Path, candidate: int, level: str) -> JobFolder:
        """Return the place of a job, whether it exists or not."""
        return cls(inside(run / "dft", name_from(f"{candidate}-{level}")))

    @property
    def status_file(self) -> Path:
        """What says where the job stands."""
        return self.path / STATUS

    @property
    def exists(self) -> bool:
        """Whether it was prepared."""
        return self.status_file.is_file()

    def make(self) -> None:
        """Make the folder itself."""
        make_folder(self.path)

    def status(self) -> Status:
        """Return where the job stands."""
        try:
            document = json.loads(self.status_file.read_text(encoding="utf-8"))
            _refuse_other_version(document)
            retry = document.pop(_RETRY, 0)
            return Status(**document | {"retry": retry, "tried": tuple(document["tried"])})
        except FileNotFoundError as error:
            raise JobFolderError(f"{self.path} is no DFT job: it has no {STATUS}.") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise JobFolderError(
                f"{self.status_file} cannot be used ({error}): restore it, or remove the folder "
                "to prepare the job anew."
            ) from error

    def write(self, status: Status) -> Status:
        """Replace the status file, and return what it says."""
        now = replace(status, changed=time.time())
        document = {_RETRY if key == "retry" else key: own for key, own in asdict(now).items()}
        self.write_json(STATUS, {"version": _VERSION, **document})
        return now

    def change(self, **changes: Any) -> Status:
        """Change some of what the status file says."""
        return self.write(replace(self.status(), **changes))

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a file that is there whole, or not at all."""
        write_json(self.path / name, document)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return a file of the job; None if it is not there, or is no JSON."""
        try:
            document = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None


def _refuse_other_version(document: dict[str, Any]) -> None:
    version, state = document.pop("version"), document["state"]
    if version != _VERSION or state not in STATES:
        raise ValueError(f"version {version!r}, state {state!r}")


def job_folders(run: Path) -> list[JobFolder]:
    """Return the jobs of a run, by candidate and level."""
    found = [JobFolder(path.parent) for path in (run / "dft").glob(f"*/{STATUS}")]

    def order(job: JobFolder) -> tuple[int, str]:
        number, _, level = job.path.name.partition("-")
        return (int(number) if number.isdecimal() else 0, level)

    return sorted(found, key=order)


@contextmanager
def one_runner(run: Path) -> Iterator[None]:
    """Hold the right to start jobs of a run; the system frees it when the process dies."""
    make_folder(run / "dft")
    path = run / "dft" / ".runner"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise JobFolderError(f"{path} cannot be locked: {error.strerror}.") from error
            holder = os.pread(file, 200, 0).decode(errors="replace").strip() or "another process"
            raise JobRunningError(
                f"the DFT jobs of this run are being computed already ({holder}): wait until it "
                "ends, or stop it."
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, processes.in_words(processes.identity()).encode(), 0)
        yield
        os.ftruncate(file, 0)
    finally:
        os.close(file)

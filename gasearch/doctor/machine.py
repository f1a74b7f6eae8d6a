"""The machine around a run: PATH, folders, disks, and the commands of a scheduler."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from gasearch.doctor.checks import Check, failed, one_line, passed, warned

_LEAST_BYTES = 100_000_000
_ENOUGH_BYTES = 2_000_000_000
_PATIENCE_S = 30.0
_USER = "{user}"
_ASK: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "slurm": {
        "sbatch": ("--version",),
        "squeue": ("--noheader", "--user", _USER),
        "scancel": ("--version",),
    },
    "pbs": {"qsub": ("--version",), "qstat": ("-u", _USER), "qdel": ("--version",)},
    "lsf": {"bsub": ("-V",), "bjobs": ("-noheader",), "bkill": ("-V",)},
}
"""What each command of a scheduler is asked: the one that reads the queue, the scheduler itself."""
_EMPTY_QUEUE = ("no unfinished job found", "no job found")


def environment_on_path() -> Iterator[Check]:
    """Say whether programs that are started find this environment's commands."""
    name = "PATH"
    own = Path(sys.executable).parent
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    if own in folders or own.resolve() in folders:
        yield passed(name, f"has {own}")
        return
    yield warned(
        name,
        f"lacks {own}, where gasearch and parsl keep their commands",
        "the engine adds it for its workers; activate the environment in start-up lines of your "
        "own",
    )


def folder_is_usable(name: str, folder: Path) -> Iterator[Check]:
    """Say whether a folder takes files, and how much room there is."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"gasearch")
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        reason = error.strerror or str(error)
        yield failed(
            name, f"{folder} takes no files ({reason})", "mend its permissions, or the disk"
        )
        return
    room = f"{folder} is writable, {free / 1e9:.1f} GB free"
    if free < _LEAST_BYTES:
        yield failed(name, room, "make room on this disk, or choose another")
    elif free < _ENOUGH_BYTES:
        yield warned(name, room, "a long search needs more: make room")
    else:
        yield passed(name, room)


def scheduler_commands(scheduler: str) -> Iterator[Check]:
    """Say for each command of a scheduler whether it is there and answers."""
    for command, arguments in _ASK.get(scheduler, {}).items():
        yield _command(scheduler, command, [_named(word) for word in arguments])


def _named(word: str) -> str:
    return getpass.getuser() if word == _USER else word


def _command(scheduler: str, command: str, arguments: list[str]) -> Check:
    place = shutil.which(command)
    if place is None:
        return failed(
            command,
            "is not on PATH",
            f"ask on a machine from which {scheduler} jobs are submitted, or load its module",
        )
    asked = " ".join([command, *arguments])
    try:
        answer = subprocess.run(
            [place, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return failed(
            command, f"{asked} gave no answer in {_PATIENCE_S:.0f} s", f"is {scheduler} down?"
        )
    except OSError as error:
        return failed(
            command, f"{place} cannot be started ({error.strerror})", "mend its permissions"
        )
    said = one_line(answer.stdout + " " + answer.stderr).strip()
    is_empty = any(text in said.lower() for text in _EMPTY_QUEUE)
    if answer.returncode and not is_empty:
        what = f"{asked} ended with status {answer.returncode}: {said[-200:] or 'it said nothing'}"
        return failed(command, what, f"{scheduler} must answer before jobs can be submitted")
    return passed(command, f"{place} answers")

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

from gasearch.doctor.checks import Check, failed, one_line, passed, run_program, warned
from gasearch.processes import ending_in_words

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
    advice = "the engine adds it for its workers; start-up lines of your own must activate it"
    yield warned(name, f"lacks {own}, where gasearch and parsl keep their commands", advice)


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
        advice = "correct its permissions, or repair the disk"
        yield failed(name, f"{folder} takes no files ({reason})", advice)
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
        advice = f"ask on a machine from which {scheduler} jobs are submitted, or load its module"
        return failed(command, "is not on PATH", advice)
    asked = " ".join([command, *arguments])
    try:
        answer = run_program([place, *arguments], _PATIENCE_S)
    except subprocess.TimeoutExpired:
        found = f"{asked} gave no answer in {_PATIENCE_S:.0f} s"
        return failed(command, found, f"is {scheduler} down?")
    except OSError as error:
        found = f"{place} cannot be started ({error.strerror})"
        return failed(command, found, "correct its permissions")
    said = one_line(answer.stdout + " " + answer.stderr).strip()
    is_empty = any(text in said.lower() for text in _EMPTY_QUEUE)
    if answer.returncode and not is_empty:
        ending = f"{asked} {ending_in_words(answer.returncode)}"
        found = f"{ending}: {said[-200:] or 'it printed nothing'}"
        return failed(command, found, f"{scheduler} must answer before jobs can be submitted")
    return passed(command, f"{place} answers")

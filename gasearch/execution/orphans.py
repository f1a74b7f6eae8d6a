"""What an earlier driver left behind, ended by what engine.json recorded of it, nothing broader."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gasearch.dft import processes
from gasearch.execution.engine_file import read_engine_file, remove_engine_file

if TYPE_CHECKING:
    from gasearch.execution.settings import ExecutionSection
    from gasearch.run_folder import RunFolder

_PATIENCE_S = 3.0
_PARSL = "parsl:"  # so its processes call themselves soon after their start


def end_orphans(folder: RunFolder, section: ExecutionSection) -> int:
    """End what a dead driver of this run folder left, and return how many that were.

    A driver that lives keeps what it has. On this machine a process is ended only if host, boot,
    pid, start time and command line are those that were recorded; jobs of a scheduler are cancelled
    by their numbers.
    """
    record = read_engine_file(folder.path)
    if record is None or record.is_current:
        return 0
    n_ended = end_processes(record.processes)
    if record.jobs:
        from gasearch.execution.parsl_sites import cancel_jobs

        n_ended += cancel_jobs(section, folder, record.provider, record.jobs)
    remove_engine_file(folder.path)
    return n_ended


def end_processes(recorded: Iterable[Mapping[str, Any]]) -> int:
    """Kill the processes that are still those that were recorded; return how many."""
    known = [process for process in recorded if is_the_same(process)]
    for process in known:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process["pid"], signal.SIGKILL)
    end = time.monotonic() + _PATIENCE_S
    while any(is_the_same(process) for process in known) and time.monotonic() < end:
        time.sleep(0.02)
    return len(known)


def is_the_same(recorded: Mapping[str, Any]) -> bool:
    """Return whether a recorded process of this machine still runs, and is no other."""
    here = recorded.get("host") == processes.identity()["host"]
    mark = recorded.get("mark")
    if not (here and mark and processes.is_alive(recorded)):
        return False
    now = command_line(recorded["pid"])
    return str(mark) in now or now.startswith(_PARSL)


def command_line(pid: int) -> str:
    """Return the arguments of a process, or its name where it hides them."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def descendants(*roots: int, direct: bool = False) -> list[int]:
    """Return the processes that some of this machine started, and theirs; none elsewhere.

    Parameters
    ----------
    direct
        Only those that they started themselves.
    """
    known = None if Path("/proc/self/task", str(os.getpid()), "children").exists() else _parents()
    found: list[int] = []
    front = list(roots)
    while front:
        front = [child for one in front for child in _children(one, known)]
        found += front
        if direct:
            break
    return found


def _children(pid: int, known: Mapping[int, Sequence[int]] | None) -> list[int]:
    """Return what a process started itself, by the kernel's list of it where there is one."""
    if known is not None:
        return list(known.get(pid, ()))
    found: list[int] = []
    with suppress(OSError, ValueError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                text = (thread / "children").read_text(encoding="utf-8")
                found += [int(word) for word in text.split()]
    return found


def _parents() -> dict[int, list[int]]:
    """Return all processes of this machine by their parents."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            text = entry.read_text(encoding="utf-8", errors="replace")
            parent = int(text.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    return children

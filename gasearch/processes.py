"""Processes of this machine: identified by id and start time, ended, tied to their parents."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""Environment of a worker, whose numerics use one thread."""
WATCH_EVERY_S = 0.25
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # of Linux's prctl
_PATIENCE_S = 3.0
_PARSL = "parsl:"  # the first word of what Parsl's processes call themselves


def identity(pid: int | None = None) -> dict[str, Any]:
    """Return what identifies a process: host, id, and when it was started."""
    own = os.getpid() if pid is None else pid
    return {"host": socket.gethostname(), "pid": own, "started": started(own)}


def started(pid: int) -> str | None:
    """Return when a process was started, as the system writes it; None if there is none.

    A process that has ended and waits for its parent to notice is none.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _asked(pid)
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else f"{_boot()}:{fields[18]}"


def is_alive(process: Mapping[str, Any] | None) -> bool:
    """Return whether the process of an `identity` runs; one on another host counts as running."""
    if not process:
        return False
    if process.get("host") != socket.gethostname():
        return True
    pid = process.get("pid")
    return isinstance(pid, int) and started(pid) == process.get("started") is not None


def in_words(process: Mapping[str, Any]) -> str:
    """Return a process as it is shown to a user."""
    return f"process {process.get('pid')} on {process.get('host')}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()[:8]
    except OSError:
        return "boot"


def _asked(pid: int) -> str | None:
    """Ask ps, where there is no /proc."""
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None


def ending_in_words(status: int) -> str:
    """Return how a process ended, by its exit status, which is negative for a signal."""
    return f"ended by signal {-status}" if status < 0 else f"ended with exit status {status}"


def end_with_parent(is_overdue: Callable[[], bool] = lambda: False) -> None:
    """End this process soon after its parent died, in the middle of an evaluation too.

    Parameters
    ----------
    is_overdue
        Asked every `WATCH_EVERY_S`; ends this process as well.
    """
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # even where native code keeps all threads waiting

    def watch() -> None:
        while os.getppid() == parent and not is_overdue():
            time.sleep(WATCH_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def adopt_orphans() -> None:
    """Become the parent of what a killed child leaves, so that it can be ended from here."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    """Set what only Linux has; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


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
    here = recorded.get("host") == socket.gethostname()
    mark = recorded.get("mark")
    if not (here and mark and is_alive(recorded)):
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

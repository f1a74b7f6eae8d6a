"""Whether a process that a file names is still the one that it was: id and start time together."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def identity(pid: int | None = None) -> dict[str, Any]:
    """Return what names a process for good: host, id, and when it was started."""
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
    """Return a process as a user finds it."""
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

"""Watches a program of Parsl: `python -m gasearch.execution.parsl.guard [OPTIONS] -- COMMAND`.

Ends the program, with all that it started, on SIGTERM, when the driver of the search on this
machine died, or when the job that started it is gone, so that no process is left behind. With
--again a program that ends is started again, in the job that is there: a manager that was
killed, or one whose worker died while it waited. Such a worker takes the lock of the queue of
tasks along, and no other worker of its manager would ever get a task (Python's
multiprocessing.Queue; parsl 2026.10 does not notice).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from gasearch import processes
from gasearch.processes import descendants

RELAXING = "relaxing"
"""What a worker calls itself while it has a batch; of any other name it waits for one."""
_POLL_S = 0.5
_SETTLED_S = 0.5
_MOST_STARTS = 20
_LONG_S = 60.0  # a program that lived longer was well started


class _EndRequested(BaseException):
    """SIGTERM came."""


def main(arguments: Sequence[str]) -> int:
    """Run a program until it ends, or has to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--driver", default="", help="HOST,PID,START of the driver")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    processes.adopt_orphans()
    if not options.again:  # a job's processes stay in its group, by which it is cancelled
        with suppress(PermissionError):
            os.setsid()
    host, pid, started = (*options.driver.split(",", 2), "", "", "")[:3]
    driver = {"host": host, "pid": int(pid or 0), "started": started}
    signal.signal(signal.SIGTERM, _request_end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which ends this
    try:
        return _keep(options.command, driver if host else None, again=options.again)
    except _EndRequested:
        return 0
    finally:
        _end_all()


def _keep(command: Sequence[str], driver: dict[str, object] | None, *, again: bool) -> int:
    parent, n_starts = os.getppid(), 0
    while True:
        began_s = time.monotonic()
        child = subprocess.Popen(list(command))
        code = _watch(child, driver, parent)
        n_starts = 1 if time.monotonic() - began_s > _LONG_S else n_starts + 1
        if code is None or code == 0 or not again or n_starts == _MOST_STARTS:
            return code or 0
        _end_all()
        print(f"it ended with {code}: started again", flush=True)  # noqa: T201 -- the job's log


def _watch(
    child: subprocess.Popen[bytes], driver: dict[str, object] | None, parent: int
) -> int | None:
    """Return how a program ended, or None where it has to be ended and not started again."""
    names: dict[int, str] = {}
    while child.poll() is None:
        time.sleep(_POLL_S)
        if os.getppid() != parent or (driver and not processes.is_alive(driver)):
            return None
        _reap(child.pid)
        now = _names_of_children(child.pid)
        gone = [pid for pid, name in names.items() if pid not in now and name != RELAXING]
        if gone and _goes_on(child):
            child.kill()
            child.wait()
            return -signal.SIGKILL
        names = now
    return child.returncode


def _goes_on(child: subprocess.Popen[bytes]) -> bool:
    """Return whether a program goes on without the process that it lost, rather than ends too."""
    time.sleep(_SETTLED_S)
    return child.poll() is None


def _names_of_children(pid: int) -> dict[int, str]:
    found = {}
    for one in descendants(pid, direct=True):
        with suppress(OSError):
            found[one] = Path(f"/proc/{one}/comm").read_text(encoding="utf-8").strip()
    return found


def _reap(but: int) -> None:
    """Take note of processes that ended and whose parents ended before them."""
    for pid in descendants(os.getpid(), direct=True):
        if pid != but:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _end_all() -> None:
    """Kill all that descends from here; what a killed one left becomes a child of this process."""
    for _ in range(5):
        found = descendants(os.getpid())
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in found:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if not found:
            return


def _request_end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _EndRequested


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

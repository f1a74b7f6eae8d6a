"""Whether a folder's file system locks as the population database needs it.

SQLite and the driver lock rely on locks of the operating system, which some network file systems
grant to everyone, refuse, or never answer. Two processes on one machine try them here; what other
machines do to each other is not seen, which is why a network file system is named as such.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import selectors
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NETWORK_FILE_SYSTEMS = frozenset(
    (
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "fhgfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs2",
        "gluster",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "pvfs2",
        "smb3",
        "smbfs",
        "virtiofs",
        "wekafs",
    )
)
_MOUNTS = Path("/proc/mounts")
_FLOCK, _POSIX, _DATABASE = "flock", "posix", "probe.db"

# What the other process runs: it tries the lock that it is asked for, and answers.
CHILD = """
import fcntl, sqlite3, sys

files = {}
for line in sys.stdin:
    act, name = line.split()
    try:
        if act == "flock":
            files[name] = open(name, "r+b")
            fcntl.flock(files[name], fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif act == "posix":
            files[name] = open(name, "r+b")
            fcntl.lockf(files[name], fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif act == "sqlite":
            connection = sqlite3.connect(name, timeout=0, isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO probe SELECT count(*) + 1 FROM probe")
            connection.execute("COMMIT")
            connection.close()
        print("granted", flush=True)
    except (OSError, sqlite3.OperationalError) as error:
        print("refused", error, flush=True)
"""


@dataclass(frozen=True)
class LockingProbe:
    """What was found.

    Parameters
    ----------
    fs_type
        As the kernel names it, such as "ext4" or "nfs4"; "unknown" where it is not known.
    problems
        What does not work, in words; empty where all locks hold between two processes here.
    """

    folder: Path
    fs_type: str
    problems: tuple[str, ...] = ()

    @property
    def is_network(self) -> bool:
        """Whether other machines may see the same files."""
        return self.fs_type in NETWORK_FILE_SYSTEMS

    @property
    def is_reliable(self) -> bool:
        """Whether the locks hold between two processes of this machine."""
        return not self.problems

    def __str__(self) -> str:
        place = f"{self.folder} ({self.fs_type})"
        if self.problems:
            return (
                f"{place} does not lock files reliably ({'; '.join(self.problems)}): keep the run "
                "on a local disk, or name a PostgreSQL server as url in [store] of run.toml."
            )
        return f"{place} locks files between processes of this machine"


def probe(folder: Path, timeout_s: float = 20.0) -> LockingProbe:
    """Try the locks of the file system that a folder lies on; takes a tenth of a second.

    Nothing is left in the folder.

    Parameters
    ----------
    folder
        An existing one that can be written to; else that is the problem.
    timeout_s
        How long one answer may take before locks are said to hang.
    """
    folder = Path(folder)
    fs_type = file_system(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".locking-", dir=folder) as place:
            problems = list(_problems(Path(place), timeout_s))
    except (OSError, sqlite3.Error) as error:
        problems = [f"a file cannot be made and used there: {error}"]
    return LockingProbe(folder, fs_type, tuple(problems))


def file_system(folder: Path, mounts: str | None = None) -> str:
    """Return the type of the file system that a path lies on.

    Parameters
    ----------
    mounts
        Text in the form of /proc/mounts, which is read if None.
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(errors="replace")
        except OSError:
            return "unknown"
    path, found, depth = Path(folder).resolve(), "unknown", -1
    for line in mounts.splitlines():
        fields = line.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1]))
        if path.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = fields[2], len(point.parts)
    return found


class _HangsError(Exception):
    """The other process gave no answer in time."""


def _problems(place: Path, timeout_s: float) -> Iterator[str]:
    for name in (_FLOCK, _POSIX):
        (place / name).touch()
    with contextlib.closing(sqlite3.connect(place / _DATABASE)) as connection:
        connection.execute("CREATE TABLE probe (n INTEGER)")
    try:
        yield from _file_locks(place, timeout_s)
        yield from _sqlite_locks(place, timeout_s)
    except _HangsError as error:
        yield f"{error} gave no answer within {timeout_s:g} s"


def _file_locks(place: Path, timeout_s: float) -> Iterator[str]:
    for name, call in ((_FLOCK, fcntl.flock), (_POSIX, fcntl.lockf)):
        with (place / name).open("r+b") as file:
            try:
                call(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                yield f"{name} locks are refused: {error.strerror}"
                continue
            with _other(place) as other:
                if _ask(other, name, timeout_s) == "granted":
                    yield f"{name} locks are given to two processes at once"
                    continue
                call(file, fcntl.LOCK_UN)
                if _ask(other, name, timeout_s) != "granted":
                    yield f"{name} locks stay after they are given back"
                    continue
                other.kill()
                other.wait()
            try:
                call(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield f"{name} locks stay after their process is killed"


def _sqlite_locks(place: Path, timeout_s: float) -> Iterator[str]:
    connection = sqlite3.connect(place / _DATABASE, timeout=0, isolation_level=None)
    with contextlib.closing(connection), _other(place) as other:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO probe VALUES (1)")
        if _ask(other, "sqlite", timeout_s) == "granted":
            yield "two processes write one SQLite file at once"
            return
        connection.execute("COMMIT")
        if _ask(other, "sqlite", timeout_s) != "granted":
            yield "a SQLite file stays locked after a commit"
            return
        rows = connection.execute("SELECT n FROM probe ORDER BY n").fetchall()
        if rows != [(1,), (2,)]:
            yield f"one process does not see what another wrote into a SQLite file ({rows})"


@contextmanager
def _other(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", CHILD],
        cwd=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _ask(other: subprocess.Popen[bytes], act: str, timeout_s: float) -> str:
    """Return the first word that the other process says to one request."""
    if other.stdin is None or other.stdout is None:
        raise _HangsError(act)
    name = _DATABASE if act == "sqlite" else act
    os.write(other.stdin.fileno(), f"{act} {name}\n".encode())
    with selectors.DefaultSelector() as selector:
        selector.register(other.stdout, selectors.EVENT_READ)
        if not selector.select(timeout_s):
            raise _HangsError(f"{act} locking")
    return os.read(other.stdout.fileno(), 1000).decode(errors="replace").split(" ")[0].strip()

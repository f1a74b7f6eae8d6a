"""The lock that makes sure that a search has one driver.

The operating system frees it when the process dies, however it dies. It is a file of its own next
to the database: SQLite's own locks come and go with each transaction, and the name must not be
that of ASE's lock file (`search.db.lock`), which ASE takes for a writer that is at work.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from gasearch.store.errors import SearchRunningError, WriteFailedError

_held: dict[Path, DriverLock] = {}
_IS_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_TRIALS = 10


class DriverLock:
    """The right to drive the search of one database, for as long as the `with` block lasts.

    Parameters
    ----------
    database
        The database file; it need not exist yet.
    """

    def __init__(self, database: Path) -> None:
        self.database = Path(database).resolve()
        self.path = self.database.with_name(f"{self.database.name}.driver")
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock, or raise `SearchRunningError` with the process that has it."""
        if self.database in _held:
            raise SearchRunningError(self.database, f"this process, {os.getpid()}")
        file = _open(self.path)
        try:
            self._lock(file)
        except BaseException:
            os.close(file)
            raise
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._file = file
        _held[self.database] = self

    def _lock(self, file: int) -> None:
        for trial in range(_TRIALS):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _IS_HELD:
                    cause = f"the file system has no file locks: {error.strerror}"
                    raise WriteFailedError(self.path, cause) from error
                if trial + 1 == _TRIALS:
                    raise SearchRunningError(self.database, _holder(file) or "unknown") from error
                time.sleep(0.02)  # it may be `driver_of`, which asks for an instant
            else:
                return

    def release(self) -> None:
        """Give the lock back; the file stays, for removing it would race with the next driver."""
        if self._file is not None:
            _held.pop(self.database, None)
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None

    def _forget(self) -> None:
        """Close the file in a forked child, which would keep the lock beyond its parent's death."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def is_held(database: Path) -> bool:
    """Return whether this process drives the search of that file."""
    return Path(database).resolve() in _held


def driver_of_file(database: Path) -> str | None:
    """Try the lock only where a driver has left its name: one that starts now is not in the way."""
    path = Path(database).resolve()
    try:
        file = os.open(path.with_name(f"{path.name}.driver"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    holder = _holder(file)
    try:
        if holder:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return holder if error.errno in _IS_HELD else None
    finally:
        os.close(file)
    return None


def _holder(file: int) -> str:
    return os.pread(file, 200, 0).decode(errors="replace").strip()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise WriteFailedError(path, error.strerror or str(error)) from error


def _forget_all() -> None:
    for lock in list(_held.values()):
        lock._forget()
    _held.clear()


os.register_at_fork(after_in_child=_forget_all)

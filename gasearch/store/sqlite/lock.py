"""The lock that makes sure that a search has one driver.

The operating system frees it when the process dies, however it dies. It is a file of its own next
to the database: SQLite's own locks come and go with each transaction, and the name must not be
that of ASE's lock file (`search.db.lock`), which ASE takes for a writer that is at work.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from gasearch.store.errors import WriteFailedError
from gasearch.store.storage import DriveLock, this_process

_IS_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_TRIALS = 10


class DriverLock(DriveLock):
    """The right to drive the search in one file.

    Parameters
    ----------
    database
        The database file; it need not exist yet.
    """

    def __init__(self, database: Path) -> None:
        resolved = Path(database).resolve()
        super().__init__(resolved)
        self.path = resolved.with_name(f"{resolved.name}.driver")
        self._file: int | None = None

    def take(self) -> str | None:
        """Lock the file beside the database, and leave one's name in it."""
        file = _open(self.path)
        try:
            holder = self._lock(file)
        except BaseException:
            os.close(file)
            raise
        if holder is not None:
            os.close(file)
            return holder
        os.ftruncate(file, 0)
        os.pwrite(file, f"{this_process()}\n".encode(), 0)
        self._file = file
        return None

    def _lock(self, file: int) -> str | None:
        for trial in range(_TRIALS):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _IS_HELD:
                    cause = f"the file system has no file locks: {error.strerror}"
                    raise WriteFailedError(self.path, cause) from error
                if trial + 1 < _TRIALS:
                    time.sleep(0.02)  # it may be `driver_of_file`, which asks for an instant
            else:
                return None
        return _holder(file) or "unknown"

    def give_back(self) -> None:
        """Unlock the file; it stays, for removing it would race with the next driver."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
        self.forget()

    def forget(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


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

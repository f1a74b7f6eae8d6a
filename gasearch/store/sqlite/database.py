"""The SQLite file itself: opening and refusing it, transactions, creation, backups.

All that is particular to SQLite is in this folder, and in `checks`. The journal is
SQLite's rollback journal with `synchronous=FULL`: what a commit acknowledged survives kill -9,
and network file systems can hold the file, which write-ahead logging does not allow. Nothing here
opens the file by itself, for closing it would drop the locks that SQLite holds in this process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from gasearch.store.errors import (
    BusyError,
    DatabaseExistsError,
    EmptyFileError,
    ForeignFileError,
    InvalidRecordError,
    NoDatabaseError,
    TruncatedFileError,
    UnreadableFileError,
    WriteFailedError,
)
from gasearch.store.storage import (
    BusyNowError,
    closed_on_error,
    refuse_newer,
    refuse_read_only,
    schema_version,
)

APPLICATION_ID = 0x67617365
"""The four letters "gase" in the header of the file."""

T = TypeVar("T")
_CACHE_KB = 16_000
_CANNOT_WRITE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)
_log = logging.getLogger(__name__)
_RESTORE = "restore the newest backup, or move the file away and start anew"


class Database:
    """A database file and its connections.

    Parameters
    ----------
    path
        The file, which exists.
    read_only
        Whether all writing is refused.
    busy_s
        How long one transaction waits for a lock.
    patience_s
        For how long a transaction is begun again when others keep the file locked.
    foreign_keys
        Whether references are enforced; not while a table is replaced.
    any_text
        Whether text that is no UTF-8 is read too, with hexadecimal bytes in it.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        busy_s: float = 60,
        patience_s: float = 900,
        foreign_keys: bool = True,
        any_text: bool = False,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.busy_s = busy_s
        self.patience_s = patience_s
        self.foreign_keys = foreign_keys
        self.any_text = any_text
        self.newest: tuple[int, str] | None = None
        self._file: tuple[int, int] | None = None
        self.engine = self._engine()

    @property
    def place(self) -> Path:
        """Where it lives: its path."""
        return self.path

    def _engine(self) -> Engine:
        engine = create_engine("sqlite://", creator=self.connect, poolclass=QueuePool)

        def begin(connection: Connection) -> None:
            connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

        event.listen(engine, "begin", begin)
        return engine

    def connect(self) -> sqlite3.Connection:
        """Return a plain connection, in autocommit mode.

        A reader too opens the file for writing and then forswears it: otherwise it could not
        undo the half-done transaction of a driver that was killed.
        """
        connection = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode=rw",
            uri=True,
            timeout=self.busy_s,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute(f"PRAGMA foreign_keys={'ON' if self.foreign_keys else 'OFF'}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KB}")
        if self.read_only:
            connection.execute("PRAGMA query_only=ON")
        if self.any_text:
            connection.text_factory = lambda raw: raw.decode(errors="backslashreplace")
        return connection

    def without_foreign_keys(self) -> Database:
        """Return the same file with references unchecked, to be closed by the caller."""
        return Database(
            self.path, busy_s=self.busy_s, patience_s=self.patience_s, foreign_keys=False
        )

    def _follow(self) -> None:
        """Let go of a file that another one has replaced: what is written to it would be lost."""
        try:
            found = self.path.stat()
        except OSError as error:
            advice = "put it back, or the newest backup; then give the same command again"
            raise NoDatabaseError(self.path, "is not there any more", advice) from error
        file = (found.st_dev, found.st_ino)
        if self._file not in (None, file):
            self.engine.dispose()
        self._file = file

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return `work(connection)` on one snapshot of the file."""
        self._follow()
        try:
            with _translated(self.path), self.engine.connect() as connection, connection.begin():
                return work(connection)
        except BusyNowError as error:
            raise BusyError(self.path, self.busy_s) from error

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, repeated as a whole while others keep the file locked.

        Nothing that `work` did counts until this returns.
        """
        refuse_read_only(self)
        self._follow()
        start = time.monotonic()
        while True:
            try:
                with _translated(self.path), self.engine.connect() as connection:
                    immediate = connection.execution_options(begin="BEGIN IMMEDIATE")
                    with immediate.begin():
                        return work(immediate)
            except BusyNowError as error:
                waited_s = time.monotonic() - start
                if waited_s > self.patience_s:
                    raise BusyError(self.path, waited_s) from error
                _log.warning("%s is locked by another program; trying again", self.path)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into ours, which say what to do."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BusyNowError from error
        if code in _CANNOT_WRITE:
            raise WriteFailedError(path, str(cause)) from error
        if code == sqlite3.SQLITE_CONSTRAINT:
            raise InvalidRecordError(
                "the batch", f"it breaks a rule of the tables ({cause})"
            ) from error
        if code == sqlite3.SQLITE_CORRUPT:
            raise TruncatedFileError(path, f"is damaged ({cause})", _RESTORE) from error
        if code == sqlite3.SQLITE_NOTADB:
            advice = "check the path, or restore the newest backup"
            raise ForeignFileError(path, f"is no database ({cause})", advice) from error
        if isinstance(cause, sqlite3.OperationalError) and code in (0, sqlite3.SQLITE_ERROR):
            found = f"is damaged ({cause})"  # such as text that is no UTF-8, or a lost column
            raise TruncatedFileError(path, found, _RESTORE) from error
        raise
    except UnicodeDecodeError as error:  # of SQLite's own message, which cites the schema
        found = f"is damaged (its schema is no UTF-8: {error.reason})"
        raise TruncatedFileError(path, found, _RESTORE) from error


def open_database(
    path: Path,
    *,
    read_only: bool = False,
    busy_s: float = 60,
    patience_s: float = 900,
    any_text: bool = False,
) -> Database:
    """Open a file after making sure that it is a whole population database of gasearch.

    Its schema may be older than this version; see `gasearch.store.migrate`.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise NoDatabaseError(
            path, "does not exist", "start a search there first, or correct the path"
        ) from error
    if not path.is_file():
        raise ForeignFileError(path, "is no file", "name the database file itself")
    if not os.access(path, os.R_OK):
        raise UnreadableFileError(path, "may not be read by you", "fix its permissions")
    if size == 0:
        raise EmptyFileError(path, "is empty (0 bytes)", _RESTORE)
    database = Database(
        path, read_only=read_only, busy_s=busy_s, patience_s=patience_s, any_text=any_text
    )
    with closed_on_error(database):
        _refuse_what_is_not_ours(database)
    return database


def _refuse_what_is_not_ours(database: Database) -> None:
    path = database.path

    def look(connection: Connection) -> tuple[int, int, set[str]]:
        application = _pragma(connection, "application_id")
        n_bytes = _pragma(connection, "page_count") * _pragma(connection, "page_size")
        rows = connection.exec_driver_sql("SELECT name FROM sqlite_master ORDER BY name")
        return application, n_bytes, {row.name for row in rows}

    application, n_bytes, names = database.read(look)
    size = path.stat().st_size
    if size < n_bytes:
        found = f"is truncated (expected {n_bytes} bytes, found {size})"
        raise TruncatedFileError(path, found, _RESTORE)
    if application != APPLICATION_ID:
        kind = "an ASE database" if "systems" in names else "a database of another program"
        raise ForeignFileError(path, f"is {kind}", "name another file")
    if "alembic_version" not in names:
        raise ForeignFileError(path, "has no schema version", _RESTORE)
    refuse_newer(path, database.read(schema_version))


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())


def create_database(path: Path, fill: Callable[[Connection], Any]) -> None:
    """Make a new file that appears under its name complete, or not at all.

    Parameters
    ----------
    fill
        Makes the tables and views and writes the first rows, in one transaction.
    """
    _refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    try:
        new.touch()
        with contextlib.closing(Database(new)) as database:
            database.write(lambda connection: _fill(connection, fill))
        _publish(new, path)
    finally:
        new.unlink(missing_ok=True)


def _fill(connection: Connection, fill: Callable[[Connection], Any]) -> None:
    connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
    fill(connection)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise DatabaseExistsError(path, "exists already", "resume it, or choose another folder")


def _publish(new: Path, path: Path) -> None:
    """Give a finished file its name, without ever replacing another one."""
    try:
        os.link(new, path)
    except FileExistsError:
        _refuse_existing(path)
    except OSError:  # a file system without hard links
        _refuse_existing(path)
        new.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def copy_database(database: Database, target: Path) -> None:
    """Copy a database while it may be in use; the copy appears complete, or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        with (
            _translated(target),
            contextlib.closing(database.connect()) as source,
            contextlib.closing(sqlite3.connect(partial)) as copy,
        ):
            source.backup(copy)
        partial.rename(target)
        sync_folder(target.parent)
    except BusyNowError as error:
        raise BusyError(database.path, database.busy_s) from error
    except OSError as error:
        raise WriteFailedError(target, error.strerror or str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def backup(database: Database, path: Path) -> None:
    """Copy the file to a new place through SQLite's backup, which waits for writers."""
    if path.exists():
        raise DatabaseExistsError(path, "exists already", "choose another name for the backup")
    copy_database(database, path)


def backup_if_due(database: Database, folder: Path, every_s: float, keep: int) -> Path | None:
    """Make a backup unless there is one younger than `every_s`; keep the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = database.path.stem
    mine = _made(folder, stem)
    if mine and time.time() - mine[-1].stat().st_mtime < every_s:
        return None
    path = _free_name(folder, stem)
    copy_database(database, path)
    for old in [*mine, path][: -max(keep, 1)]:
        old.unlink(missing_ok=True)
    for rest in folder.glob(f".{stem}-*.partial"):
        rest.unlink(missing_ok=True)
    return path


def _free_name(folder: Path, stem: str) -> Path:
    """Return a name with the time in it, which sorts after all earlier ones."""
    while True:
        path = folder / f"{stem}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.db"
        if not path.exists():
            return path
        time.sleep(0.1)


def _made(folder: Path, stem: str) -> list[Path]:
    """Return the backups of that database, oldest first; other files are left alone."""
    pattern = re.compile(re.escape(stem) + r"-\d{8}-\d{6}\.db")
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))

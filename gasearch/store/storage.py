"""What SQLite and PostgreSQL have in common: the protocol of a database, and its driver's lock."""

from __future__ import annotations

import contextlib
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol, Self, TypeVar

from sqlalchemy import Connection

from gasearch.store import schema
from gasearch.store.errors import NewerSchemaError, SearchRunningError, StoreError, WriteFailedError
from gasearch.store.location import Place

T = TypeVar("T")
_NOW = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
}


class Storage(Protocol):
    """Connections to one population database."""

    read_only: bool
    newest: tuple[int, str] | None
    """The last event after the last transaction of this process, with its hash."""

    @property
    def place(self) -> Place:
        """Where it lives."""

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return `work(connection)` on one snapshot."""

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, which is repeated as a whole where others are in the way.

        Nothing that `work` did counts until this returns, and all of it counts once.
        """

    def close(self) -> None:
        """Close all connections."""


class BusyNowError(StoreError):
    """Others kept a lock for longer than one attempt waits."""


def now_s(connection: Connection) -> float:
    """Return the time in seconds since 1970, UTC, by which leases go.

    It is that of the server, or of this machine by SQLite: it does not matter who looks.
    """
    return float(connection.exec_driver_sql(_NOW[connection.dialect.name]).scalar_one())


@contextlib.contextmanager
def closed_on_error(database: Storage) -> Iterator[None]:
    """Close a database that turns out to be of no use."""
    try:
        yield
    except BaseException:
        database.close()
        raise


def schema_version(connection: Connection) -> str:
    """Return the revision of the schema, four digits such as "0001"; "" if none is noted."""
    query = "SELECT version_num FROM alembic_version ORDER BY version_num"
    return str(connection.exec_driver_sql(query).scalar_one_or_none() or "")


def refuse_newer(place: Place, version: str) -> None:
    """Raise `NewerSchemaError` for a schema that this version does not know."""
    if version > schema.SCHEMA_VERSION:
        found = f"has schema {version}, newer than the {schema.SCHEMA_VERSION} of this gasearch"
        raise NewerSchemaError(place, found, "update gasearch, or use the version that wrote it")


def refuse_read_only(database: Storage) -> None:
    """Raise `WriteFailedError` where a reader is about to write."""
    if database.read_only:
        raise WriteFailedError(database.place, "it was opened for reading only")


def this_process() -> str:
    """Return the name under which this process drives a search."""
    return f"process {os.getpid()} on {socket.gethostname()}"


class DriveLock(ABC):
    """The right to drive the search of one database, for as long as the `with` block lasts.

    It is freed when the process dies, however it dies.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    @abstractmethod
    def take(self) -> str | None:
        """Take the lock; return who has it, in words, where it is not free."""

    @abstractmethod
    def give_back(self) -> None:
        """Give back what was taken."""

    @abstractmethod
    def forget(self) -> None:
        """Close in a forked child what would keep the lock beyond its parent's death."""

    def acquire(self) -> None:
        """Take the lock, or raise `SearchRunningError` with the process that has it."""
        holder = f"this process, {os.getpid()}" if self.place in _held else self.take()
        if holder is not None:
            raise SearchRunningError(self.place, holder)
        _held[self.place] = self

    def release(self) -> None:
        """Give the lock back."""
        if _held.pop(self.place, None) is not None:
            self.give_back()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


_held: dict[Place, DriveLock] = {}


def held_lock(place: Place) -> DriveLock | None:
    """Return the lock by which this process drives the search of a database, if it does."""
    return _held.get(place)


def _forget_all() -> None:
    for lock in _held.values():
        lock.forget()
    _held.clear()


os.register_at_fork(after_in_child=_forget_all)

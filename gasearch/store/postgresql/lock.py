"""The lock that makes sure that a search in a PostgreSQL database has one driver.

It belongs to a session of its own, so that the server frees it when the process dies. A session can
be lost while the process lives: the lock is then taken again before the next commit, and a driver
that came in between is noticed by its token in the database.
"""

from __future__ import annotations

import contextlib
import os
import time
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from sqlalchemy import Connection, select

from gasearch.store.errors import DriverLostError, SearchRunningError, ServerError
from gasearch.store.location import ServerPlace
from gasearch.store.postgresql.connection import (
    GoneNowError,
    advisory_key,
    connect,
    note_writer,
    this_process,
    translated,
)
from gasearch.store.schema import DRIVER, last_write
from gasearch.store.sql.clock import now_s

_held: dict[ServerPlace, ServerLock] = {}
_TRIALS = 5
_PAUSE_S = 0.2
_HOLDERS = """
SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND l.classid::bigint = %s AND l.objid::bigint = %s ORDER BY a.pid
"""


class ServerLock:
    """The right to drive the search in one schema, for as long as the `with` block lasts."""

    def __init__(self, place: ServerPlace) -> None:
        self.place = place
        self.token = uuid4().hex
        self.is_claimed = False
        self._connection: Any = None
        self._session = 0

    def acquire(self) -> None:
        """Take the lock, or raise `SearchRunningError` with the process that has it."""
        if self.place in _held:
            raise SearchRunningError(self.place, f"this {this_process()}")
        try:
            with translated(self.place):
                holder = self._take()
        except GoneNowError as error:
            raise ServerError(self.place, str(error)) from error
        if holder is not None:
            raise SearchRunningError(self.place, holder)
        _held[self.place] = self

    def ensure(self) -> None:
        """Take the lock again if its session is lost; another driver ends this one."""
        try:
            with translated(self.place):
                self._connection.execute("SELECT 1")
        except (GoneNowError, ServerError):
            self._drop()
            with translated(self.place):
                holder = self._take()
            if holder is not None:
                raise DriverLostError(self.place, holder) from None

    def fence(self, connection: Connection) -> None:
        """Make sure, in the transaction that is to write, that no other driver came in between."""
        if not self.is_claimed:
            note_writer(connection, DRIVER, self.token, now_s(connection))
            return
        query = select(last_write.c.token).where(last_write.c.writer == DRIVER)
        if connection.execute(query).scalar_one_or_none() != self.token:
            raise DriverLostError(self.place, "another one, meanwhile")

    def _take(self) -> str | None:
        """Return who has the lock, in words; None if it is this process now."""
        before = self._session
        connection = connect(self.place)
        try:
            connection.autocommit = True
            holder = self._try(connection, before)
        except BaseException:
            connection.close()
            raise
        if holder is None:
            self._connection = connection
            self._session = connection.info.backend_pid
        else:
            connection.close()
        return holder

    def _try(self, connection: Any, before: int) -> str | None:
        key, holder = advisory_key(self.place, "driver"), "unknown"
        for trial in range(_TRIALS):
            if trial:
                time.sleep(_PAUSE_S)  # the server may just be ending the session of a dead driver
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
            if row[0]:
                return None
            for session, name in _holders(connection, self.place):
                if session == before and name == this_process():  # our own, which the server holds
                    connection.execute("SELECT pg_terminate_backend(%s)", (session,))
                holder = name or f"session {session} of the server"
        return holder

    def _drop(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.close()

    def release(self) -> None:
        """Give the lock back."""
        if _held.pop(self.place, None) is not None:
            self._drop()

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


def held_lock(place: ServerPlace) -> ServerLock | None:
    """Return the lock by which this process drives the search in a schema, if it does."""
    return _held.get(place)


def driver_of_server(place: ServerPlace) -> str | None:
    """Return the process that drives the search in a schema, in words; None if none does."""
    try:
        with translated(place), contextlib.closing(connect(place, read_only=True)) as connection:
            for session, name in _holders(connection, place):
                return name or f"session {session} of the server"
    except GoneNowError as error:
        raise ServerError(place, str(error)) from error
    return None


def _holders(connection: Any, place: ServerPlace) -> list[tuple[int, str]]:
    key = advisory_key(place, "driver") % 2**64
    return list(connection.execute(_HOLDERS, (key >> 32, key % 2**32)).fetchall())


os.register_at_fork(after_in_child=_held.clear)

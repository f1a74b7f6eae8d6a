"""The lock that makes sure that a search in a PostgreSQL database has one driver.

It belongs to a session of its own, so that the server frees it when the process dies. A session can
be lost while the process lives: the lock is then taken again before the next commit, and a driver
that came in between is noticed by its token in the database.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, select

from gasearch.store.errors import DriverLostError, ServerError
from gasearch.store.location import ServerPlace
from gasearch.store.postgresql.connection import (
    GoneNowError,
    advisory_key,
    connect,
    note_writer,
    session_name,
    translated,
)
from gasearch.store.schema import DRIVER, last_write
from gasearch.store.storage import DriveLock, now_s

_TRIALS = 5
_PAUSE_S = 0.2
_HOLDERS = """
SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND l.classid::bigint = %s AND l.objid::bigint = %s ORDER BY a.pid
"""


class ServerLock(DriveLock):
    """The right to drive the search in one schema."""

    place: ServerPlace

    def __init__(self, place: ServerPlace) -> None:
        super().__init__(place)
        self.token = uuid4().hex
        self.is_claimed = False
        self._connection: Any = None
        self._session = 0

    def take(self) -> str | None:
        """Take an advisory lock in a session of its own."""
        try:
            with translated(self.place):
                return self._take()
        except GoneNowError as error:
            raise ServerError(self.place, str(error)) from error

    def ensure(self) -> None:
        """Take the lock again if its session is lost; another driver ends this one."""
        try:
            with translated(self.place):
                self._connection.execute("SELECT 1")
        except (GoneNowError, ServerError):
            self.give_back()
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
                if session == before and name == session_name():  # our own, which the server holds
                    connection.execute("SELECT pg_terminate_backend(%s)", (session,))
                holder = name or f"session {session} of the server"
        return holder

    def give_back(self) -> None:
        """Close the session."""
        with contextlib.suppress(Exception):
            self._connection.close()

    def forget(self) -> None:
        """Nothing: `connection` closes the sockets of all sessions in a forked child."""


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

"""A population in a PostgreSQL database: one schema per run.

Writers take turns, as they do in SQLite, by an advisory lock of their transaction. When the server
goes away meanwhile, the transaction is begun again; whether its commit had reached the disk before
is told by the row of this process in `last_write`, which is part of the transaction.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Connection, Engine, create_engine, select, text
from sqlalchemy.pool import QueuePool

from gasearch.store.errors import (
    BusyError,
    DatabaseExistsError,
    ForeignFileError,
    NoDatabaseError,
    ServerError,
)
from gasearch.store.location import ServerPlace
from gasearch.store.postgresql.connection import (
    GoneNowError,
    advisory_key,
    connect,
    note_writer,
    require_driver,
    translated,
)
from gasearch.store.postgresql.lock import ServerLock
from gasearch.store.schema import DRIVER, last_write
from gasearch.store.storage import (
    BusyNowError,
    closed_on_error,
    held_lock,
    now_s,
    refuse_newer,
    refuse_read_only,
    schema_version,
)

T = TypeVar("T")
_log = logging.getLogger(__name__)
_PAUSES_S = (0.1, 2.0)
_FORGOTTEN_AFTER_S = 30 * 86_400


class ServerDatabase:
    """A schema and the connections to it.

    Parameters
    ----------
    read_only
        Whether all writing is refused.
    busy_s
        How long one transaction waits for a lock.
    patience_s
        For how long a transaction is begun again when others keep locks or the server is away; a
        reader, and the first transaction of all, wait for no server.
    """

    def __init__(
        self,
        place: ServerPlace,
        *,
        read_only: bool = False,
        busy_s: float = 60,
        patience_s: float = 900,
    ) -> None:
        self.place = place
        self.read_only = read_only
        self.newest: tuple[int, str] | None = None
        self.busy_s = busy_s
        self.patience_s = patience_s
        self._writer = uuid4().hex
        self._was_reached = False
        self.engine = self._engine()

    def _engine(self) -> Engine:
        require_driver()
        return create_engine(
            "postgresql+psycopg://",
            creator=lambda: connect(self.place, busy_s=self.busy_s, read_only=self.read_only),
            poolclass=QueuePool,
            pool_pre_ping=True,
            hide_parameters=True,
        )

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return `work(connection)` on one snapshot."""

        def attempt() -> T:
            snapshot = self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            with snapshot.connect() as connection, connection.begin():
                return work(connection)

        return self._patiently(attempt)

    def write(self, work: Callable[[Connection], T], *, is_new: bool = False) -> T:
        """Run `work` in one transaction, repeated as a whole when the server was away.

        Parameters
        ----------
        is_new
            Whether `work` itself makes the tables.
        """
        refuse_read_only(self)
        token = uuid4().hex
        done: list[T] = []
        held = None if is_new else held_lock(self.place)
        lock = held if isinstance(held, ServerLock) else None

        def attempt() -> T:
            if lock is not None:
                lock.ensure()
            with self.engine.connect() as connection, connection.begin():
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"),
                    {"key": advisory_key(self.place, "write")},
                )
                if done and self._is_committed(connection, token):
                    return done[-1]
                if lock is not None:
                    lock.fence(connection)
                done[:] = [work(connection)]
                self._note(connection, token)
            return done[-1]

        result = self._patiently(attempt)
        if lock is not None:
            lock.is_claimed = True
        return result

    def _is_committed(self, connection: Connection, token: str) -> bool:
        """Return whether a transaction whose acknowledgement was lost had been committed.

        It is over by now, for this one has the lock that it held.
        """
        if not _has_table(connection, last_write.name):
            return False
        query = select(last_write.c.token).where(last_write.c.writer == self._writer)
        return connection.execute(query).scalar_one_or_none() == token

    def _note(self, connection: Connection, token: str) -> None:
        time_s = now_s(connection)
        note_writer(connection, self._writer, token, time_s)
        if not self._was_reached:
            return
        old = last_write.c.time < time_s - _FORGOTTEN_AFTER_S
        connection.execute(last_write.delete().where(old, last_write.c.writer != DRIVER))

    def _patiently(self, attempt: Callable[[], T]) -> T:
        start, pause_s = time.monotonic(), _PAUSES_S[0]
        while True:
            try:
                with translated(self.place):
                    result = attempt()
            except (BusyNowError, GoneNowError) as error:
                waited_s = time.monotonic() - start
                is_gone = isinstance(error, GoneNowError)
                waits = self._was_reached and not (self.read_only and is_gone)
                if not waits or waited_s > self.patience_s:
                    raise self._given_up(error, waited_s) from error
                _log.warning("%s; trying again", error)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSES_S[1])
            else:
                self._was_reached = True
                return result

    def _given_up(self, error: Exception, waited_s: float) -> Exception:
        if isinstance(error, GoneNowError):
            return ServerError(self.place, str(error))
        return BusyError(self.place, waited_s)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _has_table(connection: Connection, name: str) -> bool:
    query = text("SELECT to_regclass(:name) IS NOT NULL")
    return bool(connection.execute(query, {"name": name}).scalar_one())


def open_server(
    place: ServerPlace, *, read_only: bool = False, busy_s: float = 60, patience_s: float = 900
) -> ServerDatabase:
    """Open a schema after making sure that it holds a run of gasearch."""
    database = ServerDatabase(place, read_only=read_only, busy_s=busy_s, patience_s=patience_s)
    with closed_on_error(database):
        _refuse_what_is_not_ours(database)
    return database


def _refuse_what_is_not_ours(database: ServerDatabase) -> None:
    place = database.place

    def look(connection: Connection) -> tuple[bool, bool, str]:
        has_version = _has_table(connection, "alembic_version")
        is_ours = has_version and _has_table(connection, "run") and _has_table(connection, "event")
        return has_version, is_ours, schema_version(connection) if has_version else ""

    has_version, is_ours, version = database.read(look)
    if not has_version:
        raise NoDatabaseError(
            place, "holds no run", "start a search there first, or correct url and schema"
        )
    if not is_ours or not version:
        raise ForeignFileError(place, "is of another program", "name another schema")
    refuse_newer(place, version)


def server_holds_run(place: ServerPlace) -> bool:
    """Return whether there is a run in a schema."""
    try:
        open_server(place, read_only=True).close()
    except NoDatabaseError:
        return False
    return True


def create_server(place: ServerPlace, fill: Callable[[Connection], Any]) -> None:
    """Make a schema and what `fill` makes in it, in one transaction.

    An empty schema may be there, where an administrator has made it.
    """

    def work(connection: Connection) -> None:
        relations = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        query = text(f"{relations} WHERE nspname = :schema")
        if connection.execute(query, {"schema": place.schema}).scalar_one():
            advice = "resume the run that it holds, or name another schema"
            raise DatabaseExistsError(place, "is not empty", advice)
        exists = text("SELECT count(*) FROM pg_namespace WHERE nspname = :schema")
        if not connection.execute(exists, {"schema": place.schema}).scalar_one():
            connection.exec_driver_sql(f"CREATE SCHEMA {place.schema}")
        fill(connection)

    with contextlib.closing(ServerDatabase(place)) as database:
        database.write(work, is_new=True)

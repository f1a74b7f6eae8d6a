"""Connections to PostgreSQL, and its errors as ours: what database and lock share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, make_url
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from gasearch.store.errors import (
    ForeignFileError,
    InvalidRecordError,
    NoDriverError,
    ServerError,
    StoreError,
    WriteFailedError,
)
from gasearch.store.location import ServerPlace
from gasearch.store.schema import last_write
from gasearch.store.storage import BusyNowError, this_process

_LONGEST_NAME = 63  # the server cuts the rest
_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_BUSY = ("55P03", "40001", "40P01")  # lock timeout, serialization, deadlock
_GONE = ("08", "57P", "25P03")  # connection lost or ended; the server stops, or just starts


_CANNOT_WRITE = ("53100", "53200", "25006", "42501")  # disk, memory, read only, no right
_REFUSED = ("28", "3D", "53300")  # this user, this database, one more connection


_NOT_OURS = ("42P01", "42703")  # a table or a column is missing


_RULE_BROKEN = ("22", "23", "P0001")


_connections: weakref.WeakSet[Any] = weakref.WeakSet()


def session_name() -> str:
    """Return how this process is called in the server's list of sessions."""
    return this_process()[:_LONGEST_NAME]


def advisory_key(place: ServerPlace, what: str) -> int:
    """Return the number of an advisory lock of a run, of 64 bits with a sign."""
    digest = hashlib.sha256(f"gasearch {what} {place.schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def require_driver() -> Any:
    """Return the package that speaks to PostgreSQL, or raise `NoDriverError`."""
    try:
        import psycopg
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise NoDriverError from error
    return psycopg


def connect(place: ServerPlace, *, busy_s: float = 60, read_only: bool = False) -> Any:
    """Return a plain connection of psycopg, whose only schema is that of the run."""
    psycopg = require_driver()
    url = make_url(place.url)
    arguments = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
    settings = {
        "search_path": place.schema,
        "lock_timeout": f"{busy_s * 1000:.0f}",
        "default_transaction_read_only": "on" if read_only else "off",
        "statement_timeout": "0",
        "synchronous_commit": "on",  # what was acknowledged is kept, whatever the server's default
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    defaults: dict[str, Any] = {"connect_timeout": 10, **_KEEPALIVE}
    fixed = {"application_name": session_name()}
    fixed["options"] = f"{arguments.pop('options', '')} {options}".strip()
    connection = psycopg.connect(**{**defaults, **arguments, **fixed})
    _connections.add(connection)
    return connection


def _forget_all() -> None:
    """Close the sockets in a forked child, which would keep locks beyond its parent's death."""
    for connection in list(_connections):
        with contextlib.suppress(Exception):
            os.close(connection.fileno())
    _connections.clear()


class GoneNowError(StoreError):
    """The server does not answer, or not any more."""


@contextmanager
def translated(place: ServerPlace) -> Iterator[None]:
    """Turn errors of PostgreSQL into ours, which say what to do."""
    try:
        yield
    except Exception as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not type(cause).__module__.startswith("psycopg"):
            raise
        state = getattr(cause, "sqlstate", None) or ""
        line = _first_line(cause)
        was_lost = isinstance(error, DBAPIError) and error.connection_invalidated
        if state in _BUSY:
            raise BusyNowError(line) from error
        if was_lost or state.startswith(_GONE):
            raise GoneNowError(line) from error
        if state.startswith(_RULE_BROKEN):
            problem = f"it breaks a rule of the tables ({line})"
            raise InvalidRecordError("the batch", problem) from error
        if state in _CANNOT_WRITE:
            raise WriteFailedError(place, line) from error
        if state.startswith(_REFUSED):
            raise ServerError(place, line) from error
        if state in _NOT_OURS:
            advice = "name another schema, or update gasearch"
            raise ForeignFileError(place, f"lacks a table ({line})", advice) from error
        if not state and type(cause).__name__ == "DataError":  # refused before it was sent
            raise InvalidRecordError("the batch", line) from error
        if not state:  # before there is a session, or without one any more
            raise GoneNowError(line) from error
        raise ServerError(place, line) from error


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def note_writer(connection: Connection, writer: str, token: str, time_s: float) -> None:
    """Set the row of a writer in the caller's transaction."""
    row = {"token": token, "time": time_s}
    change = insert(last_write).values(writer=writer, **row)
    connection.execute(change.on_conflict_do_update(index_elements=["writer"], set_=row))


os.register_at_fork(after_in_child=_forget_all)

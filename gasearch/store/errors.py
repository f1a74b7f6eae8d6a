"""What can go wrong with a population database; each text says what was found and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gasearch.errors import GasearchError
from gasearch.store.location import Place


class StoreError(GasearchError, RuntimeError):
    """Base of the errors of the population database."""


@dataclass(eq=False, repr=False)
class FileRefusedError(StoreError):
    """A file that is not opened as it is.

    Parameters
    ----------
    path
        The file, or the schema of a server.
    found
        What it is, in words.
    advice
        What the user can do about it.
    """

    path: Place
    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path} {self.found}: {self.advice}."


class NoDatabaseError(FileRefusedError):
    """There is no file."""


class UnreadableFileError(FileRefusedError):
    """A file that this user may not read."""


class DatabaseExistsError(FileRefusedError):
    """A new database would overwrite a file."""


class OlderSchemaError(FileRefusedError):
    """A database of an older gasearch that was opened for reading only."""


class NewerSchemaError(FileRefusedError):
    """A database that a newer gasearch wrote."""


class NotADatabaseError(FileRefusedError):
    """A file that is no whole population database."""

    def __str__(self) -> str:
        return (
            f"{self.path} {self.found}, expected a population database of gasearch: {self.advice}."
        )


class EmptyFileError(NotADatabaseError):
    """A file of 0 bytes, which SQLite itself would take for a valid empty database."""


class TruncatedFileError(NotADatabaseError):
    """A database whose end is missing, or whose pages are damaged."""


class ForeignFileError(NotADatabaseError):
    """A file that another program wrote."""


@dataclass(eq=False, repr=False)
class BusyError(StoreError):
    """Another program kept the file locked for longer than one can wait."""

    path: Place
    waited_s: float

    def __str__(self) -> str:
        readers = "ase gui, ase db, sqlite3" if isinstance(self.path, Path) else "psql"
        return (
            f"{self.path} has been locked by another program for {self.waited_s:.0f} s, nothing "
            f"was written: close the programs that read it ({readers}) and go on."
        )


@dataclass(eq=False, repr=False)
class ServerError(StoreError):
    """A server that does not answer, or refuses; what was committed before is on it."""

    place: Place
    cause: str

    def __str__(self) -> str:
        return (
            f"{self.place} cannot be used ({self.cause}): check that the server runs, and url in "
            "[store] of run.toml; a password comes from PGPASSWORD or ~/.pgpass."
        )


class NoDriverError(StoreError):
    """PostgreSQL is asked for, and the package that speaks to it is missing."""

    def __str__(self) -> str:
        return "No psycopg here; try: pip install 'gasearch[postgresql]'"


@dataclass(eq=False, repr=False)
class DriverLostError(StoreError):
    """The lock of a driver was lost, and another driver has taken it."""

    place: Place
    holder: str

    def __str__(self) -> str:
        return (
            f"{self.place} has another driver now ({self.holder}), for the connection that held "
            "the lock was lost: this one ends, and what it had committed is kept."
        )


@dataclass(eq=False, repr=False)
class WentBackError(StoreError):
    """A database that no longer has what this process had committed to it.

    Parameters
    ----------
    had, has
        The last event that was committed, and the last one that is there.
    candidate
        The last one that is there.
    """

    place: Place
    had: int
    has: int
    candidate: int

    def __str__(self) -> str:
        how = (
            "an older or another copy has taken its place"
            if isinstance(self.place, Path)
            else "the server has lost its last commits, or an older copy was restored"
        )
        return (
            f"{self.place} went back: event {self.had}, which this process had committed, is not "
            f"in it any more, and it ends with event {self.has}, candidate {self.candidate} "
            f"({how}): put the newer one back, or give the same command again, which goes on from "
            "there and computes again what is lost."
        )


@dataclass(eq=False, repr=False)
class WriteFailedError(StoreError):
    """The operating system refused to write; the file is as it was before."""

    path: Place
    cause: str

    def __str__(self) -> str:
        return (
            f"{self.path} cannot be written ({self.cause}); all that was committed before is "
            "intact: make room on the disk or fix its permissions, then go on."
        )


@dataclass(eq=False, repr=False)
class IllegalTransitionError(StoreError):
    """A change of state that no evaluation may make; the whole batch is rolled back."""

    candidate: int
    purpose: str
    state: str
    wanted: str

    def __str__(self) -> str:
        return (
            f"candidate {self.candidate} ({self.purpose}) is {self.state}, it cannot become "
            f"{self.wanted}: allowed are queued -> relaxing -> relaxed or failed, and "
            "relaxing -> queued."
        )


@dataclass(eq=False, repr=False)
class UnknownCandidateError(StoreError, LookupError):
    """A candidate that is not in the database, or has nothing of the kind that is asked for."""

    candidate: int
    wanted: str

    def __str__(self) -> str:
        return f"candidate {self.candidate} has no {self.wanted} in this database."


@dataclass(eq=False, repr=False)
class InvalidRecordError(StoreError, ValueError):
    """A record that may not be written, such as an energy that is not a number."""

    what: str
    problem: str

    def __str__(self) -> str:
        return f"{self.what} is not written: {self.problem}."


class DuplicateCandidateError(InvalidRecordError):
    """A decoration that the run knows already."""


@dataclass(eq=False, repr=False)
class CorruptedBlobError(StoreError, ValueError):
    """Stored bytes that are not those that were written."""

    row: str
    column: str

    def __str__(self) -> str:
        return (
            f"{self.row}: the bytes of {self.column!r} do not match their sha256, the disk or a "
            "program has changed them: restore the newest backup, or relax the candidate again."
        )


@dataclass(eq=False, repr=False)
class SearchRunningError(StoreError):
    """A second driver for a database that has one."""

    path: Place
    holder: str

    def __str__(self) -> str:
        return (
            f"a search is already running here ({self.holder}): {self.path} has one driver at a "
            "time; wait until it ends, or stop it."
        )

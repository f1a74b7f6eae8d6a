"""What a population database can do, wherever it lives, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from gasearch.store.database import create_database, open_database
from gasearch.store.place import Place

T = TypeVar("T")


class Storage(Protocol):
    """Connections to one population database."""

    read_only: bool

    @property
    def place(self) -> Place:
        """Where it lives."""

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return `work(connection)` on one snapshot."""

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, whole again where the database asks for it.

        Nothing that `work` did counts until this returns, and all of it counts once.
        """

    def close(self) -> None:
        """Close all connections."""


def open_storage(
    place: Place, *, read_only: bool = False, busy_s: float = 60, patience_s: float = 900
) -> Storage:
    """Open what is there, after making sure that it is a population database of gasearch.

    Parameters
    ----------
    busy_s
        How long a transaction waits for others.
    patience_s
        For how long it is begun again where they, or the server, need longer.
    """
    if isinstance(place, Path):
        return open_database(place, read_only=read_only, busy_s=busy_s, patience_s=patience_s)
    from gasearch.store.server import open_server

    return open_server(place, read_only=read_only, busy_s=busy_s, patience_s=patience_s)


def create_storage(place: Place, fill: Callable[[Connection], Any]) -> None:
    """Make a new population database, which appears complete or not at all.

    Parameters
    ----------
    fill
        Makes the tables and writes the first rows, in one transaction.
    """
    if isinstance(place, Path):
        create_database(place, fill)
        return
    from gasearch.store.server import create_server

    create_server(place, fill)

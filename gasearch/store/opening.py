"""How a population database is opened or made, wherever it lives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from gasearch.store.location import Place
from gasearch.store.sqlite.database import create_database, open_database
from gasearch.store.sqlite.lock import DriverLock, driver_of_file
from gasearch.store.storage import DriveLock, Storage, held_lock


def open_storage(
    place: Place,
    *,
    read_only: bool = False,
    busy_s: float = 60,
    patience_s: float = 900,
    any_text: bool = False,
) -> Storage:
    """Open what is there, after making sure that it is a population database of gasearch.

    Parameters
    ----------
    busy_s
        How long a transaction waits for others.
    patience_s
        For how long it is begun again where they, or the server, need longer.
    any_text
        Whether text of a damaged file that is no UTF-8 is read too, with hexadecimal bytes in it.
    """
    if isinstance(place, Path):
        return open_database(
            place, read_only=read_only, busy_s=busy_s, patience_s=patience_s, any_text=any_text
        )
    from gasearch.store.postgresql.database import open_server

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
    from gasearch.store.postgresql.database import create_server

    create_server(place, fill)


def driver_lock(place: Place) -> DriveLock:
    """Return the lock of the driver of a search, to be held by `with`."""
    if isinstance(place, Path):
        return DriverLock(place)
    from gasearch.store.postgresql.lock import ServerLock

    return ServerLock(place)


def is_held_here(place: Place) -> bool:
    """Return whether this process drives the search of that database."""
    return held_lock(place.resolve() if isinstance(place, Path) else place) is not None


def driver_of(place: Place) -> str | None:
    """Return the process that drives the search of a database, in words; None if none does."""
    if isinstance(place, Path):
        return driver_of_file(place)
    from gasearch.store.postgresql.lock import driver_of_server

    return driver_of_server(place)

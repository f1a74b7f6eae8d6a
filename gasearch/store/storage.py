"""What a population database can do, wherever it lives, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from gasearch.store.location import Place

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

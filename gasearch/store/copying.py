"""A run copied from one database to another: from a file to a server, and back."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Table, insert, select

from gasearch.store.checks.check import check_store
from gasearch.store.errors import StoreError
from gasearch.store.location import Place
from gasearch.store.migrate import make_schema
from gasearch.store.opening import create_storage, driver_lock, open_storage
from gasearch.store.population_store import PopulationStore
from gasearch.store.postgresql.schema import go_on_counting
from gasearch.store.schema import last_write, metadata

_CHUNK = 500
_TABLES = [table for table in metadata.sorted_tables if table is not last_write]


@dataclass(eq=False, repr=False)
class NotWholeError(StoreError):
    """A database that is not copied, or a copy that is not what it was made of."""

    place: Place
    problem: str

    def __str__(self) -> str:
        return f"{self.place} is not whole ({self.problem}): see all of it with gasearch check."


@dataclass(frozen=True)
class Copied:
    """What was copied.

    Parameters
    ----------
    uuid
        Of the run; the copy is the same run.
    """

    uuid: str
    n_candidates: int
    n_events: int


def copy_run(source: Place, target: Place) -> Copied:
    """Copy a run that nobody drives meanwhile; the copy appears complete, or not at all.

    Before the transaction of the copy ends, all its rows are read again and compared with those of
    the source; before and after, both are checked as `gasearch check` does. Nothing is removed.
    """
    with driver_lock(source):
        PopulationStore.open(source).close()  # an older one is upgraded
        _refuse_problems(source)
        if isinstance(target, Path):
            for left in target.parent.glob(f".{target.name}.*.new*"):  # by a copy that was killed
                left.unlink(missing_ok=True)
        with contextlib.closing(open_storage(source, read_only=True)) as storage:
            storage.read(lambda old: create_storage(target, lambda new: _copy(old, new, target)))
        _refuse_problems(target)
        with PopulationStore.open(target, read_only=True) as store:
            return Copied(store.uuid, store.n_candidates, store.n_events)


def _refuse_problems(place: Place) -> None:
    for problem in check_store(place):
        raise NotWholeError(place, str(problem))


def _copy(old: Connection, new: Connection, target: Place) -> None:
    make_schema(new)
    for table in _TABLES:
        digest = hashlib.sha256()
        for rows in _chunks(old, table):
            new.execute(insert(table), [row._asdict() for row in rows])
            _add(digest, rows)
        written = hashlib.sha256()
        for rows in _chunks(new, table):
            _add(written, rows)
        if written.digest() != digest.digest():
            raise NotWholeError(target, f"the rows of {table.name} came out changed")
        go_on_counting(new, table)


def _chunks(connection: Connection, table: Table) -> Iterator[list[Row[Any]]]:
    query = select(table).order_by(*table.primary_key)
    result = connection.execute(query, execution_options={"yield_per": _CHUNK})
    for rows in result.partitions():
        yield list(rows)


def _add(digest: Any, rows: list[Row[Any]]) -> None:
    for row in rows:
        digest.update(repr(_plain(row._asdict())).encode())


def _plain(row: Mapping[str, Any]) -> list[Any]:
    return [bytes(value) if isinstance(value, memoryview) else value for value in row.values()]

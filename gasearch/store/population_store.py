"""The population database as the search sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar
from uuid import uuid4

from sqlalchemy import Connection, insert

from gasearch.store import migrate
from gasearch.store.errors import NoDatabaseError
from gasearch.store.location import Place
from gasearch.store.opening import create_storage, open_storage
from gasearch.store.postgresql.schema import go_on_counting
from gasearch.store.records import (
    JsonValue,
    LevelRecord,
    RunRecord,
)
from gasearch.store.schema import HOST_STRUCTURE, RUN, SEARCH_LEVEL
from gasearch.store.schema import level as level_table
from gasearch.store.schema import run as run_table
from gasearch.store.schema import structure as structure_table
from gasearch.store.sql.ase_rows import HOST_COLUMNS
from gasearch.store.sql.batch import Batch
from gasearch.store.sql.blobs import hashes, plain_columns, structure_columns, to_json
from gasearch.store.sql.evaluation_state import uncounted_refutations
from gasearch.store.sql.events import CREATED
from gasearch.store.sql.queries import Queries
from gasearch.store.sql.transaction import Transaction, transact
from gasearch.store.sqlite.database import Database, backup, backup_if_due
from gasearch.store.storage import Storage, closed_on_error

T = TypeVar("T")


class PopulationStore(Queries):
    """A whole search: in one file, or in one schema of a server.

    What is asked of it most is a method, see `Queries`; other modules ask and change what is their
    own through `read` and `write`. A search changes it through `batch`, and holds a
    `gasearch.store.opening.driver_lock`, so that it is the only one. One thread at a time may use
    a store.
    """

    def __init__(self, database: Storage) -> None:
        self._database = database
        self.place = database.place

    @property
    def path(self) -> Path:
        """The file; there is none where the search lives on a server."""
        if not isinstance(self.place, Path):
            raise NoDatabaseError(self.place, "is no file", "copy it into one: gasearch store copy")
        return self.place

    @classmethod
    def create(cls, place: Place, run: RunRecord, level: LevelRecord) -> PopulationStore:
        """Make a new database, which appears complete or not at all; never replaces one."""
        create_storage(place, lambda connection: _fill(connection, run, level))
        return cls.open(place)

    @classmethod
    def open(
        cls,
        place: Place,
        read_only: bool = False,
        *,
        busy_s: float = 60,
        patience_s: float = 900,
    ) -> PopulationStore:
        """Open a database of this version, or bring an older one up to it, a file after a backup.

        Parameters
        ----------
        read_only
            Refuses all changes; an older database is then refused too.
        busy_s
            How long a transaction waits for another program's lock.
        patience_s
            For how long it is then begun again; also where a server is away for a while.
        """
        database = open_storage(place, read_only=read_only, busy_s=busy_s, patience_s=patience_s)
        with closed_on_error(database):
            migrate.bring_up_to_date(database)
            if not read_only and database.read(uncounted_refutations):
                database.write(lambda connection: Transaction(connection).recount())
        return cls(database)

    def close(self) -> None:
        """Close it."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def is_read_only(self) -> bool:
        """Whether all changes are refused."""
        return self._database.read_only

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return `work(connection)` on one snapshot of the database."""
        return self._database.read(work)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction, and write the events that it adds.

        It is repeated as a whole where others are in the way, and counts once.
        """
        return transact(self._database, work)[0]

    def batch(self) -> Batch:
        """Return an empty batch of changes."""
        return Batch(self._database)

    def requeue_stale(self) -> list[int]:
        """Take back what a dead driver had handed out; return the candidates, oldest first.

        To be called by the holder of the driver lock, at its start.
        """
        return self.write(Transaction.requeue_stale)

    def backup(self, path: Path) -> None:
        """Copy the file as it is now; the copy appears complete, or not at all.

        Backups of a server are its own business: there, this is refused.
        """
        if not isinstance(self._database, Database):
            advice = "leave it to the server (pg_dump), or copy it: gasearch store copy"
            raise NoDatabaseError(self.place, "is no file to be backed up", advice)
        backup(self._database, Path(path))

    def backup_if_due(self, folder: Path, every_s: float, keep: int) -> Path | None:
        """Make a backup unless there is one younger than `every_s`; return it if made.

        None is made of what lives on a server.

        Parameters
        ----------
        keep
            How many of the newest backups in `folder` stay.
        """
        if not isinstance(self._database, Database):
            return None
        return backup_if_due(self._database, Path(folder), every_s, keep)


def _fill(connection: Connection, run: RunRecord, level: LevelRecord) -> None:
    migrate.make_schema(connection)
    what = "the run"
    columns = structure_columns(run.host_atoms, what)
    declared: dict[str, JsonValue] = {
        "uuid": uuid4().hex,
        "seed": str(run.seed),
        "n_formula_units": run.n_formula_units,
        "host": run.host,
        "settings": to_json(dict(run.settings), what),
        "operational": to_json(dict(run.operational), what),
        "versions": to_json(dict(run.versions), what),
    }
    probes = to_json(list(level.probe_energies), what)
    levels: dict[str, JsonValue] = plain_columns(level, what) | {"probe_energies": probes}
    transaction = Transaction(connection)
    transaction.add_event(CREATED, None, {"run": declared, "level": levels})
    connection.execute(insert(run_table).values(id=RUN, created=transaction.time_s, **declared))
    connection.execute(
        insert(structure_table).values(
            id=HOST_STRUCTURE, counts_for=0, sha256=hashes(columns), **columns, **HOST_COLUMNS
        )
    )
    connection.execute(insert(level_table).values(id=SEARCH_LEVEL, **levels))
    go_on_counting(connection, level_table)
    transaction.finish()

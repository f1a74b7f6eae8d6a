"""The population database as the search sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from uuid import uuid4

from sqlalchemy import Connection, insert

from gasearch.relax.audit import Verdict
from gasearch.relax.relaxed import Relaxed
from gasearch.store import migrate
from gasearch.store.errors import NoDatabaseError
from gasearch.store.location import Place
from gasearch.store.opening import create_storage, open_storage
from gasearch.store.postgresql.schema import go_on_counting
from gasearch.store.records import (
    CompositionRow,
    Counts,
    EvaluationRow,
    Event,
    ExtraRow,
    JsonValue,
    Lease,
    LevelRecord,
    Outcome,
    Proposal,
    Purpose,
    Queued,
    RunRecord,
)
from gasearch.store.schema import HOST_STRUCTURE, RUN, SEARCH_LEVEL
from gasearch.store.schema import level as level_table
from gasearch.store.schema import run as run_table
from gasearch.store.schema import structure as structure_table
from gasearch.store.sql import extras, queries
from gasearch.store.sql.ase_rows import HOST_COLUMNS
from gasearch.store.sql.batch import Batch
from gasearch.store.sql.blobs import hashes, structure_columns
from gasearch.store.sql.clock import now_s
from gasearch.store.sql.evaluation_state import leases_in_flight
from gasearch.store.sql.json_text import to_json
from gasearch.store.sql.transaction import CREATED, Transaction
from gasearch.store.sqlite import backups
from gasearch.store.sqlite.database import Database
from gasearch.store.storage import Storage

T = TypeVar("T")


class PopulationStore:
    """A whole search: in one file, or in one schema of a server.

    Changes go through `batch`; all else reads. One thread at a time may use a store. A search also
    holds a `gasearch.store.opening.driver_lock`, so that it is the only one.
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
        try:
            migrate.bring_up_to_date(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Close it."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def run(self) -> RunRecord:
        """What defines the search, with its operational settings as they are now."""
        return self._read(queries.read_run)

    @property
    def uuid(self) -> str:
        """What tells this run from all others, copies of it excepted."""
        return self._read(queries.read_uuid)

    @property
    def n_events(self) -> int:
        """How long the record is."""
        return self._read(queries.n_events)

    @property
    def is_read_only(self) -> bool:
        """Whether all changes are refused."""
        return self._database.read_only

    @property
    def level(self) -> LevelRecord:
        """The level of theory of the search."""
        return self._read(queries.read_level)

    def batch(self) -> Batch:
        """Return an empty batch of changes."""
        return Batch(self._database)

    def requeue_stale(self) -> list[int]:
        """Take back what a dead driver had handed out; return the candidates, oldest first.

        To be called by the holder of the driver lock, at its start.
        """

        def work(connection: Connection) -> list[int]:
            transaction = Transaction(connection)
            candidates = transaction.requeue_stale()
            transaction.finish()
            return candidates

        return self._database.write(work)

    def overdue(self) -> list[Lease]:
        """Return the leases whose time is over; to be requeued by whoever knows their workers.

        Their time is that of the database.
        """
        return self._read(lambda connection: leases_in_flight(connection, now_s(connection)))

    def extras(self, candidate: int | None = None) -> list[ExtraRow]:
        """Return the late results, which count nowhere, in the order in which they came."""
        return self._read(lambda connection: extras.extras(connection, candidate))

    def extra_relaxed(self, key: int) -> Relaxed:
        """Return the structure of a late result after verifying its bytes."""
        return self._read(lambda connection: extras.extra_relaxed(connection, key))

    def outcomes(self, after: int = 0) -> list[Outcome]:
        """Return the results of the search from number `after` + 1 on, in their order."""
        return self._read(lambda connection: queries.outcomes(connection, after))

    def proposals(self, after: int = 0) -> list[Proposal]:
        """Return the numbered candidates from `after` + 1 on, in order."""
        return self._read(lambda connection: queries.proposals(connection, after))

    def outside(self, after: int = 0) -> list[tuple[int, Proposal]]:
        """Return the candidates from elsewhere whose key is above `after`, with their keys."""
        return self._read(lambda connection: queries.outside(connection, after))

    def proposal(self, candidate: int) -> Proposal:
        """Return one candidate, from the search or from elsewhere."""
        return self._read(lambda connection: queries.proposal(connection, candidate))

    def lineage(self, candidate: int) -> list[tuple[int, Proposal]]:
        """Return a candidate and all that it descends from, with their keys, in order."""
        return self._read(lambda connection: queries.lineage(connection, candidate))

    def queued(self, limit: int | None = None) -> list[Queued]:
        """Return what waits for its relaxation, oldest first."""
        return self._read(lambda connection: queries.queued(connection, limit))

    def asked_for(self, purpose: Purpose) -> list[int]:
        """Return the candidates that were ever to be relaxed for a purpose, in order."""
        return self._read(lambda connection: queries.asked_for(connection, purpose))

    @property
    def n_candidates(self) -> int:
        """How many candidates the search has numbered: the number of the last one."""
        return self._read(queries.n_candidates)

    def counts(self) -> Counts:
        """Return where the search stands."""
        return self._read(queries.counts)

    def by_composition(self) -> list[CompositionRow]:
        """Return the niches, by x and then by name."""
        return self._read(queries.by_composition)

    def evaluations(
        self,
        verdict: Verdict | None = "ok",
        x: float | None = None,
        composition: str | None = None,
        limit: int | None = None,
        *,
        tight: bool = True,
    ) -> list[EvaluationRow]:
        """Return one row per relaxed candidate, by x, then energy, then candidate.

        A candidate's row is its lowest evaluation with verdict "ok", or that of the search where
        none is ok; failed ones come last within their x.

        Parameters
        ----------
        verdict
            Only candidates whose row has it; None for all.
        tight
            Whether tight relaxations count; the search itself looks at its own alone.
        """
        return self._read(
            lambda connection: queries.evaluations(
                connection,
                verdict=verdict,
                x=x,
                composition=composition,
                limit=limit,
                tight=tight,
            )
        )

    def evaluation(self, candidate: int) -> EvaluationRow:
        """Return the row of one candidate."""
        return self._read(lambda connection: queries.evaluation_row(connection, candidate))

    def relaxed(self, candidate: int, purpose: Purpose | None = None) -> Relaxed:
        """Return a structure after verifying its bytes; by default the evaluation that counts."""
        return self._read(lambda connection: queries.relaxed(connection, candidate, purpose))

    def events(
        self,
        after: int = 0,
        kind: str | None = None,
        candidate: int | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return the record from event `after` + 1 on, of one kind or candidate if named."""
        return self._read(
            lambda connection: queries.events(
                connection, after, kind=kind, number=candidate, limit=limit
            )
        )

    def newest_event(self, kind: str) -> Event | None:
        """Return the last event of a kind, or None where there is none."""
        return self._read(lambda connection: queries.newest_event(connection, kind))

    def backup(self, path: Path) -> None:
        """Copy the file as it is now; the copy appears complete, or not at all.

        Backups of a server are its own business: there, this is refused.
        """
        if not isinstance(self._database, Database):
            advice = "leave it to the server (pg_dump), or copy it: gasearch store copy"
            raise NoDatabaseError(self.place, "is no file to be backed up", advice)
        backups.backup(self._database, Path(path))

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
        return backups.backup_if_due(self._database, Path(folder), every_s, keep)

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._database.read(work)


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
    levels: dict[str, JsonValue] = {
        "name": level.name,
        "potential": level.potential,
        "weights_hash": level.weights_hash,
        "probe_energies": to_json(list(level.probe_energies), what),
        "ranks_only": level.ranks_only,
    }
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

"""A run folder: where things lie in it, and how its database is opened."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from gasearch.errors import UsageError
from gasearch.run.config import RunSettings, read_run_file
from gasearch.run.location import (
    DATABASE,
    RECORD,
    RUN_FILE,
    claim_schema,
    confirm,
    held_elsewhere,
    place_of,
    read_record,
)
from gasearch.run.sections import RunFileError
from gasearch.store.errors import NoDatabaseError
from gasearch.store.location import Place
from gasearch.store.opening import driver_of
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import LevelRecord, RunRecord


class NoRunError(UsageError):
    """A folder that holds no run, or none that was started."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Parameters
    ----------
    path
        The folder; it need not exist.
    """

    path: Path

    @property
    def run_file(self) -> Path:
        """What the user writes."""
        return self.path / RUN_FILE

    @property
    def database(self) -> Path:
        """The population database of a run that is not on a server: the whole search."""
        return self.path / DATABASE

    @property
    def place_record(self) -> Path:
        """On which server the population is, if it is on one."""
        return self.path / RECORD

    @property
    def place(self) -> Place | None:
        """Where the population lives; None where it is to be on a server, and was never started.

        Raises `OtherPlaceError` where run.toml names another database than the one that holds it.
        """
        return place_of(self.path)

    def claim_place(self) -> Place:
        """Return where the population lives, or is to be made; a new schema gets its name here."""
        place = self.place
        if place is None:
            return claim_schema(self.path, self.settings().store.url).place
        return place

    @property
    def is_started(self) -> bool:
        """Whether there is a search: a search.db, or a run on the server that run.toml names."""
        place = self.place
        if place is None or isinstance(place, Path):
            return place is not None and place.exists()
        from gasearch.store.postgresql.database import server_holds_run

        if server_holds_run(place):
            return True
        record = read_record(self.path)
        known = None if record is None or not record.uuid else record.place
        if known == place:
            advice = "restore it from the server's backup"
            raise NoDatabaseError(
                place, f"does not hold the search of {self.path} any more", advice
            )
        if known is not None or self.database.exists():
            raise held_elsewhere(self.path, place, known or DATABASE)
        return False

    def driver(self) -> str | None:
        """Return the process that drives the search, in words; None if none does."""
        return None if (place := self.place) is None else driver_of(place)

    @property
    def backups(self) -> Path:
        """Copies of the database."""
        return self.path / "backups"

    @property
    def worker_log(self) -> Path:
        """Warnings and tracebacks of worker processes."""
        return self.path / "workers.log"

    @property
    def batch_limits(self) -> Path:
        """How many structures fit into a batch, as was learned here."""
        return self.path / "batch_limits.json"

    @property
    def quoted(self) -> str:
        """The path as it is typed in a shell."""
        return shlex.quote(str(self.path))

    def settings(self) -> RunSettings:
        """Return the validated run.toml."""
        self._refuse_no_folder()
        if self.database.exists() and not self.run_file.exists():
            raise RunFileError(
                f"{self.run_file} is missing, though there is a search.db: put it back to go on."
            )
        return read_run_file(self.run_file)

    def create_store(self, run: RunRecord, level: LevelRecord) -> PopulationStore:
        """Make the database of a run that is started now, by the holder of its driver lock."""
        store = PopulationStore.create(self.claim_place(), run, level)
        return self._confirmed(store, is_driver=True)

    def open_store(self, read_only: bool = True, *, is_driver: bool = False) -> PopulationStore:
        """Open the database of a run that was started.

        Parameters
        ----------
        is_driver
            Whether the search is to go on in it.
        """
        self._refuse_no_folder()
        place = self.place
        if place is None or (isinstance(place, Path) and not place.exists()):
            if not self.run_file.exists():
                raise NoRunError(
                    f"{self.path} holds no run (neither run.toml nor search.db); "
                    f"make one with: gasearch init {self.quoted}"
                )
            raise self._not_started()
        try:
            store = PopulationStore.open(place, read_only=read_only)
        except NoDatabaseError:
            if isinstance(place, Path) or self.is_started:
                raise
            raise self._not_started() from None
        return self._confirmed(store, is_driver=is_driver)

    def _not_started(self) -> NoRunError:
        driver = self.driver()
        if driver is not None:
            return NoRunError(f"the run in {self.path} is just starting ({driver}): wait a bit.")
        return NoRunError(
            f"the run in {self.path} was not started yet; start it with: gasearch run {self.quoted}"
        )

    def _confirmed(self, store: PopulationStore, *, is_driver: bool) -> PopulationStore:
        try:
            confirm(self.path, store, is_driver=is_driver)
        except BaseException:
            store.close()
            raise
        return store

    def _refuse_no_folder(self) -> None:
        if self.path.is_file():
            raise NoRunError(f"{self.path} is a file: name the folder that it lies in.")
        if not self.path.is_dir():
            raise NoRunError(
                f"there is no folder {self.path}; make one with: gasearch init {self.quoted}"
            )

"""A run folder: where things lie in it, and how its run.toml becomes a host."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.crystal.io.hosts import declare_from_file
from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.plugins import nearest
from gasearch.run.config import (
    HostSection,
    RunFileError,
    RunSettings,
    SublatticeSection,
    read_run_file,
)
from gasearch.run.location import (
    RECORD,
    claim_schema,
    confirm,
    not_there,
    place_of,
    read_record,
)
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
        return self.path / "run.toml"

    @property
    def database(self) -> Path:
        """The population database of a run that is not on a server: the whole search."""
        return self.path / "search.db"

    @property
    def place_record(self) -> Path:
        """On which server the population is, if it is on one."""
        return self.path / RECORD

    @property
    def place(self) -> Place | None:
        """Where the population lives; None where it is to be on a server, and was never started.

        Raises `OtherPlaceError` where run.toml names another database than the one that holds it.
        """
        return place_of(self.path, self.run_file, self.database, self.quoted)

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
            where = known or self.database.name
            raise not_there(self.path, place, where, self.quoted)
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
                f"{self.run_file} is missing, though there is a search.db: put it back, to go on."
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
            confirm(self.path, self.database, store, self.quoted, is_driver=is_driver)
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


def build_host(section: HostSection, folder: Path) -> Host:
    """Return the host that [host] of a run.toml describes; files are looked up from `folder`."""
    return Host.build(_declaration(section, folder), section.supercell)


def _declaration(section: HostSection, folder: Path) -> HostDeclaration:
    sublattices = tuple(_sublattice(declared) for declared in section.sublattice)
    framework = {element: Species.parse(text) for element, text in section.framework.items()}
    if section.structure in BUILTIN_HOSTS:
        built_in = builtin_host(section.structure)
        declaration = replace(
            built_in,
            sublattices=sublattices or built_in.sublattices,
            framework={**built_in.framework, **framework},
        )
    else:
        declaration = _from_file(section, folder, sublattices, framework)
    given = section.model_dump(include={"formula_unit", "symprec", "min_site_distance"})
    return replace(declaration, **{key: value for key, value in given.items() if value is not None})


def _from_file(
    section: HostSection,
    folder: Path,
    sublattices: Sequence[SublatticeDeclaration],
    framework: dict[str, Species],
) -> HostDeclaration:
    path = folder / section.structure
    if not path.exists():
        raise RunFileError(
            f"host.structure = {section.structure!r}: no built-in host"
            f"{nearest(section.structure, BUILTIN_HOSTS)} ({', '.join(BUILTIN_HOSTS)}), "
            f"and there is no file {path}."
        )
    if not sublattices:
        raise RunFileError(
            "a host from a file needs [[host.sublattice]] tables: "
            f"`gasearch init FOLDER --host {section.structure}` writes a first guess of them."
        )
    return declare_from_file(path, sublattices, framework, section.formula_unit)


def _sublattice(section: SublatticeSection) -> SublatticeDeclaration:
    sites = (section.sites,) if isinstance(section.sites, str) else section.sites
    return SublatticeDeclaration(
        kind=section.kind,
        sites=sites,
        species=tuple(Species.parse(text) for text in section.species),
        elements=section.elements,
        fractions=section.fractions,
    )


def searched_compositions(settings: RunSettings, host: Host) -> tuple[Composition, ...]:
    """Return the compositions that search.x names."""
    if settings.search.x == "all":
        return host.compositions
    return tuple(host.composition_at(x) for x in settings.search.x)

"""A run folder: where things lie in it, and how its run.toml becomes a host."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gasearch.builtin_hosts import BUILTIN_HOSTS, builtin_host
from gasearch.chemistry import Species
from gasearch.config import HostSection, RunFileError, RunSettings, SublatticeSection, read_run_file
from gasearch.errors import UsageError
from gasearch.host import Composition, Host
from gasearch.host_declaration import HostDeclaration, SublatticeDeclaration
from gasearch.host_files import declare_from_file
from gasearch.plugins import nearest
from gasearch.store.lock import driver_of
from gasearch.store.population_store import PopulationStore


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
        """The population database: the whole search."""
        return self.path / "search.db"

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

    def open_store(self, read_only: bool = True) -> PopulationStore:
        """Open the database of a run that was started."""
        self._refuse_no_folder()
        if not self.database.exists():
            if not self.run_file.exists():
                raise NoRunError(
                    f"{self.path} holds no run (neither run.toml nor search.db); "
                    f"make one with: gasearch init {self.quoted}"
                )
            driver = driver_of(self.database)
            if driver is not None:
                raise NoRunError(f"the run in {self.path} is just starting ({driver}): wait a bit.")
            raise NoRunError(
                f"the run in {self.path} was not started yet; start it with: "
                f"gasearch run {self.quoted}"
            )
        return PopulationStore.open(self.database, read_only=read_only)

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

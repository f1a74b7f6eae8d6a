"""Which database a run folder's search lives in, and how the folder remembers it.

A folder without [store] url holds its search in search.db. With a url it lives in a schema of a
server; `store.json` records which, so that neither a changed url nor a lost one silently begins
another search.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import uuid4

from gasearch.errors import UsageError
from gasearch.files import written
from gasearch.run.config import read_document, run_settings
from gasearch.run.sections import RunFileError, StoreSection
from gasearch.store.location import Place, ServerPlace
from gasearch.store.population_store import PopulationStore

RUN_FILE = "run.toml"
DATABASE = "search.db"
RECORD = "store.json"
_NAME_LETTERS = 40


class OtherPlaceError(UsageError):
    """A run.toml that names another database than the one that holds the run."""


@dataclass(frozen=True)
class PlaceRecord:
    """What `store.json` says.

    Parameters
    ----------
    uuid
        Of the run that is in the schema; "" until one is.
    is_ahead
        Whether the search was driven there since it was last copied to search.db.
    """

    url: str
    schema: str
    uuid: str = ""
    is_ahead: bool = False

    @property
    def place(self) -> ServerPlace:
        """The schema."""
        return ServerPlace(self.url, self.schema)


def read_record(folder: Path) -> PlaceRecord | None:
    """Return what a folder remembers of a server; None where it has never been on one."""
    path = folder / RECORD
    try:
        return PlaceRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, TypeError, ValueError) as error:
        raise RunFileError(f"{path} cannot be read ({error}): put it back.") from error


def write_record(folder: Path, record: PlaceRecord) -> None:
    """Remember a server, unless the folder does so already."""
    if read_record(folder) != record:
        with written(folder / RECORD, replace=True) as path:
            path.write_text(_text(record), encoding="utf-8")


def claim_schema(folder: Path, url: str) -> PlaceRecord:
    """Remember a new schema, unless another driver has just done so; return what holds."""
    record = PlaceRecord(url, new_schema(folder))
    name = folder / f".{RECORD}.{record.schema}.new"
    name.write_text(_text(record), encoding="utf-8")
    try:
        os.link(name, folder / RECORD)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        name.rename(folder / RECORD)
    finally:
        name.unlink(missing_ok=True)
    return read_record(folder) or record


def _text(record: PlaceRecord) -> str:
    return json.dumps(asdict(record), indent=1) + "\n"


def new_schema(folder: Path) -> str:
    """Return a name that starts as the folder's, and that no other run has."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")
    return f"run_{name[:_NAME_LETTERS]}_{uuid4().hex[:8]}".replace("__", "_")


def _store_section(run_file: Path, *, is_needed: bool) -> StoreSection:
    """Return [store] of a run.toml, whatever else it says.

    Parameters
    ----------
    is_needed
        Whether a file that cannot be read is an error; else the defaults hold.
    """
    try:
        document = read_document(run_file)
    except RunFileError:
        if is_needed and run_file.exists():
            raise
        document = {}
    if "store" not in document:
        return StoreSection()
    needed = {"host": {"structure": "", "supercell": [1, 1, 1]}, "potential": {"name": ""}}
    return run_settings(needed | {"store": document["store"]}, str(run_file)).store


def place_of(folder: Path) -> Place | None:
    """Return where the search of a folder lives; None for a schema that has no name yet."""
    record, database = read_record(folder), folder / DATABASE
    section = _store_section(
        folder / RUN_FILE, is_needed=record is not None or not database.exists()
    )
    if not section.url:
        if record is not None and record.uuid and (record.is_ahead or not database.exists()):
            raise OtherPlaceError(
                f"the search of {folder} is in {record.place}, but run.toml names no server: "
                f'put url = "{record.url}" back into [store]; then it can be brought here with: '
                f"gasearch store copy {shlex.quote(str(folder))} --to sqlite"
            )
        return database
    if section.schema_name:
        return ServerPlace(section.url, section.schema_name)
    if record is None:
        if database.exists():
            raise held_elsewhere(folder, section.url, DATABASE)
        return None
    return ServerPlace(section.url, record.schema)


def held_elsewhere(folder: Path, named: object, found: object) -> OtherPlaceError:
    """Return the error for a search that another database holds than run.toml names."""
    return OtherPlaceError(
        f"the search of {folder} is in {found}, and {named}, which [store] of run.toml names, does "
        f"not hold it: put [store] back as it was, then copy the search there with: "
        f"gasearch store copy {shlex.quote(str(folder))} --to URL"
    )


def confirm(folder: Path, store: PopulationStore, *, is_driver: bool) -> None:
    """Refuse a schema that holds another run than the folder's, or less of it than search.db.

    What the folder remembers is brought up to date by a store that may be changed.

    Parameters
    ----------
    is_driver
        Whether the search is to go on there.
    """
    place = store.place
    if not isinstance(place, ServerPlace):
        return
    record, uuid, n_events = read_record(folder), store.uuid, store.n_events
    if record is not None and record.uuid and record.uuid != uuid:
        raise OtherPlaceError(
            f"{place} holds another run than that of {folder}, which is in {record.place}: correct "
            f"url and schema_name in [store] of run.toml, or copy the run: gasearch store copy"
        )
    if (folder / DATABASE).exists():
        with PopulationStore.open(folder / DATABASE, read_only=True) as other:
            if other.uuid != uuid:
                raise held_elsewhere(folder, place, DATABASE)
            if other.n_events > n_events:
                raise OtherPlaceError(
                    f"search.db of {folder} has gone on since it was copied to {place}: take url "
                    "out of [store] of run.toml, or copy it again into another schema."
                )
    if not store.is_read_only:
        before = record or PlaceRecord(place.url, place.schema)
        named = replace(before, url=place.url, schema=place.schema, uuid=uuid)
        write_record(folder, replace(named, is_ahead=before.is_ahead or is_driver))

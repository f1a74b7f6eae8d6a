"""`gasearch store`: where the population of a run lives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gasearch.cli.common import Folder, command_group, out

# What is heavy is imported by the commands: their errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from gasearch.run.folder import RunFolder
    from gasearch.store.location import Place

store_app = command_group("Move a run between a SQLite file and a PostgreSQL server.")
_SQLITE = "sqlite"


@store_app.callback()
def _group() -> None:
    pass


@store_app.command()
def copy(
    folder: Folder,
    to: Annotated[
        str,
        typer.Option(
            metavar="URL|sqlite",
            help="A server, as postgresql+psycopg://user@host/database, or the folder's search.db.",
        ),
    ],
    schema_name: Annotated[
        str, typer.Option(metavar="NAME", help="Of the run on the server; one of its own.")
    ] = "",
) -> None:
    """Copy a run to another database, check the copy, and say what to change in run.toml.

    Nothing is deleted, and no search may run meanwhile. A copy that is interrupted leaves nothing.
    """
    from gasearch.errors import UsageError
    from gasearch.run.folder import RunFolder
    from gasearch.store.copying import copy_run

    run = RunFolder(folder)
    with run.open_store(read_only=False) as store:
        source = store.place
    target = _target(run, source, to, schema_name)
    if isinstance(target, Path) and target.exists():
        raise UsageError(
            f"{target} exists already and is not written over: move it away, then copy again."
        )
    copied = copy_run(source, target)
    _remember(run, source, target, copied.uuid)
    events = f"{copied.n_candidates} candidates, {copied.n_events} events"
    out.print(f"copied {events} to {target}: whole, and equal to {source}, which stays as it is")
    out.print(_what_to_change(run, source, target))


def _target(run: RunFolder, source: Place, to: str, schema_name: str) -> Place:
    from gasearch.errors import UsageError
    from gasearch.run.location import new_schema
    from gasearch.store.location import ServerPlace, checked_url

    if to == _SQLITE:
        if source == run.database:
            raise UsageError(f"the search of {run.path} is in {run.database.name} already.")
        if schema_name:
            raise UsageError("--schema-name: a file has no schema; leave it out.")
        return run.database
    return ServerPlace(checked_url(to), schema_name or new_schema(run.path))


def _remember(run: RunFolder, source: Place, target: Place, uuid: str) -> None:
    """Let the folder know of the copy, where its run.toml then needs no more than a url."""
    from gasearch.run.location import PlaceRecord, write_record

    if isinstance(target, Path) and not isinstance(source, Path):
        write_record(run.path, PlaceRecord(source.url, source.schema, uuid))
    elif isinstance(source, Path) and not isinstance(target, Path):
        write_record(run.path, PlaceRecord(target.url, target.schema, uuid))


def _what_to_change(run: RunFolder, source: Place, target: Place) -> str:
    if isinstance(target, Path):
        return f"to go on there, take url and schema_name out of [store] in {run.run_file}"
    lines = [f"to go on there, say in {run.run_file}:", "", "[store]", f'url = "{target.url}"']
    if not isinstance(source, Path):
        lines.append(f'schema_name = "{target.schema}"')
    return "\n".join(lines)

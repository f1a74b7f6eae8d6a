"""The schema of a file: making it, and bringing that of an older gasearch up to this version.

Tables change by the revisions in `migrations`, through alembic, which is only imported for that.
Views and triggers hold no data: they are made anew after the revisions.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, ProgrammingError

from gasearch.store import schema
from gasearch.store.errors import OlderSchemaError, TruncatedFileError
from gasearch.store.location import Place
from gasearch.store.opening import driver_lock, is_held_here
from gasearch.store.postgresql.schema import drop_guards, make_guards
from gasearch.store.sqlite.ase_views import create_views, drop_views
from gasearch.store.sqlite.database import Database, copy_database
from gasearch.store.storage import Storage, schema_version

MIGRATIONS = Path(__file__).with_name("migrations")
REVISIONS = [MIGRATIONS / "versions"]

_log = logging.getLogger(__name__)
_GUARDS = {
    f"event_refuses_{change}": (
        f"BEFORE {change} ON event BEGIN SELECT RAISE(ABORT, 'events are only ever added'); END"
    )
    for change in ("update", "delete")
}


def make_schema(connection: Connection) -> None:
    """Make the tables, views and triggers of a new file, and note their revision."""
    schema.metadata.create_all(connection, checkfirst=False)
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{schema.SCHEMA_VERSION}')")
    _make_derived(connection)


def bring_up_to_date(database: Storage) -> Path | None:
    """Upgrade what has an older schema; return the backup that was made of a file before.

    On a server, whose backups are its own business, the upgrade is one transaction.

    Nobody drives the search meanwhile: the driver lock is held, unless this process holds it.
    """
    version = database.read(schema_version)
    if version == schema.SCHEMA_VERSION:
        return None
    if database.read_only:
        raise OlderSchemaError(
            database.place,
            f"has schema {version}, older than {schema.SCHEMA_VERSION}",
            "run `gasearch run` or `gasearch check` on it once, which upgrades it after a backup",
        )
    place = database.place
    with contextlib.nullcontext() if is_held_here(place) else driver_lock(place):
        version = database.read(schema_version)
        if version == schema.SCHEMA_VERSION:  # another process was faster
            return None
        backup = None
        if isinstance(database, Database):
            backup = _backup_path(database.path, version)
            copy_database(database, backup)
            with contextlib.closing(database.without_foreign_keys()) as unlinked:
                unlinked.write(lambda connection: _upgrade_whole(connection, place, version))
        else:
            database.write(lambda connection: _upgrade_whole(connection, place, version))
        _log.info("%s: schema %s became %s", place, version, schema.SCHEMA_VERSION)
        return backup


def _upgrade_whole(connection: Connection, place: Place, version: str) -> None:
    from alembic.util import CommandError

    try:
        upgrade(connection, place)
    except (CommandError, ProgrammingError, OperationalError) as error:
        code = getattr(getattr(error, "orig", None), "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code != sqlite3.SQLITE_ERROR:
            raise  # such as a full disk, which says so itself
        cause = getattr(error, "orig", None) or error
        found = f"says that it has schema {version!r}, and its tables are others ({cause})"
        raise TruncatedFileError(place, found, "restore the newest backup") from error


def upgrade(connection: Connection, place: Place) -> None:
    """Run the revisions that a file lacks, in the caller's transaction."""
    _drop_derived(connection)
    _run_alembic(connection, schema.SCHEMA_VERSION)
    _make_derived(connection)
    if connection.dialect.name != "sqlite":
        return  # the server itself watches over references
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if broken:
        found = f"has {len(broken)} rows that refer to others which are not there"
        raise TruncatedFileError(place, found, "restore the newest backup")


def _run_alembic(connection: Connection, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(map(str, REVISIONS)))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def describe(connection: Connection) -> dict[str, list[str]]:
    """Return the clauses of every table, index, view and trigger, in an order of their own.

    Tables that alembic made and those that this version makes differ in the order of constraints.
    """
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
    )
    return {name: sorted(_clauses(sql)) for name, sql in rows}


def _clauses(sql: str) -> list[str]:
    """Split a statement at the commas of its outermost parentheses."""
    clauses, depth = [""], 0
    for letter in " ".join(sql.split()):
        depth += (letter == "(") - (letter == ")")
        if (letter == "," and depth == 1) or (letter == "(" and depth == 1):
            clauses.append("")
        else:
            clauses[-1] += letter
    return [clause.strip(" )") for clause in clauses]


def _make_derived(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        make_guards(connection)
        return
    create_views(connection)
    for name, rule in _GUARDS.items():
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {rule}")


def _drop_derived(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        drop_guards(connection)
        return
    drop_views(connection)
    for name in _GUARDS:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")


def _backup_path(path: Path, version: str) -> Path:
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return path.with_name(f"{path.stem}-schema-{version}-{moment}.db")

"""What stands beside the tables in PostgreSQL, and how its tables are compared with ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Connection,
    Table,
    UniqueConstraint,
    func,
    inspect,
    select,
    text,
)

from gasearch.store.schema import metadata

_FUNCTION = "events_are_only_added"
_GUARDS = ("UPDATE", "DELETE")
_TRIGGERS = (
    "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass('event') AND NOT tgisinternal "
    "AND tgenabled <> 'D' ORDER BY tgname"
)


def make_guards(connection: Connection) -> None:
    """Let the server refuse changes of events."""
    connection.exec_driver_sql(
        f"CREATE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'events are only ever added'; END $$"
    )
    for change in _GUARDS:
        connection.exec_driver_sql(
            f"CREATE TRIGGER {_guard(change)} BEFORE {change} ON event "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {_FUNCTION}()"
        )


def drop_guards(connection: Connection) -> None:
    """Remove the guards, which hold no data and stand in the way of changes to the tables."""
    for change in _GUARDS:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {_guard(change)} ON event")
    connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {_FUNCTION}()")


def _guard(change: str) -> str:
    return f"event_refuses_{change.lower()}"


def go_on_counting(connection: Connection, table: Table) -> None:
    """Let a server number the next row after those that were given numbers; SQLite does so."""
    (key, *more) = table.primary_key
    if more or connection.dialect.name != "postgresql":
        return
    find = text("SELECT pg_get_serial_sequence(:table, :key)")
    sequence = connection.execute(find, {"table": table.name, "key": key.name}).scalar_one()
    last = connection.execute(select(func.max(key))).scalar_one()
    if sequence is not None and last is not None:
        go_on = text("SELECT setval(CAST(:sequence AS regclass), :last)")
        connection.execute(go_on, {"sequence": sequence, "last": last})


def differences(connection: Connection) -> list[str]:
    """Return in what the tables of a schema differ from those of this version, in words."""
    found = _described(connection)
    wanted = {table.name: _wanted(connection, table) for table in metadata.sorted_tables}
    guards = list(connection.exec_driver_sql(_TRIGGERS).scalars())
    lines = [f"{_guard(c)} is missing" for c in reversed(_GUARDS) if _guard(c) not in guards]
    for table, parts in wanted.items():
        if table not in found:
            lines.append(f"{table} is missing")
            continue
        names = sorted(parts.keys() | found[table].keys())
        lines += [
            f"{name} of {table} is {'changed' if name in parts else 'unknown'}"
            for name in names
            if parts.get(name) != found[table].get(name)
        ]
    return lines


def _described(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return the columns, keys, constraints and indices of each table there is, by name."""
    inspector = inspect(connection)
    described: dict[str, dict[str, Any]] = {}
    for table in inspector.get_table_names():
        parts: dict[str, Any] = {}
        for column in inspector.get_columns(table):
            kind = column["type"].compile(connection.dialect)
            parts[f"column {column['name']}"] = (kind, column["nullable"])
        parts["the primary key"] = tuple(inspector.get_pk_constraint(table)["constrained_columns"])
        for key in inspector.get_foreign_keys(table):
            parts[f"the reference of {key['constrained_columns'][0]}"] = key["referred_table"]
        for unique in inspector.get_unique_constraints(table):
            parts[f"the uniqueness of {', '.join(unique['column_names'])}"] = True
        for rule in inspector.get_check_constraints(table):
            parts[f"the rule {rule['name']}"] = True
        for index in inspector.get_indexes(table):
            if not index.get("duplicates_constraint"):
                parts[f"index {index['name']}"] = tuple(index["column_names"])
        described[table] = parts
    return described


def _wanted(connection: Connection, table: Table) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for column in table.columns:
        kind = column.type.compile(connection.dialect).replace("FLOAT", "DOUBLE PRECISION")
        parts[f"column {column.name}"] = (kind, bool(column.nullable))
    parts["the primary key"] = tuple(column.name for column in table.primary_key)
    for key in table.foreign_keys:
        parts[f"the reference of {key.parent.name}"] = key.column.table.name
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            names = ", ".join(column.name for column in constraint.columns)
            parts[f"the uniqueness of {names}"] = True
        elif isinstance(constraint, CheckConstraint):
            parts[f"the rule {constraint.name}"] = True
    for index in table.indexes:
        parts[f"index {index.name}"] = tuple(column.name for column in index.columns)
    return parts


def dangling(connection: Connection) -> list[str]:
    """Return which references lead nowhere; the server lets none be made."""
    return list(_dangling(connection))


def _dangling(connection: Connection) -> Iterator[str]:
    for table in metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda key: key.parent.name):
            target = key.column.table.alias("target")
            missing = ~select(target).where(target.c[key.column.name] == key.parent).exists()
            query = select(func.count()).select_from(table)
            n = connection.execute(query.where(key.parent.is_not(None), missing)).scalar_one()
            if n:
                yield f"{n} rows of {table.name} refer to no row of {key.column.table.name}"

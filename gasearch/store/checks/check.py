"""Proving that a database is whole: `gasearch check`, as far as the store itself knows.

SQLite's own check sees damaged pages but no damaged content; hashes see the content of structures;
and the events, which are written with every change, must lead to the very state that is stored.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    Row,
    Select,
    Table,
    Text,
    create_engine,
    select,
)

from gasearch.store.checks.events import Replay
from gasearch.store.checks.snapshot import Snapshot, take_snapshot
from gasearch.store.errors import StoreError
from gasearch.store.location import Place
from gasearch.store.migrate import describe, make_schema
from gasearch.store.opening import open_storage
from gasearch.store.postgresql.schema import dangling, differences
from gasearch.store.records import FIRST_OUTSIDE, from_columns
from gasearch.store.schema import (
    HOST_STRUCTURE,
    RUN,
    SCHEMA_VERSION,
    SEARCH_LEVEL,
    candidate,
    evaluation,
    extra,
    level,
    metadata,
    run,
    structure,
)
from gasearch.store.sql.ase_rows import HOST_COLUMNS, SHOWN, AseRows
from gasearch.store.sql.blobs import Columns, damaged_columns, differing_columns, digest, stated
from gasearch.store.sql.evaluation_state import EvaluationState, best_evaluation
from gasearch.store.sql.events import chained
from gasearch.store.storage import Storage, schema_version

_CHUNK = 200
_KINDS: Sequence[tuple[type, str]] = (
    (Text, "text"),
    (LargeBinary, "blob"),
    (Boolean, "integer"),
    (Integer, "integer"),
    (Float, "real"),
)
"""How SQLite stores a value of a column."""
_JSON: Mapping[str, Sequence[str]] = {
    "run": ("host", "settings", "operational", "versions"),
    "level": ("probe_energies", "settings"),
    "candidate": ("details",),
    "evaluation": ("elements",),
    "structure": ("key_value_pairs", "data", "sha256"),
    "extra": ("elements", "sha256"),
    "event": ("data",),
}
Problems: TypeAlias = Iterator["Problem"]
Check: TypeAlias = Callable[[Storage], Iterator["Problem"]]


@dataclass(frozen=True)
class Problem:
    """Something that is not as it must be.

    Parameters
    ----------
    check
        Which check found it.
    """

    check: str
    detail: str

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}"


def check_store(place: Place) -> list[Problem]:
    """Return all that is wrong with a database; it may be in use.

    It is read in many short transactions, so that a running search is not held up. Where SQLite
    itself finds damage, or the tables are not those of this version, nothing else is said. Damaged
    pages of a server are for its administrator to find.
    """
    try:
        database = open_storage(place, read_only=True, any_text=True)
    except StoreError as error:
        return [Problem("file", str(error))]
    try:
        problems = _run(_FIRST, database)
        return problems if problems else _run(_REST, database)
    finally:
        database.close()


def _run(checks: Sequence[Check], database: Storage) -> list[Problem]:
    problems: list[Problem] = []
    for check in checks:
        try:
            problems += check(database)
        except StoreError as error:
            problems.append(Problem("file", str(error)))
        except Exception as error:  # noqa: BLE001 -- what damage does is not all foreseen
            name = check.__name__.strip("_")
            detail = f"this check ended early ({type(error).__name__}: {_line(error)})"
            problems.append(Problem(name, detail))
    return problems


def _line(error: object) -> str:
    return " ".join(str(error).split())


def _integrity(database: Storage) -> Problems:
    if not isinstance(database.place, Path):
        return
    for (line,) in database.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").all()):
        if line != "ok":
            yield Problem("integrity", " ".join(line.split()))


def _references(database: Storage) -> Problems:
    if not isinstance(database.place, Path):
        yield from (Problem("references", line) for line in database.read(dangling))
        return
    for row in database.read(lambda c: c.exec_driver_sql("PRAGMA foreign_key_check").all()):
        table, key, target, _ = row
        yield Problem("references", f"row {key} of {table} refers to no row of {target}")


def _schema(database: Storage) -> Problems:
    version = database.read(schema_version)
    if version != SCHEMA_VERSION:
        yield Problem("schema", f"version {version}, expected {SCHEMA_VERSION}")
        return
    if not isinstance(database.place, Path):
        yield from (Problem("schema", line) for line in database.read(differences))
        return
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        make_schema(connection)
        expected = describe(connection)
    engine.dispose()
    found = database.read(describe)
    for name, clauses in expected.items():
        if found.get(name) != clauses:
            yield Problem("schema", f"{name} is {'changed' if name in found else 'missing'}")


def _values(database: Storage) -> Problems:
    """Look whether each value is of its column's type: SQLite itself stores any in any.

    A server holds to the types of its columns, and to UTF-8.
    """
    if isinstance(database.place, Path):
        for table in metadata.sorted_tables:
            yield from _values_of(database, table)
    for table, key in ((run, RUN), (level, SEARCH_LEVEL), (structure, HOST_STRUCTURE)):
        query = select(table.c.id).where(table.c.id == key)
        if database.read(functools.partial(_first, query)) is None:
            yield Problem("values", f"row {key} of {table.name} is missing")


def _first(query: Select[Any], connection: Connection) -> Row[Any] | None:
    return connection.execute(query).first()


def _values_of(database: Storage, table: Table) -> Problems:
    names = [column.name for column in table.columns]
    texts = [column.name for column in table.columns if isinstance(column.type, Text)]
    kinds = [f"typeof({name})" for name in names]
    blobs = [f"CAST({name} AS BLOB)" for name in texts]
    query = (
        f"SELECT rowid, {', '.join([*kinds, *blobs])} FROM {table.name} "
        f"WHERE rowid > ? ORDER BY rowid LIMIT {_CHUNK}"
    )
    last = -1

    def page(connection: Connection) -> Sequence[Row[Any]]:
        return connection.exec_driver_sql(query, (last,)).all()

    while rows := database.read(page):
        last = rows[-1][0]
        for row in rows:
            found = dict(zip(names, row[1 : len(names) + 1], strict=True))
            content = dict(zip(texts, row[len(names) + 1 :], strict=True))
            for column in table.columns:
                fault = _fault(column, found[column.name], content.get(column.name))
                if fault:
                    where = f"row {row[0]} of {table.name}: {column.name!r}"
                    yield Problem("values", f"{where} {fault}")


def _fault(column: Column[Any], kind: str, text: bytes | None) -> str:
    """Return what is wrong with a value, in words; "" where nothing is."""
    if kind == "null":
        return "" if column.nullable else "is missing"
    expected = next(name for base, name in _KINDS if isinstance(column.type, base))
    if kind != expected:
        return f"is of type {kind}, expected {expected}"
    if text is None:
        return ""
    try:
        content = text.decode()
        if column.name in _JSON.get(column.table.name, ()):
            json.loads(content)
    except UnicodeDecodeError as error:
        return f"is no UTF-8 ({error.reason} at byte {error.start})"
    except ValueError as error:
        return f"is no JSON ({_line(error)})"
    return ""


def _each(
    rows: Iterable[Row[Any] | Columns], name: Callable[[Any], str], judge: Callable[[Any], Problems]
) -> Problems:
    """Judge rows one by one; one that cannot be read costs the others nothing."""
    for row in rows:
        try:
            yield from list(judge(row))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            detail = f"{name(row)} cannot be read ({type(error).__name__}: {_line(error)})"
            yield Problem("values", detail)


def _structures(database: Storage) -> Problems:
    """Compare the hashes of all blobs, and what ASE shows with what it is made from."""
    shown = ("candidate", "elements", *SHOWN)
    query = select(structure, *(evaluation.c[name] for name in shown))
    query = query.outerjoin(evaluation, evaluation.c.id == structure.c.id)
    return _in_pages(database, query, structure.c.id, _judge_structures)


def _judge_structures(connection: Connection, rows: list[Columns]) -> Problems:
    numbers = [row["candidate"] for row in rows if row["candidate"] is not None]
    ase_rows = AseRows(connection, numbers)

    def name(row: Columns) -> str:
        if row["id"] == HOST_STRUCTURE:
            return "the host"
        return f"candidate {row['candidate']}, {row['purpose']} relaxation"

    def judge(row: Columns) -> Problems:
        yield from _judge_structure(row, name(row))
        expected: Mapping[str, str] = {}
        if row["id"] == HOST_STRUCTURE:
            expected = HOST_COLUMNS
        elif row["candidate"] is not None:
            expected = ase_rows.columns(row["candidate"], row)
        for column, text in expected.items():
            if row[column] != text:
                detail = f"{name(row)}: {column!r} differs from what it is made from"
                yield Problem("ase", detail)

    return _each(rows, name, judge)


def _judge_structure(row: Columns, name: str) -> Problems:
    damaged = damaged_columns(row)
    for column in damaged:
        yield Problem("hashes", f"{name}: the bytes of {column!r} do not match their sha256")
    for column in [] if damaged else differing_columns(row):
        yield Problem("hashes", f"{name}: {column!r} differs from what it is made from")


def _extras(database: Storage) -> Problems:
    return _in_pages(database, select(extra), extra.c.id, _judge_extras)


def _judge_extras(_: Connection, rows: list[Columns]) -> Problems:
    def name(row: Columns) -> str:
        return f"late result {row['id']}"

    return _each(rows, name, lambda row: _judge_structure(row, name(row)))


def _occupations(database: Storage) -> Problems:
    query = select(candidate.c.id, candidate.c.occupation, candidate.c.occupation_sha256)
    return _in_pages(database, query, candidate.c.id, _judge_occupations, 10 * _CHUNK)


def _judge_occupations(_: Connection, rows: list[Columns]) -> Problems:
    for row in rows:
        if digest(row["occupation"]) != row["occupation_sha256"]:
            detail = f"candidate {row['id']}: the bytes of 'occupation' do not match their sha256"
            yield Problem("hashes", detail)


def _in_pages(
    database: Storage,
    query: Select[Any],
    key: Column[int],
    judge: Callable[[Connection, list[Columns]], Problems],
    size: int = _CHUNK,
) -> Problems:
    """Judge the rows of a query, which has `key` as "id", in many short transactions."""
    last: int | None = HOST_STRUCTURE - 1

    def page(connection: Connection) -> tuple[int | None, list[Problem]]:
        found = connection.execute(query.where(key > last).order_by(key).limit(size))
        rows = [row._asdict() for row in found]
        return (rows[-1]["id"] if rows else None), list(judge(connection, rows))

    while last is not None:
        last, problems = database.read(page)
        yield from problems


def _record(database: Storage) -> Problems:
    """Follow the events and compare where they lead with what is stored."""
    snapshot = database.read(take_snapshot)
    replay = Replay()
    for number, row in enumerate(snapshot.events, start=1):
        if row.id != number:
            yield Problem("events", f"event {number} is missing")
            break
    for row in snapshot.events:
        replay.apply(row)
    yield from (Problem("events", fault) for fault in replay.faults)
    yield from _chain(snapshot)
    yield from _compare_run(snapshot, replay)
    yield from _compare_candidates(snapshot, replay)
    yield from _compare_evaluations(snapshot, replay)
    yield from _compare_extras(snapshot, replay)
    yield from _compare_promotions(snapshot, replay)
    yield from _compare_dft(snapshot, replay)
    yield from _numbering(snapshot)
    yield from _which_count(snapshot)


def _chain(snapshot: Snapshot) -> Problems:
    """Follow the hashes of the events, each of which goes on from that of the one before."""
    before = ""
    for row in snapshot.events:
        if row.sha256 != chained(before, row._asdict()):
            yield Problem("events", f"event {row.id} ({row.kind}) does not match its sha256")
        before = row.sha256


def _compare_run(snapshot: Snapshot, replay: Replay) -> Problems:
    columns = snapshot.run._asdict()
    operational = dict(json.loads(columns.pop("operational")))
    for name in sorted(operational.keys() | replay.operational.keys()):
        if operational.get(name) != replay.operational.get(name):
            yield Problem("events", f"the setting {name!r} differs from its last event")
    for table, stored, expected in (
        ("run", columns, replay.run),
        ("level", snapshot.levels[0]._asdict(), replay.level),
    ):
        for name, value in expected.items():
            if stored.get(name) != value:
                yield Problem("events", f"{name!r} of the {table} differs from its event")


def _compare_candidates(snapshot: Snapshot, replay: Replay) -> Problems:
    for row in snapshot.candidates:
        stored = row._asdict() | {"parents": snapshot.parents.get(row.id, [])}
        expected = replay.candidates.pop(row.id, None)
        if expected is None:
            yield Problem("events", f"candidate {row.id} has no event")
            continue
        for name, value in expected.items():
            if stored.get(name) != value:
                yield Problem("events", f"candidate {row.id}: {name!r} differs from its event")
    for number in replay.candidates:
        yield Problem("events", f"candidate {number} has an event but no row")


def _compare_evaluations(snapshot: Snapshot, replay: Replay) -> Problems:
    expected, of_dft = dict(replay.evaluations), dict(replay.dft)
    for row in snapshot.evaluations:
        name = f"candidate {row.candidate}, {row.purpose} relaxation"
        if row.purpose == "dft":
            found = of_dft.pop((row.candidate, row.level), None)
        else:
            found = expected.pop((row.candidate, row.purpose), None)
        if found is None:
            yield Problem("events", f"{name} has no event")
            continue
        for column, value in asdict(found).items():
            if getattr(row, column) != value:
                stored = getattr(row, column)
                detail = f"{name}: {column!r} is {stored!r}, the events lead to {value!r}"
                yield Problem("events", detail)
        if row.verdict is not None:
            key = (row.candidate, row.level if row.purpose == "dft" else row.purpose)
            recorded = replay.dft_stated if row.purpose == "dft" else replay.stated
            sealed = replay.sealed.get("evaluations", {}).get(str(row.id))
            yield from _compare_hash(name, snapshot.stated.get(row.id), recorded.get(key, sealed))
        if (row.verdict is not None) != (row.id in snapshot.counts_for):
            yield Problem("events", f"{name} is {row.state}, but its structure says otherwise")
    for number, purpose in expected:
        yield Problem("events", f"candidate {number} has events of a {purpose} relaxation, no row")
    for number, at in of_dft:
        yield Problem("events", f"candidate {number} has an event of DFT at level {at}, no row")


def _compare_extras(snapshot: Snapshot, replay: Replay) -> Problems:
    expected = dict(replay.extras)
    for row in snapshot.extras:
        columns, stored, name = expected.pop(row.id, None), row._asdict(), f"late result {row.id}"
        if columns is None or any(stored.get(key) != value for key, value in columns.items()):
            yield Problem("events", f"{name} differs from its event")
        sealed = replay.sealed.get("extras", {}).get(str(row.id))
        yield from _compare_hash(name, stated(stored), sealed)
    for key in expected:
        yield Problem("events", f"late result {key} has an event but no row")


def _compare_hash(name: str, found: str | None, recorded: str | None) -> Problems:
    if found is None:
        return  # a missing structure is told elsewhere
    if recorded is None:
        yield Problem("events", f"{name}: no event proves its values")
    elif found != recorded:
        yield Problem("events", f"{name}: its values do not match the sha256 in its event")


def _compare_dft(snapshot: Snapshot, replay: Replay) -> Problems:
    levels = {row.id: row.name for row in snapshot.levels}
    found = [(f"DFT level {row.name!r}", row.name, row._asdict()) for row in snapshot.levels[1:]]
    yield from _compare_rows(found, replay.levels)
    jobs = [
        (f"DFT job {row.folder!r}", row.folder, row._asdict() | {"level": levels.get(row.level)})
        for row in snapshot.dft_jobs
    ]
    yield from _compare_rows(jobs, replay.jobs)


def _compare_rows(
    rows: Sequence[tuple[str, str, Any]], replayed: Mapping[str, Mapping[str, Any]]
) -> Problems:
    expected = dict(replayed)
    for name, key, row in rows:
        own = expected.pop(key, None)
        if own is None:
            yield Problem("events", f"{name} has no event")
            continue
        for column, value in own.items():
            if row.get(column) != value:
                yield Problem("events", f"{name}: {column!r} differs from its event")
    for key in expected:
        yield Problem("events", f"DFT {key!r} has an event but no row")


def _compare_promotions(snapshot: Snapshot, replay: Replay) -> Problems:
    expected = dict(replay.promotions)
    for row in snapshot.promotions:
        name = f"the promotion of candidate {row.candidate} by {row.rule!r}"
        found = expected.pop((row.candidate, row.rule), None)
        if found is None:
            yield Problem("promotions", f"{name} has no event")
        elif found != (row.reason, row.promoted) or row.level != SEARCH_LEVEL:
            yield Problem("promotions", f"{name} differs from its event")
    for number, rule in expected:
        detail = f"the promotion of candidate {number} by {rule!r} has an event but no row"
        yield Problem("promotions", detail)


def _numbering(snapshot: Snapshot) -> Problems:
    inside = [row.id for row in snapshot.candidates if row.id < FIRST_OUTSIDE]
    results = sorted(row.result for row in snapshot.evaluations if row.result is not None)
    for what, numbers, first in (
        ("candidate", inside, 1),
        ("result", results, 1),
    ):
        for expected, number in enumerate(numbers, start=first):
            if number != expected:
                yield Problem("numbering", f"{what} {expected} is missing")
                break


def _which_count(snapshot: Snapshot) -> Problems:
    done: dict[int, list[EvaluationState]] = {}
    for row in snapshot.evaluations:
        if row.purpose == "dft":
            if snapshot.counts_for.get(row.id) is not None:
                yield Problem("counting", f"candidate {row.candidate}: DFT counts in the search")
        elif row.verdict is not None:
            counts_for = snapshot.counts_for.get(row.id)
            counts = counts_for is not None
            if counts_for not in (None, row.candidate):
                detail = f"candidate {row.candidate}: its structure counts for {counts_for}"
                yield Problem("counting", detail)
            found = from_columns(EvaluationState, row._asdict(), composition="", counts=counts)
            done.setdefault(row.candidate, []).append(found)
    for number, evaluations in done.items():
        best = best_evaluation(evaluations)
        for found in evaluations:
            if found.counts is not (found is best):
                detail = f"candidate {number}: the evaluation that counts is that of {best.purpose}"
                yield Problem("counting", detail)


_FIRST = (_integrity, _schema)
_REST = (_values, _references, _structures, _extras, _occupations, _record)

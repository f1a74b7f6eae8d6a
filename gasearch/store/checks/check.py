"""Proving that a database is whole: `gasearch check`, as far as the store itself knows.

SQLite's own check sees damaged pages but no damaged content; hashes see the content of structures;
and the events, which are written with every change, must lead to the very state that is stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import Column, Connection, Select, create_engine, select

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
    SCHEMA_VERSION,
    candidate,
    evaluation,
    extra,
    structure,
)
from gasearch.store.sql.ase_rows import SHOWN, AseRows
from gasearch.store.sql.blobs import Columns, damaged_columns, digest
from gasearch.store.sql.evaluation_state import EvaluationState, best_evaluation
from gasearch.store.storage import Storage, schema_version

_CHUNK = 200
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
        database = open_storage(place, read_only=True)
    except StoreError as error:
        return [Problem("file", str(error))]
    try:
        problems = _run(_FIRST, database)
        return problems if problems else _run(_REST, database)
    finally:
        database.close()


def _run(checks: Sequence[Check], database: Storage) -> list[Problem]:
    problems = []
    for check in checks:
        try:
            problems += list(check(database))
        except StoreError as error:
            problems.append(Problem("file", str(error)))
    return problems


def _integrity(database: Storage) -> Problems:
    if not isinstance(database.place, Path):
        return
    for (line,) in database.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").all()):
        if line != "ok":
            yield Problem("integrity", line)


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


def _structures(database: Storage) -> Problems:
    """Compare the hashes of all blobs, and what ASE shows with what it is made from."""
    query = select(structure, *(evaluation.c[name] for name in ("candidate", *SHOWN)))
    query = query.outerjoin(evaluation, evaluation.c.id == structure.c.id)
    return _in_pages(database, query, structure.c.id, _judge_structures)


def _judge_structures(connection: Connection, rows: list[Columns]) -> Problems:
    numbers = [row["candidate"] for row in rows if row["candidate"] is not None]
    ase_rows = AseRows(connection, numbers)
    for row in rows:
        name = f"candidate {row['candidate']}, {row['purpose']} relaxation"
        name = "the host" if row["id"] == HOST_STRUCTURE else name
        for column in damaged_columns(row):
            detail = f"{name}: the bytes of {column!r} do not match their sha256"
            yield Problem("hashes", detail)
        if row["candidate"] is not None:
            for column, expected in ase_rows.columns(row["candidate"], row).items():
                if row[column] != expected:
                    detail = f"{name}: {column!r} differs from what it is made from"
                    yield Problem("ase", detail)


def _extras(database: Storage) -> Problems:
    return _in_pages(database, select(extra), extra.c.id, _judge_extras)


def _judge_extras(_: Connection, rows: list[Columns]) -> Problems:
    for row in rows:
        for column in damaged_columns(row):
            detail = f"late result {row['id']}: the bytes of {column!r} do not match"
            yield Problem("hashes", detail)


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
    yield from _compare_run(snapshot, replay)
    yield from _compare_candidates(snapshot, replay)
    yield from _compare_evaluations(snapshot, replay)
    yield from _compare_extras(snapshot, replay)
    yield from _compare_promotions(snapshot, replay)
    yield from _numbering(snapshot)
    yield from _which_count(snapshot)


def _compare_run(snapshot: Snapshot, replay: Replay) -> Problems:
    columns = snapshot.run._asdict()
    operational = json.loads(columns.pop("operational"))
    for name in sorted(operational.keys() | replay.operational.keys()):
        if operational.get(name) != replay.operational.get(name):
            yield Problem("events", f"the setting {name!r} differs from its last event")
    for table, stored, expected in (
        ("run", columns, replay.run),
        ("level", snapshot.level._asdict(), replay.level),
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
            if stored[name] != value:
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
        if (row.verdict is not None) != (row.id in snapshot.counts_for):
            yield Problem("events", f"{name} is {row.state}, but its structure says otherwise")
    for number, purpose in expected:
        yield Problem("events", f"candidate {number} has events of a {purpose} relaxation, no row")
    for number, level in of_dft:
        yield Problem("events", f"candidate {number} has an event of DFT at level {level}, no row")


def _compare_extras(snapshot: Snapshot, replay: Replay) -> Problems:
    expected = dict(replay.extras)
    for row in snapshot.extras:
        columns = expected.pop(row.id, None)
        if columns is None or columns.items() - row._asdict().items():
            yield Problem("events", f"late result {row.id} differs from its event")
    for key in expected:
        yield Problem("events", f"late result {key} has an event but no row")


def _compare_promotions(snapshot: Snapshot, replay: Replay) -> Problems:
    expected = dict(replay.promotions)
    for row in snapshot.promotions:
        name = f"the promotion of candidate {row.candidate} by {row.rule!r}"
        found = expected.pop((row.candidate, row.rule), None)
        if found is None:
            yield Problem("promotions", f"{name} has no event")
        elif found != (row.reason, row.promoted):
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
            counts = snapshot.counts_for.get(row.id) is not None
            found = from_columns(EvaluationState, row._asdict(), composition="", counts=counts)
            done.setdefault(row.candidate, []).append(found)
    for number, evaluations in done.items():
        best = best_evaluation(evaluations)
        for found in evaluations:
            if found.counts is not (found is best):
                detail = f"candidate {number}: the evaluation that counts is that of {best.purpose}"
                yield Problem("counting", detail)


_FIRST = (_integrity, _schema)
_REST = (_references, _structures, _extras, _occupations, _record)

"""`check_store` is silent about a whole database and finds what has been changed in one."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Boolean

from gasearch.store.checks.check import Problem, check_store
from gasearch.store.dft_jobs import DftRecord, add_level, put_job
from gasearch.store.dft_jobs import record as record_dft
from gasearch.store.errors import CorruptedBlobError, StoreError
from gasearch.store.population_store import PopulationStore
from gasearch.store.promotions import NewPromotion, add_promotions
from gasearch.store.records import FIRST_OUTSIDE
from gasearch.store.schema import last_write, metadata
from gasearch.testing.store import create, example_proposal, example_relaxed, fill


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "search.db"
    with create(path) as store:
        fill(store, 24)
        store.batch().set_operational({"budget": 900}).event(
            "stagnation", None, {"generation": 3}
        ).propose([example_proposal(None, origin="seed.cif", fingerprint="seed")]).commit()
        chosen = [NewPromotion(number, "lowest", f"for {number}") for number in (1, 2)]
        assert add_promotions(store, chosen) == 2
        add_level(store, "gpaw-pbe", "gpaw", {"U": 5.3})
        put_job(store, 1, "gpaw-pbe", "gpaw", "dft/1-gpaw-pbe", "running")
        became = example_proposal(None, origin="dft", fingerprint="moved", parents=(1,))
        relaxed = example_relaxed(1, energy=-50.0, stress=np.full((3, 3), np.nan))
        result = DftRecord("dft/1-gpaw-pbe", "moved", "a hole moved", became, relaxed, {})
        assert record_dft(store, result)[0] == FIRST_OUTSIDE + 1
    return path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "search.db"))


def change(path: Path, *statements: str) -> None:
    """Change a file behind the back of gasearch, as a curious user with sqlite3 would."""
    connection = sqlite3.connect(path)
    names = ("event_refuses_update", "event_refuses_delete")
    query = "SELECT sql FROM sqlite_master WHERE type='trigger' ORDER BY name"
    triggers = [sql for (sql,) in connection.execute(query)]
    connection.execute("PRAGMA ignore_check_constraints=ON")
    for name in names:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        assert connection.execute(statement).rowcount > 0
    for trigger in triggers:
        connection.execute(trigger)
    connection.commit()
    connection.close()


def test_a_whole_database_has_no_problems(whole: Path) -> None:
    assert check_store(whole) == []


def test_checking_changes_nothing(copy: Path) -> None:
    before = copy.read_bytes()
    check_store(copy)
    assert copy.read_bytes() == before
    assert list(copy.parent.iterdir()) == [copy]


@pytest.mark.parametrize(
    ("statement", "check", "detail"),
    [
        ("UPDATE evaluation SET energy = energy + 1e-9 WHERE candidate = 2", "events", "'energy'"),
        ("UPDATE evaluation SET n_crashes = 0 WHERE candidate = 4", "events", "'n_crashes'"),
        ("UPDATE evaluation SET attempt = 7 WHERE candidate = 4", "events", "'attempt'"),
        ("UPDATE evaluation SET n_calls = 1 WHERE candidate = 4", "events", "'n_calls'"),
        (
            "UPDATE evaluation SET state='queued', lease_ends=NULL WHERE state='relaxing'",
            "events",
            "'state'",
        ),
        (
            "UPDATE evaluation SET verdict = 'ok' WHERE verdict = 'order_lost'",
            "events",
            "'verdict'",
        ),
        ("UPDATE evaluation SET result = 99 WHERE result = 24", "numbering", "result 24"),
        ("UPDATE candidate SET known = 3 WHERE id = 9", "events", "'known'"),
        ("UPDATE candidate SET fingerprint = 'other' WHERE id = 9", "events", "'fingerprint'"),
        ("UPDATE candidate SET budget = 501 WHERE id = 9", "events", "'budget'"),
        ("UPDATE candidate SET details = '{}' WHERE id = 9", "events", "'details'"),
        ("UPDATE candidate SET details = NULL WHERE id = 10", "events", "'details'"),
        ("UPDATE candidate SET x = 0.1 WHERE id = 9", "events", "'x'"),
        ("UPDATE candidate SET occupation = x'00' WHERE id = 9", "hashes", "candidate 9"),
        ("UPDATE parent SET parent = 1 WHERE child = 8 AND position = 0", "events", "'parents'"),
        ("UPDATE parent SET parent = 999 WHERE child = 8 AND position = 0", "references", "row"),
        ("DELETE FROM parent WHERE child = 8", "events", "'parents'"),
        ("DELETE FROM structure WHERE counts_for = 5", "events", "candidate 5, search"),
        ("UPDATE structure SET counts_for = NULL WHERE counts_for = 5", "counting", "candidate 5"),
        ("UPDATE structure SET forces = NULL WHERE counts_for = 2", "hashes", "'forces'"),
        ("UPDATE structure SET sha256 = '{}' WHERE counts_for = 2", "hashes", "'positions'"),
        ("UPDATE structure SET sha256 = 'oops' WHERE counts_for = 2", "hashes", "'sha256'"),
        ("UPDATE structure SET cell = zeroblob(72) WHERE id = 0", "hashes", "the host"),
        ("UPDATE structure SET data = '{}' WHERE counts_for = 2", "ase", "'data'"),
        ("UPDATE extra SET energy = energy + 1e-9 WHERE id = 2", "events", "late result 2"),
        ("UPDATE extra SET attempt = 7 WHERE id = 2", "events", "late result 2"),
        ("DELETE FROM extra WHERE id = 2", "events", "no row"),
        ("UPDATE extra SET cell = zeroblob(72) WHERE id = 2", "hashes", "late result 2"),
        ("DELETE FROM promotion WHERE id = 1", "promotions", "has an event but no row"),
        ("UPDATE promotion SET rule = 'x' WHERE id = 1", "promotions", "by 'x' has no event"),
        ("UPDATE promotion SET reason = 'x' WHERE id = 2", "promotions", "differs"),
        ("UPDATE promotion SET promoted = promoted + 1 WHERE id = 2", "promotions", "differs"),
        ("UPDATE run SET operational = '{\"budget\":1}'", "events", "'budget'"),
        ("UPDATE run SET settings = '{}'", "events", "'settings'"),
        ("UPDATE level SET weights_hash = 'another'", "events", "'weights_hash'"),
        ("DELETE FROM event WHERE id = 7", "events", "event 7 is missing"),
        ("UPDATE event SET data = '{}' WHERE id = 7", "events", "event 7"),
        ("UPDATE event SET candidate = 1 WHERE kind = 'leased' AND candidate = 3", "events", "1"),
    ],
)
def test_a_change_behind_its_back_is_found(
    copy: Path, statement: str, check: str, detail: str
) -> None:
    change(copy, statement)
    problems = check_store(copy)
    assert any(p.check == check and detail in p.detail for p in problems), problems


UNPROVEN = {("evaluation", "id"), ("promotion", "id"), ("dft_job", "id"), ("parent", "position")}
"""Numbers of rows to which nothing refers: their order alone has a meaning, and is proven."""
COLUMNS = [
    (table.name, column.name)
    for table in metadata.sorted_tables
    for column in table.columns
    if table is not last_write  # of no use once its process has ended
    if (table.name, column.name) not in UNPROVEN
]


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=lambda name: name)
def test_every_column_of_every_row_is_proven(copy: Path, table: str, column: str) -> None:
    connection = sqlite3.connect(copy)
    query = f"SELECT rowid, {column} FROM {table} ORDER BY {column} IS NULL, rowid DESC"
    key, value = connection.execute(query).fetchone()
    connection.close()
    match value:
        case 0 | 1 if isinstance(metadata.tables[table].c[column].type, Boolean):
            other = str(1 - value)
        case None:
            other = "X'00000000'"
        case int() | float():
            other = str(value + 1)
        case bytes():
            other = f"X'{(bytes([value[0] ^ 1]) + value[1:]).hex()}'"
        case _:
            other = """'{"other":"value"}'""" if value[:1] in "{[" else f"'{value}x'"
    change(copy, f"UPDATE {table} SET {column} = {other} WHERE rowid = {key}")
    problems = check_store(copy)
    assert problems, f"{table}.{column} was {value}, became {other}"
    assert not any("ended early" in problem.detail for problem in problems), problems


@pytest.mark.parametrize(
    ("statement", "detail"),
    [
        (
            "UPDATE evaluation SET reason = CAST(X'6162FF63' AS TEXT) WHERE id = 3",
            "row 3 of evaluation: 'reason' is no UTF-8 (invalid start byte at byte 2)",
        ),
        (
            "UPDATE event SET data = '{\"a\":' WHERE id = 7",
            "row 7 of event: 'data' is no JSON (Expecting value: line 1 column 6 (char 5))",
        ),
        (
            "UPDATE candidate SET x = 'a half' WHERE id = 2",
            "row 2 of candidate: 'x' is of type text, expected real",
        ),
        (
            "UPDATE structure SET forces = 3 WHERE id = 4",
            "row 4 of structure: 'forces' is of type integer, expected blob",
        ),
        ("DELETE FROM level", "row 1 of level is missing"),
        ("UPDATE run SET operational = '3'", "this check ended early"),
        ("UPDATE event SET data = '[]' WHERE id = 1", "event 1 (created) cannot be followed"),
    ],
)
def test_a_value_that_cannot_be_read_is_named(copy: Path, statement: str, detail: str) -> None:
    change(copy, statement)
    problems = check_store(copy)
    assert any(detail in problem.detail for problem in problems), problems
    assert all("\n" not in str(problem) for problem in problems)


def content_of(path: Path) -> list[object]:
    """Return all rows of all tables that say something of the search."""
    connection = sqlite3.connect(path)
    tables = [table.name for table in metadata.sorted_tables if table is not last_write]
    rows = [connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables]
    connection.close()
    return rows


def test_damage_ends_in_lines_or_is_harmless_and_never_in_an_exception(
    whole: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(14)
    content, expected = whole.read_bytes(), content_of(whole)
    found = 0
    for number in range(150):
        damaged = bytearray(content)
        place = int(rng.integers(len(content)))
        if number % 2:
            damaged[place] ^= 1 << int(rng.integers(8))
        else:
            damaged[place] = int(rng.integers(256))
        path = tmp_path / f"{number}.db"
        path.write_bytes(damaged)
        if problems := check_store(path):
            found += 1
            assert not any("ended early" in str(problem) for problem in problems), problems
        else:
            assert content_of(path) == expected  # free space was hit
        path.unlink()
    assert found > 50


@pytest.mark.parametrize("version", ["0001", "0002", "00\x17", "1"])
def test_a_damaged_schema_version_is_one_line(copy: Path, version: str) -> None:
    change(copy, f"UPDATE alembic_version SET version_num = '{version}'")
    with pytest.raises(StoreError) as raised:
        PopulationStore.open(copy)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "statement",
    ["DROP TRIGGER event_refuses_delete", "DROP VIEW keys", "DROP INDEX parent_by_parent"],
)
def test_a_changed_schema_is_found(copy: Path, statement: str) -> None:
    connection = sqlite3.connect(copy)
    connection.execute(statement)
    connection.close()
    name = statement.split()[-1]
    assert check_store(copy) == [Problem("schema", f"{name} is missing")]


def test_events_can_only_be_added(copy: Path) -> None:
    connection = sqlite3.connect(copy)
    for statement in ("UPDATE event SET time = 0", "DELETE FROM event WHERE id = 1"):
        with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
            connection.execute(statement)
    connection.close()


def test_a_flipped_byte_of_a_structure_is_found_by_check_and_by_reading(copy: Path) -> None:
    with PopulationStore.open(copy) as store:
        positions = store.relaxed(10).atoms.positions.tobytes()
    content = bytearray(copy.read_bytes())
    assert content.count(positions) == 1
    content[content.index(positions) + 50] ^= 0x10
    copy.write_bytes(content)
    connection = sqlite3.connect(copy)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    (problem,) = check_store(copy)
    assert problem.check == "hashes"
    assert "candidate 10, search relaxation" in problem.detail
    assert "'positions'" in problem.detail
    with PopulationStore.open(copy) as store:
        with pytest.raises(CorruptedBlobError, match=r"candidate 10.*'positions'"):
            store.relaxed(10)
        assert store.relaxed(9).atoms  # the others are as they were


def test_a_flipped_byte_of_a_decoration_is_found_by_check_and_by_reading(copy: Path) -> None:
    change(copy, "UPDATE candidate SET occupation = x'00ff' WHERE id = 3")
    with (
        PopulationStore.open(copy) as store,
        pytest.raises(CorruptedBlobError, match=r"candidate 3.*'occupation'"),
    ):
        store.proposals()


def test_a_damaged_page_is_found(copy: Path) -> None:
    content = bytearray(copy.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    copy.write_bytes(content)
    problems = check_store(copy)
    assert problems
    assert {problem.check for problem in problems} <= {"integrity", "file"}


def test_a_file_that_is_refused_is_a_problem(tmp_path: Path) -> None:
    (problem,) = check_store(tmp_path / "missing.db")
    assert problem.check == "file"
    assert "does not exist" in str(problem)

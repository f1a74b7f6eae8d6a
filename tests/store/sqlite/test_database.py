"""Files that are created, refused, upgraded, locked and copied."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ase.db
import numpy as np
import pytest
from places import RELEASED_DATABASES, STORE_PROCESS, TESTS
from sqlalchemy import create_engine

from gasearch.errors import GasearchError
from gasearch.store import migrate, schema
from gasearch.store.checks.check import check_store
from gasearch.store.errors import (
    DatabaseExistsError,
    EmptyFileError,
    ForeignFileError,
    InvalidRecordError,
    NewerSchemaError,
    NoDatabaseError,
    OlderSchemaError,
    SearchRunningError,
    TruncatedFileError,
    UnreadableFileError,
    WentBackError,
    WriteFailedError,
)
from gasearch.store.opening import driver_of
from gasearch.store.population_store import PopulationStore
from gasearch.store.sqlite.database import APPLICATION_ID
from gasearch.store.sqlite.lock import DriverLock
from gasearch.testing.store import create, example_atoms, fill, propose_and_lease, record

WRITTEN = schema.SCHEMA_VERSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "search.db"
    with create(path) as store:
        fill(store, 3)
    return path


# --- files that are refused


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoDatabaseError, match="does not exist: start a search there"):
        PopulationStore.open(tmp_path / "search.db")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ForeignFileError, match="is no file"):
        PopulationStore.open(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(path: Path) -> None:
    path.chmod(0)
    with pytest.raises(UnreadableFileError, match="fix its permissions"):
        PopulationStore.open(path)


def test_an_empty_file_is_refused(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(EmptyFileError, match=r"is empty \(0 bytes\).*restore the newest backup"):
        PopulationStore.open(path)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_truncated_file_is_refused(path: Path, share: float, read_only: bool) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises((TruncatedFileError, ForeignFileError), match="newest backup") as caught:
        PopulationStore.open(path, read_only=read_only)
    assert isinstance(caught.value, GasearchError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"x", b"not a database", b"SQLite format 3\0", b"\0" * 8192])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "search.db"
    path.write_bytes(content)
    with pytest.raises((ForeignFileError, TruncatedFileError)):
        PopulationStore.open(path)
    assert path.read_bytes() == content


def test_an_ase_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.db"
    ase.db.connect(path).write(example_atoms())
    content = path.read_bytes()
    with pytest.raises(ForeignFileError, match="is an ASE database"):
        PopulationStore.open(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE candidate (id INTEGER)")
    connection.close()
    with pytest.raises(ForeignFileError, match="a database of another program"):
        PopulationStore.open(path)


def test_a_newer_file_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    content = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(NewerSchemaError, match=r"schema 9999, newer than.*update gasearch"):
            PopulationStore.open(path, read_only=read_only)
    assert path.read_bytes() == content


def test_the_file_says_what_it_is(path: Path) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()
    assert path.read_bytes()[68:72] == b"gase"


def test_any_file_name_will_do(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "100% Na?x#1 ü.db"
    with create(path) as store:
        propose_and_lease(store, 1)
    with PopulationStore.open(path, read_only=True) as store:
        assert store.n_candidates == 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


# --- files that are exchanged under a driver


def in_place(new: Path, old: Path) -> None:
    old.write_bytes(new.read_bytes())


def by_renaming(new: Path, old: Path) -> None:
    new.rename(old)


@pytest.mark.parametrize("exchange", [in_place, by_renaming])
def test_a_driver_says_that_its_database_went_back(
    path: Path, tmp_path: Path, exchange: Callable[[Path, Path], None]
) -> None:
    older = Path(shutil.copy(path, tmp_path / "older.db"))
    with PopulationStore.open(path) as store:
        n_events = store.n_events
        leases = propose_and_lease(store, 3)
        exchange(older, path)
        for _ in range(2):
            with pytest.raises(WentBackError) as raised:
                record(store, leases)
        had = raised.value.had
        assert had > raised.value.has == n_events
        assert f"event {had}, which this process had committed, is not in it" in str(raised.value)
        assert f"ends with event {n_events}, candidate 4" in str(raised.value)
        assert "give the same command again" in str(raised.value)
    with PopulationStore.open(path) as store:  # the same command again
        assert store.n_candidates == 4
        assert record(store, propose_and_lease(store, 1)).outcomes
    assert check_store(path) == []


def test_a_copy_that_went_on_elsewhere_is_no_copy_of_the_driver(path: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(path, tmp_path / "other.db"))
    with PopulationStore.open(other) as store:
        propose_and_lease(store, 5, budget=7)
    with PopulationStore.open(path) as store:
        propose_and_lease(store, 1)
        by_renaming(other, path)
        with pytest.raises(WentBackError, match="another copy has taken its place"):
            propose_and_lease(store, 1)


def test_others_may_write_between_two_transactions_of_a_driver(path: Path) -> None:
    with PopulationStore.open(path) as driver, PopulationStore.open(path) as other:
        propose_and_lease(driver, 1)
        other.batch().event("note").commit()
        propose_and_lease(driver, 1)
    assert check_store(path) == []


def test_a_file_that_was_taken_away_is_said_so(path: Path) -> None:
    with PopulationStore.open(path) as store:
        path.rename(path.with_name("elsewhere.db"))
        with pytest.raises(NoDatabaseError, match="is not there any more: put it back"):
            propose_and_lease(store, 1)


# --- older files


def test_a_new_file_equals_one_that_went_through_all_revisions() -> None:
    descriptions = []
    for make in (migrate.make_schema, lambda c: migrate.upgrade(c, Path("x.db"))):
        engine = create_engine("sqlite://")
        with engine.begin() as connection:
            make(connection)
            descriptions.append(migrate.describe(connection))
        engine.dispose()
    assert descriptions[0] == descriptions[1]
    assert len(descriptions[0]) > 20


def test_there_is_a_file_of_the_current_schema() -> None:
    assert f"schema_{schema.SCHEMA_VERSION}.db" in [path.name for path in RELEASED_DATABASES]


@pytest.mark.parametrize("released", RELEASED_DATABASES, ids=lambda path: path.stem)
def test_a_file_of_every_released_schema_opens_whole(released: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(released, tmp_path / "search.db"))
    with PopulationStore.open(path) as store:
        assert [p.number for p in store.proposals()] == list(range(1, store.n_candidates + 1))
        counted = [row.candidate for row in store.evaluations(None)]
        assert len(counted) == len(store.outcomes()) > 3
        assert all(len(store.relaxed(number).atoms) == 7 for number in counted)
        assert store.requeue_stale() == [store.n_candidates]
        leases = propose_and_lease(store, 1)
        assert record(store, leases).outcomes
    assert check_store(path) == []
    rows = list(ase.db.connect(path).select("relaxed=1"))
    assert len(rows) > 2


def test_candidates_of_schema_0001_get_no_budget_and_no_details(tmp_path: Path) -> None:
    oldest = TESTS / "databases" / "schema_0001.db"
    path = Path(shutil.copy(oldest, tmp_path / "search.db"))
    with PopulationStore.open(path) as store:
        old = store.proposals()
        assert {(p.budget, len(p.details)) for p in old} == {(0, 0)}
        assert not any("budget" in event.data for event in store.events(kind="proposed"))
        propose_and_lease(store, 1, budget=7, details={"predicted_eV_per_fu": 0.1})
        new = store.proposals()[-1]
        assert (new.budget, new.details) == (7, {"predicted_eV_per_fu": 0.1})
    assert check_store(path) == []
    connection = sqlite3.connect(path)
    connection.execute("UPDATE candidate SET budget = 500 WHERE id = 1")
    connection.commit()
    connection.close()
    (problem,) = check_store(path)
    assert "candidate 1: 'budget' differs" in str(problem)


@pytest.mark.parametrize(("version", "sigma"), [("0005", None), ("0006", 0.02)])
def test_how_certain_results_are_is_kept_and_unknown_in_older_files(
    tmp_path: Path, version: str, sigma: float | None
) -> None:
    released = TESTS / "databases" / f"schema_{version}.db"
    path = Path(shutil.copy(released, tmp_path / "search.db"))
    known = {"energy_sigma": 0.5, "force_sigma": float("nan")}
    with PopulationStore.open(path) as store:
        old = {row.candidate: row.energy_sigma for row in store.evaluations("ok")}
        record(store, propose_and_lease(store, 1), **known)
        row = store.evaluation(store.n_candidates)
        again = store.relaxed(store.n_candidates)
        leases = propose_and_lease(store, 1)
        with pytest.raises(InvalidRecordError, match="energy_sigma is inf"):
            record(store, leases, energy_sigma=float("inf"))
    assert len(old) > 2
    assert all(np.isnan(value) if sigma is None else value == sigma for value in old.values())
    assert (row.energy_sigma, again.energy_sigma) == (0.5, 0.5)
    assert np.isnan([row.force_sigma, again.force_sigma]).all()
    assert row.penalty == 0.0
    assert check_store(path) == []


REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "{new}"
down_revision = "{old}"


def upgrade() -> None:
    with op.batch_alter_table("candidate") as batch:
        batch.add_column(sa.Column("note", sa.Text(), nullable=False, server_default="none"))
        {more}
"""


@pytest.fixture
def next_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this process one revision newer than the files that it has written."""
    folder = tmp_path / "revisions"
    folder.mkdir()
    old, new = schema.SCHEMA_VERSION, "0099"
    (folder / "rev_0099.py").write_text(REVISION.format(old=old, new=new, more=""))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", new)
    monkeypatch.setattr(migrate, "REVISIONS", [*migrate.REVISIONS, folder])
    return folder / "rev_0099.py"


def backups_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob("search-schema-*.db"))


def test_an_older_file_is_upgraded_after_a_backup(path: Path, next_schema: Path) -> None:
    content = path.read_bytes()
    with PopulationStore.open(path) as store:
        assert [p.number for p in store.proposals()] == [1, 2, 3, 4]
        assert len(store.relaxed(1).atoms) == 7
        propose_and_lease(store, 1)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0099",)]
    assert connection.execute("SELECT DISTINCT note FROM candidate").fetchall() == [("none",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
        connection.execute("DELETE FROM event")
    connection.close()
    assert ase.db.connect(path).count("relaxed=1") == 1
    (backup,) = backups_of(path)
    assert re.fullmatch(rf"search-schema-{WRITTEN}-\d{{8}}-\d{{6}}\.db", backup.name)
    restored = sqlite3.connect(backup)
    before = sqlite3.connect(":memory:")
    before.deserialize(content)
    assert list(restored.iterdump()) == list(before.iterdump())
    restored.close()
    before.close()
    with PopulationStore.open(path):
        assert backups_of(path) == [backup]  # only once


def test_an_older_file_is_not_opened_for_reading_only(path: Path, next_schema: Path) -> None:
    content = path.read_bytes()
    with pytest.raises(
        OlderSchemaError, match=rf"schema {WRITTEN}, older than 0099.*gasearch check"
    ):
        PopulationStore.open(path, read_only=True)
    assert path.read_bytes() == content
    assert backups_of(path) == []


def test_a_failed_upgrade_leaves_the_file_as_it_was(path: Path, next_schema: Path) -> None:
    text = next_schema.read_text().rstrip()
    next_schema.write_text(f"{text}\n    op.execute('INSERT INTO nowhere VALUES (1)')\n")
    with pytest.raises(Exception, match="nowhere"):
        PopulationStore.open(path)
    assert len(backups_of(path)) == 1
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(WRITTEN,)]
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    assert ase.db.connect(path).count("relaxed=1") == 1


def test_a_file_is_not_upgraded_under_a_running_search(path: Path, next_schema: Path) -> None:
    with other_driver(path), pytest.raises(SearchRunningError):
        PopulationStore.open(path)
    assert backups_of(path) == []


def test_the_driver_itself_may_upgrade(path: Path, next_schema: Path) -> None:
    with DriverLock(path), PopulationStore.open(path) as store:
        assert store.n_candidates == 4


# --- the lock of the driver


@contextmanager
def other_driver(path: Path) -> Iterator[None]:
    """Hold the lock, of which this process knows nothing when it drives."""
    lock = DriverLock(path)
    assert lock.take() is None
    try:
        yield
    finally:
        lock.give_back()


@contextmanager
def driver(path: Path, then: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Hold the lock in another process, which prints a line; it ends when the block does."""
    code = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from gasearch.store.sqlite.lock import DriverLock\n"
        f"lock = DriverLock(Path({str(path)!r}))\nlock.acquire()\n{then}\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None
        try:
            yield made, made.stdout.readline().strip()
        finally:
            made.kill()


def test_others_are_told_who_drives_until_it_is_killed(path: Path) -> None:
    assert driver_of(path) is None
    with driver(path, "print('held', flush=True)") as (process, _):
        holder = f"process {process.pid} on {os.uname().nodename}"
        assert driver_of(path) == holder
        with pytest.raises(SearchRunningError) as caught, DriverLock(path):
            pass
        assert f"already running here ({holder})" in str(caught.value)
        process.kill()
        process.wait()
        assert driver_of(path) is None
        with DriverLock(path):
            assert driver_of(path) == f"process {os.getpid()} on {os.uname().nodename}"
    assert driver_of(path) is None


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_driver(path: Path) -> None:
    then = "child = os.fork()\nif child: print(child, flush=True)"
    with driver(path, then) as (process, line):
        child = int(line)
        try:
            process.kill()
            process.wait()
            with DriverLock(path):
                os.kill(child, 0)  # it is alive
        finally:
            os.kill(child, signal.SIGKILL)


def test_the_lock_is_taken_once_in_a_process(path: Path) -> None:
    with DriverLock(path):
        with pytest.raises(SearchRunningError, match="this process"), DriverLock(path):
            pass
        with pytest.raises(SearchRunningError), DriverLock(path.parent / ".." / path.parent / path):
            pass
    with DriverLock(path):
        pass


def test_readers_need_no_lock(path: Path) -> None:
    with other_driver(path), PopulationStore.open(path, read_only=True) as store:
        assert store.n_candidates == 4


def test_the_lock_is_no_lock_of_ase(path: Path) -> None:
    with DriverLock(path):
        assert not path.with_name("search.db.lock").exists()
        with pytest.raises(sqlite3.OperationalError, match="view"):
            ase.db.connect(path).write(example_atoms())


def test_a_lock_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(WriteFailedError, match="cannot be written"):
        DriverLock(tmp_path / "no folder" / "search.db").acquire()


# --- backups


def test_a_backup_is_a_whole_database(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "backups" / "copy.db"
    with PopulationStore.open(path) as store:
        store.backup(copy)
        with pytest.raises(DatabaseExistsError, match="another name"):
            store.backup(copy)
    assert check_store(copy) == []
    with PopulationStore.open(copy) as store:
        assert len(store.outcomes()) == 3


def test_backups_are_made_when_due_and_only_the_newest_are_kept(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    with PopulationStore.open(path) as store:
        first = store.backup_if_due(folder, every_s=3600, keep=2)
        assert first is not None
        (folder / "notes.txt").write_text("mine")
        (folder / "search-best.db").write_text("mine too")
        assert store.backup_if_due(folder, every_s=3600, keep=2) is None
        for days_ago in (9, 8, 7):
            old = folder / f"search-2026010{days_ago}-000000.db"
            shutil.copy(first, old)
            os.utime(old, (time.time() - 86_400 * days_ago,) * 2)
        os.utime(first, (time.time() - 3601,) * 2)
        second = store.backup_if_due(folder, every_s=3600, keep=2)
        assert second is not None
    assert {p.name for p in folder.iterdir()} == {
        first.name,
        second.name,
        "notes.txt",
        "search-best.db",
    }


def test_a_backup_waits_for_a_writer_and_not_the_other_way_round(path: Path) -> None:
    copy = path.with_name("copy.db")
    script = STORE_PROCESS
    command = [sys.executable, script, "backup", path, copy]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        with PopulationStore.open(path) as store:
            while process.poll() is None:
                propose_and_lease(store, 1)
            assert store.n_candidates > 4
        assert process.returncode == 0
    assert check_store(copy) == []

"""What a population database withstands: processes that die, full disks, readers in the way."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import ase.db
import pytest
from places import STORE_PROCESS

from gasearch.store.checks.check import check_store
from gasearch.store.errors import BusyError, SearchRunningError, WriteFailedError
from gasearch.store.population_store import PopulationStore
from gasearch.store.sql.batch import Batch
from gasearch.store.sqlite import database
from gasearch.store.sqlite.lock import DriverLock
from gasearch.testing.store import (
    create,
    example_proposal,
    example_relaxed,
    fill,
    propose_and_lease,
    record,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "search.db"
    create(path).close()
    return path


@contextlib.contextmanager
def process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run `store_process.py` for as long as the block lasts."""
    command = [sys.executable, STORE_PROCESS, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


# --- processes that die


def test_a_search_killed_at_any_moment_loses_nothing_that_was_acknowledged(
    path: Path, tmp_path: Path
) -> None:
    acknowledged = tmp_path / "acknowledged"
    acknowledged.touch()
    with process("crash", path, acknowledged, 12) as crashing:
        _, errors = crashing.communicate(timeout=300)
        assert crashing.returncode == 0, errors
    assert len(acknowledged.read_text().splitlines()) > 25
    with PopulationStore.open(path) as store:
        assert not any(event.data["crashed"] for event in store.events(kind="requeued"))


def test_a_killed_driver_frees_the_lock_and_its_leases_go_back(path: Path, tmp_path: Path) -> None:
    with process("write", path, tmp_path / "acknowledged") as search:
        wait_for(lambda: outcomes(path) > 10)
        with pytest.raises(SearchRunningError, match=f"process {search.pid} on"), DriverLock(path):
            pass
        search.kill()
        search.wait()
        with DriverLock(path), PopulationStore.open(path) as store:
            stale = store.requeue_stale()
            assert [waiting.candidate for waiting in store.queued()] == stale
            assert all(waiting.n_crashes == 0 for waiting in store.queued())
            assert store.counts().in_flight == 0


def test_the_result_of_a_lease_from_before_the_kill_comes_too_late(path: Path) -> None:
    with PopulationStore.open(path) as store:
        (old,) = propose_and_lease(store, 1)  # the driver dies here; its worker lives on
    with PopulationStore.open(path) as store:
        assert store.requeue_stale() == [1]
        (new,) = store.batch().lease([1]).commit().leases
        assert (old.attempt, new.attempt) == (1, 2)
        committed = record(store, [old])
        assert committed.refused == (old,)
        assert committed.outcomes == ()
        (event,) = store.events(kind="late_result")
        assert event.data["attempt"] == 1
        assert len(record(store, [new]).outcomes) == 1
    assert check_store(path) == []


def test_readers_undo_the_half_done_transaction_of_a_killed_driver(tmp_path: Path) -> None:
    path = tmp_path / "search.db"
    with create(path) as store:
        fill(store, 6)
    journal = path.with_name("search.db-journal")
    for reader in ("gasearch", "ase"):
        with process("spill", path) as dying:
            dying.wait()
        assert journal.stat().st_size > 4096
        if reader == "ase":
            assert ase.db.connect(path).count("relaxed=1") > 2
        with PopulationStore.open(path, read_only=True) as store:
            assert store.relaxed(2).forces.any()
        assert not journal.exists()
        assert check_store(path) == []


def test_a_killed_creation_leaves_no_database(tmp_path: Path) -> None:
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom gasearch.testing.store import create\n"
        "from gasearch.store import population_store\n"
        "population_store.hashes = lambda columns: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"create(Path({str(tmp_path / 'search.db')!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert not (tmp_path / "search.db").exists()
    with create(tmp_path / "search.db") as store:
        assert store.n_candidates == 0


# --- disks that are full


@contextlib.contextmanager
def small_file_system(folder: Path) -> Iterator[Path]:
    """Mount a file system of 2 MB, all but 100 kB of it taken by the file `ballast`."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "gasearch-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill_up(store: PopulationStore) -> Batch:
    """Return the batch that could not be committed."""
    leases = propose_and_lease(store, 8)
    for _ in range(200):
        batch = store.batch()
        for lease in leases:
            batch.record(lease, example_relaxed(lease.candidate, 4))
        first = store.n_candidates + 1
        batch.propose(example_proposal(number) for number in range(first, first + 8))
        batch.lease(range(first, first + 8))
        try:
            leases = batch.commit().leases
        except WriteFailedError:
            return batch
    pytest.fail("the disk never was full")


def goes_on(store: PopulationStore, batch: Batch, n_before: int) -> None:
    committed = batch.commit()
    assert [outcome.result for outcome in committed.outcomes] == list(
        range(n_before + 1, n_before + 9)
    )
    assert len(committed.leases) == 8
    assert check_store(store.path) == []


def test_a_full_disk_is_a_clear_error_and_the_search_goes_on_afterwards(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "small") as folder:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(1_500_000))
        with create(folder / "search.db") as store:
            batch = fill_up(store)
            n = len(store.outcomes())
            assert check_store(store.path) == []
            with pytest.raises(WriteFailedError, match=r"cannot be written.*make room on the disk"):
                batch.commit()  # it still is full
            with pytest.raises(WriteFailedError):
                store.backup(folder / "copy.db")
            assert sorted(p.name for p in folder.iterdir()) == ["ballast", "search.db"]
            ballast.unlink()
            goes_on(store, batch, n)


def test_a_file_that_may_not_grow_is_a_clear_error(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with PopulationStore.open(path) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 200_000, hard))
        try:
            batch = fill_up(store)
            n = len(store.outcomes())
            assert check_store(path) == []
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        goes_on(store, batch, n)


def test_a_new_database_on_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "small") as folder:
        (folder / "ballast").write_bytes(bytes(2_000_000))
        with pytest.raises(WriteFailedError):
            create(folder / "search.db")
        assert [p.name for p in folder.iterdir()] == ["ballast"]


def test_a_folder_without_permission_is_a_clear_error(path: Path) -> None:
    """Root may write everywhere, so the file is made immutable by a mount where that is allowed."""
    folder = path.parent / "read-only"
    with small_file_system(folder):
        shutil.copy(path, folder / "search.db")
        remount = ["mount", "-o", "remount,ro", str(folder)]
        subprocess.run(remount, check=True)
        with PopulationStore.open(folder / "search.db") as store:
            assert store.n_candidates == 0  # reading is possible
            with pytest.raises(WriteFailedError, match="fix its permissions"):
                propose_and_lease(store, 1)


# --- readers in the way


def test_a_reader_that_holds_the_file_delays_a_commit_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PopulationStore.open(path, busy_s=0.05, patience_s=60) as store:
        leases = propose_and_lease(store, 2)
        with process("hold", path) as reader:
            batch = store.batch()
            batch.record(leases[0], example_relaxed(1))
            batch.event("noted")
            waits = []

            def warning(*words: object) -> None:
                waits.append(words)
                if len(waits) == 2:
                    reader.kill()
                    reader.wait()

            monkeypatch.setattr(logging.getLogger(database.__name__), "warning", warning)
            committed = batch.commit()
            assert len(waits) == 2
        assert [outcome.result for outcome in committed.outcomes] == [1]
        assert len(store.outcomes()) == 1
        assert len(store.events(kind="noted")) == 1
        assert len(store.events(kind="recorded")) == 1
    assert check_store(path) == []


def test_a_reader_that_never_ends_is_an_error_and_the_batch_can_be_tried_again(path: Path) -> None:
    with PopulationStore.open(path, busy_s=0.05, patience_s=0.2) as store:
        (lease,) = propose_and_lease(store, 1)
        batch = store.batch()
        batch.record(lease, example_relaxed(1))
        with process("hold", path):
            with pytest.raises(BusyError, match=r"locked by another program.*ase gui"):
                batch.commit()
            assert store.outcomes() == []
        assert len(batch.commit().outcomes) == 1
    assert check_store(path) == []


def test_a_writer_gets_through_while_readers_hammer(path: Path, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(process("read", path)) for _ in range(2)]
        with process("write", path, tmp_path / "acknowledged", 1, 0.02) as search:
            wait_for(lambda: outcomes(path) > 9)
            assert search.poll() is None
        assert [reader.poll() for reader in readers] == [None, None]
    assert check_store(path) == []


def test_checking_and_copying_do_not_disturb_a_search(path: Path, tmp_path: Path) -> None:
    with process("write", path, tmp_path / "acknowledged", 1, 0.02) as search:
        for n in (5, 15):
            wait_for(lambda n=n: outcomes(path) > n)
            assert check_store(path) == []
            with PopulationStore.open(path, read_only=True) as store:
                store.backup(tmp_path / f"copy-{n}.db")
            assert check_store(tmp_path / f"copy-{n}.db") == []
        assert search.poll() is None


def test_two_writers_do_not_lose_each_others_changes(path: Path, tmp_path: Path) -> None:
    """The driver lock forbids two searches; other commands may write beside one."""
    with (
        process("write", path, tmp_path / "acknowledged", 1, 0.01),
        PopulationStore.open(path) as store,
    ):
        for n in range(20):
            store.batch().event("noted", None, {"n": n}).commit()
        wait_for(lambda: outcomes(path) > 10)
        notes = store.events(kind="noted")
        assert [note.data["n"] for note in notes] == list(range(20))
    assert check_store(path) == []


def outcomes(path: Path) -> int:
    connection = sqlite3.connect(path, timeout=20)
    ((n,),) = connection.execute("SELECT count(*) FROM evaluation WHERE result > 0").fetchall()
    connection.close()
    return int(n)


def wait_for(condition: object, patience_s: float = 60) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)

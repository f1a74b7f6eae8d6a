"""The probe of a file system's locks is content here, and sees through one that does not lock."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

import pytest

from gasearch.store.sqlite import locking_probe
from gasearch.store.sqlite.locking_probe import LockingProbe, file_system, probe


def test_a_local_disk_locks_and_nothing_is_left(tmp_path: Path) -> None:
    found = probe(tmp_path)
    assert found.problems == ()
    assert found.is_reliable
    assert found.fs_type != "unknown"
    assert "locks files" in str(found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["flock", "lockf"])
def test_locks_that_everyone_gets_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(fcntl, call, lambda file, how: None)
    found = probe(tmp_path)
    assert not found.is_reliable
    assert "given to two processes at once" in str(found)
    assert "local disk, or name a PostgreSQL server" in str(found)


def test_a_database_that_two_may_write_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    careless = locking_probe.CHILD.replace('"BEGIN IMMEDIATE"', '"SELECT 1"').replace(
        'connection.execute("INSERT', 'connection.execute("SELECT 1") #'
    )
    monkeypatch.setattr(locking_probe, "CHILD", careless.replace('"COMMIT"', '"SELECT 1"'))
    assert "write one SQLite file at once" in str(probe(tmp_path))


def test_locks_that_hang_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking_probe, "CHILD", "import time; time.sleep(60)")
    assert "gave no answer within 0.2 s" in str(probe(tmp_path, timeout_s=0.2))


def test_a_folder_that_cannot_be_used_is_a_problem(tmp_path: Path) -> None:
    found = probe(tmp_path / "missing")
    assert not found.is_reliable
    assert "cannot be made" in str(found)


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    here = str(tmp_path.resolve()).replace(" ", "\\040")
    mounts = f"/dev/a / ext4 rw 0 0\nserver:/x {here} nfs4 rw 0 0\nserver:/y {here}2 cifs rw 0 0\n"
    assert file_system(tmp_path / "run", mounts) == "nfs4"
    assert file_system(Path("/"), mounts) == "ext4"
    assert LockingProbe(tmp_path, "nfs4").is_network
    assert not LockingProbe(tmp_path, "ext4").is_network
    stat = subprocess.run(
        ["stat", "-f", "-c", "%T", "/proc"], capture_output=True, text=True, check=True
    )
    assert file_system(Path("/proc/1")) == stat.stdout.strip() == "proc"

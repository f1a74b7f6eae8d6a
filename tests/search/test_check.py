"""`check_run` has a line for whatever damages the database of a search, and no exception."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from gasearch.run.folder import RunFolder
from gasearch.search.check import check_run
from gasearch.search.session import Session
from gasearch.store.errors import StoreError


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_run):
    """A small search that has ended."""
    folder = make_run(tmp_path_factory.mktemp("run"), budget=8)
    Session(RunFolder(folder)).run()
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def lines_of(folder: Path, **options: bool) -> list[str]:
    """Return what the command would print."""
    try:
        return [str(problem) for problem in check_run(RunFolder(folder), **options)]
    except StoreError as error:
        return [str(error)]


def test_a_whole_run_has_no_problems(finished):
    assert lines_of(finished, replay=True, rejudge=True) == []


def test_flipped_bytes_are_lines_and_no_exceptions(copy):
    rng = np.random.default_rng(160)
    content = (copy / "search.db").read_bytes()
    n_found = 0
    for number in range(60):
        damaged = bytearray(content)
        place = int(rng.integers(len(content)))
        if number % 2:
            damaged[place] ^= 1 << int(rng.integers(8))
        else:
            damaged[place] = int(rng.integers(256))
        (copy / "search.db").write_bytes(damaged)
        lines = lines_of(copy)
        assert all("\n" not in line for line in lines)
        n_found += bool(lines)
        for backup in copy.glob("search-schema-*.db"):
            backup.unlink()
    assert n_found > 10


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE run SET host = CAST(X'7b22ff' AS TEXT)",
        "UPDATE run SET host = '{}'",
        "UPDATE run SET settings = '{'",
        "UPDATE run SET versions = '3'",
        "UPDATE level SET probe_energies = '4'",
        "UPDATE level SET name = CAST(X'ff' AS TEXT)",
        "UPDATE candidate SET composition = '../../x' WHERE id = 3",
        "UPDATE candidate SET fingerprint = CAST(X'ff' AS TEXT) WHERE id = 3",
        "UPDATE candidate SET occupation = X'09' WHERE id = 3",
        "UPDATE candidate SET details = '[' WHERE id = 3",
        "UPDATE candidate SET x = 'none' WHERE id = 3",
        "UPDATE evaluation SET verdict = 'good' WHERE id = 3",
        "UPDATE evaluation SET energy = X'00' WHERE id = 3",
        "UPDATE structure SET numbers = X'00' WHERE id = 3",
        "UPDATE structure SET sha256 = '[]' WHERE id = 3",
        "DELETE FROM run",
        "DELETE FROM structure WHERE id = 0",
    ],
)
def test_values_that_cannot_be_read_are_lines(copy, change):
    database = sqlite3.connect(copy / "search.db")
    database.execute("PRAGMA ignore_check_constraints = ON")
    assert database.execute(change).rowcount > 0
    database.commit()
    database.close()
    lines = lines_of(copy, replay=True, rejudge=True)
    assert lines
    assert all("\n" not in line for line in lines)

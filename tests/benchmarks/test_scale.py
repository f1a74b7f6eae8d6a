"""The scale benchmark: small cases of it run, and its tables say what they measured."""

import json
import subprocess
import sys

import pytest
from places import BENCHMARKS


def measured(*words):
    command = [sys.executable, str(BENCHMARKS / "scale.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def tables():
    """The function that makes tables, imported as the script has it."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from scale import tables
    finally:
        sys.path.remove(str(BENCHMARKS))
    return tables


def test_sleeping_workers_are_kept_busy_and_none_is_counted_twice():
    (row,) = measured("busy", 4, 8, "sqlite", 2, 0.1, "--warm-up", 1)
    assert 0.3 < row["busy_share"] <= 1.05
    assert row["candidates_per_s"] == pytest.approx(row["busy_share"] * 4 / 0.1)
    assert row["candidates"] > 20


def test_growth_goes_on_from_synthetic_candidates(tables):
    rows = measured("growth", "300,900", "--window", 128)
    assert [row["candidates"] for row in rows] == [300, 900]
    assert [row["window"] for row in rows] == [128, 128]
    assert all(row["ms_per_candidate"] > 0 for row in rows)
    assert rows[1]["file_MB"] > rows[0]["file_MB"]
    document = {"machine": {"cores": 2}, "busy": [], "alone": [], "growth": rows}
    assert "| 900 |" in tables(document)

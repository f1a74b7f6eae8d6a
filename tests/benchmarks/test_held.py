"""What the benchmarks of holds make of their raw rows."""

import importlib
import json
import sys

import pytest
from places import BENCHMARKS


@pytest.fixture(scope="module")
def held_minima():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("held_minima")
    del sys.modules["held_minima"]


def test_the_table_begins_with_its_nine_minima(held_minima):
    rows = held_minima.tabulated()
    assert len(rows) == 874
    assert [row["x"] for row in rows[:9]] == [n / 8 for n in range(9)]
    assert {row["rank"] for row in rows[:9]} == {1}
    half = [row["energy"] for row in rows if row["x"] == 0.5]
    assert half == sorted(half)


def test_the_rank_of_a_minimum_is_among_what_kept_its_order(held_minima, tmp_path):
    half = [row for row in held_minima.tabulated() if row["x"] == 0.5][:4]
    energies, verdicts = (-5.0, -7.0, -6.0, -9.0), ("ok", "ok", "ok", "order_lost")
    lines = [
        {
            "fingerprint": row["fingerprint"],
            "energy": energy,
            "penalty": 0.002,
            "verdict": verdict,
            "n_calls": 10,
        }
        for row, energy, verdict in zip(half, energies, verdicts, strict=True)
    ]
    path = tmp_path / "minima-moments.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = held_minima.ranks(path)
    (row,) = found["by_x"]
    assert (row["relaxed"], row["kept"], row["has_minimum"]) == (4, 3, True)
    assert (row["rank_of_minimum"], row["rank_of_lowest"]) == (3, 2)
    assert row["above_lowest_meV_per_fu"] == pytest.approx(1000 * 2 / 8)
    assert row["kendall_tau"] == pytest.approx(-1 / 3)
    assert found["residual_meV_max"] == pytest.approx(2.0)
    assert "| 0.5 | 3 of 4 | 3 | 250.0 | 2 | -0.33 |" in held_minima.page({"moments": found})

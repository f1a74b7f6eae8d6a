"""The scripts behind the claim: what they read, rank and summarise."""

import importlib
import sys

import numpy as np
import pytest
from places import BENCHMARKS


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in ("charge_order", "strain", "machine"):
        sys.modules.pop(name, None)


def row(name, energy, dft, kind="one model", rattle=0, bonds=(2.2, 2.08), moments=(3.9, 4.3)):
    return {
        "name": name,
        "kind": kind,
        "fold": 0,
        "x": 0.5,
        "working_ions": "0101",
        "rattle": rattle,
        "energy": energy,
        "dft": dft,
        "labels": [2, 3],
        "bonds": list(bonds),
        "moments": list(moments),
        "verdict": "ok",
        "converged": True,
        "n_calls": 10,
    }


def test_an_order_counts_as_kept_only_where_every_site_agrees(bench):
    script = bench("charge_order")
    kept = script._read(row("a", 0, 0))
    melted = script._read(row("a", 0, 0, bonds=(2.15, 2.15), moments=(4.0, 4.0)))
    swapped = script._read(row("a", 0, 0, bonds=(2.08, 2.2), moments=(4.3, 3.9)))
    assert (kept["kept_by_bonds"], kept["kept_by_moments"]) == (True, True)
    for lost in (melted, swapped):
        assert (lost["kept_by_bonds"], lost["kept_by_moments"]) == (False, False)


def test_ranks_are_those_of_mean_energies_and_ties_count_nothing(bench):
    script = bench("charge_order")
    true = {"a": 0.0, "b": 0.1, "c": 0.3}
    found = [row(n, 2 * e + 0.01 * k, e, rattle=k) for n, e in true.items() for k in (0, 1)]
    assert script.ranking(found) == pytest.approx(1.0)
    assert script.ranking([{**one, "energy": -one["energy"]} for one in found]) == -1.0
    assert script.ranking([{**one, "energy": 5.0} for one in found]) is None  # all alike
    assert script.span(found) == pytest.approx(600)
    assert script.span([{**one, "energy": 5.0} for one in found]) == 0


def test_every_mixed_decoration_is_relaxed_by_a_model_that_has_not_seen_it(bench):
    script = bench("charge_order")
    starts = list(script.starts(4))
    frames = script.read_frames([script.DATA]).frames
    folds = script.fold_names(frames, 5)
    unseen = [start for start in starts if start.kind == "unseen"]
    assert len(unseen) == 14
    assert all(start.name in folds[start.fold] for start in unseen)
    assert len({start.decoration.fingerprint for start in unseen}) == 14
    sodium = {}
    for start in (start for start in starts if start.kind == "one model"):
        first = start.decoration.to_atoms()
        sodium.setdefault(len(first[first.symbols == "Na"]), []).append(start)
    orders = {
        start.decoration.on(start.decoration.host.sublattices[0]).tobytes() for start in sodium[2]
    }
    assert len(orders) == 3  # ten charge orders share three orders of two Na


def test_the_minimum_of_a_scan_is_that_of_a_parabola(bench):
    script = bench("strain")
    volumes = np.linspace(300, 360, 13)
    assert script._minimum(volumes, 1e-4 * (volumes - 337.3) ** 2) == pytest.approx(337.3)

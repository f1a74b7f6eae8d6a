"""What is relaxed a second time: the same few, whether all results are read or only the lowest."""

import pytest

from gasearch.analysis.hull import formation_hull
from gasearch.crystal.io.hosts import host_from_json
from gasearch.run.folder import RunFolder
from gasearch.search import near_hull as refinement
from gasearch.search.near_hull import near_hull
from gasearch.search.session import Session
from gasearch.store.population_store import PopulationStore
from gasearch.testing.store import LEVEL, example_run


@pytest.fixture(scope="module")
def searched(tmp_path_factory, make_run):
    """A search of 60 decorations in a cell of nine compositions, none relaxed tightly."""
    relax = {"tight_window_per_fu": 0.0, "rattle": 0.0}
    folder = make_run(tmp_path_factory.mktemp("run"), supercell=(1, 2, 1), budget=60, relax=relax)
    Session(RunFolder(folder)).run()
    return folder


def by_all_results(store, x_range, window):
    rows = store.evaluations("ok")
    energies = [row.energy for row in rows]
    hull = formation_hull([r.x for r in rows], energies, store.run.n_formula_units, x_range)
    tried = store.asked_for("tight")
    above = zip(rows, hull.above_hull_per_fu, strict=True)
    return sorted(
        r.candidate for r, height in above if height <= window if r.candidate not in tried
    )


@pytest.mark.parametrize("first", [1, 16])
def test_they_are_those_near_the_hull_of_all_results(searched, monkeypatch, first):
    monkeypatch.setattr(refinement, "_FIRST", first)
    sizes = []
    with RunFolder(searched).open_store() as store:
        x_range = host_from_json(store.run.host).x_range
        for window in (-1.0, 0.0, 0.005, 0.02, 0.05, 5.0):
            found = near_hull(store, x_range, window)
            assert found == by_all_results(store, x_range, window)
            sizes.append(len(found))
    assert sizes == sorted(sizes)
    assert len(set(sizes)) >= 3, sizes


def test_without_both_ends_there_are_none(tmp_path):
    with PopulationStore.create(tmp_path / "search.db", example_run(), LEVEL) as store:
        assert near_hull(store, (0.0, 1.0), 1.0) == []

"""One hull of several run folders, and the history of one."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gasearch.analysis.findings import Findings
from gasearch.analysis.hull import formation_hull
from gasearch.analysis.hull_history import hull_history
from gasearch.analysis.joint_hull import cell_name, joint_hull, refuse_other_level
from gasearch.analysis.polymorphs import DifferentRunsError
from gasearch.analysis.voltage import NoMetalError, metal_of
from gasearch.errors import UsageError
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store.dft_jobs import DftRecord, add_level, put_job
from gasearch.store.dft_jobs import record as dft_record
from gasearch.testing import toy_host
from gasearch.testing.store import create, fill


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_run):
    """Two cells of one host at one level: 1x1x1 whole, and 2/3 with its ends in 1x3x1."""
    folder = tmp_path_factory.mktemp("runs")
    relax = {"rattle": 0.0}
    make_run(folder / "small", budget=16, relax=relax)
    search = {"x": ["2/3"]}
    make_run(folder / "long", supercell=(1, 3, 1), budget=12, search=search, relax=relax)
    for name in ("small", "long"):
        Session(RunFolder(folder / name)).run()
    return folder


class TestJoined:
    def test_one_folder_is_what_the_run_itself_says(self, runs):
        hull = joint_hull([runs / "small"])
        with RunFolder(runs / "small").open_store() as store:
            rows = Findings(store).ranked()
        names = ("id", "x", "energy_eV", "formation_energy_eV_per_fu", "above_hull_eV_per_fu")
        for point, row in zip(hull.points, rows, strict=True):
            for name in names:
                assert getattr(point, name) == pytest.approx(getattr(row, name), abs=1e-12)
            assert point.on_hull is row.on_hull
        assert {(p.run, p.cell) for p in hull.points} == {(str(runs / "small"), "1x1x1")}

    def test_two_cells_are_compared_per_formula_unit(self, runs):
        folders = [runs / "small", runs / "long"]
        hull = joint_hull(folders)
        assert len(hull.points) == 28
        assert {p.cell for p in hull.points} == {"1x1x1", "1x3x1"}
        assert {p.x for p in hull.points if p.cell == "1x3x1"} == {0, 2 / 3, 1}
        expected = formation_hull(
            [p.x for p in hull.points],
            [p.energy_eV / {"1x1x1": 4, "1x3x1": 12}[p.cell] for p in hull.points],
            1,
            (0, 1),
        )
        found = [p.above_hull_eV_per_fu for p in hull.points]
        np.testing.assert_allclose(found, expected.above_hull_per_fu, atol=1e-12)
        assert [p.x for p in hull.vertices()] == sorted({p.x for p in hull.points if p.on_hull})

    def test_an_end_may_come_from_either_run(self, runs):
        """The same crystal in another cell has the same energy per formula unit."""
        hull = joint_hull([runs / "small", runs / "long"])
        for x in (0, 1):
            ends = [p.energy_eV_per_fu for p in hull.points if p.x == x]
            assert len(ends) == 2
            assert ends[0] == pytest.approx(ends[1], abs=1e-6)

    def test_the_order_of_the_folders_changes_no_energy(self, runs):
        places = [
            {(p.run, p.id): p.above_hull_eV_per_fu for p in joint_hull(folders).points}
            for folders in ([runs / "small", runs / "long"], [runs / "long", runs / "small"])
        ]
        assert places[0] == pytest.approx(places[1], abs=1e-12)

    def test_another_level_is_refused_and_both_are_named(self, runs, make_run, tmp_path):
        folder = make_run(tmp_path / "other", "./toy.py:Blind", budget=2)
        Session(RunFolder(folder)).run()
        with pytest.raises(DifferentRunsError) as refused:
            joint_hull([runs / "small", folder])
        (line,) = str(refused.value).splitlines()
        assert "levels of theory differ: ./toy.py:LabelEnergy-" in line
        assert "./toy.py:Blind-" in line
        assert str(folder) in line

    @pytest.mark.parametrize("structure", ["lifepo4-olivine", "nafepo4-olivine"])
    def test_another_host_is_refused_and_both_are_named(self, runs, make_run, tmp_path, structure):
        own = {"structure": structure, "supercell": [1, 1, 1]}
        if structure == "nafepo4-olivine":
            own["symprec"] = 0.02
        folder = make_run(tmp_path / "other", budget=2, host=own)
        Session(RunFolder(folder)).run()
        with pytest.raises(DifferentRunsError) as refused:
            joint_hull([runs / "small", folder])
        (line,) = str(refused.value).splitlines()
        if structure == "nafepo4-olivine":
            assert "hosts differ: nafepo4-olivine and nafepo4-olivine with another symprec" in line
        else:
            assert (
                "compositions differ: NaFePO4 at x = 1 (nafepo4-olivine) and LiFePO4 at x = 1 "
                "(lifepo4-olivine)"
            ) in line

    def test_a_folder_that_is_named_twice_is_refused(self, runs):
        twice = [runs / "small", Path(f"{runs}/long/../small")]
        with pytest.raises(UsageError, match="named twice"):
            joint_hull(twice)

    def test_a_level_that_is_not_there_is_refused(self, runs):
        with pytest.raises(UsageError, match=r"this run has the level './toy\.py:LabelEnergy"):
            joint_hull([runs / "small"], "pbe")

    def test_a_level_of_dft_has_a_hull_of_its_own(self, runs, tmp_path):
        copy = RunFolder(shutil.copytree(runs / "small", tmp_path / "run"))
        with copy.open_store(read_only=False) as store:
            add_level(store, "gpaw-pbe", "gpaw", {"cutoff_eV": 450})
            rows = [row for row in store.evaluations() if row.x in (0, 0.5, 1)]
            for n, row in enumerate(rows):
                put_job(store, row.candidate, "gpaw-pbe", "gpaw", f"dft/{n}", "prepared")
                energy = {0: -100.0, 0.5: -111.0 + 0.1 * n, 1: -120.0}[row.x]
                verdict = "unconverged" if n == 1 else "ok"
                relaxed = dataclasses.replace(
                    store.relaxed(row.candidate), energy=energy, verdict=verdict
                )
                became = store.proposal(row.candidate)
                dft_record(store, DftRecord(f"dft/{n}", "kept", "", became, relaxed, {}))
        hull = joint_hull([copy.path], "gpaw-pbe")
        assert hull.level.name == "gpaw-pbe"
        assert len(hull.points) == 11
        middle = next(p for p in hull.points if p.x == 0.5)
        assert middle.id == rows[2].candidate
        assert middle.formation_energy_eV_per_fu == pytest.approx((-110.8 + 110) / 4)
        own = joint_hull([copy.path])
        assert own.level.name.startswith("./toy.py:LabelEnergy-")
        assert [p.energy_eV for p in own.points] == [
            p.energy_eV for p in joint_hull([runs / "small"]).points
        ]
        with pytest.raises(UsageError, match=r"this run has the levels .*, 'gpaw-pbe'\."):
            joint_hull([copy.path], "gpaw")
        with pytest.raises(DifferentRunsError, match="levels of theory differ"):
            refuse_other_level(own.members[0], hull.members[0])
        with pytest.raises(NoMetalError, match="Na metal at the level 'gpaw-pbe' with"):
            metal_of(hull.members[0])
        with copy.open_store() as store:
            found = [m.vertices for m in hull_history(store)]
        with RunFolder(runs / "small").open_store() as store:
            assert found == [m.vertices for m in hull_history(store)]

    def test_without_an_end_all_points_are_there_and_no_hull(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", budget=1)
        Session(RunFolder(folder)).run()
        hull = joint_hull([folder])
        assert [p.formation_energy_eV_per_fu for p in hull.points] == [None]
        assert len(hull.missing_ends()) == 1
        assert not hull.points[0].on_hull

    def test_only_valid_candidates_count(self, tmp_path, make_run):
        options = {"budget": 16, "relax": {"max_calls": 5}}
        folder = make_run(tmp_path / "run", "./toy.py:Raising", **options)
        Session(RunFolder(folder)).run()
        assert {p.x for p in joint_hull([folder]).points} == {0, 0.25, 0.5, 1}

    def test_names_of_cells(self):
        assert cell_name(toy_host(supercell=(2, 2, 1))) == "2x2x1"
        assert cell_name(toy_host(supercell=((1, 1, 0), (-1, 1, 0), (0, 0, 1)))) == (
            "(1 1 0) (-1 1 0) (0 0 1)"
        )


class TestHistory:
    def test_it_comes_down_to_the_hull_of_now(self, runs):
        with RunFolder(runs / "small").open_store() as store:
            history = hull_history(store, every=3)
        assert [moment.n_candidates for moment in history] == [3, 6, 9, 12, 15, 16]
        found = [(p.x, p.energy_eV_per_fu) for p in joint_hull([runs / "small"]).vertices()]
        np.testing.assert_allclose(history[-1].vertices, found)
        x = np.linspace(0, 1, 9)
        lines = [np.interp(x, *zip(*m.vertices, strict=True)) for m in history if len(m.vertices)]
        for before, after in itertools.pairwise(lines):
            assert (after <= before + 1e-12).all()

    def test_each_moment_is_the_hull_of_the_results_until_then(self, runs):
        with RunFolder(runs / "small").open_store() as store:
            history = hull_history(store, every=5)
            outcomes = store.outcomes()
            x = {row.candidate: row.x for row in store.evaluations(verdict=None)}
        known = {}
        for outcome in outcomes[:10]:
            at = x[outcome.candidate]
            known[at] = min(known.get(at, np.inf), outcome.energy / 4)
        assert history[1].n_candidates == 10
        for at, energy in history[1].vertices:
            assert energy <= known[at] + 1e-12

    def test_tighter_relaxations_count_and_failures_do_not(self, tmp_path):
        with create(tmp_path / "search.db") as store:
            fill(store, 24)
            history = hull_history(store, every=10)
            rows = store.evaluations(verdict="ok")
        assert [moment.n_candidates for moment in history] == [10, 20, 24]
        lowest = {}
        for row in rows:
            lowest[row.x] = min(lowest.get(row.x, np.inf), row.energy)
        for x, energy in history[-1].vertices:
            assert energy == lowest[x]
        assert history[-1].vertices[0][1] == lowest[0]

    def test_nothing_searched_has_no_history(self, tmp_path):
        with create(tmp_path / "search.db") as store:
            assert hull_history(store) == []
            with pytest.raises(UsageError, match="--every 0"):
                hull_history(store, every=0)

    def test_it_is_read_from_the_file_alone(self, runs, tmp_path):
        copy = tmp_path / "copy"
        copy.mkdir()
        shutil.copy(runs / "small" / "search.db", copy)
        with RunFolder(copy).open_store() as store:
            found = [m.vertices for m in hull_history(store, every=4)]
        with RunFolder(runs / "small").open_store() as store:
            assert json.dumps(found) == json.dumps(
                [m.vertices for m in hull_history(store, every=4)]
            )

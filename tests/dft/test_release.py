"""Held candidates relaxed on without their hold."""

import shutil
from dataclasses import replace

import pytest
from command_line import run_here as gasearch

from gasearch.analysis.findings import Findings
from gasearch.analysis.joint_hull import joint_hull
from gasearch.dft.release import NoHullToReleaseError, NotHeldError, release, released
from gasearch.display.tables import RELEASED, notes
from gasearch.relax.batched import relaxer
from gasearch.run.folder import RunFolder
from gasearch.search.check import check_run
from gasearch.search.session import Session
from gasearch.store.dft_jobs import dft_levels

HELD = {
    "potential": "chgnet",
    "potential_keys": {"hold": "moments"},
    "relax": {"fmax": 0.1, "smax": 0.03, "tight_fmax": 0.1},
    "search": {"x": [0.75]},
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory, make_run):
    """The ends and both orders of x = 3/4, which CHGNet alone lets go."""
    folder = make_run(tmp_path_factory.mktemp("held") / "run", budget=4, **HELD)
    Session(RunFolder(folder)).run()
    return folder


@pytest.fixture(scope="module")
def freed(searched, tmp_path_factory):
    """The same run, its hull released, with what the release said."""
    folder = RunFolder(shutil.copytree(searched, tmp_path_factory.mktemp("freed") / "run"))
    return folder, release(folder)


@pytest.fixture
def folder(searched, tmp_path):
    return RunFolder(shutil.copytree(searched, tmp_path / "run"))


def hull_of(folder):
    return [(p.id, p.energy_eV, p.above_hull_eV_per_fu) for p in joint_hull([folder.path]).points]


def test_ends_stay_and_an_order_that_only_the_hold_kept_is_gone(freed):
    _, found = freed
    low, middle, high = found.rows
    assert [row.order for row in found.rows] == ["kept", "delocalised", "kept"]
    assert (low.became_id, high.became_id) == (low.id, high.id)
    assert (middle.became, middle.verdict) == (None, "order_lost")
    assert middle.reason == "its sites look like 4 Fe2+, not like 3 Fe2+, 1 Fe3+"
    assert middle.penalty_eV > 1e-3
    fell = middle.held_energy_eV - middle.energy_eV
    assert fell > middle.penalty_eV
    assert middle.energy_change_eV_per_fu == pytest.approx(-fell / 4)


def test_it_stands_at_a_level_of_its_own_and_the_held_hull_is_as_it_was(freed, searched):
    folder, found = freed
    assert hull_of(folder) == hull_of(RunFolder(searched))
    assert " held by " in found.released_from
    assert " held by " not in found.level
    own = joint_hull([folder.path], found.level)
    assert [point.x for point in own.points] == [0.0, 1.0]
    assert RELEASED in notes(own)
    with folder.open_store() as store:
        assert dft_levels(store) == []
        counts = store.counts()
    with RunFolder(searched).open_store() as store:
        assert counts == store.counts()
    assert check_run(folder, replay=True, rejudge=True) == []


def test_what_was_released_stays_and_the_next_call_goes_on(freed):
    folder, found = freed
    again = []
    assert release(folder, observe=again.append) == found
    assert again == []
    (other,) = {1, 2, 3, 4} - {row.id for row in found.rows}
    release(folder, [other], observe=again.append)
    assert [row.id for row in again] == [other]
    with folder.open_store() as store:
        assert sorted(row.id for row in released(Findings(store)).rows) == [1, 2, 3, 4]


class Into:
    """A relaxer that turns every structure into the geometry of another candidate."""

    def __init__(self, other):
        self.other = other

    def __call__(self, *_, **__):
        return self

    def relax(self, starts):
        for number, atoms in starts:
            final = atoms.copy()
            final.set_cell(self.other.atoms.cell)
            final.positions = self.other.atoms.positions
            yield number, replace(self.other, atoms=final, energy=self.other.energy - 1)


def test_one_that_slides_into_another_order_is_named_by_it(folder, monkeypatch):
    with folder.open_store() as store:
        low, high = (row for row in store.evaluations() if row.x == 0.75)
        monkeypatch.setattr(relaxer, "BatchRelaxer", Into(store.relaxed(low.candidate)))
    (row,) = release(folder, [high.candidate]).rows
    assert (row.order, row.became, row.became_id) == ("moved", low.fingerprint, low.candidate)
    assert row.verdict == "order_lost"
    out = gasearch("release", folder.path, high.candidate).out
    assert f"slid to candidate {low.candidate} ({low.fingerprint})" in out
    assert "0 of 1 keep their order" in out


def test_the_command_prints_a_table_or_one_document(freed):
    folder, found = freed
    answer = gasearch("release", folder.path)
    assert "2 of 3 keep their order without the hold" in answer.out
    assert f"gasearch hull {folder.path} --level {found.level}" in answer.err
    document = gasearch("release", folder.path, "--json").json
    assert document["level"] == found.level
    assert [row["order"] for row in document["released"]] == ["kept", "delocalised", "kept"]
    assert gasearch("hull", folder.path, "--level", found.level, "--json").json["points"]


def test_the_report_tells_what_was_released(freed):
    from gasearch.report.collect import collect

    folder, found = freed
    (hull,) = (one for one in collect([folder.path]).sections if one.key == "hull")
    tables = {block.caption: block for block in hull.blocks if hasattr(block, "caption")}
    assert "held by (meV/cell)" in tables["Ground states"].columns
    (caption,) = (name for name in tables if found.level in name)
    assert len(tables[caption].rows) >= 3
    texts = [block.text for block in hull.blocks if hasattr(block, "is_warning")]
    assert any("1 of 3 ground states exist only while held" in text for text in texts)


def test_what_a_hold_still_pushes_teaches_nothing(freed, tmp_path):
    """Its frame is written with what is left, and left out by a training."""
    from gasearch.training.data.reading import read_frames

    folder, found = freed
    frames = tmp_path / "held.extxyz"
    gasearch("export", folder.path, "--output", frames)
    read = read_frames([frames])
    with folder.open_store() as store:
        pushed = sum(row.exists_only_while_held for row in Findings(store).ranked())
        n_relaxed = len(store.evaluations())
    assert pushed >= 1
    assert len(read.frames) == n_relaxed - pushed
    assert list(read.dropped.values()) == [pushed]
    assert "penalty" not in read.unread
    assert {frame.level for frame in read.frames} == {found.released_from}


def test_what_is_not_held_cannot_be_released(tmp_path, make_run):
    folder = make_run(tmp_path / "run", budget=2)
    Session(RunFolder(folder)).run()
    with pytest.raises(NotHeldError):
        release(RunFolder(folder))
    assert "without a hold" in gasearch("release", folder).line


def test_without_a_hull_candidates_are_named(tmp_path, make_run):
    quick = {"fmax": 2.0, "smax": 0.5, "tight_fmax": 2.0}
    held = {"potential": "pmmcs", "potential_keys": {"hold": "bonds"}, "relax": quick}
    folder = RunFolder(make_run(tmp_path / "run", budget=2, **held))
    Session(folder).run()
    with pytest.raises(NoHullToReleaseError, match="only ranks"):
        release(folder)
    (row,) = release(folder, [1]).rows
    assert row.order == "kept"


def test_a_candidate_that_is_not_there(folder):
    assert "no relaxed candidate 99" in gasearch("release", folder.path, 99).line

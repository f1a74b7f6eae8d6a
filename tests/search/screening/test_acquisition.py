"""Acquisition functions: the default against known numbers, and one of the user's by name."""

from dataclasses import replace

import numpy as np
import pytest

from gasearch.errors import UsageError
from gasearch.plugins import PluginError
from gasearch.run.folder import RunFolder
from gasearch.search.check import check_run
from gasearch.search.resume import ChangedRunError
from gasearch.search.screening.acquisition import (
    AcquisitionError,
    expected_improvement,
    expected_lowering,
    load_acquisition,
)
from gasearch.search.session import Session

MINE = """
import numpy as np

SEEN = []

def lower_bound(mean, deviation, lowest, hull):
    SEEN.append((len(mean), lowest, hull))
    return 2 * deviation - mean

def broken(mean, deviation, lowest, hull):
    return mean[0] / 0

def too_short(mean, deviation, lowest, hull):
    return mean[:-1]

class Factory:
    pass
"""
MEAN, DEVIATION = np.array([-0.3, 0.0, 0.4]), np.array([0.2, 0.5, 0.3])


def test_the_expected_lowering_is_that_of_many_draws():
    draws = np.random.default_rng(0).normal(MEAN, DEVIATION, (400_000, 3))
    expected = np.maximum(0.1 - draws, 0).mean(axis=0)
    assert expected_lowering(MEAN, DEVIATION, 0.1) == pytest.approx(expected, abs=2e-3)


def test_without_doubt_the_expected_lowering_is_the_plain_one():
    found = expected_lowering(np.array([-1.0, 1.0]), np.zeros(2), 0.0)
    assert found == pytest.approx([1.0, 0.0])


def test_the_default_is_half_of_the_niche_and_half_of_the_hull():
    niche, hull = (expected_lowering(MEAN, DEVIATION, height) for height in (0.1, -0.2))
    assert expected_improvement(MEAN, DEVIATION, 0.1, None) == pytest.approx(niche)
    assert expected_improvement(MEAN, DEVIATION, 0.1, -0.2) == pytest.approx((niche + hull) / 2)
    first = expected_improvement(MEAN, DEVIATION, None, None)
    assert first == pytest.approx(DEVIATION - MEAN - 0.3)


@pytest.fixture
def folder(tmp_path, make_run):
    """A function that writes a run folder with acquisition functions of its own."""

    def write(**sections):
        path = make_run(tmp_path / "run", budget=24, supercell=(1, 2, 1), **sections)
        (path / "mine.py").write_text(MINE)
        return path

    return write


def run(path):
    session = Session(RunFolder(path))
    session.run()
    with RunFolder(path).open_store() as store:
        return session, store.proposals()


def test_a_run_names_a_function_of_its_own_and_keeps_it(folder):
    keys = {"relax": {"rattle": 0.0, "fmax": 9.0, "smax": 9.0}, "search": {"initial": 10}}
    path = folder(screening={"acquisition": "./mine.py:lower_bound"}, **keys)
    session, proposals = run(path)
    calls = session.acquisition.function.__globals__["SEEN"]
    assert calls
    assert any(hull is not None for _, _, hull in calls)
    assert "screened" in {p.operator for p in proposals}
    assert check_run(RunFolder(path), replay=True) == []
    with pytest.raises(ChangedRunError, match=r"screening\.acquisition .*lower_bound"):
        Session(RunFolder(folder(**keys))).run()


def test_a_run_from_before_the_key_had_the_default(folder):
    session = Session(RunFolder(folder(search={"budget": 1})))
    session.run()
    with session.folder.open_store() as store:
        run = store.run
    before = {k: v for k, v in run.settings.items() if k != "screening.acquisition"}
    before = replace(run, settings=before)
    session.refuse_changes(before)
    other = Session(RunFolder(folder(screening={"acquisition": "./mine.py:lower_bound"})))
    with pytest.raises(ChangedRunError, match="started with 'expected_improvement'"):
        other.refuse_changes(before)


@pytest.mark.parametrize(
    ("name", "error", "problem"),
    [
        ("expected_improvment", PluginError, "did you mean 'expected_improvement'"),
        ("./mine.py:lower", PluginError, "has no 'lower'"),
        ("./mine.py:Factory", UsageError, "is no function"),
    ],
)
def test_a_name_without_a_function_is_refused_at_once(folder, name, error, problem):
    with pytest.raises(error, match=problem):
        Session(RunFolder(folder(screening={"acquisition": name})))


@pytest.mark.parametrize(
    ("name", "problem"), [("broken", "raised"), ("too_short", "not a number for each of 3")]
)
def test_a_function_that_breaks_its_contract_is_named(folder, name, problem):
    function = load_acquisition(f"./mine.py:{name}", folder())
    with (
        pytest.raises(AcquisitionError, match=rf"'\./mine\.py:{name}' .*{problem}"),
        np.errstate(all="raise"),
    ):
        function(MEAN, DEVIATION, 0.0, None)

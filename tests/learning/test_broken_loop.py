"""Loops that are changed, damaged, or unfinished: nothing is silently wrong, nothing is lost."""

import json
import shutil
from dataclasses import replace

import ase.io
import pytest
from fake_dft import PotentialProgram, set_keys
from loops import NOTHING_BESIDE, compute_elsewhere, run, write_external, write_loop
from typer.testing import CliRunner

from gasearch.cli.app import app
from gasearch.dft.jobs.folders import job_folders
from gasearch.errors import UsageError
from gasearch.learning.expected.predictions import expectations, on_one_scale
from gasearch.learning.folder import DamagedRoundError, LearnFolder
from gasearch.learning.results import known_results
from gasearch.run.folder import RunFolder
from gasearch.store import dft_jobs

ONE = f"[rounds]\njobs = 3\nmost = 1\n{NOTHING_BESIDE}"


@pytest.fixture(scope="module", autouse=True)
def in_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gasearch.execution.jobs.start_local_job", PotentialProgram)
        yield


@pytest.fixture(scope="module")
def one_round(tmp_path_factory, make_run):
    """A loop of one round; tests work on copies of it."""
    place = write_loop(make_run, tmp_path_factory.mktemp("one") / "loop", ONE)
    assert run(place)[0] == "rounds"
    return place


@pytest.fixture
def copy(one_round, tmp_path):
    shutil.copytree(one_round.path, tmp_path / "moved")
    return LearnFolder(tmp_path / "moved")


def change(place, old, new, file="learn.toml"):
    path = place.path / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", ["plan.json", "round.json"])
def test_a_file_of_a_round_that_lacks_something_is_named(copy, name):
    path = copy.path / "round-1" / name
    path.write_text("{}")
    with pytest.raises(DamagedRoundError, match=f"{name} cannot be used .it lacks .*level"):
        (copy.round(1).plan if name == "plan.json" else copy.round(1).result)()


def test_a_report_does_without_a_plan(copy):
    (copy.path / "round-1" / "plan.json").unlink()
    target = copy.path / "report.html"
    result = CliRunner().invoke(app, ["report", str(copy.path), "--output", str(target)])
    assert result.exit_code == 0, result.output


def test_dft_settings_that_changed_within_a_round_are_refused(copy):
    """Results of another level would be computed, and left out of all that follows."""
    (copy.path / "round-1" / "round.json").unlink()
    run_file = copy.path / "round-1" / "1x1x1" / "run.toml"
    run_file.write_text(run_file.read_text().replace("toy.py:Oracle", "toy.py:LabelEnergy"))
    with pytest.raises(UsageError, match=r"has level potential-toy.py-LabelEnergy.*put .dft. of"):
        run(copy)


def test_another_crystal_in_a_later_round_is_refused(copy):
    change(copy, "most = 1", "most = 2")
    set_keys(copy.path, "host", min_site_distance=1.0)
    with pytest.raises(UsageError, match="another crystal needs a loop of its own"):
        run(copy)


def test_a_host_without_charge_order_is_refused(tmp_path, make_run):
    place = write_loop(make_run, tmp_path / "loop", ONE)
    change(place, "[host]", '[host]\ncharges = "delocalised"', "run.toml")
    with pytest.raises(UsageError, match="networks learn from neutral frames alone"):
        run(place)


def test_a_supercell_that_is_added_is_searched_in_the_next_round(copy):
    change(copy, "most = 1", "most = 2\nsupercells = [[1, 1, 1], [1, 1, 1], [1, 2, 1]]")
    change(copy, '"budget" = 16', '"budget" = 6', "run.toml")
    result = copy.round(1).result()
    document = {**result, "model": None, "searched_with": None}
    copy.round(1).result_file.write_text(json.dumps(document))
    ending, _ = run(copy)
    assert ending == "rounds"
    second = copy.round(2).result()
    assert second["runs"] == ["round-1/1x1x1", "round-2/1x2x1"]
    assert second["n_jobs"] == 3


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"painn"', '"pain"', "pain"),
        ("epochs = 3", "epoch = 3", "epoch"),
        ("[train]", '[train]\nstart = "./missing"', "there is no .*missing"),
        ("[rounds]", '[rounds]\ndata = ["missing.xyz"]', "missing.xyz"),
    ],
)
def test_what_training_needs_is_checked_before_a_search(tmp_path, make_run, old, new, problem):
    place = write_loop(make_run, tmp_path / "loop", ONE)
    change(place, old, new)
    with pytest.raises(UsageError, match=problem):
        run(place)
    assert not list(place.path.glob("round-1/*/search.db"))


def test_frames_of_another_level_are_refused_before_the_first_search(one_round, tmp_path, make_run):
    frames = ase.io.read(one_round.round(1).frames, index=":")
    for frame in frames:
        frame.info["level"] = "another"
    place = write_loop(make_run, tmp_path / "loop", ONE)
    ase.io.write(place.path / "frames.xyz", frames)
    change(place, "[rounds]", '[rounds]\ndata = ["frames.xyz"]')
    with pytest.raises(UsageError, match="its frames are of level another, and the DFT of this"):
        run(place)


def test_supercells_of_different_dft_levels_are_refused(tmp_path, make_run):
    """1x3x1 has another set of k-points than 1x1x1, in GPAW as it is by default."""
    place = write_loop(make_run, tmp_path / "loop", ONE)
    change(place, "[rounds]", "[rounds]\nsupercells = [[1, 1, 1], [1, 3, 1]]")
    change(place, '"code" = "potential"', '"code" = "gpaw"', "run.toml")
    with pytest.raises(UsageError, match=r"round-1/1x3x1: gpaw-.*energies of two levels make no"):
        run(place)


def test_a_loop_is_no_run(copy):
    for words in (["run"], ["status"], ["best"], ["dft", "status"]):
        result = CliRunner().invoke(app, [*words, str(copy.path)])
        assert "is a learning loop of several runs" in str(result.exception)
        assert "round-1/1x1x1" in str(result.exception)
    assert not (copy.path / "search.db").exists()


def test_each_run_on_a_server_has_a_schema_of_its_own(tmp_path, make_run):
    store = {"url": "postgresql+psycopg://me@localhost/db", "schema_name": "mine"}
    place = write_loop(make_run, tmp_path / "loop", ONE, store=store)
    made = place.make_run(place.path / "round-1", [1, 1, 1], lambda path: {})
    assert made.settings().store.url == store["url"]
    assert made.settings().store.schema_name == ""


def test_results_that_come_in_after_their_round_are_collected(tmp_path, make_run):
    place = write_external(make_run, tmp_path / "loop")
    change(place, "most = 1", "most = 2")
    run(place)
    first, second, late = job_folders(place.path / "round-1" / "1x1x1")
    compute_elsewhere(first)
    compute_elsewhere(second)
    ending, lines = run(place, go_on=True)
    assert ending == "rounds"
    assert "round 1: 2 left out of the frames: samples without an output" in lines
    assert late.status().state == "exported"
    (place.path / "round-2" / "round.json").unlink()
    compute_elsewhere(late)
    _, lines = run(place, go_on=True)
    assert late.status().state == "collected"
    assert any(line.startswith(late.path.name) for line in lines)


def test_runs_without_dft_of_their_own_are_on_the_scale_of_the_others(one_round):
    """Else a hull of two supercells would compare a potential's energies with those of DFT."""
    run_folder = one_round.path / "round-1" / "1x1x1"
    level = one_round.round(1).plan()["level"]
    own = expectations([RunFolder(run_folder)], one_round.path, level, correct=False)
    (name,) = own.hosts
    rows = list(own.candidates)
    other = [replace(row, run="other", dft_eV=None) for row in rows]
    hosts = {name: own.hosts[name], "other": own.hosts[name]}
    both, told = on_one_scale(hosts, {name: rows, "other": other})
    assert set(told) == {name}
    mine = {row.id: row.expected_eV for row in both[name]}
    for row in both["other"]:
        assert abs(row.expected_eV - mine[row.id]) < 1.0, row
        assert abs(row.expected_eV - row.energy_eV) > 1.0 or row.x == 0


def test_a_lower_result_of_another_job_is_no_result_of_the_same_geometry(copy):
    """A hole that moved to a candidate leaves it a result, but not at the geometry of its own."""
    folder = RunFolder(copy.path / "round-1" / "1x1x1")
    level = copy.round(1).plan()["level"]

    def results():
        rows = expectations([folder], copy.path, level, correct=False).candidates
        return {row.id: row.dft_eV for row in rows if row.dft_eV is not None}

    before = results()
    first, second = sorted(before)[:2]
    with folder.open_store(read_only=False) as store:
        job = next(row for row in dft_jobs.jobs(store) if row.candidate == second)
        relaxed = dft_jobs.dft_relaxed(store, first, level)
        lower = replace(relaxed, energy=relaxed.energy - 1)
        became = store.proposal(first)
        dft_jobs.record(store, dft_jobs.DftRecord(job.folder, "moved", "", became, lower, {}))
    assert results() == {n: e for n, e in before.items() if n not in (first, second)}
    known = known_results([folder], copy.path, level)
    assert min(one.energy_per_fu for one in known if one.id == first) == lower.energy / 4


def test_a_loop_whose_every_job_fails_says_so(tmp_path, make_run):
    place = write_loop(make_run, tmp_path / "loop", ONE)
    toy = place.path / "toy.py"
    toy.write_text(toy.read_text() + FAILING)
    change(place, "toy.py:Oracle", "toy.py:Failing", "run.toml")
    for _ in range(2):
        with pytest.raises(UsageError, match="there is nothing to learn from"):
            run(place)


FAILING = """

class Failing(Oracle):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        raise RuntimeError("no")
"""


def test_a_model_beside_run_toml_is_found_from_each_run(tmp_path, make_run):
    place = write_loop(make_run, tmp_path / "loop", ONE)
    (place.path / "my-model").mkdir()
    change(place, "./toy.py:LabelEnergy", "my-model", "run.toml")
    made = place.make_run(place.path / "round-1", [1, 1, 1], lambda path: {})
    assert made.settings().potential.name == "../../my-model"
    assert made.settings().dft.potential.name == "../../toy.py:Oracle"

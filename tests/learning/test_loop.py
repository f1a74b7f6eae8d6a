"""The whole loop with a potential in the place of DFT: rounds, kills, failures, late results."""

import json
import os
import signal
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from fake_dft import PotentialProgram
from loops import NOTHING_BESIDE, compute_elsewhere, run, write_external, write_loop
from typer.testing import CliRunner
from waited import wait_for

from gasearch.analysis.findings import read_run
from gasearch.cli.app import app
from gasearch.dft.jobs.folders import job_folders
from gasearch.learning.folder import runs_of
from gasearch.learning.summary import hull_error, learn_document, rows
from gasearch.report.chapters.learning import learning_section
from gasearch.report.material import opened
from gasearch.report.sections import Table
from gasearch.run.folder import RunFolder
from gasearch.store.promotions import promotions


def without_times(result):
    return {key: value for key, value in result.items() if not key.endswith("_s")}


@pytest.fixture(scope="module")
def in_process():
    """Programs of DFT jobs run in this process: at once, where torch is loaded already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gasearch.execution.jobs.start_local_job", Here)
        yield Here
        Here.moved = None


class Here(PotentialProgram):
    """With `moved`, in cells with so many Na the hole of the result is on another site."""

    moved = None

    def __init__(self, request):
        super().__init__(request)
        for name in ("result.traj", "relax.traj"):
            if self.moved is not None and (request.folder / name).exists():
                self._move(request.folder / name)

    def _move(self, result):
        atoms = ase.io.read(result)
        if np.count_nonzero(atoms.symbols == "Na") == self.moved:
            results, (hole,) = atoms.calc.results, np.flatnonzero(atoms.get_initial_charges() == 3)
            sites = np.flatnonzero(atoms.symbols == "Fe")
            distances = atoms.get_distances(hole, sites, mic=True)
            other = sites[np.argsort(distances)[1]]
            results["magmoms"][[hole, other]] = results["magmoms"][[other, hole]]
            ase.io.write(result, atoms)


LEARN = """
[rounds]
jobs = 2
most = 2
[geometries]
rattled = 1
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, make_run, in_process):
    place = write_loop(make_run, tmp_path_factory.mktemp("loop") / "loop", LEARN)
    ending, lines = run(place)
    return place, ending, lines


def test_two_rounds_end_with_what_they_found(undisturbed):
    place, ending, lines = undisturbed
    assert ending == "rounds"
    first, second = (one.result() for one in place.rounds())
    assert (first["n_jobs"], second["n_jobs"]) == (2, 2)
    assert (first["jobs"]["jobs"], second["jobs"]["jobs"]) == (2, 4)
    assert [m["x"] for m in first["hull"]][0 :: len(first["hull"]) - 1] == [0, 1]
    assert any("round 2 is over: 4 DFT jobs so far" in line for line in lines)
    assert first["agreement"]["cell_error"] == pytest.approx(0.015)  # nothing relaxes the cells
    table = rows(learn_document(place))
    assert [row[0] for row in table] == ["1", "2"]


def test_each_round_is_an_ordinary_run_folder(undisturbed):
    place, *_ = undisturbed
    run_folder = RunFolder(place.path / "round-1" / "1x1x1")
    with run_folder.open_store() as store:
        told = [(row.rule, row.reason) for row in promotions(store)]
    assert told[0] == ("learn lowest", "no. 1 from below at x = 0, 0.0 meV/f.u. above the hull")
    result = CliRunner().invoke(app, ["status", str(run_folder.path)])
    assert result.exit_code == 0, result.output


def test_frames_are_the_relaxed_ones_and_those_beside_them(undisturbed):
    place, *_ = undisturbed
    frames = ase.io.read(place.round(1).frames, index=":")
    tags = [frame.info["tag"].partition(":")[0] for frame in frames]
    assert tags.count("way50") == tags.count("rattle0") == 2
    assert tags.count("strain0+") == tags.count("strain0-") == 2
    assert all("decoration" in frame.info for frame in frames)
    later = ase.io.read(place.round(2).frames, index=":")
    assert len(later) > len(frames)
    assert all(one.frames.exists() for one in place.rounds())  # of the last one, too


def test_dft_is_what_was_asked_for_at_the_relaxed_geometry(undisturbed):
    """The energies of the hull are those of the toy, and its formation energies follow."""
    place, *_ = undisturbed
    plan = place.round(1).plan()
    (level,) = {plan["level"]}
    jobs = job_folders(place.path / "round-1" / "1x1x1")
    assert len(jobs) == 4
    assert {job.status().level for job in jobs} == {level}
    assert {job.status().charge_order for job in jobs} == {"kept"}


def test_the_report_of_a_loop_has_its_last_runs_and_its_learning_curve(undisturbed):
    place, *_ = undisturbed
    last = place.rounds()[-1].result()
    assert [path.relative_to(place.path).as_posix() for path in runs_of(place.path)] == last["runs"]
    with opened([place.path]) as material:
        assert [run.name for run in material.runs] == [str(place.path / n) for n in last["runs"]]
        section = learning_section(material)
    (numbers,) = section.numbers["learning"]
    assert [one["jobs"] for one in numbers["learning_curve"]] == [2, 4]
    table, chosen = (block for block in section.blocks if isinstance(block, Table))
    assert [row[2] for row in table.rows] == ["2", "4"]
    assert len(chosen.rows) == 4
    (chart,) = section.charts
    assert list(chart.series[-1].x) == [2, 4]
    assert chart.series[-1].y[-1] == 0


def test_ordinary_runs_are_no_loop(undisturbed):
    place, *_ = undisturbed
    run_path = place.path / "round-1" / "1x1x1"
    assert runs_of(run_path) == [run_path]
    with opened([run_path]) as material:
        assert learning_section(material).blocks[0].text.startswith("Nothing here")


def learn(place, *words):
    """Start `gasearch learn` as a process of its own."""
    command = [sys.executable, "-m", "gasearch", "learn", str(place.path), *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def killed(place, happened):
    """Start the loop, and kill it the hard way once something has happened."""
    process = learn(place)
    try:
        wait_for(lambda: happened() or process.poll() is not None, 120)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_killed_in_each_phase_it_ends_as_if_nothing_had_happened(undisturbed, tmp_path, make_run):
    expected, *_ = undisturbed
    place = write_loop(make_run, tmp_path / "loop", LEARN)
    run_path = place.path / "round-1" / "1x1x1"
    one = place.round(1)
    killed(place, lambda: (run_path / "search.db").exists())
    assert one.plan() is None
    killed(place, lambda: any(run_path.glob("dft/*/outcome.json")))
    assert not one.frames.exists()
    killed(place, lambda: (one.model / "training_state.safetensors").exists())
    assert one.result() is None
    process = learn(place)
    told, _ = process.communicate(timeout=240)
    assert process.returncode == 0, told
    for number in (1, 2):
        ours, theirs = place.round(number), expected.round(number)
        assert without_times(ours.result()) == without_times(theirs.result())
        assert without_times(ours.plan()) == without_times(theirs.plan())
    attempts = [job.status().attempt for job in job_folders(run_path)]
    assert len(attempts) == 4
    assert max(attempts) <= 2  # the kill came in the middle of two


def test_two_loops_in_one_folder_are_refused(undisturbed):
    from gasearch.store.opening import driver_lock

    place, *_ = undisturbed
    with driver_lock(place.path / "learn"):
        result = CliRunner().invoke(app, ["learn", str(place.path)])
    assert "already running here" in str(result.exception)
    shown = CliRunner().invoke(app, ["learn", str(place.path), "--status", "--json"])
    assert json.loads(shown.stdout)["learning_curve"][-1]["hull_error_per_fu"] == 0


def test_no_learning_folder_is_one_line(tmp_path):
    result = CliRunner().invoke(app, ["learn", str(tmp_path)])
    assert "gasearch init" in str(result.exception)
    assert "--learn" in str(result.exception)


def test_a_training_that_gets_worse_is_kept_out(tmp_path, make_run, in_process):
    """Weights that start at random and hardly learn: the potential of before stays."""
    learn_text = (
        "[rounds]\njobs = 4\nmost = 2\n"
        "[geometries]\nhalfway = 0\nstrained = 0\nrattled = 1\nswapped = 0\n"
    )
    place = write_loop(make_run, tmp_path / "loop", learn_text)
    text = (place.path / "learn.toml").read_text()
    (place.path / "learn.toml").write_text(text.replace("epochs = 3", "epochs = 1"))
    _, lines = run(place)
    first, second = (one.result() for one in place.rounds())
    assert first["training"]["is_kept"] is False
    assert first["model"] is None
    assert second["runs"] == first["runs"]
    assert any("it is kept out, and the potential of before stays" in line for line in lines)


def test_a_model_that_breaks_crystals_ends_the_loop_and_says_so(tmp_path, make_run, in_process):
    """It is better than a potential that ranks the wrong way round, and has no repulsion."""
    place = write_loop(make_run, tmp_path / "loop", LEARN, budget=6)
    run_file = place.path / "run.toml"
    run_file.write_text(run_file.read_text().replace("toy.py:LabelEnergy", "toy.py:Opposite"))
    ending, lines = run(place)
    (first,) = (one.result() for one in place.rounds())
    assert first["training"]["is_kept"]
    assert ending == "invalid"
    told = (
        "round 2: no candidate that round-1/model relaxed is valid; see why with: gasearch status"
    )
    assert any(line.startswith(told) for line in lines)
    result = CliRunner().invoke(app, ["learn", str(place.path)])
    assert result.exit_code == 0, result.output
    assert "remove the folder of this round" in " ".join(result.output.split())


def test_a_better_model_takes_over_and_its_committee_of_one_is_enough(
    tmp_path, make_run, in_process
):
    place = write_loop(make_run, tmp_path / "loop", LEARN)
    for name, old, new in (
        ("run.toml", "toy.py:LabelEnergy", "toy.py:Opposite"),
        ("run.toml", "[relax]", "[relax]\nfmax = 400.0\nsmax = 400.0"),  # before it breaks
        ("learn.toml", "epochs = 3", "epochs = 3, committee = 1"),
    ):
        text = (place.path / name).read_text()
        assert old in text
        (place.path / name).write_text(text.replace(old, new))
    run(place)
    first, second = (one.result() for one in place.rounds())
    assert first["training"]["is_kept"]
    assert second["searched_with"] == first["model"] == "round-1/model"
    card = json.loads((place.path / "round-1" / "model" / "model.json").read_text())
    assert len(card["committee"]["members"]) == 1
    with read_run(place.path / "round-2" / "1x1x1") as findings:
        found = findings.ranked()
        made_by = [findings.store.proposal(number).operator for number in range(1, 17)]
    assert found
    assert all(row.sigma_eV_per_fu > 0 and row.force_sigma_eV_per_A > 0 for row in found)
    assert made_by[:3] == ["end_member", "end_member", "seed"]  # the lowest of before come first


def test_failed_and_moved_jobs_stop_nothing(tmp_path, make_run, in_process):
    """One composition gives no result; in another the hole goes to another site."""
    place = write_loop(
        make_run, tmp_path / "loop", f"[rounds]\njobs = 5\nmost = 1\n{NOTHING_BESIDE}"
    )
    (place.path / "toy.py").write_text((place.path / "toy.py").read_text() + REFUSING)
    run_file = place.path / "run.toml"
    run_file.write_text(run_file.read_text().replace("toy.py:Oracle", "toy.py:Refusing"))
    in_process.moved = 3  # Na in the cell
    ending, lines = run(place)
    assert ending == "rounds"
    (one,) = place.rounds()
    counts = one.result()["jobs"]
    assert (counts["jobs"], counts["failed"], counts["moved"], counts["kept"]) == (5, 1, 1, 3)
    assert any("no convergence here" in line for line in lines)
    names = {frame.info["decoration"] for frame in ase.io.read(one.frames, index=":")}
    chosen = {row["decoration"] for row in one.plan()["chosen"]}
    assert len(names) == 4
    assert len(names & chosen) == 3
    known = [m["fingerprint"] for m in one.result()["hull"]]
    assert {"ff", "00"} <= set(known)


REFUSING = """

class Refusing(Oracle):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if np.count_nonzero(atoms.symbols == "Na") == 1:
            raise RuntimeError("no convergence here")
"""


class TestExternal:
    """Inputs are exported; results come in later."""

    def test_files_that_appear_later_are_collected(self, tmp_path, make_run):
        place = write_external(make_run, tmp_path / "loop")
        ending, lines = run(place)
        assert ending == "waiting"
        assert "waiting for 3 results" in lines[-1]
        jobs = job_folders(place.path / "round-1" / "1x1x1")
        assert len(jobs) == 3
        assert all((job.path / "sample-1").is_dir() for job in jobs)
        ending, lines = run(place)
        assert ending == "waiting"
        for job in jobs[:2]:
            compute_elsewhere(job)
        ending, lines = run(place)
        assert ending == "waiting"
        assert "waiting for 1 results" in lines[-1]
        ending, lines = run(place, go_on=True)
        assert ending == "rounds"
        assert place.round(1).result()["jobs"]["kept"] == 2


def test_the_error_of_a_hull_is_its_largest_deviation():
    def hull(*points):
        return [{"x": x, "formation_per_fu": e} for x, e in points]

    assert hull_error(hull((0, 0), (1, 0)), hull((0, 0), (0.5, -0.1), (1, 0))) == 0.1
    assert hull_error(hull((0, 0), (0.5, -0.1), (1, 0)), hull((0, 0), (1, 0))) == 0.1
    assert hull_error(hull((0, 0)), hull((0, 0), (1, 0))) is None
    assert hull_error(hull((0, 0), (0.25, -0.1), (1, 0)), hull((0, 0), (0.5, -0.1), (1, 0))) == (
        pytest.approx(0.05)
    )

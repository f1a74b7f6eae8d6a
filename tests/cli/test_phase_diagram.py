"""`gasearch phase-diagram` on small runs with a quick potential."""

import contextlib
import json
import shutil
import sqlite3
from dataclasses import replace

import pytest
from command_line import run_here

from gasearch.analysis.joint_hull import JointHull, joint_hull
from gasearch.phases.energies.training import worthless
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session

QUICK = (
    "--compositions",
    5,
    "--sweeps",
    8,
    "--cell",
    1,
    2,
    2,
    "--lowest",
    300,
    "--highest",
    600,
    "--pairs",
    6,
    "--triplets",
    4.2,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_run):
    """A searched run, all decorations of 1x1x1 and some of 1x2x1."""
    place = tmp_path_factory.mktemp("phases")
    for name, supercell, budget in (("small", (1, 1, 1), 16), ("large", (1, 2, 1), 40)):
        make_run(place / name, supercell=supercell, budget=budget, relax={"rattle": 0.0})
        Session(RunFolder(place / name)).run()
    return place


@pytest.fixture(scope="module")
def answer(folder):
    return run_here("phase-diagram", folder / "small", folder / "large", *QUICK)


def test_it_prints_quality_phases_and_orders_and_writes_figures(folder, answer):
    assert answer.status == 0, answer.err
    for text in ("each crystal, not seen", "orders of ground states", "ions and charges at 300 K"):
        assert text in answer.out
    place = folder / "small" / "phase-diagram"
    assert (place / "phase-diagram.png").read_bytes().startswith(b"\x89PNG")
    assert (place / "phase-diagram.pdf").read_bytes().startswith(b"%PDF")
    document = json.loads((place / "phase-diagram.json").read_text())
    assert [d["disorder"] for d in document["diagrams"]] == ["ions and charges", "ions", "charges"]
    at_300 = document["diagrams"][0]["temperatures"][-1]
    assert at_300["temperature_K"] == pytest.approx(300)
    assert [p["x"] for p in at_300["points"]] == [0, 0.25, 0.5, 0.75, 1]
    assert document["n_energies"] == 56
    # the entropy of charges lowers F: at 600 K by about kT ln 2 per formula unit at x = 1/2
    hot = [d["temperatures"][0]["points"] for d in document["diagrams"]]
    mixing = [p[2]["free_energy_eV_per_fu"] - p[2]["energy_eV_per_fu"] for p in hot]
    assert mixing[0] < mixing[1] - 0.01


def test_a_second_call_walks_no_more_and_a_lost_walk_comes_back_the_same(folder, answer):
    place = folder / "small" / "phase-diagram"
    before = json.loads((place / "phase-diagram.json").read_text())
    walks = sorted(place.glob("walks/*/*.json"))
    times = [path.stat().st_mtime_ns for path in walks]
    lost = place / "walks" / "1x2x2" / "ions-cool-8.json"
    text = lost.read_text()
    lost.unlink()
    again = run_here("phase-diagram", folder / "small", folder / "large", *QUICK, "--json")
    assert again.json["diagrams"] == before["diagrams"]
    assert lost.read_text() == text
    untouched = [
        path.stat().st_mtime_ns == time
        for path, time in zip(walks, times, strict=True)
        if path != lost
    ]
    assert all(untouched)


def test_the_report_shows_it(folder, answer, tmp_path):
    page = tmp_path / "report.html"
    told = run_here("report", folder / "small", folder / "large", "--output", page, "--json")
    (found,) = told.json["phase_diagrams"]
    assert [one["disorder"] for one in found["diagrams"]] == ["ions and charges", "ions", "charges"]
    assert "Phases over temperature and composition" in page.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--temperature", "0"), "--temperature 0: expected kelvins above 0"),
        (("--lowest", "-5"), "--lowest -5: expected kelvins above 0"),
        (("--lowest", "900", "--highest", "300"), "must lie below the highest"),
        (("--temperature", "2000"), "expected a value from --lowest"),
        (("--compositions", "2"), "expected 3 or more"),
        (("--cell", "0", "1", "1"), "every repeat must be 1 or more"),
        (("--pairs", "-1"), "distances in Å"),
    ],
)
def test_wrong_options_get_one_line(folder, words, told):
    wrong = run_here("phase-diagram", folder / "small", folder / "large", *words)
    assert wrong.status == 2
    assert told in wrong.line


def test_too_little_and_what_cannot_be_mixed_get_one_line(folder, searched):
    alone = run_here("phase-diagram", folder / "small")
    assert alone.status == 1
    assert "16 valid energies at 5 compositions: at least 20 at 3 are needed" in alone.line
    assert alone.line.endswith("in a larger supercell, or take --anyway.")
    ranks = searched("ranks", potential="pmmcs", budget=8, relax={"fmax": 5.0, "smax": 5.0})
    mixed = run_here("phase-diagram", folder / "large", ranks)
    assert mixed.status == 2
    assert "levels of theory differ" in mixed.line
    few = searched("few", budget=3)
    nothing = run_here("phase-diagram", few, "--anyway")
    assert nothing.line.endswith("with a larger budget or in a larger supercell.")


@pytest.fixture(scope="module")
def searched(tmp_path_factory, make_run):
    """A function that searches in a folder of its own, and returns it."""

    def search(name, **settings):
        place = make_run(tmp_path_factory.mktemp(name) / name, **settings)
        Session(RunFolder(place)).run()
        return place

    return search


def test_one_composition_and_a_missing_end_get_one_line(searched):
    half = searched("half", potential="./toy.py:NoEnds", search={"x": ["1/2"]}, budget=12)
    one = run_here("phase-diagram", half, "--anyway")
    assert one.status == 1
    assert "no phase diagram from 10 valid energies at 1 composition: at least 20" in one.line
    part = searched("part", potential="./toy.py:NoFullEnd", supercell=(1, 2, 1), budget=24)
    end = run_here("phase-diagram", part, "--anyway")
    assert end.status == 1
    assert "no candidate with verdict ok at x = 1" in end.line


@pytest.mark.parametrize(
    ("host", "told"),
    [
        (("na3v2p3o12-nasicon", (1, 1, 1)), "it has sites that exclude each other"),
        (("nacoo2-p2", (2, 2, 1)), "it has no charge order"),
        (("nanfm-o3", (1, 1, 1)), "with free elements (Ni, Fe, Mn)"),
        (("ceo2-fluorite", (1, 1, 1)), "it has sites that hold O2-, vacancy"),
        (("fe3o4-magnetite", (1, 1, 1)), "it has no working ion"),
    ],
)
def test_hosts_that_are_not_supported_get_one_line(searched, host, told):
    structure, supercell = host
    place = searched(structure, host={"structure": structure, "supercell": supercell}, budget=2)
    refused = run_here("phase-diagram", place)
    assert refused.status == 2
    assert f"no phase diagram of {structure}" in refused.line
    assert told in refused.line


def test_energies_that_say_nothing_across_x_are_refused(folder, searched, tmp_path):
    """Ranks, an untrained potential under a hold, and one that sees elements only."""
    quick = {"fmax": 5.0, "smax": 5.0}
    ranks = run_here("phase-diagram", searched("ranks", potential="pmmcs", budget=2, relax=quick))
    assert ranks.status == 1
    assert " only ranks orders at one x: a Hamiltonian of it is not worth a diagram;" in ranks.line
    blind = run_here("phase-diagram", searched("blind", potential="./toy.py:Blind", budget=2))
    assert "all charge orders of it cost the same: a Hamiltonian of it is not worth" in blind.line
    held = shutil.copytree(folder / "large", tmp_path / "held")
    with contextlib.closing(sqlite3.connect(held / "search.db")) as database, database:
        database.execute("UPDATE level SET name = 'chgnet held by moments-12345678'")
    refused = run_here("phase-diagram", held)
    assert refused.status == 1
    assert refused.line == (
        "gasearch: chgnet held by moments-12345678 was not trained on this host: its mixing "
        "energies are its own: a Hamiltonian of it is not worth a diagram; train a model "
        "(gasearch potential train), or take --anyway."
    )


def test_released_energies_are_those_of_the_untrained_potential(folder):
    (member,) = joint_hull([folder / "large"]).members
    for released, told in ((False, False), (True, True)):
        own = replace(member, is_released=released)
        assert bool(worthless(JointHull((own,), ()))) is told


def test_runs_of_several_hosts_make_no_diagram(folder, searched):
    maricite = searched(
        "maricite", host={"structure": "nafepo4-maricite", "supercell": [1, 1, 1]}, budget=2
    )
    two = run_here("phase-diagram", folder / "large", maricite)
    assert two.status == 2
    assert "a phase diagram is of one host; these runs have nafepo4-oliv" in two.line


def test_few_energies_of_one_cell_make_a_diagram_anyway_which_says_what_they_are_worth(folder):
    place = folder / "few"
    words = ("--anyway", "--both-only", "--output", place, "--cell", 1, 2, 4)
    answer = run_here("phase-diagram", folder / "small", *QUICK, *words)
    assert answer.status == 0, answer.err
    assert "note: 16 energies are few" in answer.err
    assert "note: all energies are of 1x1x1: they tell 9 combinations of" in answer.err
    document = json.loads((place / "phase-diagram.json").read_text())
    assert document["models"][0]["n_told_apart"] == 9
    assert document["notes"][:2] == answer.err.splitlines()[-len(document["notes"]) :][:2]
    smaller = document["smaller_cell"]
    assert smaller["cell"] == [1, 2, 2]
    assert [one["x"] for one in smaller["differences"]] == [0.25, 0.5, 0.75]
    assert "a cell of 1 x 2 x 2 for comparison, at 300 K:" in answer.out
    assert "  F differs by " in answer.out


def test_a_diagram_of_dft_energies_is_made_of_the_level_that_is_named(report_runs, tmp_path):
    """DFT of 16 candidates of one cell; two of them came out as other orders, or as none."""
    level = run_here("hull", report_runs / "one", "--level", "none").line.split("'")[-2]
    words = ("--level", level, "--both-only", "--output", tmp_path)
    refused = run_here("phase-diagram", report_runs / "one", *QUICK, *words)
    assert "no phase diagram from 14 valid energies at 5 compositions" in refused.line
    answer = run_here("phase-diagram", report_runs / "one", *QUICK, *words, "--anyway")
    assert answer.status == 0, answer.err
    assert "energies      14 of 1x1x1" in answer.out
    assert "note: 14 energies are few" in answer.err

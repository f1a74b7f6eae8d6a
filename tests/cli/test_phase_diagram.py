"""`gasearch phase-diagram` on small runs with a quick potential."""

import json

import pytest
from command_line import run_here

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


def test_too_little_and_what_cannot_be_mixed_get_one_line(folder, make_run, tmp_path):
    alone = run_here("phase-diagram", folder / "small")
    assert alone.status == 1
    assert "16 valid energies at 5 compositions: at least 20 at 3 are needed" in alone.line
    make_run(tmp_path / "ranks", "pmmcs", budget=8, relax={"fmax": 5.0, "smax": 5.0})
    Session(RunFolder(tmp_path / "ranks")).run()
    mixed = run_here("phase-diagram", folder / "large", tmp_path / "ranks")
    assert mixed.status == 2
    assert "levels of theory differ" in mixed.line

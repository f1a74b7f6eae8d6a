"""`gasearch hull`, `voltage` and `promote`, as their user meets them."""

import json
import subprocess
import sys

import pytest
from command_line import run_here as gasearch

from gasearch.analysis.joint_hull import HullPoint
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_run):
    """Two cells of one host, and another level."""
    folder = tmp_path_factory.mktemp("runs")
    relax = {"rattle": 0.0}
    make_run(folder / "small", budget=16, relax=relax)
    make_run(folder / "long", supercell=(1, 2, 1), budget=24, relax=relax)
    make_run(folder / "blind", "./toy.py:Blind", budget=2)
    loose = {"fmax": 5.0, "smax": 5.0}
    make_run(folder / "ranks", "pmmcs", budget=4, relax=loose)
    for name in ("small", "long", "blind", "ranks"):
        Session(RunFolder(folder / name)).run()
    return folder


class TestHull:
    def test_one_folder(self, runs):
        document = gasearch("hull", runs / "small", "--json").json
        assert list(document) == ["level", "ranks_only", "hosts", "points"]
        names = {"id", "x", "formation_energy_eV_per_fu", "on_hull", "above_hull_eV_per_fu"}
        assert {*names, "run", "cell"} <= document["points"][0].keys()
        shown = [line.split() for line in gasearch("hull", runs / "small").out.splitlines()[4:]]
        on_hull = [point for point in document["points"] if point["on_hull"]]
        assert [line[0] for line in shown] == [str(point["id"]) for point in on_hull]

    def test_several_folders_name_run_and_cell(self, runs):
        document = gasearch("hull", runs / "small", runs / "long", "--json").json
        assert len(document["points"]) == 40
        assert {(point["run"], point["cell"]) for point in document["points"]} == {
            (str(runs / "small"), "1x1x1"),
            (str(runs / "long"), "1x2x1"),
        }
        out = gasearch("hull", runs / "small", runs / "long").out
        assert "40 points; on the hull:" in out
        assert "1x2x1" in out

    def test_history(self, runs, tmp_path):
        plot = tmp_path / "hull.svg"
        options = ["--history", "--every", 5, "--plot", plot, "--json"]
        history = gasearch("hull", runs / "small", *options).json["history"]
        assert [moment["n_candidates"] for moment in history] == [5, 10, 15, 16]
        document = gasearch("hull", runs / "small", "--json").json
        lowest = {}
        for point in document["points"]:
            if point["on_hull"]:
                lowest.setdefault(point["x"], point["formation_energy_eV_per_fu"])
        last = {p["x"]: p["formation_energy_eV_per_fu"] for p in history[-1]["points"]}
        assert last == pytest.approx(lowest, abs=1e-12)
        assert plot.stat().st_size > 1000
        out = gasearch("hull", runs / "small", "--history", "--every", 5).out
        assert [line.split()[0] for line in out.splitlines()[-4:]] == ["5", "10", "15", "16"]

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["small", "blind"], "levels of theory differ: ./toy.py:LabelEnergy-"),
            (["small", "ranks"], "cannot be in one hull"),
            (["small", "small"], "is named twice"),
            (["small", "long", "--history"], "name one run folder"),
            (["small", "--history", "--every", 0], "Invalid value for '--every'"),
            (["small", "nothing"], "there is no folder"),
            ([], "Missing argument 'FOLDER...'"),
        ],
    )
    def test_wrong_usage_is_one_line(self, runs, arguments, line):
        folders = [runs / word if str(word).isalpha() else word for word in arguments]
        result = gasearch("hull", *folders)
        assert result.status == 2
        assert line in result.line


@pytest.fixture(scope="module")
def polymorphs(tmp_path_factory, make_run):
    """Both polymorphs of NaFePO4; a third run has another composition."""
    folder = tmp_path_factory.mktemp("polymorphs")
    for name in ("nafepo4-olivine", "nafepo4-maricite", "lifepo4-olivine"):
        host = {"structure": name, "supercell": [1, 1, 1]}
        make_run(folder / name, host=host, relax={"rattle": 0.0})
        Session(RunFolder(folder / name)).run()
    return folder


class TestPolymorphs:
    def test_they_have_a_common_hull_and_one_each(self, polymorphs, tmp_path):
        names = ["nafepo4-olivine", "nafepo4-maricite"]
        both, plot = [polymorphs / name for name in names], tmp_path / "hull.svg"
        document = gasearch("hull", *both, "--json", "--plot", plot).json
        assert [own["host"] for own in document["hosts"]] == names
        assert {own["formula"] for own in document["hosts"]} == {"NaFePO4"}
        assert {point["host"] for point in document["points"]} == set(names)
        for run, own in zip(both, document["hosts"], strict=True):
            alone = gasearch("hull", run, "--json").json
            for here, there in zip(
                own["ground_states"], alone["hosts"][0]["ground_states"], strict=True
            ):
                assert here["id"] == there["id"]
                energy = pytest.approx(there["formation_energy_eV_per_fu"], abs=1e-12)
                assert here["formation_energy_eV_per_fu"] == energy
        drawn = plot.read_text()
        assert all(f"<!-- {name} -->" in drawn for name in [*names, "common hull"])
        out = gasearch("hull", *both).out
        assert "of nafepo4-olivine, nafepo4-maricite; on their common hull:" in out
        assert "on the hull of nafepo4-olivine alone" in out

    def test_voltages_follow_the_common_hull_and_each_host(self, polymorphs):
        both = [polymorphs / name for name in ("nafepo4-olivine", "nafepo4-maricite")]
        options = ["--metal-energy", -1.3]
        document = gasearch("voltage", *both, *options, "--json").json
        alone = [gasearch("voltage", run, *options, "--json").json for run in both]
        assert [own["average_voltage_V"] for own in document["hosts"]] == [
            own["average_voltage_V"] for own in alone
        ]
        assert {step["to"]["host"] for step in document["steps"]} <= {run.name for run in both}
        assert "nafepo4-maricite alone: average" in gasearch("voltage", *both, *options).out

    def test_another_composition_is_refused_in_one_line(self, polymorphs):
        result = gasearch("hull", polymorphs / "nafepo4-olivine", polymorphs / "lifepo4-olivine")
        assert result.status == 2
        assert "their compositions differ: NaFePO4 at x = 1 (nafepo4-olivine)" in result.line

    def test_a_report_shows_both(self, polymorphs, tmp_path):
        both = [polymorphs / name for name in ("nafepo4-olivine", "nafepo4-maricite")]
        page = tmp_path / "report.html"
        gasearch("report", *both, "--output", page)
        text = page.read_text()
        for name in ("nafepo4-olivine", "nafepo4-maricite"):
            assert f"hull of {name}" in text
            assert f"Ground states of {name}" in text
            assert f"parent: {name}, undistorted" in text

    def test_a_step_to_another_host_is_pointed_out(self):
        from gasearch.display.hull_tables import rebuilt_lines

        place = {"run": "run", "cell": "1x1x1", "energy_eV_per_fu": 0.0}
        ends = [
            HullPoint(n, x, 0.0, 0.0, 0.0, "ff", 1, "ok", "NaCoO2", "random", **place, host=host)
            for n, (x, host) in enumerate([(0, "O3"), (0.5, "P2"), (0.75, "P2"), (1, "O3")])
        ]
        first, last = rebuilt_lines(ends)
        assert "from x = 0 to 0.5 the hull goes from O3 to P2" in first
        assert "from x = 0.75 to 1 the hull goes from P2 to O3" in last


class TestVoltage:
    def test_plateaus(self, runs, tmp_path):
        plot = tmp_path / "voltage.svg"
        options = ["--metal-energy", -1.3, "--plot", plot]
        document = gasearch("voltage", runs / "small", runs / "long", *options, "--json").json
        hull = gasearch("hull", runs / "small", runs / "long", "--json").json
        steps = document["steps"]
        assert {steps[0]["x_from"], steps[-1]["x_to"]} == {0, 1}
        on_hull = {(p["run"], p["id"]) for p in hull["points"] if p["on_hull"]}
        assert {(step["to"]["run"], step["to"]["id"]) for step in steps} <= on_hull
        assert document["capacity_mAh_per_g"] == pytest.approx(154.2, abs=0.05)
        assert document["metal"] == {
            "element": "Na",
            "energy_eV_per_atom": -1.3,
            "source": "given",
        }
        assert plot.stat().st_size > 1000
        text = gasearch("voltage", runs / "small", *options).out
        assert "against Na metal, -1.3000 eV/atom (given)" in text
        assert "Wh/kg of NaFePO4" in text

    def test_at_a_temperature_every_run_is_shown(self, runs, tmp_path):
        options = ["--metal-energy", -1.3, "--temperature", 300]
        both = [runs / "small", runs / "long"]
        plot = tmp_path / "voltage.png"
        document = gasearch("voltage", *both, *options, "--json", "--plot", plot).json
        small, long = document["runs"]
        assert [small["is_exhausted"], long["is_exhausted"]] == [True, False]
        assert len(small["points"]) == 5
        assert document["temperature_K"] == 300
        assert len(document["notes"]) == 1
        assert plot.read_bytes().startswith(b"\x89PNG")
        result = gasearch("voltage", *both, *options)
        assert "1x1x1, 4 f.u., 300 K" in result.out
        assert "1x2x1, 8 f.u., 300 K" in result.out
        assert "<= -" in result.out
        assert "upper bound" in result.err
        assert "no bound holds for entropy and voltage" in result.err
        assert "two cell sizes" not in result.err
        assert "at least two cell sizes" in gasearch("voltage", runs / "small", *options).err

    def test_a_potential_that_only_ranks_says_so(self, runs):
        result = gasearch("voltage", runs / "ranks")
        assert result.status == 2
        assert "'pmmcs' has no model.json with a metal reference" in result.line
        result = gasearch("voltage", runs / "ranks", "--metal-energy", -1)
        assert "voltage have no physical meaning" in result.err
        document = gasearch("voltage", runs / "ranks", "--metal-energy", -1, "--json").json
        assert document["ranks_only"] is True

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            ([], "with --metal-energy E (eV per atom)"),
            (["--metal-energy", "cheap"], "Invalid value for '--metal-energy'"),
            (["--metal-energy", "nan"], "expected a number"),
            (["--metal-energy", "-1", "--temperature", "0"], "expected kelvins above 0"),
            (["--metal-energy", "-1", "--plot", "a.bmp"], "ends in .png, .pdf, .svg"),
            (["--metal-energy", "-1", "--level", "pbe"], "this run has the level"),
        ],
    )
    def test_wrong_usage_is_one_line(self, runs, options, line):
        result = gasearch("voltage", runs / "small", *options)
        assert result.status == 2
        assert line in result.line


QUICK = """
import json, sys
from gasearch.cli.app import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["gasearch", *words]
    try:
        main()
    except SystemExit as ending:
        assert not ending.code, ending.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def test_none_of_them_imports_anything_heavy(runs):
    small, long = str(runs / "small"), str(runs / "long")
    commands = [
        ["hull", small, long],
        ["hull", small, "--history"],
        ["voltage", small, "--metal-energy", "-1", "--temperature", "300"],
        ["promote", small, "--dry-run"],
    ]
    command = [sys.executable, "-c", QUICK, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}
    assert not loaded & {"torch", "chgnet", "mace", "pymatgen", "matplotlib", "gasearch_operators"}


class TestPromote:
    def test_dry_then_once_then_nothing(self, runs):
        dry = gasearch("promote", runs / "small", "--dry-run", "--json").json
        assert dry["dry_run"] is True
        assert len(dry["new"]) == 12
        assert {"id", "x", "rule", "reason", "above_hull_eV_per_fu"} <= dry["new"][0].keys()
        text = gasearch("promote", runs / "small", "--dry-run").out
        assert f"do it with: gasearch promote {runs / 'small'}" in text
        done = gasearch("promote", runs / "small")
        assert "12 promoted, none before" in done.out
        again = gasearch("promote", runs / "small", "--json").json
        assert again["new"] == []
        assert [(p["id"], p["reason"]) for p in again["known"]] == [
            (p["id"], p["reason"]) for p in dry["new"]
        ]
        assert "nothing new to promote; 12 before" in gasearch("promote", runs / "small").out

    def test_a_potential_that_only_ranks_says_that_there_is_no_hull(self, runs):
        result = gasearch("promote", runs / "ranks", "--dry-run")
        assert result.status == 0
        assert "only ranks orders at one x, there is no hull" in result.err

    def test_wrong_usage_is_one_line(self, tmp_path):
        result = gasearch("promote", tmp_path)
        assert result.status == 2
        assert "neither run.toml nor search.db" in result.line or "there is no" in result.line

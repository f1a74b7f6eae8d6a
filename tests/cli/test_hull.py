"""`gasearch hull`, `voltage` and `promote`, as their user meets them."""

import json
import subprocess
import sys

import pytest
from command_line import run_here as gasearch

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

"""The command line, as its user meets it."""

import io
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import ase.io
import pytest
from command_line import run_here as gasearch

from gasearch.cli import app as cli
from gasearch.run.folder import RunFolder
from gasearch.search.check import check_run
from gasearch.search.session import Session

VERBS = [
    "init",
    "hosts",
    "enumerate",
    "run",
    "status",
    "best",
    "doctor",
    "hull",
    "voltage",
    "promote",
    "release",
    "learn",
    "phase-diagram",
    "report",
    "serve",
    "lineage",
    "show",
    "export",
    "check",
]
COMMAND = [sys.executable, "-m", "gasearch"]
SLOW = """

class Slow(LabelEnergy):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(0.7 if os.environ.get("SLOW") else 0)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "SLOW": "1", "TERM": "xterm", "COLUMNS": "100"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_run):
    """A finished search of a small cell."""
    folder = make_run(tmp_path_factory.mktemp("run"), budget=12)
    Session(RunFolder(folder)).run()
    return folder


@pytest.fixture(scope="module")
def slow(tmp_path_factory, make_run):
    """A search that takes seconds, once SLOW is set; it is to be copied."""
    folder = make_run(tmp_path_factory.mktemp("run"), "./toy.py:Slow", budget=12)
    with (folder / "toy.py").open("a") as file:
        file.write(SLOW)
    return folder


@pytest.fixture(scope="module")
def unbroken(slow, tmp_path_factory):
    """What the slow search finds when nothing interrupts it."""
    folder = shutil.copytree(slow, tmp_path_factory.mktemp("unbroken") / "run")
    Session(RunFolder(folder)).run()
    return recorded(folder)


def recorded(folder):
    with RunFolder(folder).open_store() as store:
        return store.proposals(), store.outcomes()


class TestHelp:
    def test_without_a_command_it_shows_the_commands(self):
        result = gasearch()
        assert result.status == 2
        assert all(f"\n  {verb} " in result.err for verb in VERBS)
        assert not result.out

    def test_there_is_one_verb_each(self):
        names = [c.name or c.callback.__name__ for c in cli.app.registered_commands]
        assert names == VERBS

    @pytest.mark.parametrize("verb", VERBS)
    @pytest.mark.parametrize("option", ["--help", "-h"])
    def test_every_verb_has_help(self, verb, option):
        result = gasearch(verb, option)
        assert result.status == 0
        assert result.out.startswith(f"Usage: gasearch {verb}")
        assert not result.err

    def test_no_summary_is_cut_off(self):
        assert "..." not in gasearch("--help").out.partition("Commands:")[2]

    def test_the_version(self):
        assert re.fullmatch(r"\d+\.\d+\.\d+\n", gasearch("--version").out)


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            ("serch", "No such command 'serch'"),
            ("--zzz", "No such option: --zzz"),
            ("init", "Missing argument 'FOLDER'"),
            ("export a", "Missing option '--output'"),
            ("enumerate", "Missing option '--host'"),
            ("init {new} --budget ten", "Invalid value for '--budget'"),
            ("init {new} --budget 1.5", "Invalid value for '--budget'"),
            ("init {new} --budget -3", "--budget -3: expected a whole number above 0."),
            ("init {new} --budget 0", "--budget 0: expected a whole number above 0."),
            ("init {new} --seed -1", "--seed -1: expected"),
            ("init {new} --supercell 0 1 1", "every repeat must be 1 or more"),
            ("init {new} --supercell -1 1 1", "every repeat must be 1 or more"),
            ("init {new} --supercell 1 1", "--supercell 1 1: 2 numbers; expected three repeats"),
            ("init {new} --supercell a b c", "Got unexpected extra argument"),
            ("init {new} --supercell abc", "supercell = 'abc': expected three whole numbers"),
            ("init {new} --potential pmmc", "did you mean 'pmmcs'?"),
            ("init {new} --host none.cif", "--host 'none.cif': no built-in host"),
            ("init {run}", "holds a run already; go on with: gasearch run "),
            ("enumerate --host nafepo4-olivine", "--supercell A B C is missing"),
            ("enumerate --host nafepo4-olivine --supercell 0 0 0", "has no volume"),
            ("enumerate --host zzz --supercell 1 1 1", "no built-in host"),
            ("enumerate --host {run} -x 0.3", "this cell cannot hold x = 0.3; it can hold 0, 0.25"),
            ("enumerate --host {run} -x 1.5", "x = 1.5 is outside the neutral range of this host"),
            ("best {run} -x 0.3", "this cell cannot hold x = 0.3"),
            ("best {run} -x 2", "outside the neutral range"),
            ("best {run} -x half", "x = 'half' is not a number: write 0.75 or '2/3'."),
            ("best {run} -n 0", "Invalid value for '-n'"),
            ("hull {run} --level pbe", "this run has the level './toy.py:LabelEnergy"),
            ("hull {run} --plot a.bmp", "expected a name that ends in .png, .pdf, .svg"),
            ("show {run} 999", "no relaxed candidate 999 in this run."),
            ("lineage {run}", "Missing argument 'ID'"),
            ("lineage {run} 99", "no candidate 99 in this run: its last one is 12."),
            ("lineage {run} 0", "no candidate 0 in this run"),
            ("lineage {run} one", "Invalid value for 'ID'"),
            ("show {run} one", "Invalid value for 'ID...'"),
            ("export {run} --output a.png", "gasearch writes .extxyz"),
            ("export {run} --output {new} --format pdb", "expected cif, poscar, extxyz"),
            ("export {run} --output {run}/run.toml", "gasearch writes .extxyz"),
            ("status {new}", "there is no folder "),
            ("run {new}", "there is no folder "),
            ("best {empty} --json", "holds no run (neither run.toml nor search.db); make one with"),
            ("run {empty}", "run.toml; write one with: gasearch init "),
            ("check {empty}", "holds no run"),
            ("status {run}/run.toml", "is a file: name the folder that it lies in."),
        ],
    )
    def test_it_is_one_line_and_status_2(self, finished, tmp_path, arguments, line):
        (tmp_path / "empty").mkdir()
        places = {"run": finished, "new": tmp_path / "new", "empty": tmp_path / "empty"}
        result = gasearch(*(word.format(**places) for word in arguments.split()))
        assert result.status == 2
        assert line in result.line
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            ({"search": {"budget": -3}}, "search.budget = -3: it should be greater than or equal"),
            ({"search": {"budgit": 3}}, "unknown key 'search.budgit' (did you mean 'budget'?)"),
            (
                {"search": {"x": [1.5]}},
                "x = 1.5 is outside the neutral range of this host, 0 to 1.",
            ),
            ({"search": {"x": [0.3]}}, "this cell cannot hold x = 0.3; it can hold 0, 0.25, 0.5"),
            ({"supercell": (1, 0, 1)}, "host.supercell = [1, 0, 1]: expected three repeats of"),
            ({"operators": {"./toy.py:Swap": 1}}, "'./toy.py:Swap': ./toy.py has no 'Swap'"),
            ({"operators": {"./none.py:Swap": 1}}, "'./none.py:Swap': there is no file"),
            ({"operators": {"charge_swop": 1}}, "unknown (did you mean 'charge_swap'?)"),
            ({"operators": {"charge_swap": 0}}, "names no operator with a weight above 0"),
            ({"operators": {"charge_swap": {"n": 1}}}, "has no argument 'n'"),
            ({"potential": "pmmc"}, "potential 'pmmc': unknown (did you mean 'pmmcs'?)"),
            ({"potential": "./toy.py:Nothing"}, "./toy.py has no 'Nothing'"),
            ({"potential": "./none.py:Nothing"}, "there is no file"),
            ({"potential": "nowhere:Nothing"}, "no module named 'nowhere'"),
        ],
    )
    def test_a_run_file_that_cannot_be_is_one_line(self, tmp_path, make_run, change, line):
        search = change.pop("search", {})
        budget = search.pop("budget", 4)
        folder = make_run(tmp_path / "run", budget=budget, search=search, **change)
        result = gasearch("run", folder)
        assert result.status == 2
        assert line in result.err
        assert len(result.err.splitlines()) == 1
        assert not (folder / "search.db").exists()

    def test_a_run_file_that_is_no_toml(self, tmp_path):
        (tmp_path / "run.toml").write_text("[host\n")
        result = gasearch("run", tmp_path)
        assert result.status == 2
        assert "is not TOML: " in result.line


class TestResuming:
    """What was changed between two starts."""

    @pytest.fixture
    def folder(self, finished, tmp_path):
        return shutil.copytree(finished, tmp_path / "run")

    def change(self, folder, old, new):
        text = (folder / "run.toml").read_text()
        assert old in text
        (folder / "run.toml").write_text(text.replace(old, new))

    def test_a_finished_search_says_so_and_how_to_go_on(self, folder):
        before = recorded(folder)
        result = gasearch("run", folder)
        assert result.status == 0
        assert result.out.startswith(f"nothing to do in {folder}: it is done (budget)\n")
        assert f"12 candidates; to go on, raise search.budget in {folder}/run.toml (now 12)" in (
            result.out
        )
        assert recorded(folder) == before

    def test_a_raised_budget_goes_on(self, folder):
        self.change(folder, '"budget" = 12', '"budget" = 14')
        result = gasearch("run", folder)
        assert result.status == 0
        assert result.out.startswith(f"resuming {folder}: 12 of 14 candidates\n")
        assert len(recorded(folder)[1]) == 14
        with RunFolder(folder).open_store() as store:
            (event,) = store.events(kind="operational")
        assert "search.budget" in json.dumps(dict(event.data))

    def test_a_folder_that_was_moved_goes_on(self, folder, tmp_path):
        self.change(folder, '"budget" = 12', '"budget" = 13')
        moved = shutil.move(folder, tmp_path / "elsewhere")
        assert gasearch("run", moved).status == 0
        assert gasearch("check", moved, "--replay", "--audit").out == "whole: no problems\n"

    def test_an_exhausted_search_has_nothing_to_go_on_with(self, folder):
        self.change(folder, '"budget" = 12', '"budget" = 1000')
        for start in ("resuming", "nothing to do"):
            result = gasearch("run", folder)
            assert result.out.startswith(start)
            assert "16 candidates; every distinct decoration was searched" in result.out

    @pytest.mark.parametrize(
        ("old", "new", "key"),
        [
            ('"seed" = 3', '"seed" = 4', "search.seed"),
            ('"initial" = 4', '"initial" = 5', "search.initial"),
            ("[1, 1, 1]", "[1, 1, 2]", "host.supercell"),
            ("LabelEnergy", "Blind", "potential.name"),
        ],
    )
    def test_a_changed_defining_key_is_refused_by_name(self, folder, old, new, key):
        before = recorded(folder)
        self.change(folder, old, new)
        result = gasearch("run", folder)
        assert result.status == 2
        assert f"{key} defines the search and cannot change on resume" in result.line
        assert recorded(folder) == before

    def test_init_refuses_atoms_that_are_too_close(self, tmp_path):
        from gasearch.crystal.io.builtin import builtin_host

        atoms = builtin_host("nafepo4-olivine").unit_cell
        oxygen = next(atom.index for atom in atoms if atom.symbol == "O")
        atoms.positions[oxygen] = atoms.positions[0] + (0.6, 0, 0)
        ase.io.write(tmp_path / "a.vasp", atoms, format="vasp")
        result = gasearch("init", tmp_path / "run", "--host", tmp_path / "a.vasp")
        assert result.status == 2
        assert re.search(r"a\.vasp: Na0 and O12 are 0\.60 Å apart, nearer than", result.line)
        assert not (tmp_path / "run").exists()

    def test_an_edited_structure_file_is_refused_by_name(self, finished, tmp_path):
        from gasearch.crystal.io.builtin import builtin_host

        atoms = builtin_host("nafepo4-olivine").unit_cell
        ase.io.write(tmp_path / "a.vasp", atoms, format="vasp")
        options = ["--supercell", 1, 1, 1, "--budget", 2, "--potential", "./toy.py:LabelEnergy"]
        shown = gasearch("init", tmp_path / "run", "--host", tmp_path / "a.vasp", *options).out
        assert f"check the sublattices in {tmp_path}/run/run.toml: they are a first guess" in shown
        shutil.copy(finished / "toy.py", tmp_path / "run")
        self.change(tmp_path / "run", "workers = ", "workers = 0 # ")
        assert gasearch("run", tmp_path / "run").status == 0
        atoms.positions[0, 0] += 0.01
        ase.io.write(tmp_path / "run/inputs/a.vasp", atoms, format="vasp")
        result = gasearch("run", tmp_path / "run")
        assert result.status == 2
        assert "the host 'inputs/a.vasp' was changed since the search was started" in result.line
        (tmp_path / "run/inputs/a.vasp").unlink()
        assert "there is no file" in gasearch("run", tmp_path / "run").line


class TestFindings:
    def test_init_shows_the_host_and_what_to_do_next(self, tmp_path):
        result = gasearch("init", tmp_path / "a b", "--supercell", 1, 1, 1)
        assert result.status == 0
        assert "space group   Pnma (62) at symprec = 0.01 Å, 8 operations" in result.out
        assert result.out.endswith(f"start the search with: gasearch run '{tmp_path / 'a b'}'\n")
        assert gasearch("status", tmp_path / "a b").line.endswith(
            f"was not started yet; start it with: gasearch run '{tmp_path / 'a b'}'"
        )

    def test_a_search_ends_with_tables(self, tmp_path, make_run):
        result = gasearch("run", make_run(tmp_path / "run", budget=12))
        assert result.status == 0
        lines = result.out.splitlines()
        assert lines[0].startswith("searching ")
        assert any(line.startswith("done (budget): ") for line in lines)
        by_composition = [line.split() for line in lines if re.search(r"\d / \d", line)]
        assert [line[0] for line in by_composition] == ["0", "0.25", "0.5", "0.75", "1"]
        assert [line[1] for line in by_composition][::4] == ["Fe4P4O16", "Na4Fe4P4O16"]
        assert sum(int(line[2]) for line in by_composition) == 12
        assert "the 2 lowest of each composition:" in lines
        assert not result.err
        assert "\x1b" not in result.out

    def test_status(self, finished):
        document = gasearch("status", finished, "--json").json
        counted = {"candidates": 12, "relaxed": 12, "failed": 0, "in_flight": 0, "queued": 0}
        assert counted.items() <= document.items()
        assert (document["done"], document["running"]) == (True, None)
        assert sum(row["searched"] for row in document["by_composition"]) == 12
        result = gasearch("status", finished)
        assert result.out.startswith("12 candidates: 12 relaxed, 0 failed, 0 in flight")
        assert "\ndone (budget)\n" in result.out

    def test_best(self, finished):
        rows = gasearch("best", finished, "-x", "1/2", "-n", 3, "--json").json
        assert len(rows) == 3
        names = {"id", "x", "energy_eV", "formation_energy_eV_per_fu", "above_hull_eV_per_fu"}
        assert names | {"fingerprint", "orbit_size", "verdict"} <= rows[0].keys()
        energies = [row["energy_eV"] for row in rows]
        assert energies == sorted(energies)
        text = gasearch("best", finished, "-x", 0.5, "-n", 3).out
        shown = [line.split() for line in text.splitlines()[2:5]]
        assert [line[0] for line in shown] == [str(row["id"]) for row in rows]
        assert [line[-1] for line in shown] == [row["fingerprint"] for row in rows]
        assert [line[-2] for line in shown] == [row["operator"] for row in rows]
        (half,) = (
            row
            for row in gasearch("status", finished, "--json").json["by_composition"]
            if row["x"] == 0.5
        )
        last = f"not proven: {half['open']} of 10 distinct decorations are open"
        assert 1 < half["open"] == 10 - half["valid"]
        assert text.splitlines()[5:] == ["", last]
        assert gasearch("best", finished, "-x", 1).out.splitlines()[-1] == (
            "proven among 1 of 1 distinct decorations with valid energies from the standard start, "
            "for this host, supercell and level"
        )
        assert "proven" not in gasearch("best", finished).out

    def test_lineage(self, finished):
        with RunFolder(finished).open_store() as store:
            child = [p for p in store.proposals() if p.parents][-1]
        rows = gasearch("lineage", finished, child.number, "--json").json
        assert rows[0]["id"] == child.number
        assert rows[0]["parents"] == list(child.parents)
        assert set(child.parents) < {row["id"] for row in rows}
        assert all(row["verdict"] == "ok" and row["energy_eV"] < 0 for row in rows)
        result = gasearch("lineage", finished, child.number)
        shown = [line.split() for line in result.out.splitlines()[3:]]
        assert [line[0] for line in shown] == [str(row["id"]) for row in rows]
        assert [line[1] for line in shown] == [row["operator"] for row in rows]
        assert result.err.startswith(f"see also: gasearch show {finished} {child.number}, ")

    def test_best_where_there_is_nothing_valid(self, tmp_path, make_run):
        options = {"search": {"x": ["3/4"]}, "budget": 4}
        folder = make_run(tmp_path / "run", "./toy.py:Raising", **options)
        reason = "not ok: 2 failed, such as candidate 3: RuntimeError: the calculator gave up"
        assert reason in gasearch("run", folder).err
        assert gasearch("best", folder, "-x", "3/4", "--json").json == []
        result = gasearch("best", folder, "-x", "3/4")
        assert (result.status, result.err) == (0, "note: no candidate with verdict ok here yet\n")
        assert result.out.splitlines()[-1].startswith("nothing to prove: none of 2 distinct")
        assert result.out.splitlines()[-1].endswith("; 2 failed: 3, 4")
        assert "x = 0.75: nothing to prove" in gasearch("status", folder).out
        result = gasearch("export", folder, "-x", "3/4", "--output", tmp_path / "a.cif")
        assert result.status == 1
        assert "no candidate was relaxed" in result.line
        assert "such as candidate 3: RuntimeError" in gasearch("status", folder).out

    def test_hull(self, finished, tmp_path):
        document = gasearch("hull", finished, "--json", "--plot", tmp_path / "a.svg").json
        assert document["level"].startswith("./toy.py:LabelEnergy-")
        assert len(document["points"]) == 12
        names = {"id", "x", "formation_energy_eV_per_fu", "on_hull", "operator"}
        assert all(names <= point.keys() for point in document["points"])
        ends = [p for p in document["points"] if p["x"] in (0, 1)]
        assert all(p["on_hull"] and p["formation_energy_eV_per_fu"] == 0 for p in ends)
        assert (tmp_path / "a.svg").stat().st_size > 1000
        assert (
            f"wrote {tmp_path / 'b.png'}"
            in gasearch("hull", finished, "--plot", tmp_path / "b.png").out
        )
        assert gasearch("hull", finished, "--level", document["level"]).status == 0

    def test_a_potential_that_only_ranks_says_so(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", "pmmcs", budget=2, relax={"fmax": 5.0, "smax": 5.0})
        assert "only ranks orders at one x" in gasearch("run", folder).err
        result = gasearch("hull", folder, "--json")
        assert result.json["ranks_only"] is True
        assert not result.err
        assert "only ranks orders at one x" in gasearch("hull", folder).err

    def test_enumerate(self, finished, tmp_path):
        options = ["enumerate", "--host", "nafepo4-olivine", "--supercell", 1, 2, 1]
        rows = gasearch(*options, "--json").json
        assert rows[4] == {"x": 0.5, "raw": 4900, "distinct": 344, "exact": True}
        assert "4,900       344" in gasearch(*options, "-x", "1/2").out
        listed = gasearch("enumerate", "--host", finished, "-x", "3/4", "--list", "--json").json
        assert listed["counts"] == [{"x": 0.75, "raw": 16, "distinct": 2, "exact": True}]
        assert [row["orbit_size"] for row in listed["decorations"]] == [8, 8]
        text = gasearch("enumerate", "--host", finished, "-x", "3/4", "--list").out
        assert text.count("vacancy") == 2
        path = tmp_path / "all.extxyz"
        result = gasearch("enumerate", "--host", finished, "--output", path)
        assert result.out.endswith(f"wrote 16 structures to {path}\n")
        assert len(ase.io.read(path, ":")) == 16

    def test_export(self, finished, tmp_path):
        path = tmp_path / "all.extxyz"
        assert gasearch("export", finished, "--output", path).out == (
            f"wrote 12 structures to {path}\n"
        )
        assert "exists already" in gasearch("export", finished, "--output", path).line
        gasearch("export", finished, "-x", 0.5, "-n", 2, "--output", tmp_path / "half")
        assert len(list((tmp_path / "half").glob("Na2Fe4P4O16_*.cif"))) == 2
        result = gasearch("export", finished, "--output", path / "deeper.cif")
        assert result.status == 1
        assert "cannot be written (it is a file, not a folder)" in result.line

    def test_check(self, finished, tmp_path):
        for options in ([], ["--replay"], ["--audit"], ["--replay", "--audit"]):
            result = gasearch("check", finished, *options)
            assert (result.status, result.out) == (0, "whole: no problems\n")
        assert gasearch("check", finished, "--json").json == []
        folder = shutil.copytree(finished, tmp_path / "run")
        content = (folder / "search.db").read_bytes()
        (folder / "search.db").write_bytes(content[: len(content) // 2])
        result = gasearch("check", folder)
        assert result.status == 1
        assert "Traceback" not in result.err + result.out


class TestShow:
    def test_without_a_screen_it_is_one_line(self, finished, monkeypatch):
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        result = gasearch("show", finished, 1)
        assert result.status == 2
        assert "use --output FILE" in result.line

    def test_with_output_it_writes_a_file(self, finished, tmp_path):
        path = tmp_path / "a.extxyz"
        assert gasearch("show", finished, 3, 1, "--output", path).out == (
            f"wrote 2 structures to {path}\n"
        )
        assert [atoms.info["gaid"] for atoms in ase.io.read(path, ":")] == [3, 1]

    def test_it_opens_ase_gui_on_the_structures(self, finished, monkeypatch):
        monkeypatch.setenv("DISPLAY", ":0")
        seen = []

        def gui(command, **keywords):
            seen.append((command[:-1], ase.io.read(command[-1], ":")))
            return subprocess.CompletedProcess(command, 0, stderr="")

        monkeypatch.setattr(subprocess, "run", gui)
        assert gasearch("show", finished).status == 0
        ((command, structures),) = seen
        assert command == [sys.executable, "-m", "ase", "gui"]
        assert len(structures) == 10

    def test_a_gui_that_fails_is_one_line(self, finished, monkeypatch):
        monkeypatch.setenv("DISPLAY", ":0")
        words = "usage: ase\nase: error: TclError: couldn't connect\nTo get a full traceback, ..."

        def gui(command, **keywords):
            return subprocess.CompletedProcess(command, 1, stderr=words)

        monkeypatch.setattr(subprocess, "run", gui)
        result = gasearch("show", finished)
        assert result.status == 1
        assert "TclError: couldn't connect" in result.line
        assert "--output FILE" in result.line


class TestUnexpected:
    @pytest.fixture
    def broken(self, monkeypatch):
        def fail(*arguments):
            raise KeyError("two\nlines")

        monkeypatch.setattr("gasearch.analysis.findings.Findings.status", fail)

    def test_a_bug_is_one_line_and_its_traceback_is_in_a_file(self, finished, broken):
        result = gasearch("status", finished)
        assert result.status == 1
        line = result.line
        assert "unexpected KeyError: " in line
        log = Path(line.rpartition(" ")[2])
        assert "Traceback" in log.read_text()
        assert "two" in log.read_text()
        log.unlink()

    def test_even_without_room_for_that_file(self, finished, broken, monkeypatch):
        def full(*arguments, **keywords):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
        assert "no room for a report" in gasearch("status", finished).line

    def test_a_full_disk_is_no_bug(self, finished):
        buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*COMMAND, "best", str(finished)],
                env=buffered,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "No space left on device" in line
        assert "report" not in line

    def test_a_reader_that_goes_away_is_no_bug(self, finished):
        line = f"{' '.join(COMMAND)} best {finished} --json | true"
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr

    def test_a_terminal_without_the_letters_gets_its_line(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
        monkeypatch.setattr(sys, "argv", ["gasearch", "init", str(tmp_path / "run")])
        with pytest.raises(SystemExit) as ending:
            cli.main()
        assert ending.value.code == 0
        assert b"symprec = 0.01 \\xc5" in sys.stdout.buffer.getvalue()


def wait_until(condition, what, timeout_s=180):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def n_done(folder):
    if not (folder / "search.db").exists():
        return 0
    return len(recorded(folder)[1])


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, *arguments):
        self.pid, self.master = pty.fork()
        if not self.pid:
            os.execve(COMMAND[0], [*COMMAND, *map(str, arguments)], ENVIRONMENT)
        self.text = ""

    def read(self, timeout_s=0.05):
        """Take what was printed; return whether there may be more."""
        if select.select([self.master], [], [], timeout_s)[0]:
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except OSError:  # the process has closed its end
                return False
        return True

    def type(self, keys):
        os.write(self.master, keys)

    def wait(self):
        while self.read():
            pass
        os.close(self.master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class TestStopping:
    @pytest.fixture
    def folder(self, slow, tmp_path):
        return shutil.copytree(slow, tmp_path / "run")

    def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(self, folder, unbroken):
        terminal = Terminal("run", folder)
        wait_until(lambda: terminal.read() and n_done(folder) >= 3, "three results")
        terminal.type(b"\x03")
        assert terminal.wait() == 0
        assert "━" in terminal.text
        assert "stopping; a second signal stops at once" in terminal.text
        assert f"Resume with: gasearch run {folder}" in terminal.text
        assert 3 <= n_done(folder) < 12
        assert check_run(RunFolder(folder), replay=True) == []
        Session(RunFolder(folder)).run()
        assert recorded(folder) == unbroken

    def test_ctrl_c_before_the_search_began_is_one_line(self, folder):
        terminal = Terminal("run", folder)
        time.sleep(0.6)
        terminal.type(b"\x03")
        status = terminal.wait()
        assert "Traceback" not in terminal.text or status == -signal.SIGINT
        Session(RunFolder(folder)).run()
        assert n_done(folder) == 12

    def test_sigterm_ends_cleanly_and_a_second_process_is_refused(self, folder, unbroken):
        log = folder / "log"
        with self.started(folder, log) as first:
            second = gasearch("run", folder)
            assert second.status == 1
            assert f"a search is already running here (process {first.pid} on " in second.line
            running = gasearch("status", folder, "--json").json["running"]
            assert running.startswith(f"process {first.pid} on ")
            first.send_signal(signal.SIGTERM)
            assert first.wait(180) == 0
        text = log.read_text()
        assert re.search(r"^stopped cleanly with \d+ of 12 candidates relaxed;", text, re.MULTILINE)
        assert f"Resume with: gasearch run {folder}\n" in text
        assert re.search(r"^[-\d]+ [:\d]+  1 of 12 candidates, 0 not ok; ", text, re.MULTILINE)
        assert "\x1b" not in text
        state = gasearch("status", folder).out.splitlines()[2]
        assert state == f"not running (stopped); resume with: gasearch run {folder}"
        Session(RunFolder(folder)).run()
        assert recorded(folder) == unbroken

    @contextmanager
    def started(self, folder, log):
        """A search in a process of its own that has two results."""
        with (
            log.open("w") as file,
            subprocess.Popen(
                [*COMMAND, "run", str(folder)], stdout=file, stderr=file, env=ENVIRONMENT
            ) as first,
        ):
            try:
                wait_until(lambda: n_done(folder) >= 2, "two results")
                yield first
            finally:
                first.kill()

    def test_a_killed_search_is_not_running_and_goes_on(self, folder, unbroken):
        with self.started(folder, folder / "log") as first:
            first.kill()
        assert "not running (no end recorded" in gasearch("status", folder).out
        assert gasearch("status", folder, "--json").json["running"] is None
        Session(RunFolder(folder)).run()
        assert recorded(folder) == unbroken

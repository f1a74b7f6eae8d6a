"""What README and the documentation show is what happens: every block is run or checked."""

import ast
import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest
import typer
from command_line import run_here
from pages import DOCS, README, block, blocks, name_of, pages
from places import ROOT

from gasearch.cli.app import app
from gasearch.run.config import RunSettings, run_settings
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.training.settings import read_training_file

LANGUAGES = {"bash", "python", "text", "toml"}
EVERY = [one for page in pages() for one in blocks(page)]


def named(found):
    return pytest.mark.parametrize("block", found, ids=lambda one: one.name)


def test_every_block_of_code_is_run_or_says_why_not():
    for one in EVERY:
        if one.page == README:
            continue
        assert one.language in LANGUAGES, one.name
        if one.language in ("bash", "python"):
            assert re.match(r"runs\b|not run: \w", one.mark), f"{one.name} has no mark"


@named([one for one in EVERY if one.language == "bash"])
def test_commands_are_typed_right(block):
    for line in block.commands:
        words = shlex.split(line)
        assert words[0] in SHELL | {"gasearch"}, line
        if words[0] == "gasearch" and words[1] != "--version":
            parse(typer.main.get_command(app), words[1:])


SHELL = {".", "ase", "cd", "docker", "make", "pip", "python3", "source", "ssh"}


def parse(command, words):
    """Let typer read the words of a command; it raises what a user would see."""
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    try:
        command.make_context(command.name, list(words))
    except typer.BadParameter as error:  # files of the reader
        if "does not exist" not in error.message:
            raise


@named([one for one in EVERY if one.language == "toml"])
def test_settings_are_valid(block, tmp_path):
    if "settings of a training" in block.mark:
        path = tmp_path / "settings.toml"
        path.write_text(block.text)
        assert read_training_file(path, {}).settings.epochs > 0
        return
    whole = tomllib.loads(block.text)
    host = {"structure": "nafepo4-olivine", "supercell": [1, 1, 1]}
    whole["host"] = host | whole.get("host", {})
    whole["potential"] = {"name": "pmmcs"} | whole.get("potential", {})
    assert isinstance(run_settings(whole, block.name), RunSettings)


@named([one for one in EVERY if one.language == "python"])
def test_python_is_python_and_its_imports_are_there(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "gasearch":
            module = __import__(node.module, fromlist=["*"])
            assert all(hasattr(module, alias.name) for alias in node.names), block.name


@pytest.fixture(scope="session")
def my_run(tmp_path_factory):
    """Type the example of README; return the folder, and what was printed."""
    folder = tmp_path_factory.mktemp("docs")
    return folder, run_lines(folder, block(README, "--plot hull.png"))


def run_lines(folder, block):
    """Run a shell block in a folder; return what it printed."""
    printed = []
    with contextlib.chdir(folder):
        for line in block.commands:
            words = shlex.split(line)
            if words[0] == "gasearch":
                answer = run_here(*words[1:])
                assert answer.status == 0, f"{line}: {answer.err}"
                printed.append(answer.out)
            else:
                subprocess.run([sys.executable, "-m", *words], check=True)
    return "".join(printed)


NUMBER = re.compile(r"-?\d+\.\d+")


def test_the_example_of_readme_prints_what_readme_shows(my_run):
    _, printed = my_run
    for shown in [one.text for one in blocks(README) if one.language == "text"]:
        rows = [NUMBER.sub("#", line).split() for line in shown.splitlines()]
        start = next(
            n
            for n, line in enumerate(printed.splitlines())
            if line.split() == shown.split("\n")[0].split()
        )
        found = printed.splitlines()[start : start + len(rows)]
        assert [NUMBER.sub("#", line).split() for line in found] == rows
        numbers = [float(number) for number in NUMBER.findall("\n".join(found))]
        assert numbers == pytest.approx([float(n) for n in NUMBER.findall(shown)], abs=0.2)


def test_the_two_commands_come_first_and_are_what_ci_runs():
    run, test, *_ = [one.commands for one in blocks(README) if one.language == "bash"]
    assert (run, test) == (["make run"], ["make test"])
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_the_five_minutes_are_the_example_of_readme():
    page = DOCS / "start.md"
    typed, shown = block(page, "gasearch init my-run"), block(page, "Fe4P4O16")
    assert typed.commands == block(README, "gasearch init my-run").commands[:2]
    assert shown.text == block(README, "Fe4P4O16").text


PAGES = [page for page in pages() if any(one.mark.startswith("runs") for one in blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_is_marked_to_run_runs(page, my_run, tmp_path, monkeypatch):
    """In order, all Python of a page in one namespace; `my-run` is what README's example made."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    shutil.copytree(my_run[0] / "my-run", tmp_path / "my-run")
    namespace = {"__name__": "page"}
    for one in blocks(page):
        if one.mark not in ("runs", "runs with my-run"):
            continue
        if one.language == "bash":
            assert run_lines(tmp_path, one)
        else:
            with contextlib.chdir(tmp_path):
                exec(compile(one.text, one.name, "exec"), namespace)


def test_the_page_on_python_says_what_it_found(my_run, tmp_path, capsys):
    page = DOCS / "how-to" / "python.md"
    shutil.copytree(my_run[0] / "my-run", tmp_path / "my-run")
    hull = block(page, "joint_hull(")
    with contextlib.chdir(tmp_path):
        exec(compile(hull.text, hull.name, "exec"), {})
    printed = capsys.readouterr().out
    assert [line.split()[-1] for line in printed.splitlines()[:3]] == ["1", "13", "2"]
    assert "2.93 V, 452 Wh/kg" in printed


def test_the_operators_of_the_page_search(tmp_path, make_run):
    page = DOCS / "how-to" / "operators.md"
    (tmp_path / "my_operators.py").write_text(block(page, "class RandomOperation").text)
    operators = tomllib.loads(block(page, "[operators]").text)["operators"]
    folder = make_run(
        tmp_path,
        supercell=(1, 2, 1),
        budget=60,
        operators=operators,
        screening={"surrogate": False, "exact": False},
    )
    assert Session(RunFolder(folder)).run() == "budget"
    with RunFolder(folder).open_store() as store:
        used = {proposal.operator for proposal in store.proposals()}
    assert set(operators) <= used


def test_the_potential_of_the_page_searches(tmp_path, make_run):
    page = DOCS / "how-to" / "your-own-potential.md"
    (tmp_path / "my_potential.py").write_text(block(page, "my_potential.py, in").text)
    name = tomllib.loads(block(page, "./my_potential.py:calculator").text)["potential"]["name"]
    folder = make_run(tmp_path, name, budget=4, search={"x": [0.5]})
    assert Session(RunFolder(folder)).run() == "budget"


def test_the_acquisition_of_the_page_searches(tmp_path, make_run):
    page = DOCS / "concepts" / "screening.md"
    (tmp_path / "mine.py").write_text(block(page, "def lower_bound").text)
    screening = {"acquisition": "./mine.py:lower_bound", "exact": False}
    folder = make_run(tmp_path, budget=12, screening=screening)
    assert Session(RunFolder(folder)).run() == "budget"

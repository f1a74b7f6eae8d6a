"""Who may import whom, and what stays out of the quick commands."""

import ast
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

import gasearch
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session

HEAVY = (
    "torch",
    "mace",
    "chgnet",
    "schnetpack",
    "pymatgen",
    "gpaw",
    "e3nn",
    "matplotlib",
    "plotly",
    "numba",
)


def modules(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        name = ".".join((Path(folder).name, *parts)).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def imported(tree, *, everywhere=True):
    """Return the modules that a module imports; only on its own level if not everywhere."""
    nodes = ast.walk(tree) if everywhere else _on_import(tree.body)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _on_import(body):
    """Yield the statements that run on import: not those of functions or for type checkers."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            yield from _on_import([*node.body, *node.orelse])
        elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
            yield from _on_import(node.body)


ENGINE = dict(modules("gasearch"))
OPERATORS = dict(modules("operators/gasearch_operators"))


def names_of(*folders):
    return {name for name in ENGINE if any(_is_in(name, f"gasearch.{one}") for one in folders)}


def _is_in(name, package):
    return name == package or name.startswith(f"{package}.")


def test_no_import_is_relative():
    for name, tree in (ENGINE | OPERATORS).items():
        relative = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
        assert not relative, name


def test_the_engine_knows_no_operator():
    for name, tree in ENGINE.items():
        assert not [i for i in imported(tree) if _is_in(i, "gasearch_operators")], name


def test_nothing_imports_the_command_line():
    callers = {
        name for name, tree in (ENGINE | OPERATORS).items() if "gasearch.cli.app" in imported(tree)
    }
    assert callers == {"gasearch.__main__"}


ORDER = [
    {"ground"},
    {"crystal"},
    {"potentials", "operators"},
    {"relax"},
    {"store"},
    {"run", "testing"},
    {"execution"},
    {"analysis"},
    {"search"},
    {"dft"},
    {"phases"},
    {"display"},
    {"training"},
    {"learning"},
    {"report", "doctor"},
    {"serve"},
    {"cli"},
]
"""The folders of gasearch/ from the lowest up: each imports what stands before it, and itself.

"ground" are the modules beside the folders. The architecture page has the same list.
"""
NAMES_OF_BEFORE = {"gasearch.decoration", "gasearch.ase_ga_adapters"}
OUTSIDE = {"gasearch", "gasearch.__main__", *NAMES_OF_BEFORE}
"""Doors into the package: they may import anything, and nothing inside imports them."""
MOST_AT_ONE_LEVEL = 12


def folder_of(name):
    first = name.split(".")[1]
    return first if (ROOT / "gasearch" / first).is_dir() else "ground"


def arrows():
    """Return the modules of gasearch that each imports, anywhere in its code."""
    found = {}
    for name, tree in ENGINE.items():
        inside = {i for i in imported(tree) if i in ENGINE}
        found[name] = {i for i in inside if i != name and not name.startswith(f"{i}.")}
    return found


def test_every_folder_has_its_place_in_the_order():
    folders = {folder_of(name) for name in ENGINE if name not in OUTSIDE}
    assert folders == set.union(*ORDER)


def test_no_arrow_runs_up():
    floor = {folder: n for n, folders in enumerate(ORDER) for folder in folders}
    up = {
        f"{name} -> {other}"
        for name, others in arrows().items()
        if name not in OUTSIDE
        for other in others - OUTSIDE
        if folder_of(name) != folder_of(other)
        if floor[folder_of(other)] >= floor[folder_of(name)]
    }
    assert up == set()


def test_nothing_inside_comes_through_the_doors():
    allowed = {"gasearch.__version__"}
    for name, tree in ENGINE.items():
        doors = {i for i in imported(tree) if i in OUTSIDE - {"gasearch"}}
        names = {i for i in imported(tree) if i.startswith("gasearch.") and i.count(".") == 1}
        lazy = {i for i in names if i.split(".")[1] in gasearch.__all__}
        assert not doors | (lazy - allowed), name


def test_no_module_is_part_of_a_circle():
    todo = arrows()
    while leaves := {name for name, others in todo.items() if not others & todo.keys()}:
        todo = {name: others for name, others in todo.items() if name not in leaves}
    assert {name: sorted(others & todo.keys()) for name, others in todo.items()} == {}


def test_no_folder_is_crowded_and_each_says_what_lives_there():
    for folder in [
        ROOT / "gasearch",
        *(p.parent for p in (ROOT / "gasearch").rglob("__init__.py")),
    ]:
        modules_here = [p for p in folder.glob("*.py") if not p.name.startswith("__")]
        assert len(modules_here) <= MOST_AT_ONE_LEVEL, folder
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
        assert docstring, folder
        assert len(docstring.split()) >= 6, folder


def test_the_architecture_page_has_the_same_order():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    told = [set(re.findall(r"`(\w+)/?`", line.split("|")[1])) for line in rows]
    assert [folders for folders in told if folders & set.union(*ORDER)] == ORDER[::-1]


def test_heavy_packages_are_imported_where_they_are_needed():
    """At the top of a module only below `potentials`, `training` and `relax`."""
    below = names_of("potentials", "training", "relax", "testing", "execution", "dft")
    below.add("gasearch.phases.walks.kernel")  # which is imported where it is needed
    for name in sorted(ENGINE.keys() - below):
        top = {i.partition(".")[0] for i in imported(ENGINE[name], everywhere=False) if i}
        assert not top & {*HEAVY}, name


def loaded_by(code, *arguments):
    """Return the modules that a new process has loaded after running some code."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return set(json.loads(result.stderr.splitlines()[-1]))


def test_import_gasearch_brings_nothing_with_it():
    before, after = loaded_by("pass"), loaded_by("import gasearch")
    assert after - before <= {"gasearch", "__future__"}


def test_the_names_that_scripts_import_are_there_and_lazy():
    for name in gasearch.__all__:
        assert getattr(gasearch, name) is not None
    with pytest.raises(AttributeError, match="Decorations"):
        gasearch.Decorations  # noqa: B018


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_run):
    folder = make_run(tmp_path_factory.mktemp("run"), budget=6)
    Session(RunFolder(folder)).run()
    return folder


COMMANDS = """
import json, sys
from gasearch.cli.app import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["gasearch", *words]
    status = None
    try:
        main()
    except SystemExit as ending:
        status = ending.code
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    print("loaded", json.dumps([words[0], status, loaded]), file=sys.stderr)
"""
QUICK = ("status", "best", "hull", "check", "export", "enumerate", "init", "run")
"""In this order, for `run` alone loads operators."""


def loaded_after(*commands):
    """Return what one process has loaded after each of some commands: [verb, status, packages]."""
    words = json.dumps([[*map(str, one)] for one in commands])
    result = subprocess.run(
        [sys.executable, "-c", COMMANDS, words], capture_output=True, text=True, cwd=ROOT
    )
    lines = [line for line in result.stderr.splitlines() if line.startswith("loaded ")]
    return [json.loads(line.removeprefix("loaded ")) for line in lines]


@pytest.fixture(scope="module")
def quick(finished, tmp_path_factory):
    """What is loaded once each quick command has ended, by verb."""
    place = tmp_path_factory.mktemp("quick")
    more = {"export": ["--output", place / "all.extxyz"]}
    commands = [[verb, finished, *more.get(verb, [])] for verb in QUICK]
    commands[QUICK.index("enumerate")] = ["enumerate", "--host", finished]
    commands[QUICK.index("init")] = ["init", place / "new"]
    found = loaded_after(*commands)
    return {verb: (status, set(loaded)) for verb, status, loaded in found}


@pytest.mark.parametrize("verb", QUICK)
def test_quick_commands_import_nothing_heavy(quick, verb):
    status, loaded = quick[verb]
    assert not status
    assert not loaded & {*HEAVY}
    assert ("gasearch_operators" in loaded) <= (verb == "run")


def test_help_and_usage_errors_need_no_numpy():
    found = loaded_after(["--help"], ["status"])
    assert len(found) == 2
    for _, _, loaded in found:
        assert "numpy" not in loaded

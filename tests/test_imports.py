"""Who may import whom, and what stays out of the quick commands."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gasearch.run_folder import RunFolder
from gasearch.session import Session

ROOT = Path(__file__).parents[1]
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
)


def modules(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        name = ".".join((Path(folder).name, *parts)).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"), str(path))


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


def names_of(*layers):
    return {name for name in ENGINE if any(_is_in(name, f"gasearch.{layer}") for layer in layers)}


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
        name for name, tree in (ENGINE | OPERATORS).items() if "gasearch.cli" in imported(tree)
    }
    assert callers == {"gasearch.__main__"}


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (
            ("decoration", "host", "host_declaration", "chemistry", "seeding", "errors", "hull"),
            ("search", "session", "population", "store", "relax", "execution", "potentials", "dft"),
        ),
        (("population", "store", "relax", "potentials", "hull"), ("search", "session", "dispatch")),
        (("store",), ("potentials", "execution", "population", "proposing", "config")),
        (("potentials", "relax"), ("store", "population", "config", "run_folder")),
        (
            ("search", "session", "dispatch", "proposing", "store", "relax", "potentials"),
            ("console", "terminal", "telling", "progress", "running", "plotting", "export"),
        ),
    ],
)
def test_arrows_point_downwards(lower, upper):
    forbidden = names_of(*upper)
    wrong = {name: sorted(imported(ENGINE[name]) & forbidden) for name in sorted(names_of(*lower))}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_heavy_packages_are_imported_where_they_are_needed():
    """At the top of a module only below `potentials`, `training` and `relax`."""
    below = names_of("potentials", "training", "relax", "testing", "execution", "dft")
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


def test_import_gasearch_takes_no_half_second():
    clock = "import time; t = time.perf_counter(); import gasearch; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", clock], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.5


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_run):
    folder = make_run(tmp_path_factory.mktemp("run"), budget=6)
    Session(RunFolder(folder)).run()
    return folder


COMMAND = """
import sys
from gasearch.cli import main
sys.argv = ["gasearch", *sys.argv[1:]]
try:
    main()
except SystemExit as ending:
    assert not ending.code, ending.code
"""


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["best"],
        ["hull"],
        ["check"],
        ["run"],
        ["export", "--output"],
        ["enumerate", "--host"],
        ["init"],
    ],
    ids=lambda command: command[0],
)
def test_quick_commands_import_nothing_heavy(finished, tmp_path, command):
    verb, *options = command
    arguments = [verb, str(finished), *options]
    if verb == "export":
        arguments.append(str(tmp_path / "all.extxyz"))
    elif verb == "enumerate":
        arguments = [verb, *options, str(finished)]
    elif verb == "init":
        arguments = [verb, str(tmp_path / "new")]
    loaded = {name.partition(".")[0] for name in loaded_by(COMMAND, *arguments)}
    assert not loaded & {*HEAVY}
    if verb != "run":
        assert "gasearch_operators" not in loaded


def test_help_and_usage_errors_need_no_numpy():
    code = COMMAND.replace("assert not ending.code, ending.code", "pass")
    for arguments in (["--help"], ["status"]):
        assert "numpy" not in loaded_by(code, *arguments)

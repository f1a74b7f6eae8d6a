"""Errors: one base, texts that say what to do, and they survive the way between processes."""

import ast
import builtins
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import gasearch
from gasearch.analysis.export import NothingFoundError
from gasearch.analysis.hull import NoEndMemberError
from gasearch.errors import DecorationError, UsageError
from gasearch.files import OutputError
from gasearch.plugins import PluginError
from gasearch.run.sections import RunFileError
from gasearch.search.resume import ChangedHostError, ChangedRunError
from gasearch.store.errors import SearchRunningError

ROOT = Path(gasearch.__file__).parent
SCRIPT = ROOT / "dft" / "codes" / "gpaw_job.py"  # runs alone, with nothing of ours beside it


def declared_errors():
    """Return {name: (base names, docstring)} of every class that is called an error."""
    found = {}
    for path in sorted({*ROOT.rglob("*.py")} - {SCRIPT}):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and _is_error(node.name):
                bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
                found[node.name] = (bases, ast.get_docstring(node))
    return found


def _is_error(name):
    return name.endswith("Error") and not name.startswith("_")


ERRORS = declared_errors()


def ancestors(name):
    bases = ERRORS[name][0] if name in ERRORS else []
    return {name}.union(*(ancestors(base) for base in bases))


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_has_the_one_base_and_a_builtin_that_a_caller_expects(name):
    bases, docstring = ERRORS[name]
    assert bases
    assert docstring
    assert "GasearchError" in ancestors(name) or name == "GasearchError"
    builtin = {base for base in ancestors(name) if hasattr(builtins, base)} - {"Exception"}
    assert builtin or name == "GasearchError"


def test_wrong_usage_is_a_value_error():
    assert issubclass(UsageError, ValueError)
    assert issubclass(DecorationError, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        RunFileError("run.toml is not TOML."),
        OutputError(Path("a.cif"), "No space left on device"),
        NothingFoundError(),
        NoEndMemberError([0.0, 1.0]),
        PluginError("operator", "./a.py:B", "there is no file."),
        ChangedRunError("search.seed", 1, 2, Path("run")),
        ChangedHostError("a.cif", ["cell"], Path("run")),
        SearchRunningError(Path("search.db"), "process 1 on here"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_out_of_another_process_as_they_went_in(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert "\n" not in str(error)


ELSEWHERE = """
import sys
from importlib import util

for name in ("fcntl", "resource"):
    sys.modules[name] = None  # import fails
found = util.find_spec
util.find_spec = lambda name, *rest: None if name in ("fcntl", "resource") else found(name, *rest)
"""


@pytest.mark.parametrize(
    "code",
    [
        "from gasearch.cli.app import main; sys.argv = ['gasearch', 'status', 'run']; main()",
        "import gasearch\ntry: gasearch.Session\nexcept ImportError as error: sys.exit(str(error))",
    ],
)
def test_a_system_without_posix_locks_gets_one_line(code):
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE + code], capture_output=True, text=True, check=False
    )
    assert done.returncode
    (line,) = done.stderr.strip().splitlines()
    assert "Linux and macOS" in line
    assert "WSL" in line

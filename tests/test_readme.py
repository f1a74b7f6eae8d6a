"""What README shows works as it is shown."""

import re
import tomllib

import pytest
from places import ROOT

from gasearch.plugins import registered
from gasearch.run.config import RunSettings, run_settings
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.testing import check_operator
from gasearch.training.settings import read_training_file

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def operator_file(tmp_path):
    (source,) = [block for block in blocks("python") if "my_operators.py" in block]
    path = tmp_path / "my_operators.py"
    path.write_text(source)
    return path


def test_the_operator_of_readme_passes_the_public_check(operator_file):
    namespace = {"__name__": "my_operators"}
    exec(compile(operator_file.read_text(), operator_file, "exec"), namespace)
    check_operator(namespace["RandomOperation"]())


def test_the_operators_of_readme_search(tmp_path, make_run, operator_file):
    (section,) = [block for block in blocks("toml") if "my_operators.py" in block]
    operators = tomllib.loads(section)["operators"]
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


def test_the_host_of_readme_is_a_valid_section():
    (section,) = [block for block in blocks("toml") if "host.sublattice" in block]
    settings = run_settings(tomllib.loads(section) | {"potential": {"name": "pmmcs"}}, "README.md")
    assert isinstance(settings, RunSettings)
    assert [s.kind for s in settings.host.sublattice] == ["working_ion", "redox"]


def test_the_training_settings_of_readme_are_valid(tmp_path):
    (section,) = [block for block in blocks("toml") if "[loss]" in block]
    path = tmp_path / "settings.toml"
    path.write_text(section)
    file = read_training_file(path, {})
    assert (file.settings.patience, file.settings.loss.hop_share) == (20, 3.0)


def test_every_registered_operator_is_named():
    assert all(f"`{name}`" in README for name in registered("operator"))


def test_every_command_is_named():
    from gasearch.cli.app import app

    names = [c.name or c.callback.__name__ for c in app.registered_commands]
    potential = app.registered_groups[0].typer_instance.registered_commands
    assert len(names) >= 9
    names += [f"potential {command.name or command.callback.__name__}" for command in potential]
    assert all(re.search(f"`gasearch {name}[ `]", README) for name in names)


def test_the_two_commands_are_what_ci_runs():
    assert "make run" in blocks("bash")[0]
    assert "make test" in blocks("bash")[1]
    assert "make test" in (ROOT / ".ci" / "run").read_text()

"""What is in the wheel."""

import re
import tomllib
import zipfile
from importlib.metadata import version

import pytest
from hatchling.builders.wheel import WheelBuilder
from places import ROOT

import gasearch
from gasearch.potentials.shipped import shipped_names

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(place), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        yield {name: archive.read(name) for name in archive.namelist()}


def test_its_top_level_is_two_packages_and_nothing_else(wheel):
    top = {name.partition("/")[0] for name in wheel}
    assert top == {"gasearch", "gasearch_operators", f"gasearch-{gasearch.__version__}.dist-info"}


def test_it_holds_every_module(wheel):
    for folder, source in (("gasearch", ROOT), ("gasearch_operators", ROOT / "operators")):
        ours = {str(p.relative_to(source)) for p in (source / folder).rglob("*.py")}
        assert ours == {n for n in wheel if n.startswith(f"{folder}/") and n.endswith(".py")}
        assert f"{folder}/py.typed" in wheel


def test_it_holds_no_database_log_or_cache(wheel):
    endings = (".db", ".log", ".pyc", ".pt", ".pth")
    assert not [name for name in wheel if name.endswith(endings)]


def test_it_holds_the_shipped_models_and_no_other_weights(wheel):
    weights = {name for name in wheel if name.endswith(".safetensors")}
    assert weights == {f"gasearch/models/{n}/weights.safetensors" for n in shipped_names()}
    assert {f"gasearch/models/{name}/model.json" for name in shipped_names()} <= set(wheel)


def test_it_holds_the_licence_and_the_entry_points(wheel):
    (licence,) = [name for name in wheel if name.endswith("licenses/LICENSE")]
    assert wheel[licence] == (ROOT / "LICENSE").read_bytes()
    (points,) = [name for name in wheel if name.endswith("entry_points.txt")]
    text = wheel[points].decode()
    assert "gasearch = gasearch.cli.app:main" in text
    for name in PROJECT["entry-points"]["gasearch.operators"]:
        assert f"{name} = gasearch_operators." in text


def test_there_is_one_version():
    assert PROJECT["version"] == gasearch.__version__ == version("gasearch")


@pytest.mark.parametrize("group", ["gasearch.operators", "gasearch.potentials"])
def test_every_entry_point_leads_to_a_name_in_the_wheel(wheel, group):
    for value in PROJECT["entry-points"][group].values():
        module, _, name = value.partition(":")
        path = module.replace(".", "/")
        source = wheel.get(f"{path}.py", wheel.get(f"{path}/__init__.py", b"")).decode()
        assert re.search(rf"^(class|def) {name}\b", source, flags=re.MULTILINE)


EXTRAS = PROJECT["optional-dependencies"]


def test_all_brings_what_users_need_and_no_compiler():
    (everything,) = EXTRAS["all"]
    (names,) = re.findall(r"^gasearch\[(.+)\]$", everything)
    left_out = {"dev", "docs", "gpaw", "notebooks", "test"}
    assert {*names.split(",")} == EXTRAS.keys() - left_out - {"all"}


def test_what_breaks_with_its_next_version_has_an_upper_bound():
    bounded = {"ase", "ase-ga", "chgnet", "mace-torch", "mkdocs", "pydantic", "sqlalchemy", "typer"}
    stated = [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]
    for name in bounded:
        (found,) = [one for one in stated if re.match(rf"{name}[><=\[]", one)]
        assert "<" in found, found


def test_only_the_python_that_runs_the_tests_is_claimed():
    versions = [one.rsplit(" ", 1)[1] for one in PROJECT["classifiers"] if ":: Python :: 3." in one]
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").partition("\n")[0]
    assert versions == re.findall(r"Python (3\.\d+)", pinned)


def test_schnetpack_comes_by_itself_where_it_can():
    (found,) = [one for one in EXTRAS["schnetpack"] if one.startswith("schnetpack")]
    assert found == "schnetpack>=2.2,<3; python_version >= '3.12'"


IN_CONDA = {"torch": "pytorch", "safetensors": "python-safetensors"}


def test_the_conda_recipe_has_the_same_dependencies_and_version():
    yaml = pytest.importorskip("yaml")
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["context"]["version"] == PROJECT["version"]
    split = [re.match(r"([\w-]+)(.*)", one).groups() for one in PROJECT["dependencies"]]
    ours = {f"{IN_CONDA.get(name, name)} {bounds}" for name, bounds in split}
    assert {*recipe["requirements"]["run"]} == ours | {f"python {PROJECT['requires-python']}"}


def test_the_container_is_made_of_files_that_are_there():
    lines = (ROOT / "Containerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in kept


def test_a_search_is_set_up_with_little():
    """`make run` installs torch and CHGNet; the tests add the rest."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = dict(re.findall(r"^(\S+):[^\n]*\n((?:\t[^\n]*\n)+)", text, flags=re.MULTILINE))
    installed = re.findall(r"\$\(PIP\) (.+)", rules["$(SEARCHES)"])
    assert installed == ["torch", "--editable '.[chgnet]'"]
    assert "gasearch run" in rules["run"]
    assert re.search(r"^run: \$\(SEARCHES\)$", text, flags=re.MULTILINE)


def test_release_notes_are_the_part_of_the_changelog():
    import runpy

    notes = runpy.run_path(str(ROOT / "tools" / "release_notes.py"))["notes"]
    text = "# Changelog\n\n## [Unreleased]\n\n- next\n\n## [0.1.0] - 2026-01-01\n\n- first\n"
    assert notes("0.1.0", text) == "- first"
    with pytest.raises(SystemExit, match="nothing under"):
        notes("0.2.0", text)

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

"""The script that cross-validates and trains the shipped models, on a recipe of seconds."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import sys

import ase.io
import pytest
from places import BENCHMARKS, SHIPPED_FRAMES
from typer.testing import CliRunner

from gasearch.learning.folder import LearnFolder
from gasearch.potentials.networks.checkpoint import load_checkpoint
from gasearch.training.data.reading import read_frames

if importlib.util.find_spec("schnetpack") is None:
    pytest.skip("no schnetpack here", allow_module_level=True)
OF_ROUND = ("number", "runs", "level", "n_jobs", "jobs", "agreement", "expected_hull", "hull")
OF_ROUND += ("training", "model")
TINY = {"n_features": 8, "n_interactions": 1, "n_radial": 6, "cutoff": 3.0}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("train_models")
    settings = module.TrainingSettings(epochs=1, batch_size=32)
    before = module.Lessons("pmmcs", {(1, 1, 1): 5})
    recipe = module.Recipe("painn", "fresh", settings, TINY, before, settings, before)
    monkeypatch.setitem(module.RECIPES, "tiny", recipe)
    few = list(read_frames([SHIPPED_FRAMES]).frames)[::3]
    monkeypatch.setattr(module.Crystal, "frames", few)
    yield module
    for name in ("train_models", "machine"):
        sys.modules.pop(name, None)


def test_a_fold_is_validated_once_and_read_back(script, tmp_path):
    command = ["validate", "tiny", "--only", "1", "--output", str(tmp_path), "--json"]
    first = CliRunner().invoke(script.app, command)
    assert first.exit_code == 0, first.output
    document = json.loads(first.stdout)
    (fold,) = document["folds"]
    assert fold["errors"]["n_frames"] > fold["errors_without_hops"]["n_frames"] > 0
    mean, errors = document["mean"], fold["errors"]
    assert mean["force_mae_meV_per_A"] == pytest.approx(errors["force_mae_meV_per_A"])
    assert (tmp_path / "before" / "tiny" / "model.json").exists()
    weights = tmp_path / "tiny" / "fold1" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    again = CliRunner().invoke(script.app, command)
    assert json.loads(again.stdout)["mean"] == document["mean"]
    assert weights.stat().st_mtime_ns == before


def test_a_shipped_model_knows_its_metal(script, tmp_path):
    result = CliRunner().invoke(script.app, ["ship", "tiny", "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    card = load_checkpoint(tmp_path / "shipped" / "tiny-nafepo4").card
    assert card.working_ion_metal == {"Na": -1.32195}
    assert card.notes["split"]["held_out"] == []
    assert "licence" in card.notes


def test_networks_of_a_loop_are_judged_by_the_frames_of_the_round_after(script, tmp_path):
    frames = ase.io.read(SHIPPED_FRAMES, ":60")
    output = ["--output", str(tmp_path), "--crystal", "nafepo4"]
    assert CliRunner().invoke(script.app, ["ship", "tiny", *output]).exit_code == 0
    for number, n_frames, network in ((1, 20, None), (2, 40, "round-1/model"), (3, 60, None)):
        place = LearnFolder(tmp_path / "loop").round(number)
        place.path.mkdir(parents=True)
        ase.io.write(place.frames, frames[:n_frames], format="extxyz")
        result = dict.fromkeys(OF_ROUND) | {"searched_with": network}
        place.result_file.write_text(json.dumps(result))
    shutil.copytree(tmp_path / "shipped" / "tiny-nafepo4", tmp_path / "loop/round-1/model")
    done = CliRunner().invoke(script.app, ["forward", "tiny", str(tmp_path / "loop"), *output])
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "tiny" / "validation.json").read_text())
    (row,) = document["folds"]  # the third round searched with what is not trained
    assert (row["held_out"], row["errors"]["n_frames"]) == (["round 2"], 20)
    assert "rounds of a learning loop" in document["are"]
    model = ["--model", str(tmp_path / "loop/round-1/model"), "--to", str(tmp_path / "to")]
    done = CliRunner().invoke(script.app, ["package", "tiny", *model, *output])
    assert done.exit_code == 0, done.output
    card = load_checkpoint(tmp_path / "to" / "tiny-nafepo4").card
    assert (card.name, card.working_ion_metal) == ("tiny-nafepo4", {"Na": -1.32195})
    assert card.notes["errors_are"] == f"{document['are'].format(1)}; this model saw all"


def test_every_recipe_names_a_teacher_that_exists(script):
    untrained = {"pmmcs", "chgnet:ga", "chgnet:blind"}
    for recipe in script.RECIPES.values():
        if recipe.before is not None:
            assert recipe.before.teacher in untrained  # one for all folds: it knows no frame
        if recipe.beside is not None:
            assert recipe.beside.teacher in {*untrained, *script.RECIPES}


def test_an_unknown_recipe_is_refused_by_name(script):
    result = CliRunner().invoke(script.app, ["validate", "nosuch"])
    assert result.exit_code == 2
    assert "chgnet" in result.output

"""Models on disk: what is written is what is read, and what was tampered with is refused."""

import hashlib
import importlib.util
import json
import os
import pickle

import pytest
import torch
from crystals import perovskites
from toy_network import ToyNetwork

from gasearch.crystal.species import Species
from gasearch.plugins import PluginError
from gasearch.potentials.contract import Batch
from gasearch.potentials.networks import architectures
from gasearch.potentials.networks.architectures import UnknownArchitectureError, architecture
from gasearch.potentials.networks.checkpoint import (
    CheckpointError,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from gasearch.potentials.networks.declaration import Architecture, MissingPackageError
from gasearch.potentials.networks.model_card import ModelCard, TrainingDomain
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.potentials.registry import load_potential

FE2, FE3 = Species("Fe", 2), Species("Fe", 3)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "toy", Architecture("toy_network:ToyNetwork"))


@pytest.fixture
def model():
    torch.manual_seed(0)
    card = ModelCard(
        name="toy-of-test",
        species_map=SpeciesMap(
            {FE2: 26, FE3: 31, Species("Na", 1): 11, Species("F", -1): 9},
        ),
        reference={26: -6.5, 31: -6.5, 11: 1 / 3},
        moment_ranges={FE2: (3.5, 4.15), FE3: (4.15, 4.8)},
        working_ion_metal={"Na": -1.32195},
        domain=TrainingDomain.from_frames([crystal()]),
        data_hash="ab" * 32,
        notes={"split": "by decoration", "error_meV": 2.5},
    )
    return ToyNetwork((9, 11, 26, 31)), card


@pytest.fixture
def folder(tmp_path, model):
    save_checkpoint(tmp_path / "models" / "toy", *model)
    return tmp_path / "models" / "toy"


def crystal():
    atoms = perovskites()[0]
    atoms.rattle(0.05, seed=3)
    return atoms


def edit(folder, **changes):
    path = folder / "model.json"
    document = json.loads(path.read_text())
    document.update(changes)
    path.write_text(json.dumps(document))


def test_a_model_comes_back_bit_by_bit(folder, model):
    network, card = model
    before, after = NetworkPotential(network, card), load_checkpoint(folder)
    assert after.card == card
    assert after.weights_hash == before.weights_hash
    batch = Batch.from_atoms([crystal()])
    one, other = before.evaluate(batch), after.evaluate(batch)
    assert torch.equal(one.energies, other.energies)
    assert torch.equal(one.forces, other.forces)
    assert torch.equal(one.stresses, other.stresses)


def test_the_same_model_is_written_in_the_same_bytes(folder, tmp_path):
    save_checkpoint(tmp_path / "again", *read_checkpoint(folder))
    for name in ("model.json", "weights.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_model_replaces_an_older_one_and_leaves_no_other_file(folder, model):
    network, card = model
    with torch.no_grad():
        network.bias += 1
    save_checkpoint(folder, network, card)
    assert torch.equal(load_checkpoint(folder).network.bias, network.bias)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.safetensors"]


def test_weights_keep_their_precision(tmp_path, model):
    network, card = model
    save_checkpoint(tmp_path / "double", network.double(), card)
    loaded, _ = read_checkpoint(tmp_path / "double")
    assert loaded.dtype == torch.float64
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_versions_are_recorded(folder):
    versions = json.loads((folder / "model.json").read_text())["versions"]
    assert set(versions) == {"gasearch", "torch"}


@pytest.mark.parametrize("text", ["models/toy", "./models/toy"])
def test_a_search_names_a_model_by_its_folder(folder, tmp_path, text):
    assert load_potential(text, tmp_path).name == "toy-of-test"


def test_a_flipped_byte_is_refused(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="sha256 differs") as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": 2}, "its format is 2, this gasearch reads up to 1; upgrade gasearch"),
        ({"format": None}, "no model description"),
        ({"arguments": {"slots": [9, 11, 26, 31], "n_radial": 5}}, "do not fit"),
        ({"arguments": {"radius": 4.5}}, "do not fit"),
        ({"reference": {"iron": -6.5}}, "makes no sense"),
        ({"species": {"Fe9": 26}}, "makes no sense"),
        ({"domain": {}}, "makes no sense"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused_in_one_line(folder, changes, text):
    edit(folder, **changes)
    with pytest.raises(CheckpointError, match=text) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_torn_description_is_refused(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.json"):
        load_checkpoint(folder)


def test_missing_keys_are_named(folder):
    (folder / "model.json").write_text('{"format": 1, "name": "x"}')
    with pytest.raises(CheckpointError, match="lacks architecture, arguments, species"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_missing_files_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"no {name}"):
        load_checkpoint(folder)


def test_an_unknown_architecture_is_refused(folder):
    edit(folder, architecture="toyy")
    with pytest.raises(UnknownArchitectureError, match="did you mean 'toy'"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("chgnet", r"No chgnet here; try: pip install 'gasearch\[chgnet\]'$"),
        ("mace", r"No mace here; try: pip install 'gasearch\[mace\]'$"),
        ("painn", r"pip install --no-deps schnetpack==2.1.1$"),
    ],
)
def test_a_missing_package_says_what_brings_it(monkeypatch, folder, name, advice):
    edit(folder, architecture=name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(MissingPackageError, match=advice):
        load_checkpoint(folder)


def test_the_architectures_of_the_package_are_known_by_name():
    assert {"chgnet", "mace", "painn", "cpainn"} <= set(architectures.ARCHITECTURES)
    assert architecture("toy") is ToyNetwork


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "model.txt").write_text("")
    with pytest.raises(PluginError, match=r"expected a folder with a model\.json"):
        load_potential("./model.txt", tmp_path)
    with pytest.raises(PluginError, match="there is no"):
        load_potential("./nothing", tmp_path)


def test_species_belong_to_foreign_models_only(folder, tmp_path):
    with pytest.raises(PluginError, match="remove `species`"):
        load_potential("models/toy", tmp_path, species={"Fe3+": "Ga"})
    with pytest.raises(PluginError, match="remove `species`"):
        load_potential("pmmcs", species={"Fe3+": "Ga"})


def test_a_pickle_in_place_of_the_weights_is_not_opened(folder, tmp_path):
    trace = tmp_path / "trace"

    class Malice:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    content = pickle.dumps(Malice())
    (folder / "weights.safetensors").write_bytes(content)
    edit(folder, weights_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(folder)
    assert not trace.exists()


def test_a_folder_without_a_model_is_named_once(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    assert str(caught.value).count(str(tmp_path)) == 1
    assert "no model.json can be read there" in str(caught.value)

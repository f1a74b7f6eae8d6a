"""Model files of other packages are told by their content, whatever their names."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from crystals import olivine

from gasearch.plugins import PluginError
from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.declaration import UnsupportedModelError
from gasearch.potentials.networks.network import quiet
from gasearch.potentials.networks.sniffing import TORCHSCRIPT, kind_of
from gasearch.potentials.registry import load_potential
from gasearch.potentials.trust import trust


@pytest.fixture(autouse=True)
def _own_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.mark.parametrize("zipped", [True, False])
def test_dictionaries_are_told_by_their_keys(tmp_path: Path, zipped: bool) -> None:
    for kind, keys in (
        ("cpainn", ("model", "node_size", "num_layer")),
        ("chgnet", ("model", "state_dict", "model_args")),
        ("", ("model", "epoch")),
    ):
        path = tmp_path / "any.bin"
        content = dict.fromkeys(keys, torch.ones(2))
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        assert kind_of(path.read_bytes()) == kind


def test_nothing_is_run_and_what_is_no_model_is_none(tmp_path: Path) -> None:
    class Malice:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return sys.exit, ("ran",)

    torch.save({"model": Malice(), "node_size": 3, "num_layer": 3}, tmp_path / "evil.pth")
    assert kind_of((tmp_path / "evil.pth").read_bytes()) == "cpainn"
    assert kind_of(b"") == kind_of(b"data_NaFePO4\n_cell_length_a 10.4\n") == ""
    (tmp_path / "notes.txt").write_text("a model of mine")
    with pytest.raises(PluginError, match="or a model file of mace"):
        load_potential(str(tmp_path / "notes.txt"))


def test_a_compiled_model_is_refused_with_the_way_to_the_plain_one(tmp_path: Path) -> None:
    path = tmp_path / "mine_compiled.model"
    with quiet():
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    assert kind_of(path.read_bytes()) == TORCHSCRIPT
    with pytest.raises(UnsupportedModelError, match=r"compiled\.model, is compiled.*NAME"):
        load_potential(str(path))


def test_a_chgnet_is_read_under_any_name(tmp_path: Path) -> None:
    chgnet = pytest.importorskip("chgnet")
    (shipped,) = (Path(chgnet.__file__).parent / "pretrained" / "0.3.0").glob("*.pth.tar")
    path = tmp_path / "fine-tuned.pth"
    shutil.copy(shipped, path)
    trust(path)
    batch = Batch.from_atoms([olivine(0.5)])
    found = load_potential(str(path)).evaluate(batch)
    assert torch.equal(found.energies, load_potential("chgnet").evaluate(batch).energies)

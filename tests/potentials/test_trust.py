"""Pickles of strangers: none is opened unless the user recorded its content."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

from gasearch.errors import UsageError
from gasearch.potentials.registry import load_potential
from gasearch.potentials.trust import (
    PickledArrayError,
    TrustRecordError,
    UntrustedFileError,
    is_trusted,
    meaning,
    read_array,
    read_trusted,
    record_path,
    trust,
)


class Malice:
    """Makes a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def trace(tmp_path):
    return tmp_path / "trace"


def write(path, trace):
    """Write a malicious file of the kind that its name says."""
    if path.suffix == ".npy":
        np.save(path, np.array([Malice(trace)], dtype=object), allow_pickle=True)
    else:
        torch.save({"model": Malice(trace)}, path)
    return path


def test_the_malicious_files_are_malicious(tmp_path, trace):
    path = write(tmp_path / "evil.model", trace)
    torch.load(path, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize("name", ["evil.model", "evil.pth.tar", "best_model"])
def test_a_malicious_model_leaves_no_trace(tmp_path, trace, name):
    write(tmp_path / name, trace)
    with pytest.raises(UntrustedFileError, match="gasearch potential trust") as caught:
        load_potential(f"./{name}", tmp_path)
    assert not trace.exists()
    assert isinstance(caught.value, UsageError)


def test_a_plain_pickle_under_another_name_leaves_no_trace(tmp_path, trace):
    (tmp_path / "evil.npy").write_bytes(pickle.dumps(Malice(trace)))
    write(tmp_path / "objects.npy", trace)
    for name in ("evil.npy", "objects.npy"):
        with pytest.raises(UsageError):
            load_potential(f"./{name}", tmp_path)
        with pytest.raises(PickledArrayError, match="no plain array"):
            read_array(tmp_path / name)
    assert not trace.exists()


def test_trust_is_in_the_content_not_in_the_name(tmp_path, trace):
    path = write(tmp_path / "mine.model", trace)
    digest = trust(path)
    assert is_trusted(path)
    assert read_trusted(path) == path.read_bytes()
    moved = path.rename(tmp_path / "renamed.model")
    assert is_trusted(moved)
    moved.write_bytes(moved.read_bytes() + b" ")
    assert not is_trusted(moved)
    with pytest.raises(UntrustedFileError):
        read_trusted(moved)
    assert list(json.loads(record_path().read_text())) == [digest]
    assert not trace.exists()


def test_trust_adds_up_and_is_private(tmp_path):
    record = tmp_path / "deep" / "trusted.json"
    paths = [tmp_path / name for name in ("a.model", "b.model")]
    for path in paths:
        path.write_text(path.name)
        trust(path, record)
    assert all(is_trusted(path, record) for path in paths)
    assert not is_trusted(paths[0])
    assert record.stat().st_mode & 0o077 == 0


def test_the_warning_says_what_trust_means(tmp_path):
    path = tmp_path / "a.model"
    path.write_text("x")
    text = meaning(path)
    assert "run code" in text
    assert "if you know and trust who did" in text
    assert str(path) in text


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_torn_record_is_told(tmp_path, text):
    record = tmp_path / "trusted.json"
    record.write_text(text)
    path = tmp_path / "a.model"
    path.write_text("x")
    with pytest.raises(TrustRecordError, match="correct or delete it"):
        read_trusted(path, record)


def test_arrays_of_numbers_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3.0))
    assert read_array(tmp_path / "a.npy").tolist() == [0.0, 1.0, 2.0]

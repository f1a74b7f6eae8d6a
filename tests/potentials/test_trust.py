"""Pickles of strangers: none is opened unless the user recorded its content."""

import json
import os
import pickle

import pytest
import torch

from gasearch.errors import UsageError
from gasearch.potentials.registry import load_potential
from gasearch.potentials.trust import (
    TrustRecordError,
    UntrustedFileError,
    meaning,
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


@pytest.fixture
def trace(tmp_path):
    return tmp_path / "trace"


def write(path, trace):
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
    with pytest.raises(UsageError):
        load_potential("./evil.npy", tmp_path)
    assert not trace.exists()


def test_trust_is_in_the_content_not_in_the_name(tmp_path, trace):
    path = write(tmp_path / "mine.model", trace)
    digest = trust(path)
    content = path.read_bytes()
    assert read_trusted(path) == content
    moved = path.rename(tmp_path / "renamed.model")
    assert read_trusted(moved) == content
    moved.write_bytes(content + b" ")
    with pytest.raises(UntrustedFileError):
        read_trusted(moved)
    assert list(json.loads(record_path().read_text())) == [digest]
    assert not trace.exists()


def test_trust_adds_up_and_is_private(tmp_path):
    paths = [tmp_path / name for name in ("a.model", "b.model")]
    for path in paths:
        path.write_text(path.name)
        trust(path)
    assert [read_trusted(path).decode() for path in paths] == ["a.model", "b.model"]
    assert record_path().stat().st_mode & 0o077 == 0


def test_the_warning_says_what_trust_means(tmp_path):
    path = tmp_path / "a.model"
    path.write_text("x")
    text = meaning(path)
    assert "run code" in text
    assert "if you know and trust who did" in text
    assert str(path) in text


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_torn_record_is_told(tmp_path, text):
    record_path().parent.mkdir(parents=True)
    record_path().write_text(text)
    path = tmp_path / "a.model"
    path.write_text("x")
    with pytest.raises(TrustRecordError, match="correct or delete it"):
        read_trusted(path)

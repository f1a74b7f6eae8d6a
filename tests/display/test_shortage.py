"""Memory that runs out is a line that says what it was needed for, never a bug to be reported."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gasearch.display.shortage import is_shortage, shortage_line
from gasearch.run.folder import RunFolder
from gasearch.seeding import named_rng


def error_of(work):
    try:
        work()
    except Exception as error:  # noqa: BLE001 -- whatever it is
        return error
    return None


def test_numpy_says_how_much_was_needed():
    error = error_of(lambda: np.zeros(10**15))
    assert is_shortage(error)
    assert shortage_line(error).startswith("memory ran out: 7.11 PiB were needed by ")


def test_torch_says_how_much_was_needed():
    error = error_of(lambda: torch.empty(10**15))
    assert is_shortage(error)
    assert "4000000000000000 bytes were needed" in shortage_line(error)


def test_our_own_function_is_named(monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr("numpy.random.SeedSequence", full)
    line = shortage_line(error_of(lambda: named_rng(0, "host")))
    assert "more was needed by named_rng of seeding.py" in line


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (ImportError("No module named 'x'"), False),
        (RuntimeError("shapes differ"), False),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), False),
    ],
)
def test_other_errors_are_none(error, expected):
    assert is_shortage(error) is expected


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux alone has ulimit -v")
def test_a_search_in_too_little_address_space_says_so(make_run, tmp_path):
    folder = make_run(tmp_path / "run", "pmmcs", budget=2)
    assert RunFolder(folder).run_file.is_file()
    limit = f"ulimit -v 500000; exec {sys.executable} -m gasearch run {folder}"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    ended = subprocess.run(
        ["bash", "-c", limit],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "memory ran out: more was needed to load torch" in ended.stderr
    assert "this process may have 0.48 GiB of address space" in ended.stderr
    assert "report" not in ended.stderr

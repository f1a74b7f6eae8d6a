"""What tests of DFT share: the olivine of 28 atoms, and run folders with few candidates."""

import shutil
import sys

import numpy as np
import pytest
from fake_dft import FAKE, FakeProgram

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session


@pytest.fixture(autouse=True)
def no_potcars(monkeypatch):
    """Nothing says where POTCAR files are."""
    for name in ("VASP_PP_PATH", "PMG_VASP_PSP_DIR", "PMG_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def host():
    return Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))


@pytest.fixture(scope="session")
def atoms(host):
    """A decoration of x = 3/4 with one Fe3+."""
    drawn = Decoration.random(host, host.composition_at(0.75), np.random.default_rng(2))
    return drawn.to_atoms()


@pytest.fixture(scope="session")
def whole(tmp_path_factory, make_run):
    """A run that knows all 16 decorations, whose GPAW is a fake; to be copied."""
    command = [sys.executable, str(FAKE)]
    gpaw = {"dft.gpaw": {"command": command}}
    folder = make_run(tmp_path_factory.mktemp("whole"), budget=100, **gpaw)
    Session(RunFolder(folder)).run()
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


@pytest.fixture
def in_process(monkeypatch):
    """Programs of jobs run in this process."""
    monkeypatch.setattr("gasearch.execution.jobs.start_local_job", FakeProgram)

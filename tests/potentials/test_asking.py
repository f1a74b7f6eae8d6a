"""What a user's potential raises is told as his error, with his message and his line."""

from __future__ import annotations

from pathlib import Path

import pytest
from crystals import olivine

from gasearch.errors import UsageError
from gasearch.plugins import PluginError
from gasearch.potentials.asking import PotentialRaisedError
from gasearch.potentials.contract import Batch
from gasearch.potentials.measured.level import measure_level
from gasearch.potentials.registry import load_potential
from gasearch.relax.batched.relaxer import BatchRelaxer

SOURCE = """
import sys
from ase.calculators.calculator import Calculator, all_changes
from gasearch.potentials.pmmcs import Pmmcs

class Raises(Calculator):
    implemented_properties = ["energy", "forces", "stress"]
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        raise ValueError("my table ends\\n at 3 A")

class Exits(Raises):
    def calculate(self, *args, **keys):
        sys.exit(3)

class Forgets(Raises):
    def calculate(self, *args, **keys):
        self.results = {"energy": 0.0}

class Native(Pmmcs):
    def evaluate(self, batch):
        raise KeyError("layer_7")

class Leaves(Pmmcs):
    def evaluate(self, batch):
        sys.exit("no licence")

def exits():
    sys.exit("no weights")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pot.py").write_text(SOURCE)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Raises", "ValueError: my table ends at 3 A (pot.py, line 9)"),
        ("Exits", "SystemExit: 3 (pot.py, line 13)"),
        ("Forgets", "not present in this calculation"),
        ("Native", "KeyError: 'layer_7' (pot.py, line 21)"),
        ("Leaves", "SystemExit: no licence (pot.py, line 25)"),
    ],
)
def test_an_error_of_a_potential_is_told_as_its_own(folder: Path, name: str, told: str) -> None:
    potential = load_potential(f"./pot.py:{name}", folder)
    with pytest.raises(PotentialRaisedError) as error:
        measure_level(potential, [olivine(0.5)])
    assert told in str(error.value)
    assert isinstance(error.value, UsageError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Raises", "ValueError: my table ends at 3 A"),
        ("Exits", "SystemExit: 3 (pot.py, line 13)"),
        ("Leaves", "SystemExit: no licence (pot.py, line 25)"),
    ],
)
def test_a_relaxation_with_it_fails_and_its_worker_lives_on(
    folder: Path, name: str, told: str
) -> None:
    relaxer = BatchRelaxer(load_potential(f"./pot.py:{name}", folder))
    ((number, relaxed),) = relaxer.relax([(1, olivine(0.5))])
    assert (number, relaxed.verdict) == (1, "failed")
    assert told in relaxed.reason


def test_a_factory_that_exits_ends_nothing(folder: Path) -> None:
    with pytest.raises(PluginError, match=r"SystemExit: no weights \(pot.py, line 28\)"):
        load_potential("./pot.py:exits", folder)


def test_a_file_that_exits_when_imported_ends_nothing(folder: Path) -> None:
    (folder / "gone.py").write_text("import sys\nsys.exit('no')\n")
    with pytest.raises(PluginError, match="SystemExit: no"):
        load_potential("./gone.py:make", folder)


def test_a_file_imports_its_neighbours_and_finds_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    energies = []
    for name, charge in (("a", 1.0), ("b", 2.0)):
        place = tmp_path / name / "deep"
        place.mkdir(parents=True)
        (place / "helpers.py").write_text(f"epsilon = {charge}\n")
        (place / "weights.txt").write_text("2.0")
        (place / "pot.py").write_text(
            "from pathlib import Path\n"
            "from ase.calculators.lj import LennardJones\n"
            "from helpers import epsilon\n"
            "def make():\n"
            "    sigma = float(Path('weights.txt').read_text())\n"
            "    return LennardJones(sigma=sigma, epsilon=epsilon, rc=6.0)\n"
        )
        monkeypatch.chdir(tmp_path)
        potential = load_potential("./deep/pot.py:make", Path(name))
        assert Path.cwd() == tmp_path
        energies.append(float(potential.evaluate(Batch.from_atoms([olivine()])).energies[0]))
    assert energies[1] == pytest.approx(2 * energies[0]), "each has the helpers of its own folder"

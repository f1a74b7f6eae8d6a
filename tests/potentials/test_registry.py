"""From a name in run.toml to a potential."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from crystals import olivine

from gasearch.errors import UsageError
from gasearch.plugins import registered
from gasearch.potentials.ase_calculator import CalculatorChangedLabelsError
from gasearch.potentials.contract import Batch, Potential
from gasearch.potentials.registry import load_potential

PLUGIN = '''
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from gasearch.potentials.pmmcs import Pmmcs

class Toy(Calculator):
    """Looks at labels only; float32 like many a potential."""

    implemented_properties = ["energy", "forces", "stress", "magmoms"]
    meddles = False

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {
            "energy": np.float32(atoms.get_initial_charges() @ np.arange(len(atoms))),
            "forces": np.zeros((len(atoms), 3), dtype=np.float32),
            "stress": np.zeros(6, dtype=np.float32),
            "magmoms": atoms.get_initial_magnetic_moments().astype(np.float32),
        }
        if self.meddles:
            atoms.arrays["initial_magmoms"][:] = 0

class Meddler(Toy):
    meddles = True

class NoStress(Toy):
    implemented_properties = ["energy", "forces"]

def lennard_jones():
    return LennardJones(sigma=2.0, epsilon=0.1, rc=6.0)

def softer():
    return LennardJones(sigma=2.0, epsilon=0.05, rc=6.0)

def on_device(device):
    potential = Pmmcs()
    potential.device = device
    return potential

ready = Pmmcs()

def raises():
    raise RuntimeError("no weights here")

def wrong():
    return {"energy": 0}
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PLUGIN)
    return tmp_path


@pytest.mark.parametrize("name", list(registered("potential")))
def test_every_registered_potential_loads(name: str) -> None:
    assert isinstance(load_potential(name), Potential)


def test_pmmcs_is_registered_under_its_name() -> None:
    assert load_potential("pmmcs").name == "pmmcs"


def test_a_module_leads_to_a_potential() -> None:
    assert load_potential("gasearch.potentials.pmmcs:Pmmcs").name == "pmmcs"


def test_a_file_leads_to_a_calculator(folder: Path) -> None:
    potential = load_potential("./mine.py:lennard_jones", folder)
    assert isinstance(potential, Potential)
    assert potential.name == "./mine.py:lennard_jones"
    assert potential.species is None
    found = potential.evaluate(Batch.from_atoms([olivine(), olivine(1.0)]))
    assert found.energies.dtype == torch.float64
    assert found.stresses.shape == (2, 3, 3)


def test_a_factory_may_take_the_device(folder: Path) -> None:
    assert load_potential("./mine.py:on_device", folder, "meta").device == "meta"


def test_a_name_may_lead_to_a_finished_potential(folder: Path) -> None:
    assert load_potential("./mine.py:ready", folder).name == "pmmcs"


def test_a_calculator_sees_both_labels_and_gives_double_precision(folder: Path) -> None:
    atoms = olivine(0.5)
    found = load_potential("./mine.py:Toy", folder).evaluate(Batch.from_atoms([atoms, atoms]))
    expected = np.float32(atoms.get_initial_charges() @ np.arange(len(atoms)))
    assert found.energies.tolist() == [expected, expected]
    assert found.forces.dtype == torch.float64
    assert found.moments is not None
    assert found.moments.dtype == torch.float64
    np.testing.assert_array_equal(found.moments[:26], atoms.get_initial_magnetic_moments())


def test_a_calculator_that_writes_to_labels_is_caught(folder: Path) -> None:
    potential = load_potential("./mine.py:Meddler", folder)
    with pytest.raises(CalculatorChangedLabelsError, match="changed 'initial_magmoms'"):
        potential.evaluate(Batch.from_atoms([olivine(0.5)]))


def test_the_hash_follows_parameters_and_source(folder: Path) -> None:
    first = load_potential("./mine.py:lennard_jones", folder).weights_hash
    assert len(first) == 64
    assert load_potential("./mine.py:lennard_jones", folder).weights_hash == first
    assert load_potential("./mine.py:softer", folder).weights_hash != first
    (folder / "mine.py").write_text(PLUGIN + "\n# changed\n")
    assert load_potential("./mine.py:lennard_jones", folder).weights_hash != first


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pmmc", r"unknown \(did you mean 'pmmcs'\?\)"),
        ("./mine.py:raises", "making it raised RuntimeError: no weights here"),
        ("./mine.py:wrong", "expected a Potential or an ASE calculator, got dict without name"),
        ("./mine.py:NoStress", "the calculator gives no stress, which relaxing needs"),
        ("./mine.py:lenard_jones", r"has no 'lenard_jones' \(did you mean 'lennard_jones'\?\)"),
        ("./yours.py:potential", "there is no file"),
        ("no_such_package:potential", "no module named 'no_such_package'"),
    ],
)
def test_what_cannot_be_loaded_is_explained_in_one_line(
    text: str, problem: str, folder: Path
) -> None:
    with pytest.raises(UsageError, match=problem) as error:
        load_potential(text, folder)
    assert "\n" not in str(error.value)

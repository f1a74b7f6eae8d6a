"""What every architecture keeps, and imports that leave the process as they found it."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from crystals import perovskites, rattled

from gasearch.potentials.contract import Batch
from gasearch.potentials.listing import architectures, potentials
from gasearch.potentials.mace.network import import_mace, species_rows
from gasearch.potentials.measured.awareness import charge_awareness
from gasearch.potentials.networks.architectures import ARCHITECTURES, architecture
from gasearch.potentials.networks.checkpoint import load_checkpoint, save_checkpoint
from gasearch.potentials.networks.declaration import MissingPackageError
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import energies_forces_stress
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.slot_table import SlotError
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.potentials.painn.network import import_schnetpack
from gasearch.testing import check_potential

PACKAGES = ("schnetpack", "mace")
if any(importlib.util.find_spec(name) is None for name in PACKAGES) and not os.environ.get("CI"):
    pytest.skip("no mace or no schnetpack here: see README", allow_module_level=True)

SPECIES = {"O2-": 8, "F-": 9, "Na+": 11, "P5+": 15, "Fe2+": 26, "Fe3+": 31}
SLOTS = sorted(SPECIES.values())
CARD = ModelCard("network", SpeciesMap.from_json(SPECIES))
MACE = {"hidden_irreps": "8x0e + 8x1o", "radial_layers": [16, 16], "cutoff": 4.0, "scale": 30.0}
SMALL = {
    "painn": {"n_features": 16, "scale": 3.0},
    "cpainn": {"n_features": 16, "scale": 3.0},
    "mace": MACE,
}
SCALARS = {"hidden_irreps": "8x0e", "max_ell": 3, "correlation": 3}
LIKE_FOUNDATIONS = {"further": {"distance_transform": "Agnesi", "pair_repulsion": True}}
EACH = pytest.mark.parametrize("name", SMALL)


def made(name, dtype=torch.float64, **arguments):
    torch.manual_seed(3)
    return architecture(name)(SLOTS, **{**SMALL[name], **arguments}).to(dtype)


@pytest.mark.parametrize(
    ("name", "arguments", "step"),
    # The cosine cutoff of PaiNN has a kink in its second derivative: hence the small step.
    [("painn", {}, 3e-4), ("cpainn", {}, 3e-4), ("mace", {}, 1e-3), ("mace", SCALARS, 1e-3)],
)
def test_the_public_check_passes_in_double_precision(name, arguments, step):
    structures = perovskites() if name == "mace" else [*perovskites(), rattled()]
    check_potential(NetworkPotential(made(name, **arguments), CARD), structures, step=step)


@pytest.mark.parametrize(("name", "step"), [("painn", 4e-3), ("cpainn", 4e-3), ("mace", 2e-2)])
def test_the_public_check_passes_in_single_precision(name, step):
    structures = [rattled(), perovskites()[0]]
    potential = NetworkPotential(made(name, torch.float32), CARD)
    check_potential(potential, structures, tolerance=1e-3, step=step)


@EACH
def test_a_checkpoint_gives_the_same_network_back_and_holds_weights_only(name, tmp_path):
    before = NetworkPotential(made(name, torch.float32), CARD)
    save_checkpoint(tmp_path, before.network, CARD)
    after = load_checkpoint(tmp_path)
    assert after.weights_hash == before.weights_hash
    batch = Batch.from_atoms([rattled()])
    assert torch.equal(after.evaluate(batch).forces, before.evaluate(batch).forces)
    stored = sum(tensor.numel() for tensor in before.network.state_dict().values())
    assert stored < 1.5 * sum(p.numel() for p in before.network.parameters())


def make_alike(network, source, target):
    """Give a slot the weights of another."""
    here, there = (network.table.slots.index(slot) for slot in (source, target))
    with torch.no_grad():
        if network.architecture == "mace":
            for found in species_rows(network.model):
                found.rows[there] = found.rows[here]
            network.model.atomic_numbers[there] = network.model.atomic_numbers[here]
        else:
            rows = network.representation.embedding.weight
            rows[there] = rows[here]


@pytest.mark.parametrize(
    ("name", "arguments"), [("painn", {}), ("cpainn", {}), ("mace", {}), ("mace", LIKE_FOUNDATIONS)]
)
def test_a_slot_with_another_s_weights_is_felt_as_that_and_a_fresh_one_is_not(name, arguments):
    network = made(name, **arguments)
    potential, atoms = NetworkPotential(network, CARD), rattled()
    assert charge_awareness(potential, [atoms], np.random.default_rng(0)) > 5
    make_alike(network, 26, 31)
    batch = Batch.from_atoms([atoms])
    slots = CARD.species_map(batch.numbers, batch.charges)
    alike = torch.where(slots == 31, 26, slots)
    found, expected = (energies_forces_stress(network, batch, s) for s in (slots, alike))
    exact = {"rtol": 1e-12, "atol": 1e-13} if name == "mace" else {"rtol": 0, "atol": 0}
    assert torch.allclose(found.output.energies, expected.output.energies, **exact)
    assert torch.allclose(found.forces, expected.forces, **exact)
    if network.has_moments:
        assert torch.equal(found.output.moments, expected.output.moments)
    assert charge_awareness(potential, [atoms], np.random.default_rng(0)) < 1e-9


@EACH
def test_a_slot_that_the_network_does_not_have_is_refused(name):
    batch = Batch.from_atoms([rattled()])
    slots = CARD.species_map(batch.numbers, batch.charges)
    with pytest.raises(SlotError, match="no slot 57; the slots of this network: 8, 9, 11"):
        energies_forces_stress(made(name), batch, torch.where(slots == 11, 57, slots))


def test_a_potential_of_a_package_is_listed_with_it(monkeypatch):
    rows = {row.name: row for row in [*architectures(), *potentials()]}
    assert ARCHITECTURES.keys() <= rows.keys()
    assert rows["chgnet"].install == "pip install 'gasearch[chgnet]'"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "chgnet" else 1)
    (stock,) = [row for row in potentials() if row.name == "chgnet"]
    assert (stock.package, stock.available) == ("chgnet", False)


CODE = """
import os, sys
from gasearch.potentials.mace import network as mace
from gasearch.potentials.painn import network as painn
assert not {"mace", "schnetpack", "e3nn"} & set(sys.modules)
mace.MaceNetwork([8, 26], hidden_irreps="4x0e")
painn.PainnNetwork([8, 26])
assert "mace.modules" in sys.modules and "schnetpack" in sys.modules
assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
mace.import_mace("mace.calculators")
assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
import torch
assert slice not in torch.serialization.get_safe_globals()
assert torch.get_default_dtype() == torch.float32
"""


def test_packages_come_late_and_change_neither_output_nor_torch_load():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TORCH_FORCE")}
    environment["MPLBACKEND"] = "agg"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_user_s_own_setting_of_torch_load_stays(monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0")
    import_mace()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "0"


@pytest.mark.parametrize(
    ("package", "imported"), [("mace", import_mace), ("schnetpack", import_schnetpack)]
)
def test_a_missing_package_is_told_in_one_line(monkeypatch, package, imported):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as error:
        imported()
    text = str(error.value)
    assert text.startswith(f"No {package} here; try: pip install 'gasearch[{package}]'")
    assert "\n" not in text


def test_a_broken_package_shows_its_own_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "e3nn.o3", None)
    with pytest.raises(ModuleNotFoundError, match=r"e3nn\.o3"):
        import_mace()

"""MACE: the package's numbers, exact symmetries, slots, copies."""

import copy
import importlib.util
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from crystals import perovskites, rattled, with_gallium

from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import energies_forces_stress
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap

if importlib.util.find_spec("mace") is None and not os.environ.get("CI"):
    pytest.skip("no mace here: pip install 'gasearch[mace]'", allow_module_level=True)

from gasearch.potentials.mace.network import MaceArgumentsError, MaceNetwork, import_mace

SPECIES = {"O2-": 8, "F-": 9, "Na+": 11, "P5+": 15, "Fe2+": 26, "Fe3+": 31}
SLOTS = sorted(SPECIES.values())
SMALL = {"hidden_irreps": "8x0e + 8x1o", "radial_layers": [16, 16], "cutoff": 4.0}
LIKE_FOUNDATIONS = {"distance_transform": "Agnesi", "pair_repulsion": True}
SCALARS = {"hidden_irreps": "8x0e", "max_ell": 3, "correlation": 3}


def made(dtype=torch.float64, **arguments):
    torch.manual_seed(3)
    return MaceNetwork(SLOTS, **{**SMALL, "scale": 30.0, **arguments}).to(dtype)


def card():
    return ModelCard("network", SpeciesMap.from_json(SPECIES))


def potential(dtype=torch.float64, **arguments):
    return NetworkPotential(made(dtype, **arguments), card())


@pytest.mark.parametrize("arguments", [{}, SCALARS, {"further": LIKE_FOUNDATIONS}])
def test_energies_forces_and_stresses_are_those_of_mace(arguments):
    ours = potential(**arguments)
    model = copy.deepcopy(ours.network).model
    stock = import_mace("mace.calculators").MACECalculator(models=model, default_dtype="float64")
    atoms = rattled()
    found = ours.evaluate(Batch.from_atoms([atoms]))
    same = with_gallium(atoms)
    same.calc = stock
    assert found.energies.item() == pytest.approx(same.get_potential_energy(), rel=1e-12)
    assert np.abs(found.forces.numpy() - same.get_forces()).max() < 1e-11
    assert np.abs(found.stresses[0].numpy() - same.get_stress(voigt=False)).max() < 1e-13


def test_there_are_no_moments():
    assert not MaceNetwork.has_moments
    assert potential().evaluate(Batch.from_atoms([rattled()])).moments is None


def test_losses_reach_every_weight():
    network = made()
    batch = Batch.from_atoms([rattled(), perovskites()[0]])
    slots = card().species_map(batch.numbers, batch.charges)
    found = energies_forces_stress(network, batch, slots, create_graph=True)
    (found.forces.square().sum() + found.stresses.square().sum()).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_features_are_invariant_scalars_per_atom():
    network = made()
    atoms = rattled()
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    batch = Batch.from_atoms([atoms, turned])
    slots = card().species_map(batch.numbers, batch.charges)
    features = energies_forces_stress(network, batch, slots).output.features
    assert features.shape == (2 * len(atoms), 8)
    assert torch.allclose(*features.chunk(2), rtol=1e-9, atol=1e-12)


def test_copies_and_pickles_are_equal_and_need_no_torchscript():
    network = made().eval().requires_grad_(False)
    batch = Batch.from_atoms([rattled()])
    expected = NetworkPotential(network, card()).evaluate(batch)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert twin.dtype == torch.float64
        assert not twin.training
        assert not any(parameter.requires_grad for parameter in twin.parameters())
        assert torch.equal(NetworkPotential(twin, card()).evaluate(batch).forces, expected.forces)


def test_slots_need_not_be_elements_where_their_elements_are_told():
    with pytest.raises(MaceArgumentsError, match="slot 119 is no element: give `numbers`"):
        MaceNetwork([8, 119])
    network = MaceNetwork([8, 119], numbers=[8, 26], **SMALL)
    assert network.model.atomic_numbers.tolist() == [8, 26]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"numbers": [8]}, "1 atomic numbers for 6 slots"),
        ({"further": {"gate": "relu"}}, "gate 'relu', expected one of abs, tanh, silu"),
        ({"further": {"readout_cls": "Mine"}}, "readout_cls 'Mine', expected one of"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, problem):
    with pytest.raises(MaceArgumentsError, match=problem):
        made(**arguments)


def test_building_leaves_the_process_as_it_was():
    e3nn = import_mace("e3nn")
    before = e3nn.get_optimization_defaults(), torch.get_default_dtype()
    with pytest.raises(ValueError, match="Unable to convert"):
        made(hidden_irreps="8x0q")
    made()
    assert (e3nn.get_optimization_defaults(), torch.get_default_dtype()) == before


FRESH = """
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.host import Host
from gasearch.potentials.contract import Batch
from gasearch.potentials.registry import load_potential
host = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
atoms = host.atoms.copy()
atoms.set_initial_charges([{"Na": 1, "Fe": 2, "P": 5, "O": -2}[s] for s in atoms.symbols])
atoms.rattle(0.05, seed=1)
batch = Batch.from_atoms([atoms], "cpu")
potential = load_potential("mace-nafepo4")
for _ in range(3):
    found = potential.evaluate(batch)
    print(found.energies.tolist(), found.forces.tolist(), found.stresses.tolist())
"""


def test_the_first_evaluation_of_a_process_counts_the_same_as_later_ones():
    done = subprocess.run([sys.executable, "-c", FRESH], check=True, capture_output=True, text=True)
    first, second, third = done.stdout.splitlines()
    assert first == second == third
    assert "-1" in first

"""PaiNN and cPaiNN: schnetpack's numbers, exact symmetries, heads and slots."""

import importlib.util
import os

import pytest
import torch
from crystals import perovskites, rattled
from schnetpack_inputs import schnetpack_inputs

from gasearch.crystal.species import Species
from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import energies_forces_stress, find_edges, make_graph
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap

if importlib.util.find_spec("schnetpack") is None and not os.environ.get("CI"):
    pytest.skip("no schnetpack here: see README", allow_module_level=True)

from gasearch.potentials.networks.slot_table import SlotError
from gasearch.potentials.painn.network import (
    CpainnNetwork,
    PainnNetwork,
    import_schnetpack,
)

SPECIES = {"O2-": 8, "F-": 9, "Na+": 11, "P5+": 15, "Fe2+": 26, "Fe3+": 31}
SLOTS = sorted(SPECIES.values())
BOTH = pytest.mark.parametrize("kind", [PainnNetwork, CpainnNetwork])


def made(kind, dtype=torch.float64, **arguments):
    torch.manual_seed(3)
    return kind(SLOTS, **{"n_features": 16, "scale": 3.0, **arguments}).to(dtype)


def card():
    return ModelCard("network", SpeciesMap.from_json(SPECIES))


def potential(kind, dtype=torch.float64, **arguments):
    return NetworkPotential(made(kind, dtype, **arguments), card())


def batch_of(*structures):
    batch = Batch.from_atoms(structures)
    return batch, card().species_map(batch.numbers, batch.charges)


def schnetpack_model(network):
    """Return schnetpack's own model on the layers of one of ours."""
    spk = import_schnetpack()
    atomwise = spk.atomistic.Atomwise(n_in=network.arguments["n_features"], output_key="energy")
    atomwise.outnet = network.energy_head
    return spk.model.NeuralNetworkPotential(
        representation=network.representation,
        input_modules=[spk.atomistic.Strain(), spk.atomistic.PairwiseDistances()],
        output_modules=[atomwise, spk.atomistic.Forces(calc_stress=True)],
    ).eval()


@BOTH
def test_energies_forces_and_stresses_are_those_of_schnetpack(kind):
    network = made(kind, scale=1.0)
    atoms = rattled()
    batch, slots = batch_of(atoms)
    found = energies_forces_stress(network, batch, slots)
    inputs = schnetpack_inputs(atoms, network.table(slots), network.cutoff)
    expected = schnetpack_model(network)(inputs)
    for ours, theirs in [
        (found.output.energies, expected["energy"]),
        (found.forces, expected["forces"]),
        (found.stresses, expected["stress"]),
    ]:
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-11)


@BOTH
def test_no_vector_passes_through_a_biased_layer(kind):
    for mixing in made(kind).representation.mixing:
        assert mixing.mu_channel_mix.bias is None


@BOTH
def test_a_rotation_changes_nothing_but_rounding_even_after_training_steps(kind):
    network = made(kind)
    atoms = rattled()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        found = energies_forces_stress(network, *batch_of(atoms), create_graph=True)
        (found.forces.square().mean() + found.output.moments.square().mean()).backward()
        optimizer.step()
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    found = NetworkPotential(network, card()).evaluate(Batch.from_atoms([atoms, turned]))
    assert found.energies[0].item() == pytest.approx(found.energies[1].item(), rel=1e-13)
    moments = found.moments.reshape(2, -1)
    assert torch.allclose(moments[0], moments[1], rtol=1e-12, atol=1e-13)


@BOTH
def test_losses_reach_every_weight_that_is_used(kind):
    network = made(kind)
    found = energies_forces_stress(network, *batch_of(rattled()), create_graph=True)
    loss = found.forces.square().sum() + found.stresses.square().sum()
    loss = loss + found.output.energies.sum() + found.output.moments.square().sum()
    loss.backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    rows = network.representation.embedding.weight.grad.abs().sum(1)  # no fluorine in olivine
    assert [SLOTS[k] for k in torch.nonzero(rows == 0)] == [9]


@BOTH
def test_a_model_without_moments_has_none(kind):
    without = potential(kind, moments=False)
    assert not without.network.has_moments
    batch = Batch.from_atoms([rattled()])
    assert without.evaluate(batch).moments is None
    assert potential(kind).evaluate(batch).moments.shape == (26,)


@BOTH
def test_the_scale_multiplies_energies(kind):
    batch = Batch.from_atoms([rattled()])
    one, three = (potential(kind, scale=s).evaluate(batch) for s in (1.0, 3.0))
    assert torch.allclose(3 * one.energies, three.energies, rtol=1e-12)
    assert torch.allclose(one.moments, three.moments, rtol=1e-12)


@pytest.mark.parametrize("slots", [[], [8, 8], [0, 8], [8, 1000]])
def test_lists_of_slots_that_make_no_sense_are_refused(slots):
    with pytest.raises(SlotError):
        PainnNetwork(slots)


def test_an_atom_without_neighbours_costs_nothing():
    atoms = perovskites()[0]
    atoms.set_cell(atoms.cell.array * 4, scale_atoms=True)
    found = potential(PainnNetwork).evaluate(Batch.from_atoms([atoms]))
    assert torch.isfinite(found.energies).all()
    assert not found.forces.any()


def graph_of(network, atoms):
    batch, slots = batch_of(atoms)
    return make_graph(batch, slots, find_edges(batch, network.cutoff), network.dtype)


def test_cpainn_is_as_in_the_paper():
    network = CpainnNetwork(SLOTS)
    assert network.cutoff == 4.0
    assert network.representation.radial_basis.n_rbf == 20
    assert isinstance(network.moment_head, torch.nn.Linear)


def test_without_charge_labels_there_is_no_charge_head_and_it_says_so():
    network = made(CpainnNetwork)
    graph = graph_of(network, rattled())
    assert network(graph).charges is None
    assert "no charge head" in str(network)


def test_charges_are_an_output_that_never_enters_the_energy():
    network = made(CpainnNetwork, charges=True)
    graph = graph_of(network, rattled())
    found = network(graph)
    assert found.charges.shape == (26,)
    heads = [*network.charge_head.parameters(), *network.moment_head.parameters()]
    gradients = torch.autograd.grad(found.energies.sum(), heads, allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_linear_heads_read_the_features_two_layers_before_the_last():
    network = made(CpainnNetwork, n_interactions=4)
    found = network(graph_of(network, rattled()))
    layers = list(network.representation.interactions)
    for layer, is_read in zip(layers, [True, True, False, False], strict=True):
        weights = list(layer.parameters())
        gradients = torch.autograd.grad(
            found.moments.sum(), weights, allow_unused=True, retain_graph=True
        )
        assert any(gradient is not None for gradient in gradients) == is_read


def test_slots_need_not_be_elements():
    species = SPECIES | {"Fe3+": 119}
    network = PainnNetwork(sorted(species.values()), n_features=8)
    found = NetworkPotential(network, ModelCard("own", SpeciesMap.from_json(species)))
    assert Species.parse("Fe3+") in found.species
    assert torch.isfinite(found.evaluate(Batch.from_atoms([rattled()])).energies).all()

"""Graphs, gradients and the potential that a network makes, on a network of a few lines."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from gasearch.crystal.species import Species
from gasearch.potentials.contract import Batch, UntrainedSpeciesError, check_species
from gasearch.potentials.networks.model_card import ModelCard, TrainingDomain
from gasearch.potentials.networks.network import (
    Network,
    NetworkOutput,
    energies_forces_stress,
    find_edges,
    make_graph,
)
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.testing import check_potential, toy_host

SPECIES = {"Na+": 11, "Fe2+": 26, "Fe3+": 31, "F-": 9}


class PairNetwork(Network):
    """A smooth pair energy with one learned number per slot."""

    architecture = "toy"
    has_moments = True

    def __init__(self, cutoff=5.0):
        super().__init__()
        self.cutoff = cutoff
        self.arguments = {"cutoff": cutoff}
        self.weights = torch.nn.Parameter(torch.linspace(-9, 9, 40, dtype=torch.float64))

    def forward(self, graph):
        rows = self.weights[graph.slots]
        fade = (1 - graph.distances / self.cutoff).clamp(0) ** 5
        bonds = fade * (90 + rows[graph.i] * rows[graph.j] + rows[graph.i])
        energy = torch.zeros_like(rows).index_add(0, graph.i, bonds)
        return NetworkOutput(graph.sum_by_system(energy), energy, energy[:, None])


def card(**changes):
    slots = {Species.parse(text): slot for text, slot in SPECIES.items()}
    defaults = {"name": "toy", "species_map": SpeciesMap(slots), "reference": {26: -6.5, 31: -6.5}}
    return ModelCard(**(defaults | changes))


def structures():
    host = toy_host()
    rng = np.random.default_rng(0)
    decorations = host.compositions[len(host.compositions) // 2], host.compositions[1]
    from gasearch.crystal.decoration import Decoration

    made = [Decoration.random(host, composition, rng).to_atoms() for composition in decorations]
    return [made[0], made[1], made[0].repeat((1, 1, 2))]


def as_set(i, j, vectors):
    return sorted(zip(i.tolist(), j.tolist(), np.round(vectors, 5).tolist(), strict=True))


@pytest.mark.parametrize("cutoff", [2.5, 6.0])
def test_edges_are_those_of_ase(cutoff):
    atoms = bulk("NaCl", "rocksalt", 5.6)
    atoms.rattle(0.1, seed=1)
    atoms.positions += 7.3
    atoms.set_initial_charges([1, -1])
    batch = Batch.from_atoms([atoms])
    edges = find_edges(batch, cutoff)
    graph = make_graph(batch, batch.numbers, edges, torch.float64)
    i, j, vectors, offsets = neighbor_list("ijDS", atoms, cutoff)
    assert as_set(graph.i, graph.j, graph.vectors.numpy()) == as_set(i, j, vectors)
    assert as_set(graph.i, graph.j, edges.offsets.numpy()) == as_set(i, j, offsets)


def test_the_second_half_of_the_edges_is_the_first_reversed():
    batch = Batch.from_atoms(structures())
    graph = make_graph(batch, batch.numbers, find_edges(batch, 5.0), torch.float64)
    half = len(graph.i) // 2
    assert torch.equal(graph.i[:half], graph.j[half:])
    assert torch.allclose(graph.vectors[:half], -graph.vectors[half:])
    assert torch.equal(graph.system[graph.i], graph.edges.system)


def test_a_network_becomes_a_potential():
    check_potential(NetworkPotential(PairNetwork(), card()), structures())


def test_losses_of_forces_and_stresses_reach_the_weights():
    network = PairNetwork()
    batch = Batch.from_atoms(structures())
    slots = card().species_map(batch.numbers, batch.charges)
    found = energies_forces_stress(network, batch, slots, create_graph=True)
    loss = found.forces.square().sum() + found.stresses.square().sum()
    (gradient,) = torch.autograd.grad(loss, network.weights)
    assert gradient.abs().max() > 0
    assert found.output.energies.requires_grad


def test_results_carry_no_gradient():
    batch = Batch.from_atoms(structures())
    found = NetworkPotential(PairNetwork(), card()).evaluate(batch)
    tensors = (found.energies, found.forces, found.stresses, found.moments)
    assert not any(tensor.requires_grad for tensor in tensors)


def test_the_reference_is_added_in_double_precision():
    batch = Batch.from_atoms(structures())
    plain = NetworkPotential(PairNetwork(), card(reference={})).evaluate(batch)
    shifted = NetworkPotential(PairNetwork(), card()).evaluate(batch)
    iron = [sum(atoms.numbers == 26) for atoms in structures()]
    assert torch.allclose(
        shifted.energies - plain.energies,
        torch.tensor([-6.5 * n for n in iron], dtype=torch.float64),
        atol=1e-12,
        rtol=0,
    )


@pytest.mark.parametrize("damage", ["nan", "flat", "collapsed"])
def test_a_senseless_structure_costs_only_itself(damage):
    potential = NetworkPotential(PairNetwork(), card())
    good = structures()
    bad = good[1].copy()
    if damage == "nan":
        bad.positions[3, 1] = np.nan
    elif damage == "flat":
        bad.set_cell(bad.cell.array * np.array([[1e3], [1e-3], [1]]))
    else:
        bad.set_cell(bad.cell.array * 0.3, scale_atoms=True)
    alone = potential.evaluate(Batch.from_atoms([good[0], good[2]]))
    mixed = potential.evaluate(Batch.from_atoms([good[0], bad, good[2]]))
    assert torch.isnan(mixed.energies[1])
    assert torch.isnan(mixed.forces[len(good[0]) : len(good[0]) + len(bad)]).all()
    assert torch.allclose(mixed.energies[[0, 2]], alone.energies, rtol=1e-12)
    assert torch.allclose(mixed.stresses[[0, 2]], alone.stresses, rtol=1e-9, atol=1e-12)


def test_batches_of_nonsense_alone_give_nan():
    bad = structures()[0]
    bad.positions[0] = np.inf
    found = NetworkPotential(PairNetwork(), card()).evaluate(Batch.from_atoms([bad]))
    assert torch.isnan(found.energies).all()
    assert torch.isnan(found.moments).all()


def test_the_identity_covers_weights_species_and_reference():
    network = PairNetwork()
    hashes = {
        NetworkPotential(network, card()).weights_hash,
        NetworkPotential(network, card(reference={26: -6.4})).weights_hash,
        NetworkPotential(network, card(species_map=SpeciesMap.parse({"Fe3+": "Ga"}))).weights_hash,
        NetworkPotential(PairNetwork(4.5), card()).weights_hash,
    }
    assert len(hashes) == 4
    assert NetworkPotential(PairNetwork(), card(name="other")).weights_hash in hashes


def test_untrained_species_are_refused():
    domain = TrainingDomain.from_frames(structures())
    changes = {"domain": domain, "species_map": SpeciesMap.parse({"Fe3+": "Ga"})}
    potential = NetworkPotential(PairNetwork(), card(**changes))
    lithium = Atoms("LiF", cell=[4, 4, 4], scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
    lithium.set_initial_charges([1, -1])
    with pytest.raises(UntrainedSpeciesError, match=r"does not know Li\+"):
        check_species(potential, lithium)
    with pytest.raises(UntrainedSpeciesError, match=r"does not know Li\+"):
        potential.evaluate(Batch.from_atoms([lithium]))


def test_extrapolation_is_told_in_words():
    frames = structures()
    potential = NetworkPotential(PairNetwork(), card(domain=TrainingDomain.from_frames(frames)))
    assert potential.extrapolations(frames[0]) == ()
    large = frames[0].repeat((1, 2, 2))
    large.set_cell(large.cell.array * 1.2, scale_atoms=True)
    text = "; ".join(potential.extrapolations(large))
    assert "atoms (trained on" in text
    assert "Å^3 per atom" in text
    emptied = frames[0].copy()
    del emptied[[atom.index for atom in emptied if atom.symbol == "Fe"]]
    assert any("Fe" in line or "F " in line for line in potential.extrapolations(emptied))
    assert TrainingDomain.from_json(potential.card.domain.to_json()) == potential.card.domain


def test_large_batches_are_taken_in_passes():
    potential = NetworkPotential(PairNetwork(), card())
    good = structures()
    bad = good[0].copy()
    bad.positions[0] = np.nan
    many = [*good, *good[::-1], good[2].repeat((2, 2, 2)), bad, *good, *good]
    found = potential.evaluate(Batch.from_atoms(many))
    alone = [potential.evaluate(Batch.from_atoms([atoms])) for atoms in many]
    kwargs = {"rtol": 1e-12, "atol": 1e-12, "equal_nan": True}
    for name in ("energies", "forces", "stresses", "moments"):
        expected = torch.cat([getattr(one, name) for one in alone])
        assert torch.allclose(getattr(found, name), expected, **kwargs)

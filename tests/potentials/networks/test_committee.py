"""Committees: energies and forces of their members on every architecture, and who carries them."""

import importlib.util
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from crystals import perovskites, rattled
from toy_network import ToyNetwork

from gasearch.crystal.species import MomentRanges, Species
from gasearch.potentials.contract import Batch
from gasearch.potentials.held.hold import Hold
from gasearch.potentials.held.potential import HeldByBonds, HeldByMoments
from gasearch.potentials.networks.architectures import architecture
from gasearch.potentials.networks.checkpoint import (
    MODEL_FILE,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from gasearch.potentials.networks.committee import (
    Committee,
    NoReadoutError,
    readout_sums,
    readout_width,
)
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import find_edges, make_graph
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap

SPECIES = {"O2-": 8, "F-": 9, "Na+": 11, "P5+": 15, "Fe2+": 26, "Fe3+": 31}
SLOTS = sorted(SPECIES.values())
ARGUMENTS = {
    "chgnet": {"atom_fea_dim": 16, "bond_fea_dim": 16, "angle_fea_dim": 16, "n_conv": 2},
    "painn": {"slots": SLOTS, "n_features": 16, "scale": 3.0},
    "cpainn": {"slots": SLOTS, "n_features": 16},
    "mace": {"slots": SLOTS, "hidden_irreps": "8x0e + 8x1o", "radial_layers": [16], "cutoff": 4.0},
}
PACKAGES = {"chgnet": "chgnet", "painn": "schnetpack", "cpainn": "schnetpack", "mace": "mace"}
FE2, FE3 = Species("Fe", 2), Species("Fe", 3)
RANGES: MomentRanges = {FE2: (-np.inf, 4.0), FE3: (4.2, np.inf)}


def network(name):
    if importlib.util.find_spec(PACKAGES[name]) is None and not os.environ.get("CI"):
        pytest.skip(f"no {PACKAGES[name]} here: see README")
    torch.manual_seed(1)
    return architecture(name)(**ARGUMENTS[name]).double()


def sums(model, structures):
    batch = Batch.from_atoms(structures)
    slots = SpeciesMap.from_json(SPECIES)(batch.numbers, batch.charges, batch.spins)
    graph = make_graph(batch, slots, find_edges(batch, model.cutoff), model.dtype)
    with torch.no_grad():
        return readout_sums(model, graph).numpy()


def members_of(n_features, k=3):
    return np.random.default_rng(5).normal(0, 0.01, (k, n_features))


def with_committee(model, **changes):
    committee = Committee(members_of(readout_width(model)), **changes)
    card = ModelCard("network", SpeciesMap.from_json(SPECIES), committee=committee)
    return NetworkPotential(model, card)


@pytest.fixture
def painn():
    return with_committee(network("painn"), force_scale=2.0)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_energy_is_linear_in_the_weights_of_the_readout(name):
    model, structures = network(name), perovskites()
    potential = NetworkPotential(model, ModelCard("network", SpeciesMap.from_json(SPECIES)))
    batch, known = Batch.from_atoms(structures), sums(model, structures)
    before = potential.evaluate(batch).energies.numpy()
    changes = np.random.default_rng(0).normal(size=(known.shape[1]))
    with torch.no_grad():
        weight = model.readout.weight
        weight += torch.from_numpy(changes).reshape(weight.shape)
    ratio = (potential.evaluate(batch).energies.numpy() - before) / (known @ changes)
    assert ratio[0] == pytest.approx(ratio[1])  # by the scale of the architecture
    assert ratio[0] != 0


@pytest.mark.parametrize("name", ARGUMENTS)
def test_spreads_are_those_of_energies_and_their_finite_differences(name):
    model, atoms = network(name), perovskites()[0]
    atoms.rattle(0.05, seed=3)
    potential = with_committee(model, force_scale=1.5)
    members, step, forces = potential.card.committee.members, 1e-4, []
    for k in range(len(atoms)):
        for axis in range(3):
            moved = [atoms.copy(), atoms.copy()]
            moved[0].positions[k, axis] += step
            moved[1].positions[k, axis] -= step
            up, down = sums(model, moved) @ members.T
            forces.append((down - up) / (2 * step))
    by_atom = np.sqrt((np.reshape(forces, (len(atoms), -1)) ** 2).sum(axis=1))
    found = potential.uncertainty([atoms])
    expected = np.linalg.norm(sums(model, [atoms]) @ members.T)
    assert found.energy_eV == pytest.approx([expected])
    assert found.force_eV_per_A == pytest.approx([1.5 * by_atom.max()], rel=1e-4)


def test_a_structure_that_makes_no_sense_costs_only_itself(painn):
    good, bad = rattled(), rattled()
    bad.positions[0, 0] = np.nan
    alone = painn.uncertainty([good])
    found = painn.uncertainty([bad, good])
    assert np.isnan([found.energy_eV[0], found.force_eV_per_A[0]]).all()
    assert found.energy_eV[1] == alone.energy_eV[0]
    assert found.force_eV_per_A[1] == alone.force_eV_per_A[0] > 0
    assert len(painn.uncertainty([]).energy_eV) == 0


def test_a_committee_is_kept_and_is_no_part_of_what_energies_depend_on(painn, tmp_path):
    save_checkpoint(tmp_path / "one", painn.network, painn.card)
    save_checkpoint(tmp_path / "other", painn.network, replace(painn.card, committee=None))
    one, other = (load_checkpoint(tmp_path / name) for name in ("one", "other"))
    assert one.weights_hash == other.weights_hash == painn.weights_hash
    assert other.uncertainty([rattled()]) is None
    assert "committee" not in json.loads((tmp_path / "other" / MODEL_FILE).read_text())
    found, expected = one.uncertainty([rattled()]), painn.uncertainty([rattled()])
    np.testing.assert_allclose(found.energy_eV, expected.energy_eV, rtol=1e-5)
    np.testing.assert_allclose(found.force_eV_per_A, expected.force_eV_per_A, rtol=1e-5)


@pytest.mark.parametrize("members", [[[0.1, 0.2]], [0.1], [[None] * 8], "x", [[0.1], [0.1, 0.2]]])
def test_a_committee_that_does_not_fit_is_refused_in_one_line(painn, tmp_path, members):
    save_checkpoint(tmp_path, painn.network, painn.card)
    document = json.loads((tmp_path / MODEL_FILE).read_text())
    document["committee"]["members"] = members
    (tmp_path / MODEL_FILE).write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"model\.json makes no sense|committee of 2"):
        load_checkpoint(tmp_path)


def test_a_network_that_names_no_readout_says_so():
    model = ToyNetwork(SLOTS)
    with pytest.raises(NoReadoutError, match="toy names no last linear layer"):
        sums(model, [rattled()])


def test_a_hold_changes_nothing_of_it(painn):
    lengths = {"Fe-O": 1.73, "Fe-F": 1.65}
    hold = Hold(by="moments", ranges=RANGES, stiffness=3.0, bond_lengths=lengths)
    found = painn.uncertainty([rattled()])
    for held in (HeldByMoments(painn, hold), HeldByBonds(painn, replace(hold, by="bonds"))):
        again = held.uncertainty([rattled()])
        assert again.energy_eV == found.energy_eV
        assert again.force_eV_per_A == found.force_eV_per_A

"""MACE models made elsewhere: used as they are, and as a start for charge-aware ones."""

import functools
import importlib.util
import io
import os

import numpy as np
import pytest
import torch
from crystals import rattled

from gasearch.crystal.species import Species
from gasearch.potentials.contract import Batch
from gasearch.potentials.measured.awareness import charge_awareness
from gasearch.potentials.networks.checkpoint import load_checkpoint, save_checkpoint
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.potentials.registry import load_potential
from gasearch.potentials.trust import UntrustedFileError, trust

if importlib.util.find_spec("mace") is None and not os.environ.get("CI"):
    pytest.skip("no mace here: pip install 'gasearch[mace]'", allow_module_level=True)

from gasearch.potentials.mace.network import import_mace
from gasearch.potentials.mace.weights import (
    from_foundation,
    from_model_file,
    open_model,
)
from gasearch.potentials.networks.declaration import UnsupportedModelError
from gasearch.potentials.networks.network import quiet

NUMBERS = (1, 8, 11, 15, 26, 31, 92)
SLOTS = {
    Species.parse(text): slot
    for text, slot in {"Na+": 11, "Fe2+": 26, "Fe3+": 31, "P5+": 15, "O2-": 8}.items()
}
BLIND = {species: species.number for species in SLOTS}
KINDS = {
    "plain": {},
    "two heads": {"heads": ["Default", "other"]},
    "agnesi": {"distance_transform": "Agnesi", "pair_repulsion": True},
    "density": {
        "interaction_cls": "RealAgnosticDensityResidualInteractionBlock",
        "interaction_cls_first": "RealAgnosticDensityInteractionBlock",
    },
    "nonlinear": {
        "interaction_cls": "RealAgnosticResidualNonLinearInteractionBlock",
        "interaction_cls_first": "RealAgnosticResidualNonLinearInteractionBlock",
        "readout_cls": "NonLinearBiasReadoutBlock",
        "edge_irreps": "4x0e + 4x1o",
        "use_agnostic_product": True,
        "apply_cutoff": False,
    },
}


@functools.cache
def foundation(numbers=NUMBERS, kind="plain", dtype=torch.float64):
    """Return a small model as mace's trainer makes it."""
    modules, o3 = import_mace(), import_mace("e3nn.o3")
    further = dict(KINDS[kind])
    heads = len(further.get("heads", ["Default"]))
    block = "RealAgnosticResidualInteractionBlock"
    arguments = {"interaction_cls": block, "interaction_cls_first": block, **further}
    for key in ("interaction_cls", "interaction_cls_first"):
        arguments[key] = modules.interaction_classes[arguments[key]]
    if "readout_cls" in arguments:
        arguments["readout_cls"] = modules.readout_classes[arguments["readout_cls"]]
        arguments["edge_irreps"] = o3.Irreps(arguments["edge_irreps"])
    energies = np.random.default_rng(0).normal(-5, 1, (heads, len(numbers)))
    torch.manual_seed(0)
    with import_mace("mace.tools.torch_tools").default_dtype(dtype), quiet():
        return modules.ScaleShiftMACE(
            r_max=4.0,
            num_bessel=6,
            num_polynomial_cutoff=5,
            max_ell=2,
            num_interactions=2,
            num_elements=len(numbers),
            hidden_irreps=o3.Irreps("4x0e + 4x1o"),
            MLP_irreps=o3.Irreps("4x0e"),
            atomic_energies=energies if heads > 1 else energies[0],
            avg_num_neighbors=20.0,
            atomic_numbers=list(numbers),
            correlation=2,
            gate=torch.nn.functional.silu,
            radial_MLP=[8, 8],
            atomic_inter_scale=[5.0] * heads,
            atomic_inter_shift=[0.1] * heads,
            **arguments,
        )


@functools.cache
def content_of(document):
    stream = io.BytesIO()
    with quiet():
        torch.save(document, stream)
    return stream.getvalue()


def stock(model, atoms, *, gallium):
    """Return energy, forces and stress of mace's own calculator."""
    calculator = import_mace("mace.calculators").MACECalculator
    copy = atoms.copy()
    if gallium:
        copy.symbols[(atoms.numbers == 26) & (atoms.get_initial_charges() == 3)] = "Ga"
    copy.calc = calculator(models=model, default_dtype="float64")
    return copy.get_potential_energy(), copy.get_forces(), copy.get_stress(voigt=False)


def assert_equal(found, expected, energy_shift=0.0):
    energy, forces, stress = expected
    assert found.energies.item() == pytest.approx(energy + energy_shift, rel=1e-11)
    assert np.abs(found.forces.numpy() - forces).max() < 1e-11
    assert np.abs(found.stresses[0].numpy() - stress).max() < 1e-12


def test_a_model_file_gives_what_mace_gives(tmp_path):
    path = tmp_path / "mine.model"
    path.write_bytes(content_of(foundation()))
    with pytest.raises(UntrustedFileError, match="gasearch potential trust"):
        load_potential(str(path), species={"Fe3+": "Ga"})
    trust(path)
    potential = load_potential(str(path), species={"Fe3+": "Ga"})
    atoms = rattled()
    found = potential.evaluate(Batch.from_atoms([atoms]))
    assert_equal(found, stock(foundation(), atoms, gallium=True))
    assert potential.cutoff == 4.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_clone_of_iron_is_exactly_the_model_it_was(kind):
    network, card = from_foundation(content_of(foundation(kind=kind)), SLOTS)
    potential = NetworkPotential(network, card)
    atoms = rattled()
    found = potential.evaluate(Batch.from_atoms([atoms]))
    assert_equal(found, stock(foundation(kind=kind), atoms, gallium=False))
    assert card.reference[31] == card.reference[26]
    assert charge_awareness(potential, [atoms], np.random.default_rng(0)) < 1e-6


@pytest.mark.parametrize("kind", ["plain", "agnesi"])
def test_a_start_from_gallium_is_aware_and_keeps_the_energy_reference_of_iron(kind):
    model = foundation(kind=kind)
    network, card = from_foundation(content_of(model), SLOTS, "ga")
    potential = NetworkPotential(network, card)
    atoms = rattled()
    found = potential.evaluate(Batch.from_atoms([atoms]))
    iron, gallium = model.atomic_energies_fn.atomic_energies.ravel()[[4, 5]].tolist()
    assert_equal(found, stock(model, atoms, gallium=True), 2 * (iron - gallium))
    assert charge_awareness(potential, [atoms], np.random.default_rng(0)) > 5


def test_a_blind_control_has_one_slot_for_iron():
    network, card = from_foundation(content_of(foundation()), BLIND)
    assert network.table.slots == (11, 26, 15, 8)
    atoms = rattled()
    found = NetworkPotential(network, card).evaluate(Batch.from_atoms([atoms]))
    assert_equal(found, stock(foundation(), atoms, gallium=False))


def test_a_model_of_as_many_species_is_not_taken_for_the_new_one():
    # mace's own function copies such a model unpermuted and loses the clone.
    numbers = tuple(sorted(SLOTS.values()))
    network, card = from_foundation(content_of(foundation(numbers)), SLOTS)
    potential = NetworkPotential(network, card)
    assert charge_awareness(potential, [rattled()], np.random.default_rng(0)) < 1e-6


def test_clones_are_those_of_mace_s_own_function():
    tools = import_mace("mace.tools.finetuning_utils")
    table = import_mace("mace.tools.utils").AtomicNumberTable([8, 11, 15, 26, 26])
    slots = dict(sorted(SLOTS.items(), key=lambda item: item[1]))
    ours, _ = from_foundation(content_of(foundation()), slots)
    theirs = foundation.__wrapped__(tuple(slots.values()))
    tools.load_foundations_elements(theirs, foundation(), table, load_readout=True, max_L=1)
    found = ours.model.state_dict()
    for name, weights in theirs.named_parameters():
        assert torch.allclose(weights, found[name], rtol=1e-12), name


def test_single_precision_stays_single():
    model = foundation(dtype=torch.float32)
    network, _ = from_foundation(content_of(model), SLOTS)
    assert network.dtype == torch.float32


def test_a_started_network_is_an_ordinary_checkpoint(tmp_path):
    model = foundation(kind="nonlinear", dtype=torch.float32)
    network, card = from_foundation(content_of(model), SLOTS, "ga")
    save_checkpoint(tmp_path, network, card)
    batch = Batch.from_atoms([rattled()])
    before, after = NetworkPotential(network, card), load_checkpoint(tmp_path)
    assert torch.equal(before.evaluate(batch).energies, after.evaluate(batch).energies)


def test_the_other_head_is_another_model():
    content = content_of(foundation(kind="two heads"))
    batch = Batch.from_atoms([rattled()])
    energies = [
        NetworkPotential(*from_foundation(content, SLOTS, head=head)).evaluate(batch).energies
        for head in (None, "Default", "other")
    ]
    assert torch.equal(energies[0], energies[1])
    assert not torch.allclose(energies[0], energies[2], atol=1e-3)


def test_what_does_not_fit_is_told():
    content = content_of(foundation())
    with pytest.raises(UnsupportedModelError, match="has no elements 25"):
        from_foundation(content, {Species.parse("Mn2+"): 25})
    with pytest.raises(UnsupportedModelError, match="has no head 'mp' but Default"):
        from_foundation(content, SLOTS, head="mp")
    with pytest.raises(UnsupportedModelError, match="no element for the slot 32 of Fe3\\+"):
        from_model_file(content, SpeciesMap.parse({"Fe3+": "Ge"}), "x")
    with pytest.raises(UnsupportedModelError, match="is a Linear, expected a ScaleShiftMACE"):
        open_model(content_of(torch.nn.Linear(2, 2)))

"""CHGNet: equal to its own calculator, and two ways to make it charge-aware."""

import contextlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from crystals import olivine, perovskites, rattled, with_gallium

from gasearch.crystal.species import Species
from gasearch.potentials.contract import Batch
from gasearch.potentials.measured.awareness import BLIND_BELOW, charge_awareness
from gasearch.potentials.networks.checkpoint import load_checkpoint, save_checkpoint
from gasearch.potentials.networks.network import energies_forces_stress
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.registry import load_potential
from gasearch.potentials.trust import trust
from gasearch.testing import check_potential

if importlib.util.find_spec("chgnet") is None and not os.environ.get("CI"):
    pytest.skip("no chgnet here: pip install 'gasearch[chgnet]'", allow_module_level=True)

from gasearch.potentials.chgnet import chgnet
from gasearch.potentials.chgnet.network import ChgnetNetwork
from gasearch.potentials.chgnet.weights import from_pretrained, stock
from gasearch.potentials.networks.declaration import UnsupportedModelError

# The stock calculator's own: it copies a volume that carries a gradient.
pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning")
NAME = "gasearch.potentials.chgnet:chgnet"
GA = {"Fe3+": "Ga"}


def iron_oxide(edge):
    """Return two atoms in a skewed cell."""
    cell = edge * np.array([[0, 1, 1.02], [1.05, 0, 1], [1, 0.98, 0]])
    places = [[0, 0, 0], [0.5, 0.5, 0.49]]
    atoms = Atoms("FeO", scaled_positions=places, cell=cell, pbc=True)
    atoms.set_initial_charges([2, -2])
    return atoms


def swapped(atoms):
    """Return the crystal with the labels of all iron atoms exchanged, two by two."""
    copy = atoms.copy()
    iron = copy.numbers == 26
    charges = copy.get_initial_charges()
    charges[iron] = charges[iron][::-1]
    copy.set_initial_charges(charges)
    assert not np.array_equal(charges, atoms.get_initial_charges())
    return copy


@pytest.fixture(scope="module")
def plain():
    return chgnet()


@pytest.fixture(scope="module")
def calculator():
    with contextlib.redirect_stdout(io.StringIO()):
        from chgnet.model.dynamics import CHGNetCalculator

        return CHGNetCalculator(use_device="cpu")


def started(start, **options):
    return NetworkPotential(*from_pretrained(start, **options))


def evaluate(potential, *structures):
    return potential.evaluate(Batch.from_atoms(structures))


def assert_equal_to_stock(found, structures, calculator):
    """Compare within single precision: 1e-5 eV/atom, forces to 1e-4 of the largest."""
    start = 0
    for number, atoms in enumerate(structures):
        own = slice(start, start + len(atoms))
        start += len(atoms)
        copy = atoms.copy()
        copy.calc = calculator
        energy = copy.get_potential_energy()
        results = calculator.results
        assert float(found.energies[number]) == pytest.approx(energy, abs=1e-5 * len(atoms))
        scale = max(1.0, np.abs(results["forces"]).max())
        np.testing.assert_allclose(found.forces[own], results["forces"], atol=1e-4 * scale)
        np.testing.assert_allclose(found.stresses[number], results["stress"], atol=5e-6)
        np.testing.assert_allclose(found.moments[own], results["magmoms"], atol=1e-5)


def test_it_equals_the_stock_calculator_alone_and_in_a_batch(plain, calculator):
    structures = [
        rattled(1.0),
        rattled(0.5, seed=1),
        olivine(1.0, rattle=0.02, supercell=(1, 2, 1)),
        rattled(2 / 3, seed=2, supercell=(1, 3, 1)),
        iron_oxide(2.1),  # smaller than both cutoffs
        iron_oxide(3.9),  # bonds but no angles
    ]
    assert_equal_to_stock(evaluate(plain, *structures), structures, calculator)
    for atoms in structures:
        assert_equal_to_stock(evaluate(plain, atoms), [atoms], calculator)


def test_other_weights_of_the_package_equal_the_stock_calculator():
    with contextlib.redirect_stdout(io.StringIO()):
        from chgnet.model import CHGNet
        from chgnet.model.dynamics import CHGNetCalculator

        other = CHGNetCalculator(CHGNet.load(model_name="r2scan", use_device="cpu"))
    potential = stock("r2scan")
    assert potential.name == "chgnet-r2scan"
    assert_equal_to_stock(evaluate(potential, rattled(0.5)), [rattled(0.5)], other)


def test_atoms_without_neighbours_keep_their_reference(plain):
    found = evaluate(plain, iron_oxide(20.0), rattled(0.5))
    assert torch.isfinite(found.energies).all()
    assert found.forces[:2].abs().max() == 0


def test_moments_tell_oxidation_states_apart_in_the_end_members(plain):
    for x, species in ((1.0, Species("Fe", 2)), (0.0, Species("Fe", 3))):
        atoms = olivine(x, rattle=0.0)
        if not x:
            atoms.set_cell([9.82, 5.79, 4.79], scale_atoms=True)
        moments = evaluate(plain, atoms).moments[torch.from_numpy(atoms.numbers == 26)]
        low, high = plain.moment_ranges[species]
        assert ((moments > low) & (moments < high)).all()


def test_the_gradient_is_right_to_double_precision():
    network, card = from_pretrained("ga")
    potential = NetworkPotential(network.double(), card)
    atoms = perovskites()[0]
    check_potential(potential, [atoms, atoms.repeat((1, 1, 2))], tolerance=1e-5, step=5e-4)


def test_the_clone_keeps_the_contract_but_for_the_labels():
    # The step is small because CHGNet has kinks at straight angles.
    options = {"tolerance": 1e-3, "step": 5e-3, "allow_charge_blind": True}
    check_potential(started("clone"), [rattled(0.5), perovskites()[0]], **options)


def test_a_clone_is_exactly_the_model_it_was(plain):
    atoms = rattled(0.5)
    for options in ({}, {"surrogates": {"Fe3+": 95}}):
        clone = started("clone", **options)
        found = evaluate(clone, atoms)
        for reference in (evaluate(clone, swapped(atoms)), evaluate(plain, atoms)):
            assert torch.equal(found.energies, reference.energies)
            assert torch.equal(found.forces, reference.forces)
            assert torch.equal(found.stresses, reference.stresses)
            assert torch.equal(found.moments, reference.moments)


def test_a_clone_is_blind_and_the_slot_of_gallium_is_aware():
    rng = np.random.default_rng(0)
    structures = [rattled(0.5), rattled(0.75, seed=3)]
    assert charge_awareness(started("clone"), structures, rng) < 0.01
    assert charge_awareness(started("blind"), structures, rng) < 0.01
    assert charge_awareness(started("ga"), structures, rng) > 20 * BLIND_BELOW


def test_gallium_in_the_slot_is_gallium_but_for_the_reference(plain, calculator):
    atoms = rattled(0.5)
    gallium = with_gallium(atoms)
    foreign = load_potential(NAME, species=GA)
    assert_equal_to_stock(evaluate(foreign, atoms), [gallium], calculator)
    started_ga = started("ga")
    reference = started_ga.card.reference
    assert reference[31] == reference[26] == plain.card.reference[26]
    shift = 2 * (plain.card.reference[26] - plain.card.reference[31])
    energies = evaluate(foreign, atoms).energies + shift
    assert torch.allclose(evaluate(started_ga, atoms).energies, energies, rtol=0, atol=1e-9)


def test_a_blind_start_gives_both_states_one_slot():
    _, card = from_pretrained("blind")
    assert card.species_map.slots == {Species("Fe", 3): 26}
    assert card.species_map.slot(Species("Fe", 3)) == 26


def test_losses_of_forces_and_moments_reach_all_weights():
    network, card = from_pretrained("clone")
    batch = Batch.from_atoms([rattled(0.5)])
    slots = card.species_map(batch.numbers, batch.charges)
    found = energies_forces_stress(network, batch, slots, create_graph=True)
    loss = found.forces.square().sum() + found.stresses.square().sum()
    loss = loss + found.output.moments.sum() + found.output.energies.sum()
    loss.backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert all("angle_layers.2." in name for name in without)  # it has no effect in CHGNet
    rows = network.model.atom_embedding.embedding.weight.grad.abs().sum(1)
    assert sorted((rows.nonzero().squeeze(1) + 1).tolist()) == [8, 11, 15, 26, 31]


@pytest.mark.parametrize("surrogates", [{"Fe3+": "Ga"}, {"Fe3+": 95}])
def test_a_checkpoint_is_small_and_exact(tmp_path, surrogates):
    network, card = from_pretrained("clone", surrogates)
    before = evaluate(NetworkPotential(network, card), rattled(0.5))
    save_checkpoint(tmp_path / "model", network, card)
    potential = load_checkpoint(tmp_path / "model")
    assert potential.card == card
    assert potential.weights_hash == NetworkPotential(network, card).weights_hash
    assert torch.equal(evaluate(potential, rattled(0.5)).forces, before.forces)
    assert sum(path.stat().st_size for path in (tmp_path / "model").iterdir()) < 5e6


def test_a_trusted_file_of_the_trainer_is_a_potential(tmp_path, plain):
    import chgnet

    (shipped,) = (Path(chgnet.__file__).parent / "pretrained" / "0.3.0").glob("*.pth.tar")
    shutil.copy(shipped, tmp_path / "mine.pth.tar")
    trust(tmp_path / "mine.pth.tar")
    potential = load_potential("./mine.pth.tar", tmp_path, species=GA)
    expected = evaluate(plain, with_gallium(rattled(0.5)))
    assert torch.equal(evaluate(potential, rattled(0.5)).energies, expected.energies)


def test_even_a_trusted_file_of_the_trainer_runs_no_code(tmp_path):
    trace = tmp_path / "trace"

    class Malice:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    torch.save({"model": Malice()}, tmp_path / "mine.pth.tar")
    trust(tmp_path / "mine.pth.tar")
    with pytest.raises(UnsupportedModelError, match="trainer"):
        load_potential("./mine.pth.tar", tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"mlp_first": False}, "mlp_first"),
        ({"mlp_out_bias": True}, "version 0.2"),
        ({"conv_norm": "layer"}, "conv_norm"),
        ({"gMLP_norm": "batch"}, "over the batch"),
        ({"update_angle": False}, "lacks layers"),
    ],
)
def test_kinds_that_are_not_computed_are_refused(arguments, text):
    with pytest.raises(UnsupportedModelError, match=text):
        ChgnetNetwork(**arguments)


def test_nothing_is_printed(capfd):
    evaluate(chgnet(), rattled(1.0))
    assert capfd.readouterr() == ("", "")


def test_the_module_alone_imports_no_chgnet():
    code = (
        "import sys, gasearch.potentials.chgnet.network, gasearch.potentials.registry;"
        "print([m for m in ('chgnet', 'pymatgen', 'safetensors') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

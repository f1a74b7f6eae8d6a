"""Training: on a network so small that seconds are enough, and one of each trick on CHGNet."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import replace

import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from crystals import built
from toy_network import ToyNetwork

from gasearch.allocator import keep_freed_memory
from gasearch.crystal.species import Species
from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.architectures import ARCHITECTURES
from gasearch.potentials.networks.checkpoint import load_checkpoint
from gasearch.potentials.networks.declaration import Architecture, StartError
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import find_edges
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.testing import check_potential
from gasearch.training.data.frames import data_hash, lowest_frames
from gasearch.training.data.samples import frame_unit, join, make_sample, pair_unit
from gasearch.training.data.splitting import Split, split_off
from gasearch.training.energy_reference import fit_reference, network_energies
from gasearch.training.fitting import NoEnergiesError, fit, moment_ranges
from gasearch.training.loop import DivergedError, Trainer, TrainingTask, validate
from gasearch.training.losses import evaluate_minibatch, loss_parts
from gasearch.training.settings import (
    LossSettings,
    TrainingFile,
    TrainingPlan,
    TrainingSettings,
)
from gasearch.training.starting import slots_for, starting_model
from gasearch.training.state import BrokenStateError, OtherTrainingError
from gasearch.training.teacher import teacher_frames
from gasearch.training.train import FinishedModelError, UnknownDecorationError, train

HOST = built()


@pytest.fixture
def toy(monkeypatch):
    """The toy as a registered architecture."""
    monkeypatch.setitem(ARCHITECTURES, "toy", Architecture("toy_network:ToyNetwork"))


@pytest.fixture(scope="module")
def frames():
    """Frames labelled by the rigid-ion potential, with moments made up from labels."""
    found = teacher_frames(Pmmcs(), HOST, 10, seed=1, steps=12)
    return [
        replace(frame, moments=np.array([0.9 * one.moment for one in frame.species]))
        for frame in found
    ]


@pytest.fixture(scope="module")
def few(frames):
    """Of one decoration at each composition."""
    names = list(dict.fromkeys(frame.decoration for frame in frames))[:5]
    return [frame for frame in frames if frame.decoration in names]


def toy_model(seed=0, blind=False):
    torch.manual_seed(seed)
    slots = {
        species: species.number for species in map(Species.parse, ("Na+", "Fe2+", "P5+", "O2-"))
    }
    slots[Species("Fe", 3)] = 26 if blind else 31
    return ToyNetwork().double(), ModelCard("toy", SpeciesMap(slots))


def settings(**changes):
    given = {"epochs": 4, "batch_size": 8, "learning_rate": 0.01, "save_every_s": 0.0} | changes
    return TrainingSettings(**given)


def split_of(frames):
    names = sorted({frame.decoration for frame in frames})
    return split_off(frames, names[:2])


def units_of(frames, card, cutoff):
    return [frame_unit(frame, card.species_map, cutoff) for frame in frames]


def weights_of(network):
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def equal(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def write_frames(path, frames):
    structures = []
    for frame in frames:
        atoms = frame.atoms.copy()
        labels = {"energy": frame.energy, "forces": frame.forces, "magmoms": frame.moments}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info.update(decoration=frame.decoration, tag=frame.tag)
        structures.append(atoms)
    ase.io.write(path, structures, format="extxyz")
    return path


def test_a_training_lowers_the_error_on_unseen_decorations(few):
    network, card = toy_model()
    fitted = fit(network, card, split_of(few), settings(epochs=25, learning_rate=0.03))
    history = fitted.counters.history
    assert len(history) == 25
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]
    assert history[-1]["force_mae_meV_per_A"] < history[0]["force_mae_meV_per_A"]
    assert history[-1]["moment_mae_all_atoms"] < history[0]["moment_mae_all_atoms"]
    check_potential(NetworkPotential(network, fitted.card), [few[10].atoms, few[20].atoms])


def trained(frames, **changes):
    network, card = toy_model()
    fit(network, card, split_of(frames), settings(**changes))
    return weights_of(network)


def test_the_same_seed_gives_the_same_weights_to_the_last_bit_on_any_device(few):
    first = trained(few, epochs=2, seed=1)
    assert equal(first, trained(few, epochs=2, seed=1, device="cpu:0"))
    assert not equal(first, trained(few, epochs=2, seed=2))


class KilledError(Exception):
    pass


def test_a_killed_training_continues_to_the_same_weights_and_is_not_repeated(few, tmp_path):
    split = split_of(few)
    network, card = toy_model()
    unbroken = fit(network, card, split, settings(epochs=3), tmp_path / "unbroken.safetensors")
    state = tmp_path / "state.safetensors"

    def kill_after(epoch, step):
        def look(progress):
            if progress.epoch == epoch and progress.record is None and progress.step > step:
                raise KilledError

        return look

    for epoch, step in ((1, 0), (2, 1), (3, 0)):
        again, card = toy_model()
        with pytest.raises(KilledError):
            fit(again, card, split, settings(epochs=3), state, kill_after(epoch, step))
    for is_repeated in (False, True):
        again, card = toy_model()
        seen = []
        continued = fit(again, card, split, settings(epochs=3), state, seen.append)
        assert bool(seen) != is_repeated
        assert equal(weights_of(network), weights_of(again))
        assert unbroken.counters.history == continued.counters.history
        assert unbroken.card == continued.card


def test_the_state_of_another_training_is_refused(few, tmp_path):
    state = tmp_path / "state.safetensors"
    network, card = toy_model()
    fit(network, card, split_of(few), settings(epochs=1), state)
    for changed in (settings(epochs=1, seed=5), settings(epochs=2)):
        other, card = toy_model()
        with pytest.raises(OtherTrainingError, match="other data, settings or starting weights"):
            fit(other, card, split_of(few), changed, state)
    fewer, card = toy_model()
    with pytest.raises(OtherTrainingError):
        fit(fewer, card, split_of(few[:-1]), settings(epochs=1), state)
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(BrokenStateError, match="remove it"):
        fit(network, card, split_of(few), settings(epochs=1), state)


def test_missing_labels_are_masked_and_not_zero(frames):
    network, card = toy_model()
    chosen = frames[:6]
    blank = [
        replace(frame, forces=None, moments=None, stress=None)
        if k % 2
        else replace(frame, energy=None)
        for k, frame in enumerate(chosen)
    ]
    table = torch.zeros(200, dtype=torch.float64)
    loss = LossSettings()
    data = join(units_of(blank, card, network.cutoff))
    parts = loss_parts(evaluate_minibatch(network, data, learn=True), data, table, loss)
    assert parts.counts["energy"] == 3
    assert parts.counts["forces"] == sum(map(len, chosen[::2]))
    assert parts.counts["difference"] == 0
    total = parts.total(loss)
    total.backward()
    assert bool(total.isfinite())
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters())


def test_a_frame_without_labels_moves_nothing(frames):
    network, card = toy_model()
    blank = replace(frames[0], energy=None, forces=None, stress=None, moments=None)
    data = join(units_of([blank], card, network.cutoff))
    found = evaluate_minibatch(network, data, learn=True)
    total = loss_parts(found, data, torch.zeros(200, dtype=torch.float64), LossSettings())
    assert float(total.total(LossSettings())) == 0.0


def test_a_batch_of_units_is_the_structures_one_by_one(frames):
    network, card = toy_model()
    units = units_of(frames[:5], card, network.cutoff)
    data = join(units)
    together = evaluate_minibatch(network, data, learn=False)
    alone = [evaluate_minibatch(network, join([unit]), learn=False) for unit in units]
    assert torch.allclose(together.output.energies, torch.cat([a.output.energies for a in alone]))
    assert torch.allclose(together.forces, torch.cat([a.forces for a in alone]))
    fresh = find_edges(Batch.from_atoms([f.atoms for f in frames[:5]]), network.cutoff)
    assert len(fresh.i) == len(data.edges.i)
    half = len(data.edges.i) // 2
    assert torch.equal(data.edges.i[:half], data.edges.j[half:])
    assert torch.equal(data.edges.offsets[:half], -data.edges.offsets[half:])


def test_the_loss_is_the_same_for_a_turned_crystal(frames):
    network, card = toy_model()
    frame = frames[3]
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    turned = frame.atoms.copy()
    turned.set_cell(frame.atoms.cell.array @ turn.T)
    turned.positions = frame.atoms.positions @ turn.T
    other = replace(
        frame, atoms=turned, forces=frame.forces @ turn.T, stress=turn @ frame.stress @ turn.T
    )
    losses = []
    for one in (frame, other):
        data = join(units_of([one], card, network.cutoff))
        found = evaluate_minibatch(network, data, learn=False)
        parts = loss_parts(found, data, torch.zeros(200, dtype=torch.float64), LossSettings())
        losses.append(float(parts.total(LossSettings())))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_the_reference_carries_the_difference_of_the_end_members(few):
    """E(NaFePO4) - E(FePO4) is a hundred times what a network may add; it comes back whole."""
    shifted = [
        replace(frame, energy=frame.energy + 3.7 * np.sum(frame.atoms.symbols == "Na") - 80.0)
        for frame in few
    ]
    network, card = toy_model()
    fitted = fit(network, card, Split(tuple(shifted), ()), settings(epochs=8, learning_rate=0.03))
    potential = NetworkPotential(network, fitted.card)
    ends = [
        min((f for f in shifted if f.working_fraction == x), key=lambda f: f.energy)
        for x in (0.0, 1.0)
    ]
    found = potential.evaluate(Batch.from_atoms([end.atoms for end in ends])).energies
    true = ends[1].energy - ends[0].energy
    assert abs(true) > 10
    assert float(found[1] - found[0]) == pytest.approx(true, rel=0.05)
    reference = fitted.card.reference
    assert reference[26] == reference[31]


def test_the_reference_is_the_least_deviation_and_ignores_outliers(frames):
    network, card = toy_model()
    samples = [make_sample(f.atoms, card.species_map, network.cutoff, f) for f in frames]
    energies = network_energies(network, samples)
    for sample, energy in zip(samples, energies, strict=True):
        n_sodium = int((sample.batch.numbers == 11).sum())
        sample.targets.energies.fill_(energy + 2.0 * n_sodium - 5.0 * len(sample.slots))
    samples[0].targets.energies.add_(30.0)
    reference = fit_reference(network, samples, card.species_map)
    assert reference[11] == pytest.approx(2.0 - 5.0, abs=0.05)
    assert reference[31] == reference[26]


def test_label_pairs_teach_the_network_to_listen(frames):
    """Two labels on one geometry, their energy difference known: without it labels mean nothing."""
    from gasearch.training.data.label_pairs import label_pairs

    pairs = label_pairs(frames)
    assert len(pairs) >= 3
    network, card = toy_model()
    units = [pair_unit(pair, card.species_map, network.cutoff, 0.1) for pair in pairs]
    table = torch.zeros(200, dtype=torch.float64)
    task = TrainingTask(network, units, units, table, settings(epochs=60, learning_rate=0.03))
    before = validate(task, units)["swap_mae_meV"]
    Trainer(task).run()
    assert validate(task, units)["swap_mae_meV"] < 0.5 * before


def test_a_blind_map_cannot_learn_label_pairs(frames):
    from gasearch.training.data.label_pairs import label_pairs

    network, card = toy_model(blind=True)
    pairs = label_pairs(frames)
    units = [pair_unit(pair, card.species_map, network.cutoff, 0.1) for pair in pairs]
    data = join(units)
    found = evaluate_minibatch(network, data, learn=False).output.energies
    assert torch.allclose(found[data.first], found[data.second])


def test_an_anchor_keeps_weights_near_their_start(few):
    drifts = []
    for anchor in (0.0, 20.0):
        network, card = toy_model()
        start = weights_of(network)
        chosen = settings(epochs=6, learning_rate=0.03, anchor=anchor)
        fit(network, card, Split(tuple(few), ()), chosen)
        drifts.append(float((weights_of(network)["depths"] - start["depths"]).abs().mean()))
    assert drifts[1] < 0.8 * drifts[0]


def test_early_stopping_keeps_the_best_epoch(few):
    network, card = toy_model()
    chosen = settings(epochs=60, learning_rate=0.3, patience=3, ema=0.0)
    fitted = fit(network, card, split_of(few), chosen)
    counters = fitted.counters
    losses = [record["validation_loss"] for record in counters.history]
    assert counters.best_epoch == int(np.argmin(losses))
    assert counters.epoch == len(losses)
    assert counters.epoch == 60 or counters.epoch - 1 - counters.best_epoch == 3


def test_moment_ranges_lie_around_the_middle(frames):
    network, card = toy_model()
    with torch.no_grad():
        network.bias[:] = torch.tensor([0.0, 0.0, 0.0, 3.6, 4.4])
    samples = [make_sample(f.atoms, card.species_map, network.cutoff, f) for f in frames]
    ranges = moment_ranges(network, samples)
    assert ranges[Species("Fe", 2)] == (2.6, pytest.approx(3.92))
    assert ranges[Species("Fe", 3)] == (pytest.approx(4.08), 5.4)


def test_a_loss_that_is_no_number_stops_the_training(few):
    network, card = toy_model()
    with torch.no_grad():
        network.depths[:] = math.nan
    with pytest.raises((DivergedError, np.linalg.LinAlgError)):
        fit(network, card, Split(tuple(few), ()), settings())


def test_data_without_energies_are_refused(few):
    network, card = toy_model()
    blank = [replace(frame, energy=None) for frame in few]
    with pytest.raises(NoEnergiesError, match="no training frame has an energy"):
        fit(network, card, Split(tuple(blank), ()), settings())


def test_files_become_a_checkpoint_with_its_report(toy, frames, tmp_path):
    path = write_frames(tmp_path / "frames.xyz", frames)
    folder = tmp_path / "my-model"
    seen = []
    chosen = settings(epochs=3, working_ion_metal={"Na": -1.32195})
    options = TrainingFile(chosen, notes={"licence": "mine"})
    plan = TrainingPlan("toy", [path], folder, options=options)
    report = train(plan, seen.append)
    assert {file.name for file in folder.iterdir()} == {
        "model.json",
        "weights.safetensors",
        "training_report.json",
    }
    stored = json.loads((folder / "training_report.json").read_text())
    assert stored == report
    assert stored["data"]["n_frames"] == len(frames)
    assert stored["data"]["files"].keys() == {"frames.xyz"}
    assert not set(stored["split"]["training"]) & set(stored["split"]["validation"])
    assert len(stored["history"]) == 3
    assert str(tmp_path) not in (folder / "training_report.json").read_text()
    potential = load_checkpoint(folder)
    assert potential.name == "my-model"
    assert potential.card.working_ion_metal == {"Na": -1.32195}
    assert potential.card.notes["licence"] == "mine"
    assert potential.card.notes["errors"]["validation"]["n_frames"] > 0
    assert Species("Fe", 3) in potential.species
    assert seen[-1].record == stored["history"][-1]
    with pytest.raises(FinishedModelError, match="finished model"):
        train(plan)
    again = train(replace(plan, output=tmp_path / "again", start=str(folder)))
    assert again["errors"]["training"]["n_frames"] > 0


def test_chosen_decorations_are_held_out(toy, frames, tmp_path):
    path = write_frames(tmp_path / "frames.xyz", frames)
    name = frames[0].decoration
    options = TrainingFile(settings(epochs=1, held_out=(name,)))
    report = train(TrainingPlan("toy", [path], tmp_path / "model", options=options))
    assert report["split"]["validation"] == [name]
    nosuch = TrainingFile(settings(epochs=1, held_out=("nosuch",)))
    with pytest.raises(UnknownDecorationError, match="no decoration nosuch"):
        train(TrainingPlan("toy", [path], tmp_path / "other", options=nosuch))


def test_a_fresh_network_has_a_slot_for_each_species(toy, frames):
    network, card = starting_model("toy", frames, arguments={"n_radial": 4})
    assert card.species_map.slot(Species("Fe", 2)) == 26
    assert card.species_map.slot(Species("Fe", 3)) == 31
    assert network.arguments["n_radial"] == 4
    assert card.species_map.species == {one for frame in frames for one in frame.species}
    _, blind = starting_model("toy", frames, start="blind")
    assert {blind.species_map.slot(Species("Fe", q)) for q in (2, 3)} == {26}
    again, _ = starting_model("toy", frames, arguments={"n_radial": 4})
    assert equal(weights_of(network), weights_of(again))
    with pytest.raises(StartError, match="no weights of its own"):
        starting_model("toy", frames, start="ga")
    with pytest.raises(StartError, match="expected a folder"):
        starting_model("toy", frames, start="./nowhere")


def test_slots_avoid_elements_that_are_there():
    species = list(map(Species.parse, ("Ga3+", "Fe2+", "Fe3+", "Mn2+", "Mn3+", "Mn4+")))
    slots = slots_for(species)
    assert len(set(slots.values())) == 6
    assert slots[Species("Ga", 3)] == 31
    assert slots[Species("Fe", 2)] == 26
    assert slots[Species("Fe", 3)] >= 95


def test_a_teacher_labels_many_orders_and_their_swaps():
    found = teacher_frames(Pmmcs(), HOST, 5, seed=4, steps=6)
    again = teacher_frames(Pmmcs(), HOST, 2, seed=4, steps=6)
    assert data_hash(found[: len(again)]) == data_hash(again)
    assert {frame.working_fraction for frame in found} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert all(frame.charges.sum() == 0 for frame in found)
    swaps = [frame for frame in found if frame.tag == "swap"]
    assert len(swaps) == 3  # the end members have nothing to swap
    for swap in swaps:
        same = [f for f in found if np.array_equal(f.atoms.positions, swap.atoms.positions)]
        assert len({frame.charges.tobytes() for frame in same}) == 2
    assert {frame.tag for frame in lowest_frames(found)} <= {"relax1", "relax3", "relaxed"}


def test_freed_memory_is_kept_where_glibc_is():
    assert keep_freed_memory() is True or platform.libc_ver()[0] != "glibc"

"""A few steps of fine-tuning CHGNet on the DFT frames."""

from __future__ import annotations

import numpy as np
import pytest
from places import SHIPPED_FRAMES

from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.training.data.frames import lowest_frames
from gasearch.training.data.reading import read_frames
from gasearch.training.data.splitting import Split
from gasearch.training.evaluation.embedding import embed_sites
from gasearch.training.evaluation.errors import evaluate_model
from gasearch.training.evaluation.figures import plot_embedding
from gasearch.training.evaluation.predict import predict_energies
from gasearch.training.fitting import fit
from gasearch.training.settings import TrainingSettings
from gasearch.training.starting import starting_model

pytest.importorskip("chgnet")
SETTINGS = TrainingSettings(epochs=1, validation_share=0.0, working_ion_metal={"Na": -1.32195})


@pytest.fixture(scope="module")
def frames():
    return read_frames([SHIPPED_FRAMES]).frames


def some(frames):
    """Both end members and two orders between them, a frame or two of each."""
    names = ("111-v0-0", "111-v4-0", "111-v2-6", "111-v2-1")
    tags = ("relax6", "rattle0")
    return [f for f in frames if f.decoration in names and f.tag in tags]


def test_a_few_steps_bring_energies_to_the_level_of_the_data(frames):
    chosen = some(frames)
    network, card = starting_model("chgnet", chosen)
    before = predict_energies(NetworkPotential(network, card), [f.atoms for f in chosen])
    true = np.array([frame.energy for frame in chosen])
    sizes = np.array([len(frame) for frame in chosen])
    assert np.abs((before - true) / sizes).mean() > 0.5  # another code, other pseudopotentials
    fitted = fit(network, card, Split(tuple(chosen), ()), SETTINGS)
    report = evaluate_model(NetworkPotential(network, fitted.card), chosen)
    assert report["energy_mae_meV_per_atom"] < 25
    assert report["swap_rms_meV"] > 5  # Ga's rows are no clone of Fe's
    assert fitted.card.reference[26] == fitted.card.reference[31]


def test_the_energy_of_sodiation_is_that_of_dft(frames):
    """E(NaFePO4) - E(FePO4), by the reference alone, before any weight has moved."""
    ends = [f for f in lowest_frames(frames) if f.working_fraction in (0.0, 1.0)]
    network, card = starting_model("chgnet", frames)
    settings = TrainingSettings(epochs=1, learning_rate=1e-9, validation_share=0.0)
    fitted = fit(network, card, Split(tuple(ends), ()), settings)
    found = predict_energies(NetworkPotential(network, fitted.card), [f.atoms for f in ends]) / 4
    true = np.array([frame.energy for frame in ends]) / 4
    assert found[1] - found[0] == pytest.approx(true[1] - true[0], abs=0.005)


def test_a_clone_is_blind_and_ga_is_not(frames):
    chosen = [f for f in lowest_frames(frames) if f.working_fraction == 0.5][:2]
    reports = {}
    for start in ("clone", "ga", "blind"):
        potential = NetworkPotential(*starting_model("chgnet", frames, start=start))
        reports[start] = evaluate_model(potential, chosen)["swap_rms_meV"]
    assert reports["clone"] < 0.5
    assert reports["blind"] < 0.5
    assert reports["ga"] > 50


def test_species_are_apart_in_the_embedding_of_an_aware_model_only(frames, tmp_path):
    structures = [f.atoms for f in lowest_frames(frames)][:6]
    embeddings = {}
    for start in ("ga", "blind"):
        network, card = starting_model("chgnet", frames, start=start)
        embeddings[start] = embed_sites(NetworkPotential(network, card), structures)
    assert embeddings["ga"].separation > 1.5 * embeddings["blind"].separation
    assert len(embeddings["ga"].points) == 24
    plot = tmp_path / "embedding.png"
    plot_embedding(embeddings, plot)
    assert plot.stat().st_size > 1000

"""The numbers of a potential's test, on made-up potentials whose errors are known, and on DFT."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from places import SHIPPED_FRAMES

from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.potentials.contract import Batch, Evaluated
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.training.data.frames import without_repeats
from gasearch.training.data.label_pairs import label_pairs
from gasearch.training.data.reading import read_frames
from gasearch.training.evaluation.embedding import principal_components, separation
from gasearch.training.evaluation.errors import compare_models, evaluate_model, order_tau

KEYS = (
    "n_frames",
    "energy_mae_meV_per_atom",
    "formation_energy_mae_meV_per_fu",
    "force_mae_meV_per_A",
    "stress_mae_meV_per_A3",
    "order_kendall_tau",
    "moment_mae",
    "order_read_accuracy",
    "swap_rms_meV",
    "swap_mae_meV",
)
FE2, FE3 = Species("Fe", 2), Species("Fe", 3)


class Oracle:
    """Gives the labels back, with errors made on purpose."""

    name = "oracle"
    cutoff = 5.0
    ranks_only = False
    species = None
    weights_hash = "0" * 64
    device = "cpu"

    def __init__(self, frames, per_atom=0.0, per_sodium=0.0, force=0.0, moment=0.0):
        self.known = {self._key(f.atoms.positions, f.charges): f for f in frames}
        for pair in label_pairs(frames):
            charges = pair.foreign.get_initial_charges()
            own = self.known[self._key(pair.own.positions, pair.own.get_initial_charges())]
            foreign = replace(own, energy=own.energy + pair.difference)
            self.known[self._key(pair.foreign.positions, charges)] = foreign
        self.per_atom, self.per_sodium = per_atom, per_sodium
        self.force, self.moment = force, moment
        self.moment_ranges = {FE2: (3.0, 4.0), FE3: (4.0, 5.0)}

    @staticmethod
    def _key(positions, charges):
        return np.asarray(positions).round(6).tobytes() + np.rint(charges).astype(int).tobytes()

    def evaluate(self, batch):
        found = [self._one(one) for one in batch.split()]
        return Evaluated(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _one(self, batch):
        n = len(batch.positions)
        n_sodium = int((batch.numbers == 11).sum())
        frame = self.known.get(self._key(batch.positions.numpy(), batch.charges.numpy()))
        energy = 0.0 if frame is None else frame.energy
        energy += self.per_atom * n + self.per_sodium * n_sodium
        forces = np.zeros((n, 3)) if frame is None else frame.forces
        moments = np.zeros(n) if frame is None else frame.moments
        return (
            torch.tensor([energy], dtype=torch.float64),
            torch.tensor(forces) + self.force,
            torch.zeros(1, 3, 3, dtype=torch.float64),
            -torch.tensor(moments) - self.moment,
        )


@pytest.fixture(scope="module")
def frames():
    return without_repeats(read_frames([SHIPPED_FRAMES]).frames)


def test_a_perfect_potential_has_no_errors(frames):
    report = evaluate_model(Oracle(frames), frames)
    assert tuple(report) == KEYS
    assert report["n_frames"] == 232
    assert report["order_kendall_tau"] == 1.0
    assert report["order_read_accuracy"] == 1.0
    assert report["swap_rms_meV"] >= 0
    for key in ("energy_mae", "force_mae", "formation_energy_mae", "moment_mae", "swap_mae"):
        (value,) = (v for k, v in report.items() if k.startswith(key))
        assert value == pytest.approx(0.0, abs=1e-9)


def test_errors_are_in_the_units_of_their_names(frames):
    oracle = Oracle(frames, per_atom=0.002, force=0.03, moment=0.1)
    report = evaluate_model(oracle, frames)
    assert report["energy_mae_meV_per_atom"] == pytest.approx(2.0)
    assert report["force_mae_meV_per_A"] == pytest.approx(30.0)
    assert report["moment_mae"] == pytest.approx(0.1)
    # A shift per atom is linear in x, and so no error of a formation energy.
    assert report["formation_energy_mae_meV_per_fu"] == pytest.approx(0.0, abs=1e-6)
    assert report["swap_mae_meV"] == pytest.approx(0.0, abs=1e-6)


def test_stresses_are_compared_where_the_frames_have_them(frames):
    chosen = frames[:4]
    assert evaluate_model(Oracle(frames), chosen)["stress_mae_meV_per_A3"] is None
    stress = np.diag([0.01, -0.02, 0.03])
    labelled = [replace(chosen[0], stress=stress), *chosen[1:]]
    report = evaluate_model(Oracle(frames), labelled)  # whose stress is 0
    assert report["stress_mae_meV_per_A3"] == pytest.approx(1000 * 0.06 / 9)


def test_formation_energies_feel_what_is_not_linear_in_x(frames):
    class Curved(Oracle):
        def _one(self, batch):
            energy, *rest = super()._one(batch)
            x = int((batch.numbers == 11).sum()) / 4
            return (energy + 4 * 0.04 * x * (1 - x), *rest)

    report = evaluate_model(Curved(frames), frames)
    # 40 meV/f.u. x (1 - x): 10 at x = 1/2 (ten decorations), 7.5 at 1/4 and 3/4 (two each)
    assert report["formation_energy_mae_meV_per_fu"] == pytest.approx((10 * 10 + 4 * 7.5) / 14)


def test_what_cannot_be_told_is_none(frames):
    end = [frame for frame in frames if frame.decoration == "111-v0-0"]
    report = evaluate_model(Oracle(frames), end)
    assert report["formation_energy_mae_meV_per_fu"] is None
    assert report["order_kendall_tau"] is None
    assert report["swap_rms_meV"] is None
    assert report["swap_mae_meV"] is None
    blank = [replace(frame, forces=None, moments=None) for frame in end]
    report = evaluate_model(Oracle(frames), blank)
    assert report["force_mae_meV_per_A"] is None
    assert report["moment_mae"] is None


def test_references_serve_and_are_not_judged(frames):
    held = [frame for frame in frames if frame.decoration in ("111-v2-6", "111-v2-1")]
    rest = [frame for frame in frames if frame not in held]
    alone = evaluate_model(Oracle(frames), held)
    beside = evaluate_model(Oracle(frames, per_sodium=0.1), held, rest)
    assert alone["formation_energy_mae_meV_per_fu"] is None
    assert beside["formation_energy_mae_meV_per_fu"] == pytest.approx(0.0, abs=1e-6)
    assert beside["n_frames"] == len(held)
    assert alone["swap_mae_meV"] is None
    assert beside["swap_mae_meV"] == pytest.approx(0.0, abs=1e-6)


def test_tau_counts_pairs_of_one_composition(frames):
    energies = [frame.energy for frame in frames]
    assert order_tau(frames, energies) == 1.0
    assert order_tau(frames, [-energy for energy in energies]) == -1.0
    assert order_tau(frames, [0.0] * len(frames)) == 0.0


def test_the_rigid_ion_potential_ranks_orders_and_is_no_energy(frames):
    chosen = [frame for frame in frames if frame.tag in ("relax6", "again")]
    report = evaluate_model(Pmmcs(), chosen)
    assert report["order_kendall_tau"] > 0.6
    assert report["swap_rms_meV"] > 100
    assert report["moment_mae"] is None
    assert report["order_read_accuracy"] is None
    assert report["energy_mae_meV_per_atom"] > 1000


def test_several_models_make_a_figure(frames, tmp_path):
    pytest.importorskip("matplotlib")
    chosen = [frame for frame in frames if frame.tag == "relax6"]
    plot = tmp_path / "parity.png"
    models = {"pmmcs": Pmmcs(), "oracle": Oracle(frames)}
    reports = compare_models(models, chosen, plot)
    assert plot.stat().st_size > 1000
    assert list(reports) == ["pmmcs", "oracle"]
    with pytest.raises(UsageError, match="ends in"):
        compare_models(models, chosen[:2], tmp_path / "parity.txt")


def test_principal_components_find_a_plane():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(50, 2)) * [5.0, 2.0]
    axes, _ = np.linalg.qr(rng.normal(size=(8, 2)))
    points, shares = principal_components(plane @ axes.T + 3.0)
    assert sum(shares) == pytest.approx(1.0)
    distances = np.linalg.norm(plane[:, None] - plane[None], axis=-1)
    found = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert found == pytest.approx(distances, abs=1e-9)


def test_separation_is_in_units_of_the_spread():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(400, 3))
    species = [FE2, FE3] * 200
    points[1::2, 0] += 10.0
    assert separation(points, species) == pytest.approx(10 / np.sqrt(3), rel=0.1)
    assert separation(points, [FE2] * 400) == 0.0


def test_batches_are_the_frames_one_by_one(frames):
    from gasearch.training.evaluation.predict import predict

    structures = [frame.atoms for frame in frames[:5]]
    found = predict(Pmmcs(), structures, batch_size=2)
    for atoms, one in zip(structures, found, strict=True):
        alone = Pmmcs().evaluate(Batch.from_atoms([atoms]))
        assert one.energy == float(alone.energies[0])
        assert np.array_equal(one.forces, alone.forces.numpy())

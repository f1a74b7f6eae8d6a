"""Dictionaries of the public cPaiNN, against a plain reference that goes pair by pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from crystals import olivine

from gasearch.potentials.contract import Batch
from gasearch.potentials.measured.stress import check_stress
from gasearch.potentials.networks.declaration import UnsupportedModelError
from gasearch.potentials.registry import load_potential
from gasearch.potentials.trust import UntrustedFileError, trust

F, L, R, CUTOFF = 6, 3, 20, 4.0
MEAN, SPREAD = -6.5, 0.7


@pytest.fixture(autouse=True)
def _own_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def document(heads: tuple[str, ...] = ("linear_magmom", "linear_bader_charge")) -> dict[str, Any]:
    """Return what the trainer writes, with random weights in double precision."""
    rng = torch.Generator().manual_seed(5)
    state: dict[str, torch.Tensor] = {}

    def linear(name: str, inside: int, outside: int) -> None:
        for part, shape in (("weight", (outside, inside)), ("bias", (outside,))):
            numbers = torch.randn(*shape, generator=rng, dtype=torch.float64)
            state[f"{name}.{part}"] = numbers / (3.0 if part == "bias" else inside**0.5)

    state["atom_embedding.weight"] = torch.randn(119, F, generator=rng, dtype=torch.float64)
    for k in range(L):
        linear(f"message_layers.{k}.scalar_message_mlp.0", F, F)
        linear(f"message_layers.{k}.scalar_message_mlp.2", F, 3 * F)
        linear(f"message_layers.{k}.filter_layer", R, 3 * F)
        linear(f"update_layers.{k}.update_U", F, F)
        linear(f"update_layers.{k}.update_V", F, F)
        linear(f"update_layers.{k}.update_mlp.0", 2 * F, F)
        linear(f"update_layers.{k}.update_mlp.2", F, 3 * F)
    linear("readout_mlp.0", F, F)
    linear("readout_mlp.2", F, 1)
    for head in heads:
        linear(head, F, 1)
    state["normalization"] = torch.tensor(True)
    state["atomwise_normalization"] = torch.tensor(True)
    state["normalize_stddev"] = torch.tensor(SPREAD, dtype=torch.float64)
    state["normalize_mean"] = torch.tensor(MEAN, dtype=torch.float64)
    return {
        "model": state,
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "step": 7,
        "best_val_loss": 0.1,
        "node_size": F,
        "num_layer": L,
        "cutoff": CUTOFF,
        "compute_magmom": True,
        "compute_bader_charge": len(heads) == 2,
    }


def reference(state: dict[str, torch.Tensor], atoms: Atoms) -> tuple[float, np.ndarray[Any, Any]]:
    """Return energy (eV) and moments, by loops over atoms, pairs and directions."""
    w = {key: value.numpy() for key, value in state.items()}

    def apply(name: str, x: Any) -> Any:
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def silu(x: Any) -> Any:
        return x / (1 + np.exp(-x))

    def pair(name: str, x: Any) -> Any:
        return apply(f"{name}.2", silu(apply(f"{name}.0", x)))

    s = [w["atom_embedding.weight"][z] for z in atoms.numbers]
    v = [[np.zeros(F) for _ in range(3)] for _ in atoms]
    pairs = list(zip(*neighbor_list("ijdD", atoms, CUTOFF), strict=True))
    moments = None
    for k in range(L):
        if k == L - 2:
            moments = np.array([apply("linear_magmom", one)[0] for one in s])
        new_s, new_v = [one.copy() for one in s], [[x.copy() for x in one] for one in v]
        for i, j, r, d in pairs:
            sines = np.array([np.sin(n * np.pi * r / CUTOFF) / r for n in range(1, R + 1)])
            weight = apply(f"message_layers.{k}.filter_layer", sines)
            weight = weight * 0.5 * (np.cos(np.pi * r / CUTOFF) + 1)
            a, b, c = np.split(weight * pair(f"message_layers.{k}.scalar_message_mlp", s[j]), 3)
            new_s[i] += c
            for axis in range(3):
                new_v[i][axis] += a * v[j][axis] + b * d[axis] / r
        s, v = new_s, new_v
        for i in range(len(atoms)):
            left = [apply(f"update_layers.{k}.update_U", x) for x in v[i]]
            right = [apply(f"update_layers.{k}.update_V", x) for x in v[i]]
            norm = np.sqrt(sum(x * x for x in right))
            mixed = pair(f"update_layers.{k}.update_mlp", np.concatenate([norm, s[i]]))
            a, b, c = np.split(mixed, 3)
            s[i] = s[i] + b * sum(x * y for x, y in zip(left, right, strict=True)) + c
            v[i] = [x + a * y for x, y in zip(v[i], left, strict=True)]
    total = sum(pair("readout_mlp", one)[0] for one in s)
    assert moments is not None
    return SPREAD * total + MEAN * len(atoms), moments


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    trust(path)
    return path


def test_a_file_of_its_trainer_gives_the_numbers_of_the_reference(tmp_path: Path) -> None:
    one = document()
    path = saved(tmp_path / "best_model.pth", one)
    potential = load_potential(str(path), species={"Fe3+": "Ga"})
    assert potential.cutoff == CUTOFF
    atoms = olivine(0.5, rattle=0.05)
    found = potential.evaluate(Batch.from_atoms([atoms]))
    seen = atoms.copy()
    seen.numbers[np.rint(atoms.get_initial_charges()) == 3] = 31
    energy, moments = reference(one["model"], seen)
    assert float(found.energies[0]) == pytest.approx(energy, abs=1e-8)
    assert found.moments is not None
    np.testing.assert_allclose(found.moments.numpy(), moments, atol=1e-10)


def test_its_forces_and_its_whole_stress_are_derivatives_of_the_energy(tmp_path: Path) -> None:
    potential = load_potential(str(saved(tmp_path / "m.pth", document())))
    atoms = olivine(0.5, rattle=0.05)
    check_stress(potential, atoms)
    forces = potential.evaluate(Batch.from_atoms([atoms])).forces
    ends = []
    for step in (1e-4, -1e-4):
        moved = atoms.copy()
        moved.positions[3, 1] += step
        ends.append(float(potential.evaluate(Batch.from_atoms([moved])).energies[0]))
    assert float(forces[3, 1]) == pytest.approx((ends[1] - ends[0]) / 2e-4, rel=1e-5)


def test_a_single_head_gives_what_the_flags_of_the_file_say(tmp_path: Path) -> None:
    batch = Batch.from_atoms([olivine(0.5)])
    one = document(("linear",))
    assert load_potential(str(saved(tmp_path / "a.pth", one))).evaluate(batch).moments is not None
    one |= {"compute_magmom": False, "compute_bader_charge": True}
    assert load_potential(str(saved(tmp_path / "b.pth", one))).evaluate(batch).moments is None


def test_it_is_not_opened_before_it_is_trusted(tmp_path: Path) -> None:
    torch.save(document(), tmp_path / "best_model.pth")
    with pytest.raises(UntrustedFileError, match="gasearch potential trust"):
        load_potential(str(tmp_path / "best_model.pth"))


def test_a_file_that_lacks_tensors_is_told_in_one_line(tmp_path: Path) -> None:
    one = document()
    del one["model"]["readout_mlp.2.weight"]
    with pytest.raises(UnsupportedModelError, match="not as its trainer writes it") as error:
        load_potential(str(saved(tmp_path / "best_model.pth", one)))
    assert "\n" not in str(error.value)

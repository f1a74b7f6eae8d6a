"""Potentials as models of torch-sim; the labels survive its optimizers."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from olivine import olivine

from gasearch.potentials.contract import Batch
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.geometry import LeftHandedCellError
from gasearch.relax.torch_sim_adapter import (
    LABELS,
    NoLabelsError,
    NoTorchSimError,
    torch_sim_atoms,
    torch_sim_model,
    torch_sim_state,
)

TOO_OLD = sys.version_info < (3, 12)
NEEDS_IT = pytest.mark.skipif(
    TOO_OLD or importlib.util.find_spec("torch_sim") is None,
    reason=(
        "torch-sim keeps the labels of atoms from 0.6 on, which needs Python >= 3.12; "
        f"this is {sys.version_info.major}.{sys.version_info.minor}"
        if TOO_OLD
        else "torch-sim is not installed: pip install 'torch-sim-atomistic>=0.6'"
    ),
)


CROWD = [olivine(x, seed) for seed, x in enumerate((0.5, 0.75, 1.0))]


@NEEDS_IT
class TestWithTorchSim:
    def test_a_model_says_what_the_potential_says(self):
        found = torch_sim_model(Pmmcs())(torch_sim_state(CROWD))
        expected = Pmmcs().evaluate(Batch.from_atoms(CROWD))
        torch.testing.assert_close(found["energy"], expected.energies, rtol=0, atol=1e-9)
        torch.testing.assert_close(found["forces"], expected.forces, rtol=0, atol=1e-9)
        torch.testing.assert_close(found["stress"], expected.stresses, rtol=0, atol=1e-12)

    def test_labels_come_out_of_a_relaxation_as_they_went_in(self):
        import torch_sim

        relaxed = torch_sim.optimize(
            torch_sim_state(CROWD),
            torch_sim_model(Pmmcs()),
            optimizer=torch_sim.Optimizer.fire,
            init_kwargs={"cell_filter": torch_sim.CellFilter.frechet},
            convergence_fn=torch_sim.generate_force_convergence_fn(0.1),
            max_steps=100,
        )
        before = Pmmcs().evaluate(Batch.from_atoms(CROWD)).energies
        after = torch_sim_atoms(relaxed)
        for start, end in zip(CROWD, after, strict=True):
            np.testing.assert_array_equal(start.numbers, end.numbers)
            np.testing.assert_array_equal(start.get_initial_charges(), end.get_initial_charges())
            assert not np.allclose(start.cell.array, end.cell.array, atol=1e-3)
        energies = Pmmcs().evaluate(Batch.from_atoms(after)).energies
        assert bool((energies < before - 0.1).all())
        torch.testing.assert_close(relaxed.energy, energies, rtol=0, atol=1e-6)

    def test_a_state_without_labels_is_refused(self):
        state = torch_sim_state(CROWD)
        del state._atom_extras[LABELS]
        with pytest.raises(NoLabelsError, match="formal_charges"):
            torch_sim_model(Pmmcs())(state)


def test_a_left_handed_cell_is_refused():
    atoms = olivine(0.5, 1)
    atoms.cell[2] *= -1
    with pytest.raises(LeftHandedCellError):
        torch_sim_state([atoms])


def test_without_torch_sim_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    for make in (lambda: torch_sim_model(Pmmcs()), lambda: torch_sim_state(CROWD)):
        with pytest.raises(NoTorchSimError, match="pip install 'torch-sim-atomistic"):
            make()

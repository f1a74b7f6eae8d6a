"""Potentials as models of torch-sim (0.6, Python >= 3.12), for those who have it.

The labels travel as an extra of each atom, `formal_charges`. gasearch itself does not need it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from ase import Atoms

from gasearch.errors import GasearchError, UsageError
from gasearch.potentials.contract import Batch, Potential, formal_charges, spin_labels
from gasearch.relax.geometry import check_handedness

LABELS = "formal_charges"
MOMENTS = "magnetic_moments"
_LABELS = {LABELS: "initial_charges"}


class NoTorchSimError(GasearchError, ImportError):
    """A Python without torch-sim."""

    def __str__(self) -> str:
        return "no torch-sim here; with Python >= 3.12: pip install 'torch-sim-atomistic>=0.6'"


class NoLabelsError(GasearchError, ValueError):
    """A state of torch-sim whose atoms have no formal charges."""

    def __str__(self) -> str:
        return f"the state has no {LABELS!r}: make it with gasearch's torch_sim_state(...)."


def torch_sim_state(structures: Sequence[Atoms], device: str = "cpu") -> Any:
    """Return the state of these structures, in float64, their labels with it.

    torch-sim relaxes left-handed cells uphill; they are refused.
    """
    for atoms in structures:
        formal_charges(atoms)
        _refuse_spin_states(atoms)
        check_handedness(atoms)
    _torch_sim()
    to_state = importlib.import_module("torch_sim.io").atoms_to_state
    where = torch.device(device)
    return to_state(list(structures), where, torch.float64, atom_extras_map=_LABELS)


def _refuse_spin_states(atoms: Atoms) -> None:
    """Refuse species that charges alone do not name: the states of torch-sim carry no more."""
    if spin_labels(atoms).any():
        raise UsageError(
            f"{atoms.symbols} has ions of low or intermediate spin, which get lost on the way "
            "through torch-sim: relax it with gasearch's own relaxer."
        )


def torch_sim_atoms(state: Any) -> list[Atoms]:
    """Return the structures of a state, their labels in `initial_charges`."""
    to_atoms = importlib.import_module("torch_sim.io").state_to_atoms
    structures: list[Atoms] = to_atoms(state, atom_extras_map=_LABELS)
    return structures


def torch_sim_model(potential: Potential) -> Any:
    """Return a `ModelInterface` that asks a potential; for states with labels."""
    interface = _torch_sim().models.interface.ModelInterface

    class Model(interface):  # type: ignore[misc, valid-type]
        """A charge-aware potential; energies, forces and stresses in float64."""

        def __init__(self) -> None:
            super().__init__()
            self._device = torch.device(potential.device)
            self._dtype = torch.float64
            self._compute_forces = self._compute_stress = True

        def forward(self, state: Any, **_: Any) -> dict[str, torch.Tensor]:
            found = potential.evaluate(_batch(state))
            answer = {"energy": found.energies, "forces": found.forces, "stress": found.stresses}
            return answer if found.moments is None else answer | {MOMENTS: found.moments}

    return Model()


def _batch(state: Any) -> Batch:
    if not hasattr(state, LABELS):
        raise NoLabelsError
    return Batch(
        positions=state.positions.detach().to(torch.float64),
        cells=state.row_vector_cell.detach().to(torch.float64).contiguous(),
        numbers=state.atomic_numbers.to(torch.int64),
        charges=getattr(state, LABELS).round().to(torch.int64),
        system=state.system_idx,
    )


def _torch_sim() -> Any:
    try:
        return importlib.import_module("torch_sim")
    except ModuleNotFoundError as error:
        if error.name != "torch_sim":
            raise
        raise NoTorchSimError from error

"""A potential as an ASE calculator: for ASE's optimizers and for any script that uses ASE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from gasearch.errors import GasearchError
from gasearch.potentials.contract import Batch, Evaluated, Potential, check_species


class BadResultError(GasearchError, ArithmeticError):
    """A potential that gave NaN, infinity, or an array of the wrong shape."""

    def __init__(self, potential: str, problem: str) -> None:
        super().__init__(potential, problem)
        self.potential = potential
        self.problem = problem

    def __str__(self) -> str:
        return f"potential {self.potential!r} gave {self.problem}."


class PotentialCalculator(Calculator):
    """ASE's view of a potential; the atoms carry formal charges as `initial_charges`.

    Parameters
    ----------
    potential
        Any `Potential`, such as `load_potential("pmmcs")`.

    Attributes
    ----------
    n_calls
        Evaluations so far; a repeated question about the same structure costs none.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress", "magmoms"]  # noqa: RUF012
    discard_results_on_any_change = True

    def __init__(self, potential: Potential) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.potential = potential
        self.n_calls = 0

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what changed since the last evaluation, be it the last bit.

        ASE's own comparison, within a tolerance, costs as much as a small potential.
        """
        del tol
        known = self.atoms
        if known is None:
            return list(all_changes)
        before, after = _state(known), _state(atoms)
        return [name for name in before if not np.array_equal(before[name], after[name])]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate the potential; ASE calls this where the atoms changed."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        crystal = cast(Atoms, self.atoms)
        if {"numbers", "initial_charges"} & set(system_changes):
            check_species(self.potential, crystal)
        batch = Batch.from_atoms([crystal], device=self.potential.device)
        self.n_calls += 1
        found = self.potential.evaluate(batch)
        self.results = _results(found, len(crystal), self.potential.name)


def _state(atoms: Atoms) -> dict[str, NDArray[Any]]:
    """Return what an evaluation depends on, by ASE's names."""
    return {
        "positions": atoms.positions,
        "numbers": atoms.numbers,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "initial_charges": atoms.arrays.get("initial_charges", np.empty(0)),
        "initial_magmoms": atoms.arrays.get("initial_magmoms", np.empty(0)),
    }


def _results(found: Evaluated, n_atoms: int, name: str) -> dict[str, Any]:
    """Return what ASE wants, in float64, or raise where the potential gave nonsense."""
    stress = _checked(found.stresses, (1, 3, 3), "stress", name)[0]
    results: dict[str, Any] = {
        "energy": float(_checked(found.energies, (1,), "energy", name)[0]),
        "forces": _checked(found.forces, (n_atoms, 3), "forces", name),
        "stress": full_3x3_to_voigt_6_stress(stress),
    }
    results["free_energy"] = results["energy"]
    if found.penalties is not None:
        results["penalty"] = float(_checked(found.penalties, (1,), "penalty", name)[0])
    if found.moments is not None:
        results["magmoms"] = _checked(found.moments, (n_atoms,), "moments", name)
    return results


def _checked(
    tensor: torch.Tensor, shape: tuple[int, ...], what: str, name: str
) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.detach().cpu().numpy().astype(np.float64)
    if array.shape != shape:
        raise BadResultError(name, f"{what} of shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise BadResultError(name, f"{what} that are not finite numbers")
    return array

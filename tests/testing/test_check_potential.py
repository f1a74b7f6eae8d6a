"""check_potential catches a potential that lacks one property, and says which."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.lj import LennardJones

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.ase_calculator import AseCalculatorPotential
from gasearch.potentials.contract import Batch, Evaluated
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.testing import PotentialCheckError, check_potential

HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))


def structures() -> list[Atoms]:
    rng = np.random.default_rng(0)
    return [Decoration.random(HOST, HOST.composition_at(x), rng).to_atoms() for x in (0.5, 0.75)]


class Spoiled(Pmmcs):
    """The rigid-ion potential with one fault."""

    def __init__(self, spoil: Callable[[Evaluated, Batch], Evaluated]) -> None:
        super().__init__()
        self.spoil = spoil

    def evaluate(self, batch: Batch) -> Evaluated:
        return self.spoil(super().evaluate(batch), batch)


def energy_plus(
    extra: Callable[[Batch], torch.Tensor],
) -> Callable[[Evaluated, Batch], Evaluated]:
    return lambda found, batch: replace(found, energies=found.energies + extra(batch))


def by_system(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    return torch.zeros(len(batch), dtype=torch.float64).index_add_(0, batch.system, values.double())


def single_precision(found: Evaluated, batch: Batch) -> Evaluated:
    return replace(found, forces=found.forces.float())


def not_finite(found: Evaluated, batch: Batch) -> Evaluated:
    return replace(found, energies=found.energies * torch.nan)


def flat_forces(found: Evaluated, batch: Batch) -> Evaluated:
    return replace(found, forces=found.forces.flatten())


def moves_atoms(found: Evaluated, batch: Batch) -> Evaluated:
    batch.positions.add_(1e-3)
    return found


def drifts() -> Callable[[Evaluated, Batch], Evaluated]:
    calls = iter(range(10**6))
    return energy_plus(lambda _: torch.tensor(1e-2 * next(calls)))


def place_in_the_list(batch: Batch) -> torch.Tensor:
    places = torch.cat([torch.arange(n) for n in batch.counts])
    return by_system(1e-3 * places * batch.charges, batch)


def sum_of_x(batch: Batch) -> torch.Tensor:
    return by_system(1e-2 * batch.positions[:, 0] * batch.charges.double() ** 2, batch)


def direction_of_a(batch: Batch) -> torch.Tensor:
    a = batch.cells[:, 0]
    return 1e-2 * torch.tensor(batch.counts) * a[:, 0] / a.norm(dim=1)


SPOILED: dict[str, list[Any]] = {
    "results": [single_precision, not_finite, flat_forces],
    "repeats": [drifts(), moves_atoms],
    "batch": [energy_plus(lambda batch: torch.tensor(1e-2 * len(batch)))],
    "permutation": [energy_plus(place_in_the_list)],
    "translation": [energy_plus(sum_of_x)],
    "supercell": [energy_plus(lambda _: torch.tensor(1e-2))],
    "rotation": [energy_plus(direction_of_a)],
    "forces": [
        lambda found, _: replace(found, forces=-found.forces),
        lambda found, _: replace(found, forces=1.0001 * found.forces),
    ],
    "stress": [
        lambda found, _: replace(found, stresses=-found.stresses),
        lambda found, _: replace(found, stresses=found.stresses / 2),
        lambda found, _: replace(found, stresses=found.stresses * 160.21766),  # GPa
    ],
}
CASES = [(check, spoil) for check, spoils in SPOILED.items() for spoil in spoils]


@pytest.mark.parametrize(("check", "spoil"), CASES)
def test_a_potential_with_one_fault_is_caught(
    check: str, spoil: Callable[[Evaluated, Batch], Evaluated]
) -> None:
    with pytest.raises(PotentialCheckError, match="potential 'pmmcs' fails") as error:
        check_potential(Spoiled(spoil), structures())
    assert error.value.check == check


def test_a_sound_potential_passes() -> None:
    check_potential(Pmmcs(), structures())


def test_a_charge_blind_potential_is_caught_and_may_be_allowed() -> None:
    # A smooth Lennard-Jones potential is sound in all but labels.
    lj = AseCalculatorPotential(LennardJones(sigma=1.2, epsilon=0.05, rc=4.0, smooth=True), "lj")
    with pytest.raises(PotentialCheckError, match="a swap of oxidation states") as error:
        check_potential(lj, structures()[:1])
    assert error.value.check == "labels"
    check_potential(lj, structures()[:1], allow_charge_blind=True)


def test_labels_cannot_be_checked_without_two_oxidation_states() -> None:
    host = Decoration.random(HOST, HOST.composition_at(1.0), np.random.default_rng(0))
    with pytest.raises(PotentialCheckError, match="no structure here has an element in two"):
        check_potential(Pmmcs(), [host.to_atoms()])


def test_single_precision_passes_with_the_advised_settings() -> None:
    def rounded(found: Evaluated, _: Batch) -> Evaluated:
        return Evaluated(
            *(t.float().double() for t in (found.energies, found.forces, found.stresses))
        )

    with pytest.raises(PotentialCheckError):
        check_potential(Spoiled(rounded), structures()[:1])
    check_potential(Spoiled(rounded), structures()[:1], tolerance=1e-3, step=2e-2)


def test_the_error_is_an_assertion_error() -> None:
    assert issubclass(PotentialCheckError, AssertionError)


def test_testing_operators_imports_no_torch() -> None:
    code = "import sys, gasearch.testing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

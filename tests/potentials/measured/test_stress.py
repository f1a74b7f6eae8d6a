"""A stress that contradicts its energy is noticed, and the factor named."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.calculators.calculator import Calculator
from crystals import olivine

from gasearch.potentials.ase_calculator import AseCalculatorPotential
from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.measured.stress import StressError, check_stress
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.potentials.registry import load_potential


class Scaled(Calculator):
    """PMMCS with a stress that its author has changed."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, change) -> None:  # type: ignore[no-untyped-def]
        super().__init__()  # type: ignore[no-untyped-call]
        self.change = change
        self.inner = PotentialCalculator(Pmmcs())

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        self.inner.calculate(atoms)
        self.results = dict(self.inner.results)
        self.results["stress"] = self.change(self.results["stress"], atoms)


def scaled(factor: float) -> AseCalculatorPotential:
    return AseCalculatorPotential(Scaled(lambda stress, atoms: factor * stress), "mine")


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        (1 / units.GPa, "160.2 times dE/d(strain)/volume (it is in GPa)"),
        (10 / units.GPa, "1602 times dE/d(strain)/volume (it is in kBar)"),
        (-10 / units.GPa, "(it is in kBar, with the sign of a pressure)"),
        (-1.0, "-1 times dE/d(strain)/volume (its sign is that of a pressure)"),
        (0.5, "(it is half of what it should be)"),
        (0.0, "0 times"),
    ],
)
def test_a_stress_in_other_units_is_named_with_its_factor(factor: float, told: str) -> None:
    with pytest.raises(StressError) as error:
        check_stress(scaled(factor), olivine(0.5, rattle=0.05))
    assert told in str(error.value)
    assert error.value.factor == pytest.approx(factor, rel=0.02, abs=1e-6)


def test_a_virial_that_was_not_divided_by_the_volume_is_told() -> None:
    virial = Scaled(lambda stress, atoms: stress * atoms.cell.volume)
    with pytest.raises(StressError, match="not divided by the volume"):
        check_stress(AseCalculatorPotential(virial, "mine"), olivine(0.5, rattle=0.05))


def test_components_in_another_order_are_no_factor() -> None:
    vasp = Scaled(lambda stress, atoms: stress[[0, 1, 2, 5, 3, 4]])
    with pytest.raises(StressError, match="not proportional") as error:
        check_stress(AseCalculatorPotential(vasp, "mine"), olivine(0.5, rattle=0.05))
    assert error.value.factor is None


def test_a_right_stress_passes_in_double_and_in_single_precision() -> None:
    check_stress(Pmmcs(), olivine(0.5, rattle=0.05))
    check_stress(scaled(1.0), olivine(1.0))
    check_stress(scaled(1.03), olivine(1.0))  # a coarse stress is the user's affair


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chgnet", "default"])
def test_networks_in_single_precision_pass(name: str) -> None:
    check_stress(load_potential(name), olivine(0.5, rattle=0.05))


def test_what_relaxes_nothing_has_no_stress_to_contradict() -> None:
    class Still(Scaled):
        def calculate(self, *args, **keys):  # type: ignore[no-untyped-def]
            super().calculate(*args, **keys)
            self.results |= {"forces": np.zeros_like(self.results["forces"])}

    check_stress(
        AseCalculatorPotential(Still(lambda stress, atoms: 0 * stress), "still"), olivine(0.5)
    )

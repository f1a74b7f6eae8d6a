"""Levels of theory and charge awareness."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from crystals import olivine

from gasearch.potentials.ase_calculator import AseCalculatorPotential
from gasearch.potentials.contract import UntrainedSpeciesError
from gasearch.potentials.measured.awareness import (
    ChargeBlindError,
    charge_awareness,
    require_charge_aware,
)
from gasearch.potentials.measured.level import (
    Level,
    LevelMismatchError,
    compare_levels,
    measure_level,
)
from gasearch.potentials.pmmcs import Pmmcs

BLIND = AseCalculatorPotential(LennardJones(sigma=2.0, epsilon=0.01, rc=5.0), "blind")


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


PROBES = [olivine(0.5), olivine(1.0)]


def test_a_level_is_measured_the_same_twice() -> None:
    level = measure_level(Pmmcs(), PROBES)
    assert level == measure_level(Pmmcs(), PROBES)
    assert level.name == f"pmmcs-{level.weights_hash[:8]}"
    assert len(level.probe_energies) == 2
    compare_levels(level, level)


def test_rounding_is_no_other_level() -> None:
    level = measure_level(Pmmcs(), PROBES)
    nearly = tuple(e * (1 + 5e-7) for e in level.probe_energies)
    compare_levels(level, replace(level, probe_energies=nearly))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weights_hash": "0" * 64}, "the hash of its weights was"),
        ({"probe_energies": (1.0,)}, "the number of probe structures was 2 and is 1"),
        ({"probe_energies": (-430.0, -413.0)}, "the energy of probe structure 1 was"),
        ({"probe_energies": (float("nan"), -413.0)}, "the energy of probe structure 1 was"),
    ],
)
def test_another_level_is_refused(change: dict[str, object], told: str) -> None:
    level = measure_level(Pmmcs(), PROBES)
    with pytest.raises(LevelMismatchError, match=told) as error:
        compare_levels(level, replace(level, **change))  # type: ignore[arg-type]
    assert "start another run folder" in str(error.value)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_a_potential_with_another_setting_is_another_level() -> None:
    soft, hard = (
        AseCalculatorPotential(LennardJones(sigma=2.0, epsilon=e, rc=5.0), "lj")
        for e in (0.01, 0.02)
    )
    with pytest.raises(LevelMismatchError):
        compare_levels(measure_level(soft, PROBES), measure_level(hard, PROBES))


def test_a_level_needs_species_that_the_potential_knows() -> None:
    atoms = olivine(1.0)
    atoms.symbols[atoms.numbers == 11] = "K"
    with pytest.raises(UntrainedSpeciesError):
        measure_level(Pmmcs(), [atoms])


def test_pmmcs_is_charge_aware() -> None:
    awareness = require_charge_aware(Pmmcs(), PROBES, rng())
    assert awareness is not None
    assert 100 < awareness < 10_000
    assert awareness == charge_awareness(Pmmcs(), PROBES, rng())


def test_a_charge_blind_potential_is_refused_unless_allowed() -> None:
    with pytest.raises(ChargeBlindError, match=r"'blind' is charge-blind.*allow_charge_blind"):
        require_charge_aware(BLIND, PROBES, rng())
    assert require_charge_aware(BLIND, PROBES, rng(), allow_charge_blind=True) == pytest.approx(0)


def test_there_is_nothing_to_be_blind_to_where_all_charges_are_alike() -> None:
    assert require_charge_aware(BLIND, [olivine(1.0), olivine(0.0)], rng()) is None


def test_measuring_awareness_leaves_the_structures_alone() -> None:
    atoms = olivine(0.5)
    before = atoms.copy()
    charge_awareness(Pmmcs(), [atoms], rng())
    assert atoms == before
    np.testing.assert_array_equal(atoms.get_initial_charges(), before.get_initial_charges())


def test_a_nan_is_not_awareness() -> None:
    class Nan(Pmmcs):
        def evaluate(self, batch):  # type: ignore[no-untyped-def]
            found = super().evaluate(batch)
            found.energies[1:] = float("nan")
            return found

    with pytest.raises(ChargeBlindError):
        require_charge_aware(Nan(), PROBES, rng())


def test_a_level_from_elsewhere_compares_by_its_fields() -> None:
    level = measure_level(Pmmcs(), PROBES)

    class Record:
        name = "as stored"
        weights_hash = level.weights_hash
        probe_energies = level.probe_energies

    compare_levels(Record(), level)
    other = Level("x", "x", "1" * 64, level.probe_energies)
    with pytest.raises(LevelMismatchError, match="as stored"):
        compare_levels(Record(), other)

"""Batches, and potentials as ASE calculators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from crystals import rattled

from gasearch.potentials.ase_calculator import AseCalculatorPotential, to_atoms
from gasearch.potentials.calculator import BadResultError, PotentialCalculator
from gasearch.potentials.contract import (
    Batch,
    Evaluated,
    NoChargesError,
    NotAnOxidationStateError,
    NotPeriodicError,
    Potential,
    UntrainedSpeciesError,
    check_species,
    species_of,
)
from gasearch.potentials.pmmcs import Pmmcs


class Broken(Pmmcs):
    """Gives what it is told to give."""

    def __init__(self, **wrong: torch.Tensor) -> None:
        super().__init__()
        self.wrong = wrong

    def evaluate(self, batch: Batch) -> Evaluated:
        found = super().evaluate(batch)
        return Evaluated(**{**vars(found), **self.wrong})


def test_a_batch_is_its_structures_in_order() -> None:
    structures = [rattled(0.5), rattled(1.0), rattled(0.0)]
    batch = Batch.from_atoms(structures)
    assert len(batch) == 3
    assert batch.counts == [26, 28, 24]
    assert batch.positions.dtype == batch.cells.dtype == torch.float64
    assert batch.numbers.dtype == batch.charges.dtype == batch.system.dtype == torch.int64
    for one, atoms in zip(batch.split(), structures, strict=True):
        np.testing.assert_array_equal(one.positions, atoms.positions)
        np.testing.assert_array_equal(one.cells[0], atoms.cell.array)
        np.testing.assert_array_equal(one.charges, atoms.get_initial_charges())
        assert one.counts == [len(atoms)]


def test_a_batch_and_its_atoms_share_no_memory() -> None:
    atoms = rattled()
    batch = Batch.from_atoms([atoms])
    before = batch.positions.clone()
    atoms.positions += 1
    assert torch.equal(batch.positions, before)


def test_atoms_from_a_batch_carry_both_labels() -> None:
    atoms = rattled(0.5)
    (found,) = to_atoms(Batch.from_atoms([atoms]))
    np.testing.assert_array_equal(found.get_initial_charges(), atoms.get_initial_charges())
    np.testing.assert_array_equal(
        found.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments()
    )


def test_atoms_without_charges_are_refused_with_advice() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    with pytest.raises(NoChargesError, match=r"NaCl carries no formal charges: set them with"):
        Batch.from_atoms([atoms])


def test_a_crystal_of_neutral_atoms_says_so_by_charges_of_zero() -> None:
    atoms = bulk("C", "diamond", a=3.57)
    atoms.set_initial_charges([0.0, 0.0])
    assert Batch.from_atoms([atoms]).charges.tolist() == [0, 0]
    assert [*map(str, species_of(atoms))] == ["C"]


def low_spin(n: int) -> Atoms:
    """Return olivine whose first n Fe2+ are of low spin."""
    atoms = rattled(0.5)
    moments = atoms.get_initial_magnetic_moments()
    moments[np.flatnonzero(moments == 4)[:n]] = 0
    atoms.set_initial_magnetic_moments(moments)
    return atoms


def test_spin_states_travel_with_a_batch() -> None:
    atoms = low_spin(1)
    assert sorted(map(str, species_of(atoms)))[:3] == ["Fe2+", "Fe2+ ls", "Fe3+"]
    batch = Batch.from_atoms([rattled(0.5), atoms])
    assert batch.spins.sum() == batch.part(slice(1, 2)).spins.sum() == 1
    assert batch.part(slice(0, 1)).spins.sum() == 0
    np.testing.assert_array_equal(
        to_atoms(batch)[1].get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments()
    )


def test_a_potential_for_high_spin_refuses_low_spin() -> None:
    with pytest.raises(UntrainedSpeciesError, match=r"does not know Fe2\+ ls; it knows"):
        Pmmcs().evaluate(Batch.from_atoms([low_spin(2)]))
    with pytest.raises(UntrainedSpeciesError, match=r"does not know Fe2\+ ls; it knows"):
        check_species(Pmmcs(), low_spin(1))


def test_moments_that_are_no_label_change_nothing() -> None:
    atoms = rattled(0.5)
    atoms.set_initial_magnetic_moments(0.93 * atoms.get_initial_magnetic_moments())
    assert Batch.from_atoms([atoms]).spins.sum() == 0
    atoms.set_initial_magnetic_moments(None)
    atoms.set_initial_magnetic_moments(np.ones((len(atoms), 3)))
    assert Batch.from_atoms([atoms]).spins.sum() == 0


def test_partial_charges_are_refused() -> None:
    atoms = rattled()
    atoms.set_initial_charges(0.6 * atoms.get_initial_charges())
    with pytest.raises(NotAnOxidationStateError, match="expected whole oxidation states"):
        Batch.from_atoms([atoms])


def test_a_molecule_is_refused() -> None:
    atoms = rattled()
    atoms.pbc = (True, True, False)
    with pytest.raises(NotPeriodicError, match="not periodic"):
        Batch.from_atoms([atoms])


def test_species_are_read_from_labels() -> None:
    assert sorted(map(str, species_of(rattled(0.5)))) == ["Fe2+", "Fe3+", "Na+", "O2-", "P5+"]
    atoms = rattled(1.0)
    atoms.symbols[atoms.numbers == 11] = "K"
    with pytest.raises(UntrainedSpeciesError, match=r"does not know K\+"):
        check_species(Pmmcs(), atoms)


def test_pmmcs_is_a_potential_and_a_calculator_is_not() -> None:
    assert isinstance(Pmmcs(), Potential)
    assert not isinstance(PotentialCalculator(Pmmcs()), Potential)


def test_ase_sees_the_potentials_numbers() -> None:
    atoms = rattled()
    atoms.calc = PotentialCalculator(Pmmcs())
    found = Pmmcs().evaluate(Batch.from_atoms([atoms]))
    assert atoms.get_potential_energy() == float(found.energies[0])
    assert atoms.get_potential_energy(force_consistent=True) == float(found.energies[0])
    np.testing.assert_array_equal(atoms.get_forces(), found.forces)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), found.stresses[0], atol=1e-15)


def test_a_repeated_question_costs_no_call_and_changed_labels_do() -> None:
    atoms = rattled(0.5)
    calculator = atoms.calc = PotentialCalculator(Pmmcs())
    before = atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    assert calculator.n_calls == 1
    charges = atoms.get_initial_charges()
    iron = atoms.numbers == 26
    charges[iron] = 5 - charges[iron]  # each Fe2+ becomes Fe3+ and the other way round
    atoms.set_initial_charges(charges)
    assert atoms.get_potential_energy() != before
    assert calculator.n_calls == 2
    atoms.positions[0, 0] = np.nextafter(atoms.positions[0, 0], np.inf)
    atoms.get_potential_energy()
    assert calculator.n_calls == 3


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"energies": torch.tensor([torch.nan])}, "energy that are not finite"),
        ({"forces": torch.full((26, 3), torch.inf)}, "forces that are not finite"),
        ({"stresses": torch.full((1, 3, 3), torch.nan)}, "stress that are not finite"),
        ({"forces": torch.zeros(3, 3)}, r"forces of shape \(3, 3\), expected \(26, 3\)"),
        ({"moments": torch.zeros(3)}, r"moments of shape \(3,\), expected \(26,\)"),
    ],
)
def test_nonsense_from_a_potential_is_an_error_that_names_it(
    wrong: dict[str, torch.Tensor], problem: str
) -> None:
    atoms = rattled(0.5)
    atoms.calc = PotentialCalculator(Broken(**wrong))
    with pytest.raises(BadResultError, match=f"potential 'pmmcs' gave {problem}"):
        atoms.get_forces()


def test_moments_of_a_potential_are_magmoms_of_the_calculator() -> None:
    atoms = rattled(0.5)
    moments = torch.arange(26, dtype=torch.float32)
    atoms.calc = PotentialCalculator(Broken(moments=moments))
    found = atoms.get_magnetic_moments()
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, moments)


def test_a_calculator_as_a_potential_gives_the_same_numbers_back() -> None:
    structures = [rattled(0.5), rattled(1.0)]
    wrapped = AseCalculatorPotential(PotentialCalculator(Pmmcs()), "wrapped")
    batch = Batch.from_atoms(structures)
    found, expected = wrapped.evaluate(batch), Pmmcs().evaluate(batch)
    assert torch.equal(found.energies, expected.energies)
    assert torch.equal(found.forces, expected.forces)
    torch.testing.assert_close(found.stresses, expected.stresses, atol=1e-15, rtol=1e-15)
    assert found.moments is None

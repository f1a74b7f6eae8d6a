"""The reference relaxer: where it ends, its coordinates, its first Hessian and its steps."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from ase import Atoms
from ase._4.optimize.bfgs import BFGSMethod
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize.cellawarebfgs import CellAwareBFGS
from hypothesis import given, settings
from hypothesis import strategies as st
from olivine import olivine, undistorted

from gasearch.potentials.ase_calculator import AseCalculatorPotential
from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.contract import Batch
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.ase_relaxer import (
    PositiveBFGSMethod,
    ReferenceRelaxer,
    SymmetricStrainFilter,
    exponential,
)
from gasearch.relax.audit import CHARGE_RULE
from gasearch.relax.hessian import ELASTIC, ON_SITE, model_hessian
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.results import LabelsChangedError, check_labels
from gasearch.relax.settings import RelaxSettings


def relax(atoms: Atoms, **settings: float) -> Relaxed:
    relaxer = ReferenceRelaxer(Pmmcs(), RelaxSettings(**settings))  # type: ignore[arg-type]
    return relaxer.relax_one(atoms)


def test_a_relaxation_from_undistorted_sites_ends_in_a_minimum() -> None:
    atoms = undistorted(0.5)
    relaxed = relax(atoms)
    assert (relaxed.verdict, relaxed.reason, relaxed.audit) == ("ok", "", CHARGE_RULE)
    assert relaxed.converged
    assert relaxed.fmax < 0.02
    assert relaxed.smax < 0.002
    assert 5 < relaxed.n_calls < 60
    again = Pmmcs().evaluate(Batch.from_atoms([relaxed.atoms]))
    assert relaxed.energy == float(again.energies[0])
    np.testing.assert_array_equal(relaxed.forces, again.forces)
    np.testing.assert_allclose(relaxed.stress, again.stresses[0], atol=1e-15)
    assert relaxed.energy < float(Pmmcs().evaluate(Batch.from_atoms([atoms])).energies[0]) - 1
    assert relaxed.moments is None
    charges = relaxed.atoms.get_initial_charges()[relaxed.atoms.numbers == 26]
    bonds = relaxed.bond_lengths  # which show the oxidation states
    assert bonds.shape == (4,)
    assert bonds[charges == 3].max() < 2.18 < bonds[charges == 2].min()


def test_the_same_start_ends_in_the_same_bits() -> None:
    one, two = (relax(undistorted(0.75, 3), fmax=0.1) for _ in range(2))
    assert one.energy == two.energy
    np.testing.assert_array_equal(one.atoms.positions, two.atoms.positions)
    np.testing.assert_array_equal(one.atoms.cell.array, two.atoms.cell.array)


def test_the_minimum_is_that_of_stock_ase_in_fewer_calls() -> None:
    atoms = undistorted(0.5, 1)
    relaxed = relax(atoms, fmax=0.005)
    stock = atoms.copy()
    stock.calc = PotentialCalculator(Pmmcs())
    optimizer = CellAwareBFGS(FrechetCellFilter(stock, exp_cell_factor=1.0), logfile=None)
    optimizer.run(fmax=0.005, smax=0.002)
    assert relaxed.energy == pytest.approx(stock.get_potential_energy(), abs=1e-3)
    assert relaxed.n_calls < 0.8 * stock.calc.n_calls


def test_a_stream_comes_out_in_order_and_one_failure_costs_only_itself() -> None:
    bad = undistorted(1.0)
    del bad[0]
    candidates = [(7, undistorted(1.0)), (8, bad), (9, undistorted(0.0))]
    relaxer = ReferenceRelaxer(Pmmcs(), RelaxSettings(fmax=0.3))
    found = list(relaxer.relax(iter(candidates)))
    assert [number for number, _ in found] == [7, 8, 9]
    assert [relaxed.verdict for _, relaxed in found] == ["ok", "failed", "ok"]
    assert "Na3Fe4P4O16 has charge -1" in found[1][1].reason
    assert found[2][1].energy == relaxer.relax_one(undistorted(0.0)).energy


def test_starts_that_make_no_sense_fail_with_the_reason() -> None:
    fused, left = undistorted(), undistorted()
    fused.positions[-1] = fused.positions[0]
    left.set_cell(left.cell.array[[1, 0, 2]])
    relaxed = relax(fused)
    assert relaxed.verdict == "failed"
    assert "not finite" in relaxed.reason
    relaxed = relax(left)
    assert relaxed.verdict == "failed"
    assert relaxed.reason.startswith("the cell of Na2Fe4P4O16 is left-handed")
    assert relaxed.n_calls == 0


class Meddler(Calculator):
    """Rewrites the labels of the atoms that it is given."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        atoms.arrays["initial_charges"][:] = 0
        n = len(atoms)
        self.results = {"energy": 0.0, "forces": np.zeros((n, 3)), "stress": np.zeros(6)}


def test_a_calculator_that_changes_labels_fails_the_candidate() -> None:
    relaxer = ReferenceRelaxer(AseCalculatorPotential(Meddler(), "meddler"))
    relaxed = relaxer.relax_one(olivine())
    assert relaxed.verdict == "failed"
    assert "the calculator 'meddler' changed 'initial_charges'" in relaxed.reason


@pytest.mark.parametrize("label", ["numbers", "initial_charges", "initial_magmoms"])
def test_changed_labels_are_noticed(label: str) -> None:
    start, final = olivine(), olivine()
    check_labels(start, final)
    final.arrays[label][[0, 2]] = final.arrays[label][[2, 0]]
    with pytest.raises(LabelsChangedError, match=label):
        check_labels(start, final)
    del final.arrays[label]
    with pytest.raises(LabelsChangedError, match=label):
        check_labels(start, final)


def test_a_result_survives_pickling() -> None:
    relaxed = relax(undistorted(), max_calls=2)
    copy = pickle.loads(pickle.dumps(relaxed))
    assert copy.energy == relaxed.energy
    np.testing.assert_array_equal(copy.atoms.positions, relaxed.atoms.positions)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"fmax": 0.0}, "fmax\n.*greater than 0"),
        ({"smax": float("inf")}, "smax\n.*finite number"),
        ({"max_calls": 0}, "max_calls\n.*greater than or equal to 1"),
        ({"fmax": 1000.0}, "fmax\n.*less than 500"),
    ],
)
def test_senseless_settings_are_refused(keys: dict[str, float], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        RelaxSettings(**keys)  # type: ignore[arg-type]


def filtered(atoms: Atoms) -> SymmetricStrainFilter:
    atoms.calc = PotentialCalculator(Pmmcs())
    return SymmetricStrainFilter(atoms)


def symmetric(rng: np.random.Generator, size: float) -> np.ndarray:
    matrix = rng.normal(0, size, (3, 3))
    return (matrix + matrix.T) / 2


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_filters_forces_are_derivatives_by_its_coordinates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = olivine(seed=seed)
    coordinates = filtered(atoms)
    here = coordinates.get_positions()
    here[-3:] = symmetric(rng, 0.1)
    direction = rng.normal(size=here.shape)
    direction[-3:] = symmetric(rng, 0.05)
    coordinates.set_positions(here)
    expected = -float((coordinates.get_forces() * direction).sum())
    h = 1e-3

    def along(t: float) -> float:
        coordinates.set_positions(here + t * direction)
        return float(atoms.get_potential_energy())

    slope = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    assert slope == pytest.approx(expected, rel=1e-6, abs=1e-5)


def test_the_filters_coordinates_are_what_was_set() -> None:
    atoms = olivine()
    coordinates = filtered(atoms)
    np.testing.assert_array_equal(coordinates.get_positions()[:-3], atoms.positions)
    np.testing.assert_array_equal(coordinates.get_positions()[-3:], np.zeros((3, 3)))
    cell = atoms.cell.array.copy()
    new = coordinates.get_positions()
    new[-3:] = np.diag([0.1, 0, -0.1])
    coordinates.set_positions(new)
    np.testing.assert_array_equal(coordinates.get_positions(), new)
    np.testing.assert_allclose(atoms.cell.array, cell @ np.diag(np.exp([0.1, 0, -0.1])))
    fractional = np.linalg.solve(cell.T, new[:-3].T).T
    np.testing.assert_allclose(atoms.get_scaled_positions(wrap=False), fractional)


def test_a_strain_neither_rotates_nor_mirrors() -> None:
    for seed in range(20):
        deformation = exponential(symmetric(np.random.default_rng(seed), 0.5))
        np.testing.assert_allclose(deformation, deformation.T, atol=1e-14)
        assert np.linalg.eigvalsh(deformation).min() > 0


def test_the_model_hessian_is_symmetric_and_positive() -> None:
    atoms = olivine()
    hessian = model_hessian(atoms)
    assert hessian.shape == (3 * len(atoms) + 9,) * 2
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    lowest = np.linalg.eigvalsh(hessian).min()
    assert lowest > 0.99 * min(ON_SITE, ELASTIC * atoms.cell.volume)


def test_the_model_hessian_costs_a_shift_of_the_crystal_only_the_on_site_part() -> None:
    atoms = olivine()
    shift = np.concatenate([np.tile([1.0, 0, 0], len(atoms)), np.zeros(9)])
    assert shift @ model_hessian(atoms) @ shift == pytest.approx(ON_SITE * len(atoms))


def test_the_model_hessian_is_finite_for_atoms_on_top_of_each_other_and_far_apart() -> None:
    atoms = olivine()
    atoms.positions[-1] = atoms.positions[0]
    assert np.isfinite(model_hessian(atoms)).all()
    assert np.linalg.eigvalsh(model_hessian(atoms)).min() > 0
    atoms.set_cell(4 * atoms.cell.array, scale_atoms=True)
    hessian = model_hessian(atoms)
    assert np.isfinite(hessian).all()


def test_the_model_hessian_knows_stiff_tetrahedra_from_soft_sodium() -> None:
    atoms = olivine()
    stiffness = np.diag(model_hessian(atoms))[:-9].reshape(-1, 3).mean(axis=1)
    sodium, phosphorus = (stiffness[atoms.numbers == z].mean() for z in (11, 15))
    assert phosphorus > 5 * sodium


def test_a_step_is_that_of_ase_while_the_hessian_is_positive() -> None:
    hessian = model_hessian(olivine())
    gradient = np.random.default_rng(0).normal(size=len(hessian))
    ours, stock = (method(hessian.copy()) for method in (PositiveBFGSMethod, BFGSMethod))
    np.testing.assert_allclose(
        ours.compute_step(gradient), stock.compute_step(gradient), rtol=1e-9, atol=1e-12
    )


def test_a_step_through_negative_curvature_is_not_learned_from() -> None:
    method = PositiveBFGSMethod(np.eye(3))
    zero, step = np.zeros(3), np.array([1.0, 0, 0])
    method.update(step, -step, zero, zero)
    np.testing.assert_array_equal(method.hessian, np.eye(3))
    method.update(step, 4 * step, zero, zero)
    np.testing.assert_allclose(method.hessian, np.diag([4.0, 1, 1]))


def test_an_indefinite_hessian_still_gives_a_step() -> None:
    method = PositiveBFGSMethod(np.diag([2.0, -4.0]))
    np.testing.assert_allclose(method.compute_step(np.array([2.0, 4.0])), [-1, -1])

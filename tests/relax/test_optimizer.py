"""The coordinates, the first Hessian and the step of the reference relaxer."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase._4.optimize.bfgs import BFGSMethod
from hypothesis import given, settings
from hypothesis import strategies as st

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.ase_relaxer import PositiveBFGSMethod, SymmetricStrainFilter, exponential
from gasearch.relax.hessian import ELASTIC, ON_SITE, model_hessian

HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))


def olivine(x: float = 0.5, seed: int = 0, rattle: float = 0.05) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Decoration.random(HOST, HOST.composition_at(x), rng).to_atoms()
    atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
    return atoms


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

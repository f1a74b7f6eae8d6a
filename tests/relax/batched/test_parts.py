"""What the batch relaxer is made of: states, deformations, the model Hessian and padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from olivine import olivine, state_of
from scipy.linalg import expm, expm_frechet

from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.contract import Batch
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.ase_relaxer import SymmetricStrainFilter
from gasearch.relax.batched.hessians import model_hessian, model_inverse
from gasearch.relax.batched.optimizer import Padding, gradient, width_of
from gasearch.relax.batched.state import State
from gasearch.relax.batched.strain import exponential, pull_back
from gasearch.relax.hessian import model_hessian as model_hessian_of_one
from gasearch.relax.settings import RelaxSettings

CPU = torch.device("cpu")


def sizes() -> list[Atoms]:
    return [olivine(0.5), olivine(1.0, 1).repeat((1, 2, 1)), olivine(0.0, 2)]


def strains_of(rng: np.random.Generator, n: int, size: float) -> torch.Tensor:
    matrices = torch.from_numpy(rng.normal(0, size, (n, 3, 3)))
    return (matrices + matrices.transpose(1, 2)) / 2


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.0, 1e-9, 0.03, 0.3]))
def test_exponentials_and_their_derivatives_are_those_of_scipy(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    strains, gradients = strains_of(rng, 4, size), strains_of(rng, 4, 1.0)
    found, derivatives = exponential(strains), pull_back(strains, gradients)
    for k, (strain, along) in enumerate(zip(strains.numpy(), gradients.numpy(), strict=True)):
        np.testing.assert_allclose(found[k], expm(strain), rtol=1e-13, atol=1e-14)
        expected = expm_frechet(strain, along, compute_expm=False)
        np.testing.assert_allclose(derivatives[k], expected, rtol=1e-11, atol=1e-12)


def test_a_deformation_neither_rotates_nor_mirrors() -> None:
    deformations = exponential(strains_of(np.random.default_rng(0), 50, 0.5))
    torch.testing.assert_close(deformations, deformations.transpose(1, 2), rtol=0, atol=0)
    assert torch.linalg.eigvalsh(deformations).min() > 0


def test_gradients_are_those_of_the_reference_coordinates() -> None:
    structures = sizes()
    strains = strains_of(np.random.default_rng(3), 3, 0.05)
    state = state_of(*structures)
    state = state.moved(state.undeformed, strains)
    geometry = state.batch()
    by_atom, by_cell = gradient(state, geometry, Pmmcs().evaluate(geometry))
    for k, atoms in enumerate(structures):
        atoms.calc = PotentialCalculator(Pmmcs())
        coordinates = SymmetricStrainFilter(atoms)
        coordinates.set_positions(np.vstack([atoms.positions, strains[k].numpy()]))
        expected = -coordinates.get_forces()
        mine = state.system == k
        np.testing.assert_allclose(geometry.positions[mine], atoms.positions, atol=1e-12)
        np.testing.assert_allclose(by_atom[mine], expected[:-3], atol=1e-9)
        np.testing.assert_allclose(by_cell[k], expected[-3:], atol=1e-8)


def test_a_fixed_cell_feels_nothing() -> None:
    state = State.start([(0, olivine(), RelaxSettings(relax_cell=False))], CPU)
    _, by_cell = gradient(state, state.batch(), Pmmcs().evaluate(state.batch()))
    assert not by_cell.any()


@pytest.mark.parametrize("rattle", [0.05, 0.4])
def test_the_model_hessian_of_a_batch_is_that_of_each_structure(rattle: float) -> None:
    structures = [olivine(0.5, 1, rattle), olivine(0.75, 2, rattle), olivine(0.0, 3, rattle)]
    width = 29
    found = model_hessian(Batch.from_atoms(structures), width)
    for hessian, atoms in zip(found.numpy(), structures, strict=True):
        n = 3 * len(atoms)
        filled = [*range(n), *range(3 * width, 3 * width + 9)]
        np.testing.assert_allclose(
            hessian[np.ix_(filled, filled)], model_hessian_of_one(atoms), atol=1e-9
        )
        empty = slice(n, 3 * width)
        np.testing.assert_array_equal(hessian[empty, empty], 2 * np.eye(3 * width - n))


def test_the_inverse_model_knows_fixed_cells() -> None:
    structures = [olivine(0.5), olivine(0.5, 1)]
    batch = Batch.from_atoms(structures)
    free, fixed = model_inverse(batch, 29, torch.tensor([True, False])).numpy()
    n = 3 * len(structures[1])
    expected = np.linalg.inv(model_hessian_of_one(structures[1])[:n, :n])
    np.testing.assert_allclose(fixed[:n, :n], expected, atol=1e-10)
    assert not fixed[:n, -9:].any()
    assert np.abs(free[:n, -9:]).max() > 1e-4


@given(counts=st.lists(st.integers(1, 200), min_size=1, max_size=9))
def test_rows_hold_their_atoms_and_little_else(counts: list[int]) -> None:
    widths = width_of(torch.tensor(counts)).tolist()
    for count, width in zip(counts, widths, strict=True):
        assert count <= width < count + 16
        assert (width + 3) % 16 == 0


def test_what_is_padded_comes_back() -> None:
    state = state_of(*sizes())
    strains = strains_of(np.random.default_rng(0), 3, 0.1)
    undeformed, cells = torch.zeros_like(state.undeformed), torch.zeros_like(strains)
    widths = width_of(state.counts)
    assert widths.tolist() == [29, 61, 29]
    for width in (29, 61):
        rows = (widths == width).nonzero().squeeze(1)
        padding = Padding.of(state, rows, width)
        coordinates = padding.coordinates(state.undeformed, strains)
        assert coordinates.shape == (len(rows), 3 * width + 9)
        padding.write(coordinates, undeformed, cells)
    torch.testing.assert_close(undeformed, state.undeformed, rtol=0, atol=0)
    torch.testing.assert_close(cells, strains, rtol=0, atol=0)


def test_selecting_and_joining_keep_structures_whole() -> None:
    structures = sizes()
    state = state_of(*structures)
    some = state.select(torch.tensor([True, False, True])).joined(state_of(structures[1]))
    assert some.ids.tolist() == [0, 2, 0]
    assert some.counts.tolist() == [len(structures[k]) for k in (0, 2, 1)]
    for row, k in enumerate((0, 2, 1)):
        final = some.final_atoms(structures[k], row, some.batch())
        np.testing.assert_allclose(final.positions, structures[k].positions, atol=1e-14)
        for label in ("numbers", "initial_charges", "initial_magmoms"):
            np.testing.assert_array_equal(final.arrays[label], structures[k].arrays[label])

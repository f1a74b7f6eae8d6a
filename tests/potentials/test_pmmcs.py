"""The rigid-ion potential: lattice sums against known constants, derivatives, invariances."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from crystals import olivine
from hypothesis import given, settings
from hypothesis import strategies as st

from gasearch.crystal.species import NotNeutralError, Species
from gasearch.potentials.contract import Batch, UntrainedSpeciesError
from gasearch.potentials.ewald import COULOMB, Splitting, reciprocal_sum
from gasearch.potentials.pairs import Crystals, PairTable, find_pairs
from gasearch.potentials.pmmcs import CUTOFF, PARAMETERS, SWITCH_ON, Pmmcs, switch
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.relax.settings import RelaxSettings
from gasearch.testing import check_potential

PMMCS = Pmmcs()


def energy(atoms: Atoms, potential: Pmmcs = PMMCS) -> float:
    return float(potential.evaluate(Batch.from_atoms([atoms])).energies[0])


def triclinic(seed: int, rattle: float = 0.1, strain: float = 0.05) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = olivine(float(rng.choice([0, 0.25, 0.5, 0.75, 1])), seed)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + rng.uniform(-strain, strain, (3, 3))), scale_atoms=True
    )
    atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
    return atoms


def coulomb_energy(
    atoms: Atoms, charges: list[float], cutoff: float, splitting: Splitting
) -> float:
    """Both halves of an Ewald sum, without any short-range force."""
    batch = Batch.from_atoms([atoms])
    crystals = Crystals.from_batch(batch, PairTable.from_system(batch.system, 1))
    q = torch.tensor(charges, dtype=torch.float64)
    smooth, _, _ = reciprocal_sum(crystals, q[None], splitting)
    pairs = find_pairs(crystals, cutoff)
    r = pairs.vectors.norm(dim=0)
    near = q[pairs.first] * q[pairs.second] * torch.erfc(splitting.inverse_width * r) / r
    return float(smooth[0] + COULOMB * near.sum())


def salt(structure: str, a: float) -> Atoms:
    atoms = bulk("NaCl", structure, a=a)
    atoms.set_initial_charges([1, -1])
    return atoms


@pytest.mark.parametrize(
    ("structure", "nearest", "madelung"),
    [
        ("rocksalt", 1 / 2, 1.747564594633182),
        ("cesiumchloride", math.sqrt(3) / 2, 1.762674773070988),
        ("zincblende", math.sqrt(3) / 4, 1.638055053388790),
    ],
)
def test_the_ewald_sum_gives_madelung_constants(
    structure: str, nearest: float, madelung: float
) -> None:
    a = 5.0
    found = coulomb_energy(salt(structure, a), [1, -1], 9.0, Splitting.for_cutoff(9.0, reach=5.5))
    assert found == pytest.approx(-madelung * COULOMB / (nearest * a), rel=1e-11)


def test_the_ewald_sum_of_a_skewed_cell_is_that_of_the_same_crystal() -> None:
    atoms = salt("rocksalt", 5.6)
    splitting = Splitting.for_cutoff(10.0)
    plain = coulomb_energy(atoms, [1, -1], 10.0, splitting)
    atoms.set_cell(np.array([[1, 0, 0], [3, 1, 0], [-2, 4, 1]]) @ atoms.cell.array)
    assert coulomb_energy(atoms, [1, -1], 10.0, splitting) == pytest.approx(plain, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), cutoff=st.floats(2.0, 9.0))
def test_pairs_are_all_pairs_within_the_cutoff(seed: int, cutoff: float) -> None:
    rng = np.random.default_rng(seed)
    cell = rng.uniform(-1, 1, (3, 3)) + 3 * np.eye(3)  # shorter than the cutoff: many images
    atoms = Atoms("NaClO", rng.uniform(-5, 5, (3, 3)), cell=cell, pbc=True)
    atoms.set_initial_charges([1, 1, -2])
    batch = Batch.from_atoms([atoms])
    pairs = find_pairs(Crystals.from_batch(batch, PairTable.from_system(batch.system, 1)), cutoff)
    found = np.sort(pairs.vectors.norm(dim=0).numpy())
    reach = range(-9, 10)
    images = np.array(list(itertools.product(reach, reach, reach))) @ cell
    every = [
        np.linalg.norm(atoms.positions[j] - atoms.positions[i] + images, axis=1)
        for i in range(3)
        for j in range(3)
    ]
    brute = np.sort(np.concatenate(every))
    brute = brute[(brute < cutoff) & (brute > 1e-9)]
    within = found[found < cutoff]
    np.testing.assert_allclose(np.repeat(within, 2), brute, atol=1e-12)
    assert found.max(initial=0) < cutoff * 1.001


def test_a_batch_of_unlike_crystals_has_the_pairs_of_each() -> None:
    structures = [salt("rocksalt", 4.0), olivine(), salt("cesiumchloride", 3.5)]
    batch = Batch.from_atoms(structures)
    pairs = find_pairs(
        Crystals.from_batch(batch, PairTable.from_system(batch.system, len(batch))), 6.0
    )
    counts = torch.bincount(pairs.system).tolist()
    alone = []
    for atoms in structures:
        one = Batch.from_atoms([atoms])
        crystals = Crystals.from_batch(one, PairTable.from_system(one.system, 1))
        alone.append(len(find_pairs(crystals, 6.0).first))
    assert counts == alone
    assert torch.equal(batch.system[pairs.first], pairs.system)
    assert torch.equal(batch.system[pairs.second], pairs.system)


def test_the_switch_is_smooth() -> None:
    r = torch.linspace(SWITCH_ON - 0.5, CUTOFF + 0.5, 4001, dtype=torch.float64)
    on, falls = switch(r)
    assert on[0] == 1
    assert on[-1] == 0
    step = float(r[1] - r[0])
    slope = (on[2:] - on[:-2]) / (2 * step)
    np.testing.assert_allclose(slope, -falls[1:-1], atol=1e-5)
    curvature = (falls[1:] - falls[:-1]).abs() / step
    assert float((curvature[1:] - curvature[:-1]).abs().max()) < 0.1  # no jump


@pytest.mark.parametrize(
    ("host", "x", "energy_per_fu", "cell"),
    [
        ("nafepo4-olivine", 1.0, -103.4086, (10.544, 6.254, 5.099)),
        ("nafepo4-olivine", 0.0, -114.685, None),
        ("lifepo4-olivine", 1.0, None, (10.398, 6.083, 4.813)),
    ],
)
def test_relaxed_crystals_have_the_published_cells_and_energies(
    host: str, x: float, energy_per_fu: float | None, cell: tuple[float, ...] | None
) -> None:
    relaxed = ReferenceRelaxer(PMMCS, RelaxSettings(fmax=0.005, smax=1e-4)).relax_one(
        olivine(x, host=host)
    )
    assert relaxed.verdict == "ok"
    if energy_per_fu is not None:
        assert relaxed.energy / 4 == pytest.approx(energy_per_fu, abs=3e-3)
    if cell is not None:
        assert relaxed.atoms.cell.lengths() == pytest.approx(cell, rel=1e-3)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_forces_are_finite_differences_to_a_millionth(seed: int) -> None:
    atoms = triclinic(seed)
    forces = PMMCS.evaluate(Batch.from_atoms([atoms])).forces.numpy()
    direction = np.random.default_rng(seed).normal(size=forces.shape)
    h = 1e-3

    def along(t: float) -> float:
        moved = atoms.copy()
        moved.positions += t * direction
        return energy(moved)

    slope = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    assert slope == pytest.approx(-float((forces * direction).sum()), rel=1e-6, abs=1e-6)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_stresses_are_finite_differences_to_a_millionth(seed: int) -> None:
    atoms = triclinic(seed)
    stress = PMMCS.evaluate(Batch.from_atoms([atoms])).stresses[0].numpy()
    rng = np.random.default_rng(seed)
    strain = rng.normal(size=(3, 3))
    strain = strain + strain.T
    h = 2e-4

    def along(t: float) -> float:
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ (np.eye(3) + t * strain), scale_atoms=True)
        return energy(moved)

    slope = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    expected = float((stress * strain).sum()) * atoms.get_volume()
    assert slope == pytest.approx(expected, rel=1e-6, abs=1e-5)
    np.testing.assert_allclose(stress, stress.T, atol=1e-14)


def test_it_passes_every_check_of_a_potential() -> None:
    check_potential(PMMCS, [olivine(0.5), olivine(1.0, host="lifepo4-olivine")])


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), narrower=st.floats(1.0, 1.6))
def test_the_splitting_parameter_changes_nothing(seed: int, narrower: float) -> None:
    atoms = triclinic(seed)
    usual = Splitting.for_cutoff(CUTOFF)
    other = Pmmcs(splitting=Splitting(usual.inverse_width * narrower, usual.reach))
    one, two = (p.evaluate(Batch.from_atoms([atoms])) for p in (PMMCS, other))
    assert float(one.energies[0]) == pytest.approx(float(two.energies[0]), rel=1e-9)
    np.testing.assert_allclose(one.forces, two.forces, atol=1e-8)
    np.testing.assert_allclose(one.stresses, two.stresses, atol=1e-9)


@pytest.mark.parametrize("repeat", [(2, 1, 1), (1, 2, 1), (1, 1, 3), (2, 2, 1)])
def test_a_supercell_is_a_multiple_of_the_cell(repeat: tuple[int, int, int]) -> None:
    atoms = triclinic(3)
    n = math.prod(repeat)
    one = PMMCS.evaluate(Batch.from_atoms([atoms]))
    many = PMMCS.evaluate(Batch.from_atoms([atoms.repeat(repeat)]))
    assert float(many.energies[0]) == pytest.approx(n * float(one.energies[0]), rel=1e-10)
    np.testing.assert_allclose(many.forces, np.tile(one.forces, (n, 1)), atol=1e-9)
    np.testing.assert_allclose(many.stresses, one.stresses, atol=1e-10)


def test_a_cell_much_shorter_than_the_cutoff_is_its_own_supercell() -> None:
    cell = bulk("Cu", a=4.6).cell
    scaled = [[0.25] * 3, [0.75] * 3, [0] * 3]
    atoms = Atoms("Li2O", scaled_positions=scaled, cell=cell, pbc=True)
    atoms.set_initial_charges([1, 1, -2])
    atoms.rattle(0.1, seed=1)
    assert energy(atoms.repeat(4)) == pytest.approx(64 * energy(atoms), rel=1e-10)


def test_results_do_not_depend_on_what_shares_the_batch_to_the_last_bit() -> None:
    structures = [triclinic(seed) for seed in range(5)]
    together = PMMCS.evaluate(Batch.from_atoms(structures))
    backwards = PMMCS.evaluate(Batch.from_atoms(structures[::-1]))
    alone = [PMMCS.evaluate(Batch.from_atoms([atoms])) for atoms in structures]
    assert torch.equal(together.energies, torch.cat([one.energies for one in alone]))
    assert torch.equal(together.energies, backwards.energies.flip(0))
    assert torch.equal(together.forces, torch.cat([one.forces for one in alone]))
    assert torch.equal(together.stresses, torch.cat([one.stresses for one in alone]))


def test_a_batch_taken_as_one_agrees_with_single_structures() -> None:
    structures = [triclinic(1), salt_of_lithia(), triclinic(2).repeat((1, 2, 1))]
    together = PMMCS.evaluate_together(Batch.from_atoms(structures))  # what other devices do
    one_by_one = PMMCS.evaluate(Batch.from_atoms(structures))
    np.testing.assert_allclose(together.energies, one_by_one.energies, rtol=1e-12)
    np.testing.assert_allclose(together.forces, one_by_one.forces, atol=1e-11)
    np.testing.assert_allclose(together.stresses, one_by_one.stresses, atol=1e-12)


def salt_of_lithia() -> Atoms:
    atoms = Atoms("Li2O", positions=[[0, 0, 0], [2, 0.1, 0], [1, 1.5, 0]], cell=[4, 4, 4], pbc=True)
    atoms.set_initial_charges([1, 1, -2])
    return atoms


def test_a_left_handed_cell_has_the_energy_of_the_same_crystal() -> None:
    atoms = triclinic(7)
    mirrored = atoms.copy()
    mirrored.set_cell(atoms.cell.array[[1, 0, 2]])
    assert mirrored.cell.handedness == -atoms.cell.handedness
    one, two = (PMMCS.evaluate(Batch.from_atoms([a])) for a in (atoms, mirrored))
    assert float(two.energies[0]) == pytest.approx(float(one.energies[0]), rel=1e-11)
    np.testing.assert_allclose(two.forces, one.forces, atol=1e-10)
    np.testing.assert_allclose(two.stresses, one.stresses, atol=1e-11)


def test_oxidation_states_decide_the_energy() -> None:
    atoms = olivine(0.5)
    charges = atoms.get_initial_charges()
    high, low = np.flatnonzero(charges == 3)[0], np.flatnonzero(charges == 2)[0]
    before = energy(atoms)
    charges[[high, low]] = charges[[low, high]]
    atoms.set_initial_charges(charges)
    assert abs(energy(atoms) - before) > 0.05


def test_a_charged_cell_is_refused() -> None:
    atoms = olivine(1.0)
    del atoms[0]
    with pytest.raises(NotNeutralError, match=r"Na3Fe4P4O16 has charge -1, not 0: an Ewald sum"):
        energy(atoms)


def test_an_unknown_oxidation_state_is_refused_by_name() -> None:
    atoms = olivine(1.0)
    charges = atoms.get_initial_charges()
    charges[atoms.numbers == 26] = [1, 3, 2, 2]
    atoms.set_initial_charges(charges)
    with pytest.raises(UntrainedSpeciesError, match=r"'pmmcs' does not know Fe\+; it knows Li\+"):
        energy(atoms)


def test_fused_atoms_give_numbers_that_are_not_finite_rather_than_an_error() -> None:
    atoms = olivine(1.0)
    atoms.positions[1] = atoms.positions[0]
    found = PMMCS.evaluate(Batch.from_atoms([atoms]))
    assert not torch.isfinite(found.forces).all()


def test_two_ions_feel_the_published_function() -> None:
    potential = 0.078171 * ((1 - math.exp(-1.822638 * (2.1 - 2.658163))) ** 2 - 1) + 2 / 2.1**12
    atoms = Atoms("FeO", [[0, 0, 0], [2.1, 0, 0]], cell=[30, 30, 30], pbc=True)
    atoms.set_initial_charges([2, -2])
    coulomb = coulomb_energy(atoms, [1.2, -1.2], 10.0, Splitting.for_cutoff(10.0))
    assert energy(atoms) - coulomb == pytest.approx(potential, abs=1e-12)


def test_the_hash_follows_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    before = PMMCS.weights_hash
    assert len(before) == 64
    assert Pmmcs().weights_hash == before
    monkeypatch.setitem(PARAMETERS, "Na+", (0.02, 1.7, 3.0, 5.0))
    assert PMMCS.weights_hash != before


def test_it_says_what_it_is() -> None:
    assert PMMCS.name == "pmmcs"
    assert PMMCS.ranks_only
    assert PMMCS.species is not None
    assert Species("Si", 4) in PMMCS.species

"""Potentials with a hold: the contract, and that they follow their labels."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species
from gasearch.potentials.contract import Batch, Potential
from gasearch.potentials.held.hold import Hold
from gasearch.potentials.held.potential import NoMomentsError, held
from gasearch.potentials.held.valence import (
    BondReader,
    NoBondParameterError,
    ValenceTable,
    bond_lengths,
)
from gasearch.potentials.networks.network import find_edges
from gasearch.potentials.registry import load_potential
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.settings import RelaxSettings
from gasearch.testing import check_potential

FE2, FE3 = Species("Fe", 2), Species("Fe", 3)
LENGTHS = {"Fe-O": 1.744}
BONDS = Hold("bonds", {FE2: (-math.inf, 2.0), FE3: (2.43, math.inf)}, 3.0, LENGTHS)
MOMENTS = Hold("moments", {FE2: (-math.inf, 4.04), FE3: (4.28, math.inf)}, 10.0)
HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))


def crystal(x=0.5, seed=0, rattle=0.05):
    rng = np.random.default_rng(seed)
    atoms = Decoration.random(HOST, HOST.composition_at(x), rng).to_atoms()
    atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
    return atoms


def with_labels_exchanged(atoms):
    """Return a copy in which the first Fe2+ and the first Fe3+ have changed labels."""
    copy = atoms.copy()
    charges = copy.get_initial_charges()
    iron = np.flatnonzero(copy.symbols == "Fe")
    pair = [iron[charges[iron] == 2][0], iron[charges[iron] == 3][0]]
    for label in ("initial_charges", "initial_magmoms"):
        copy.arrays[label][pair] = copy.arrays[label][pair[::-1]]
    return copy


@pytest.fixture(scope="module")
def chgnet():
    return load_potential("chgnet")


@pytest.fixture(scope="module")
def by_moments(chgnet):
    return held(chgnet, MOMENTS)


@pytest.fixture(scope="module")
def by_bonds(chgnet):
    return held(chgnet, BONDS)


@pytest.fixture(params=["moments", "bonds"])
def potential(request):
    return request.getfixturevalue(f"by_{request.param}")


@pytest.mark.parametrize("hold", [MOMENTS, BONDS], ids=["moments", "bonds"])
def test_a_held_potential_keeps_the_contract(hold):
    base = load_potential("chgnet")
    base.network.to(torch.float64)
    potential = held(base, hold)
    assert isinstance(potential, Potential)
    check_potential(potential, [crystal(0.5), crystal(0.75, seed=2)], tolerance=1e-5, step=5e-4)


def test_any_potential_is_held_by_bonds_with_exact_forces_and_stress():
    check_potential(held(load_potential("pmmcs"), BONDS), [crystal(0.5), crystal(0.25, seed=1)])


def test_the_penalty_is_what_is_added_to_the_energy(potential, chgnet):
    structures = [crystal(0.5), crystal(1.0, seed=3), crystal(0.25, seed=5)]
    batch = Batch.from_atoms(structures)
    found, plain = potential.evaluate(batch), chgnet.evaluate(batch)
    assert (found.penalties >= 0).all()
    assert found.penalties[0] > 0.01
    torch.testing.assert_close(found.energies - found.penalties, plain.energies)
    torch.testing.assert_close(found.moments, plain.moments)


def test_without_a_violation_nothing_is_changed(chgnet):
    batch = Batch.from_atoms([crystal(0.5)])
    wide = dict.fromkeys((FE2, FE3), (-math.inf, math.inf))
    for hold in (MOMENTS, BONDS):
        found = held(chgnet, replace(hold, ranges=wide)).evaluate(batch)
        plain = chgnet.evaluate(batch)
        assert found.penalties.tolist() == [0.0]
        torch.testing.assert_close(found.forces, plain.forces)
        torch.testing.assert_close(found.stresses, plain.stresses)


def test_an_exchange_of_labels_changes_the_energy(potential):
    atoms = crystal(0.5)
    pair = Batch.from_atoms([atoms, with_labels_exchanged(atoms)])
    first, second = potential.evaluate(pair).energies.tolist()
    assert abs(first - second) > 0.005


def test_a_structure_costs_the_others_nothing(potential):
    good, bad = crystal(0.5), crystal(0.5, seed=1)
    bad.positions[3] = math.nan
    alone = potential.evaluate(Batch.from_atoms([good]))
    both = potential.evaluate(Batch.from_atoms([good, bad]))
    assert not both.energies[1].isfinite()
    torch.testing.assert_close(both.energies[:1], alone.energies)
    torch.testing.assert_close(both.forces[: len(good)], alone.forces)
    torch.testing.assert_close(both.penalties[:1], alone.penalties)


def test_edges_of_the_caller_give_the_same(by_bonds):
    batch = Batch.from_atoms([crystal(0.5), crystal(0.75)])
    edges = find_edges(batch, by_bonds.cutoff)
    found, plain = by_bonds.evaluate_with_edges(batch, edges), by_bonds.evaluate(batch)
    torch.testing.assert_close(found.energies, plain.energies)
    torch.testing.assert_close(found.stresses, plain.stresses)


def test_a_hold_and_its_base_are_the_identity(chgnet, by_moments, by_bonds):
    stiffer = held(chgnet, replace(MOMENTS, stiffness=20.0))
    hashes = {p.weights_hash for p in (chgnet, by_moments, by_bonds, stiffer)}
    assert len(hashes) == 4
    assert by_moments.name == "chgnet held by moments"
    assert held(chgnet, MOMENTS).weights_hash == by_moments.weights_hash


def test_what_is_held_proves_nothing(by_moments, by_bonds, chgnet):
    assert by_moments.moment_ranges is None
    assert by_bonds.moment_ranges is None
    assert held(chgnet, BONDS, MOMENTS.ranges).moment_ranges == MOMENTS.ranges


def test_a_potential_without_moments_is_not_held_by_them():
    with pytest.raises(NoMomentsError, match='set hold = "bonds"'):
        held(load_potential("pmmcs"), MOMENTS)


class TestValenceSums:
    def test_they_are_the_sum_over_bonds(self):
        atoms = Atoms("FeO2", [[0, 0, 0], [2.0, 0, 0], [0, 2.2, 0]], cell=[12, 12, 12], pbc=True)
        atoms.set_initial_charges([4, -2, -2])
        expected = math.exp((1.744 - 2.0) / 0.37) + math.exp((1.744 - 2.2) / 0.37)
        sums = ValenceTable(LENGTHS).sums(Batch.from_atoms([atoms])).sums
        assert sums.tolist() == pytest.approx([expected, 0.0, 0.0])

    def test_they_end_smoothly(self):
        def valence(distance):
            atoms = Atoms("FeO", [[0, 0, 0], [distance, 0, 0]], cell=[12, 12, 12], pbc=True)
            atoms.set_initial_charges([2, -2])
            return float(ValenceTable(LENGTHS).sums(Batch.from_atoms([atoms])).sums[0])

        end = 1.744 + 1.45
        assert valence(end) == 0.0
        assert 0 < valence(end - 0.01) < 1e-5
        assert valence(end - 0.55) == pytest.approx(math.exp((1.744 - end + 0.55) / 0.37))

    def test_lengths_come_from_the_table_of_okeeffe_and_brese(self):
        lengths = bond_lengths(["Fe", "Mn"], ["F", "O"])
        assert lengths["Fe-O"] == pytest.approx(1.744, abs=2e-3)
        assert set(lengths) == {"Fe-F", "Fe-O", "Mn-F", "Mn-O"}

    def test_what_the_table_lacks_is_named(self):
        with pytest.raises(NoBondParameterError, match="Ne-O"):
            bond_lengths(["Ne"], ["O"])

    def test_a_reader_gives_them_for_atoms(self):
        atoms = crystal(1.0, rattle=0.0)
        read = BondReader(LENGTHS, BONDS.ranges).read(atoms)
        iron = atoms.symbols == "Fe"
        assert ((read[iron] > 1.5) & (read[iron] < 2.2)).all()
        assert (read[~iron] == 0).all()


@pytest.mark.parametrize("start", ["undistorted", "of the other order"])
def test_the_order_that_comes_out_is_that_of_the_labels(potential, chgnet, start):
    atoms = crystal(0.5, seed=4, rattle=0.05)
    ((_, relaxed),) = BatchRelaxer(potential).relax([(1, atoms)])
    if start != "undistorted":
        other = with_labels_exchanged(relaxed.atoms)
        ((_, relaxed),) = BatchRelaxer(potential).relax([(1, other)])
    assert relaxed.converged
    found = chgnet.evaluate(Batch.from_atoms([relaxed.atoms])).moments
    labels = relaxed.atoms.get_initial_charges()
    for i in np.flatnonzero(relaxed.atoms.symbols == "Fe"):
        assert (found[i] > 4.16) == (labels[i] == 3)
    sums = BondReader(LENGTHS, BONDS.ranges).read(relaxed.atoms)
    assert all((sums[i] > 2.2) == (labels[i] == 3) for i in np.flatnonzero(labels >= 2) if sums[i])


def test_labels_exchanged_on_one_start_end_at_another_energy(by_moments):
    atoms = crystal(0.5, seed=4, rattle=0.05)
    pair = [(1, atoms), (2, with_labels_exchanged(atoms))]
    settings = RelaxSettings(fmax=0.1, smax=0.02)
    found = dict(BatchRelaxer(by_moments, settings).relax(pair))
    first, second = found[1], found[2]
    assert first.converged
    assert second.converged
    assert abs(first.energy - second.energy) > 0.02


@pytest.mark.gpu
def test_a_hold_works_on_the_device_of_its_potential():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    here, there = (held(load_potential("chgnet", device=d), MOMENTS) for d in ("cpu", "cuda"))
    atoms = [crystal(0.5)]
    found = there.evaluate(Batch.from_atoms(atoms, "cuda")).penalties.cpu()
    torch.testing.assert_close(
        found, here.evaluate(Batch.from_atoms(atoms)).penalties, rtol=1e-4, atol=1e-5
    )


def test_what_is_left_of_a_hold_is_in_the_result(by_bonds):
    """A range that no site can reach pushes to the end."""
    beyond = replace(BONDS, ranges={FE2: (-math.inf, 1.0), FE3: (3.5, math.inf)})
    settings = RelaxSettings(fmax=0.5, smax=0.05)
    batched = dict(BatchRelaxer(held(by_bonds.base, beyond), settings).relax([(1, crystal())]))[1]
    free = dict(BatchRelaxer(by_bonds.base, settings).relax([(1, crystal())]))[1]
    assert batched.penalty > 0.5
    assert free.penalty == 0.0
    base = by_bonds.base.evaluate(Batch.from_atoms([batched.atoms])).energies[0]
    assert batched.energy - batched.penalty == pytest.approx(float(base), abs=1e-4)

"""Skin lists against brute force, and what networks make of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from olivine import balls, olivine

from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.network import find_edges
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.relax.batched import neighbours
from gasearch.relax.batched.neighbours import Bonds, SkinList, edges_of, find_bonds
from gasearch.relax.batched.relaxer import BatchRelaxer

CPU = torch.device("cpu")
Found = list[tuple[int, int, tuple[int, int, int]]]


def crystal(seed: int, n: int, lengths: list[float], shear: float, mirrored: bool) -> Atoms:
    """Any cell: skewed, shorter than the cutoff, left-handed; atoms anywhere, inside it or not."""
    rng = np.random.default_rng(seed)
    cell = np.diag(lengths) + shear * np.tril(rng.uniform(-1, 1, (3, 3)), -1)
    if mirrored:
        cell = cell[[1, 0, 2]]
    atoms = Atoms(["O"] * n, cell=cell, pbc=True)
    atoms.positions = rng.uniform(-1, 2, (n, 3)) @ cell
    atoms.set_initial_charges([-2.0] * n)
    return atoms


def brute_force(atoms: Atoms, cutoff: float) -> Found:
    """Return ordered pairs and whole-cell shifts, by trying all images that could be near."""
    cell, positions = atoms.cell.array, atoms.positions
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    spread = np.ptp(np.linalg.solve(cell.T, positions.T), axis=1)
    reach = np.ceil(cutoff / heights + spread).astype(int) + 1
    shifts = np.array(list(itertools.product(*(range(-m, m + 1) for m in reach))))
    between = positions[None] - positions[:, None]
    distances = np.linalg.norm(between[:, :, None] + shifts @ cell, axis=3)
    i, j, s = np.nonzero(distances < cutoff)
    keep = (i != j) | shifts[s].any(axis=1)
    triples = zip(i[keep], j[keep], shifts[s[keep]], strict=True)
    return sorted((int(a), int(b), tuple(map(int, shift))) for a, b, shift in triples)  # type: ignore[misc]


def found_in(skin: SkinList, structures: list[Atoms]) -> list[Found]:
    """Return the same from a skin list, structure by structure."""
    batch = Batch.from_atoms(structures)
    bonds = skin.bonds(batch)
    results, first = [], 0
    for row, atoms in enumerate(structures):
        edges = edges_of(bonds, slice(row, row + 1), slice(first, first + len(atoms)))
        first += len(atoms)
        offsets = edges.offsets.long().tolist()
        triples = zip(edges.i.tolist(), edges.j.tolist(), offsets, strict=True)
        results.append(sorted((i, j, tuple(shift)) for i, j, shift in triples))
    return results


def is_generic(atoms: Atoms, cutoff: float) -> bool:
    """Return whether no pair is so near the cutoff that rounding decides."""
    return len(brute_force(atoms, cutoff - 1e-9)) == len(brute_force(atoms, cutoff + 1e-9))


crystals = st.builds(
    crystal,
    seed=st.integers(0, 10**6),
    n=st.integers(1, 5),
    lengths=st.lists(st.floats(2.2, 7.0), min_size=3, max_size=3),
    shear=st.floats(0.0, 3.0),
    mirrored=st.booleans(),
)


@settings(max_examples=30, deadline=None)
@given(
    structures=st.lists(crystals, min_size=1, max_size=3),
    cutoff=st.floats(2.0, 5.0),
    skin=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_lists_are_those_of_brute_force_while_atoms_and_cells_move(
    structures: list[Atoms], cutoff: float, skin: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    structures = [atoms for atoms in structures if atoms.cell.volume > 2.5 * len(atoms)]
    if not structures:
        return
    lists = SkinList(cutoff, CPU, skin)
    lists.join(torch.tensor([len(atoms) for atoms in structures]))
    for _ in range(4):
        generic = [is_generic(atoms, cutoff) for atoms in structures]
        found = found_in(lists, structures)
        for atoms, pairs, sure in zip(structures, found, generic, strict=True):
            assert pairs == brute_force(atoms, cutoff) or not sure
        for atoms in structures:
            strain = np.eye(3) + rng.normal(0, 0.02, (3, 3))
            atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            atoms.positions += rng.normal(0, 0.1, atoms.positions.shape) + rng.normal(0, 2.0, 3)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many structures each search was for."""
    sizes: list[int] = []

    def counted(batch: Batch, reach: float) -> Bonds:
        sizes.append(len(batch))
        return find_bonds(batch, reach)

    monkeypatch.setattr(neighbours, "find_bonds", counted)
    return sizes


def test_a_list_is_kept_until_its_skin_is_used_up(searched: list[int]) -> None:
    structures = [olivine(0.5, 1), olivine(0.75, 2)]
    skin = SkinList(5.0, CPU, skin=0.5)
    skin.join(torch.tensor([len(atoms) for atoms in structures]))
    found_in(skin, structures)
    assert searched == [2]
    structures[0].positions += 10.0  # a shift of the whole crystal is no move
    structures[1].positions[3, 0] += 0.2
    found_in(skin, structures)
    assert searched == [2]
    structures[1].positions[3, 0] += 0.2
    found_in(skin, structures)
    assert searched == [2, 1]
    structures[0].set_cell(structures[0].cell.array * 0.93, scale_atoms=True)
    found_in(skin, structures)
    assert searched == [2, 1, 1]


def test_structures_come_and_go(searched: list[int]) -> None:
    structures = [olivine(0.5, 1), olivine(1.0, 2).repeat((1, 2, 1)), olivine(0.25, 3)]
    skin = SkinList(5.0, CPU)
    skin.join(torch.tensor([len(atoms) for atoms in structures]))
    found_in(skin, structures)
    system = Batch.from_atoms(structures).system
    skin.select(torch.tensor([False, True, True]), system)
    skin.join(torch.tensor([len(structures[0])]))
    kept = [structures[1], structures[2], structures[0]]
    assert found_in(skin, kept) == [brute_force(atoms, 5.0) for atoms in kept]
    assert searched == [3, 1]


def test_bonds_are_ordered_by_their_structure_alone() -> None:
    structures = [olivine(0.5, 1), olivine(1.0, 2).repeat((1, 2, 1))]
    together = find_bonds(Batch.from_atoms(structures), 5.0)
    alone = find_bonds(Batch.from_atoms(structures[:1]), 5.0)
    mine = together.system == 0
    for column in ("first", "second", "offsets"):
        torch.testing.assert_close(getattr(together, column)[mine], getattr(alone, column))


def test_a_structure_that_makes_no_sense_has_no_neighbours() -> None:
    flat, sound = olivine(), olivine(0.75, 1)
    flat.set_cell(flat.cell.array * [1, 1, 1e-6])
    skin = SkinList(5.0, CPU)
    skin.join(torch.tensor([len(flat), len(sound)]))
    found = found_in(skin, [flat, sound])
    assert found == [[], brute_force(sound, 5.0)]


def test_given_edges_a_network_says_the_same() -> None:
    potential = balls()
    structures = [olivine(0.5, seed) for seed in range(3)] * 2
    batch = Batch.from_atoms(structures)  # more atoms than fit into one pass on the CPU
    edges = find_edges(batch, potential.cutoff)
    expected, found = potential.evaluate(batch), potential.evaluate_with_edges(batch, edges)
    for name in ("energies", "forces", "stresses"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_network_relaxes_alike_with_and_without_lists_that_are_kept(dtype: torch.dtype) -> None:
    class Plain:
        """The same network, which finds its own edges."""

        def __init__(self, potential: NetworkPotential) -> None:
            self.evaluate = potential.evaluate
            for name in ("name", "cutoff", "species", "device", "ranks_only", "weights_hash"):
                setattr(self, name, getattr(potential, name))

    candidates = [(k, olivine(0.5, k)) for k in range(3)]
    potential = balls(dtype)
    kept = dict(BatchRelaxer(potential).relax(candidates))
    plain = dict(BatchRelaxer(Plain(potential)).relax(candidates))
    for number, one in kept.items():
        assert one.verdict == plain[number].verdict
        assert one.energy == pytest.approx(plain[number].energy, abs=2e-3)
        assert 10 < one.n_calls < 200

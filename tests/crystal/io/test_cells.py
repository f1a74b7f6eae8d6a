"""Primitive and averaged cells of structure files."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal

from gasearch.crystal.declaration import HostError
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.io.cells import choose_cell, cif_of, smallest_cell
from gasearch.crystal.io.structures import HostStructure, read_structure
from gasearch.crystal.symmetry import find_space_group

OLIVINE = builtin_host("lifepo4-olivine").unit_cell


def structure(atoms: Atoms, shares=None) -> HostStructure:
    own = shares or [{symbol: 1.0} for symbol in atoms.symbols]
    labels = tuple(f"{s}{n}" for n, s in enumerate(atoms.symbols))
    return HostStructure(Path("host.cif"), atoms, tuple(own), labels)


def noisy(amplitude: float, strain: float = 0.0) -> Atoms:
    """112 atoms of olivine as a molecular dynamics or a relaxation leaves them."""
    atoms = OLIVINE.repeat((1, 2, 2))
    atoms.rattle(amplitude, seed=3)
    strains = np.random.default_rng(5).normal(0, strain, (3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strains), scale_atoms=True)
    return atoms


def space_group(found: HostStructure) -> str:
    atoms = found.atoms
    kinds = atoms.numbers.astype(int)
    return find_space_group(atoms.cell.array, atoms.get_scaled_positions(), kinds, 1e-3).symbol


@pytest.mark.parametrize(
    ("atoms", "n_sites", "symbol"),
    [
        (bulk("Cu", cubic=True), 1, "Fm-3m (225)"),
        (bulk("NaCl", "rocksalt", 5.64, cubic=True).repeat((2, 1, 1)), 2, "Fm-3m (225)"),
        (make_supercell(OLIVINE, [[1, 1, 0], [-1, 1, 0], [0, 1, 2]]), 28, "Pnma (62)"),
        (crystal(["Li", "Ni", "O"], [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.258)], spacegroup=166,
                 cellpar=[2.878, 2.878, 14.19, 90, 90, 120]), 4, "R-3m (166)"),
    ],
)  # fmt: skip
def test_the_primitive_cell_of_a_supercell(atoms, n_sites, symbol):
    found = smallest_cell(structure(atoms), 0.01)
    assert (found.n_sites, found.symbol) == (n_sites, symbol)
    assert found.largest_shift < 1e-6
    n_cells = len(atoms) // n_sites
    assert found.structure.atoms.get_volume() * n_cells == pytest.approx(atoms.get_volume())
    assert space_group(found.structure) == symbol


def test_a_left_handed_cell_is_reduced_too():
    atoms = OLIVINE.repeat((1, 2, 1))
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    found = smallest_cell(structure(atoms), 0.01)
    assert (found.n_sites, found.symbol) == (28, "Pnma (62)")
    assert found.structure.atoms.cell.handedness > 0


def test_sites_that_hold_different_things_are_not_alike():
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    shares = [{symbol: 1.0} for symbol in atoms.symbols]
    shares[0] = {"Na": 0.5}
    assert smallest_cell(structure(atoms, shares), 0.01).n_sites == 8
    shares = [{"Na": 0.5} if s == "Na" else {s: 1.0} for s in atoms.symbols]
    found = smallest_cell(structure(atoms, shares), 0.01).structure
    assert list(found.shares) == [{"Na": 0.5}, {"Cl": 1.0}]


@pytest.mark.parametrize(("amplitude", "strain", "symprec"), [
    (0.02, 0.0, 0.1), (0.05, 0.005, 0.2), (0.1, 0.005, 0.5),
])  # fmt: skip
def test_averaging_finds_the_crystal_in_a_noisy_cell(amplitude, strain, symprec):
    atoms = noisy(amplitude, strain)
    found = smallest_cell(structure(atoms), symprec)
    assert (found.n_sites, found.symbol, found.n_operations) == (28, "Pnma (62)", 8)
    assert space_group(found.structure) == "Pnma (62)"  # exact to 0.001 Å now
    assert amplitude < found.largest_shift < 6 * amplitude
    volume = found.structure.atoms.get_volume()
    assert volume == pytest.approx(atoms.get_volume() / 4, rel=1e-3)


def test_averaged_places_are_nearer_to_the_crystal_than_those_of_any_copy():
    found = smallest_cell(structure(noisy(0.05)), 0.3).structure.atoms
    lengths = np.sort(found.get_all_distances(mic=True)[np.triu_indices(28, 1)])
    true = np.sort(OLIVINE.get_all_distances(mic=True)[np.triu_indices(28, 1)])
    assert np.abs(lengths - true).mean() < 0.02  # one noisy copy: 0.056


def test_what_a_smaller_cell_or_a_higher_symmetry_needs_is_offered():
    chosen = choose_cell(structure(noisy(0.05)))
    assert chosen.is_file
    assert len(chosen.structure.atoms) == 112
    (line,) = chosen.lines
    assert "it is Pnma (62) with 28 sites, not P1 (1) with 112: --symprec 0.2 averages" in line
    averaged = choose_cell(structure(noisy(0.05)), symprec=0.2)
    assert (len(averaged.structure.atoms), averaged.suffix) == (28, "averaged")
    assert "averaged to Pnma (62) with 28 sites" in averaged.lines[0]


def test_a_crystal_in_its_primitive_cell_is_left_alone():
    given = structure(OLIVINE)
    chosen = choose_cell(given)
    assert chosen.structure is given
    assert (chosen.is_file, chosen.lines) == (True, ())


def test_the_file_s_own_cell_may_be_kept():
    given = structure(bulk("NaCl", "rocksalt", 5.64, cubic=True))
    assert choose_cell(given, "file").structure is given
    chosen = choose_cell(given)
    assert len(chosen.structure.atoms) == 2
    assert "(8 sites) is 4 primitive cells of Fm-3m (225)" in chosen.lines[0]


def test_atoms_on_one_place_have_no_symmetry():
    atoms = Atoms("Na2", positions=[(0, 0, 0), (0, 0, 0.001)], cell=[4, 4, 4], pbc=True)
    with pytest.raises(HostError, match=r"spglib finds no symmetry at symprec = 0\.01 Å"):
        smallest_cell(structure(atoms), 0.01)


def test_a_cell_comes_back_from_its_cif(tmp_path):
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    shares = [{"Li": 0.6, "Mn": 0.25, "Ti": 0.15} if s == "Na" else {"O": 1.0}
              for s in atoms.symbols]  # fmt: skip
    states = [{"Li": 1.0, "Mn": 3.5} if s == "Na" else {"O": -2.0} for s in atoms.symbols]
    given = dataclasses.replace(structure(atoms, shares), states=tuple(states))
    small = smallest_cell(given, 0.01).structure
    (tmp_path / "a.cif").write_text(cif_of(small, "a", "a comment"))
    again = read_structure(tmp_path / "a.cif")
    assert [dict(own) for own in again.shares] == [dict(own) for own in small.shares]
    assert again.stated(0) == {"Li": 1.0, "Mn": 3.5}
    assert again.stated(1) == {"O": -2.0}
    assert again.atoms.cell.cellpar() == pytest.approx(small.atoms.cell.cellpar(), abs=1e-8)
    shifts = again.atoms.get_scaled_positions() - small.atoms.get_scaled_positions()
    assert np.abs(shifts - np.round(shifts)).max() < 1e-9

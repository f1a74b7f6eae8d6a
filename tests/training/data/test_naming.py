"""Decorations without names: the same crystal is found again however it is written."""

from __future__ import annotations

from dataclasses import replace

import ase.io
import numpy as np
import pytest
from crystals import built, olivine
from places import SHIPPED_FRAMES

from gasearch.crystal.decoration import Decoration
from gasearch.training.data.frames import Frame, bare, by_decoration
from gasearch.training.data.naming import with_names
from gasearch.training.data.reading import read_frames
from gasearch.training.data.same_crystal import is_moved_copy, is_same_crystal


def distinct(x, n, supercell=(1, 1, 1)):
    """Return n inequivalent decorations, the atoms of each sorted by species, as exports are."""
    host = built(supercell=supercell)
    rng = np.random.default_rng(0)
    found = {}
    while len(found) < n:
        one = Decoration.random(host, host.composition_at(x), rng)
        found.setdefault(one.fingerprint, one.to_atoms())
    return [by_species(atoms) for atoms in found.values()]


def by_species(atoms):
    return atoms[np.lexsort([atoms.get_initial_charges(), atoms.numbers])]


def rewritten(atoms, seed):
    """Return the crystal strained, displaced, shifted, its atoms shuffled and its axes changed."""
    rng = np.random.default_rng(seed)
    copy = atoms[rng.permutation(len(atoms))]
    strain = rng.normal(0, 0.01, (3, 3))
    copy.set_cell(copy.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
    copy.positions += rng.normal(0, 0.05, copy.positions.shape)
    copy.translate(rng.normal(0, 5, 3))
    axes = rng.permutation(3)
    copy.set_cell(copy.cell.array[axes] * rng.choice([-1, 1], (3, 1)))
    copy.wrap()
    return copy


def frame_of(atoms, **given):
    return Frame(bare(atoms, atoms.get_initial_charges().astype(int)), energy=-1.0, **given)


def names(*files):
    return [frame.decoration for frame in with_names(files)]


def test_the_ten_orders_at_one_half_are_ten_names_though_their_atoms_are_in_one_sequence():
    frames = [frame_of(atoms) for atoms in distinct(0.5, 10)]
    assert len({tuple(frame.charges) for frame in frames}) == 1
    assert names(frames) == [f"Fe4Na2O16P4-{k}" for k in range(1, 11)]


@pytest.mark.parametrize(("supercell", "n"), [((1, 1, 1), 10), ((1, 2, 1), 12)])
def test_a_decoration_is_found_again_and_no_other_is_taken_for_it(supercell, n):
    every = distinct(0.5, n, supercell)
    for k, atoms in enumerate(every):
        again = rewritten(atoms, k)
        assert [is_same_crystal(other, again) for other in every] == [k == j for j in range(n)]


def test_images_under_the_symmetry_of_the_host_are_one_decoration():
    host = built()
    rng = np.random.default_rng(1)
    one = Decoration.random(host, host.composition_at(0.5), rng)
    images = {}
    while len(images) < min(4, one.orbit_size):
        other = Decoration.random(host, host.composition_at(0.5), rng)
        if other.fingerprint == one.fingerprint:
            images[other.occupation.tobytes()] = other.to_atoms()
    assert len(set(names([frame_of(atoms) for atoms in images.values()]))) == 1


def test_the_names_of_the_shipped_data_are_what_sites_say():
    named = read_frames([SHIPPED_FRAMES]).frames[::3]
    nameless = [replace(frame, decoration="") for frame in named]
    found = names(nameless)
    pairs = set(zip(found, (frame.decoration for frame in named), strict=True))
    assert len(pairs) == len(set(found)) == len(by_decoration(named)) == 16


def test_a_frame_without_a_name_gets_that_of_its_decoration_in_another_file():
    first, second = distinct(0.5, 2)
    known = [frame_of(first, decoration="mine")]
    strangers = [frame_of(rewritten(first, 3)), frame_of(second)]
    assert names(known, strangers) == ["mine", "mine", "Fe4Na2O16P4-1"]


def test_what_two_files_call_differently_has_one_name_in_hops_too():
    first, second = distinct(0.5, 2)
    known = [frame_of(first, decoration="a"), frame_of(second, decoration="b")]
    others = [
        frame_of(rewritten(second, 1), decoration="fp66", tag="hop45:fp12"),
        frame_of(rewritten(first, 2), decoration="fp12"),
    ]
    found = with_names([known, others])
    assert [frame.decoration for frame in found] == ["a", "b", "b", "a"]
    assert found[2].hop.other == "a"


def test_names_within_one_file_are_trusted():
    (atoms,) = distinct(0.5, 1)
    frames = [frame_of(atoms, decoration="a"), frame_of(atoms, decoration="b")]
    assert names(frames) == ["a", "b"]


def test_a_fingerprint_is_a_name(tmp_path):
    every = distinct(0.5, 2)
    for atoms, fingerprint in zip(every, ("fp66", "5a"), strict=True):
        atoms.info.update(fingerprint=fingerprint, REF_energy=-1.0)
    ase.io.write(tmp_path / "export.extxyz", every, format="extxyz")
    found = read_frames([tmp_path / "export.extxyz"])
    assert [f.decoration for f in found.frames] == ["Fe4Na2O16P4-fp66", "Fe4Na2O16P4-5a"]
    assert found.named_by == {"fingerprint": 2}


def test_a_moved_copy_has_its_atoms_where_they_were():
    atoms = olivine()
    moved = atoms.copy()
    moved.rattle(0.1, seed=1)
    assert is_moved_copy(atoms, moved)
    moved.wrap()
    moved.translate([1, 2, 3])
    assert is_moved_copy(atoms, moved)
    moved.positions[3] += 1.0
    assert not is_moved_copy(atoms, moved)
    assert not is_moved_copy(atoms, olivine(seed=3))

"""Labelled frames: out of files, with oxidation states, split by decoration, paired by geometry."""

from __future__ import annotations

import ase.db
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from crystals import olivine
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHIPPED_FRAMES

from gasearch.crystal.species import Species
from gasearch.training.data.frames import (
    Frame,
    bare,
    lowest_frames,
    without_repeats,
)
from gasearch.training.data.label_pairs import label_pairs
from gasearch.training.data.labels import Labelling, UnknownReaderError
from gasearch.training.data.reading import DataFileError, NoFramesError, read_frames
from gasearch.training.data.splitting import (
    TooFewDecorationsError,
    fold_names,
    split_by_decoration,
    split_off,
)

GPAW = Labelling(source="moments", code="gpaw")


def labelled(atoms, energy=-1.0, **results):
    copy = atoms.copy()
    results = {"energy": energy, "forces": np.zeros((len(atoms), 3))} | results
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def moments_of(atoms, fe2=3.67, fe3=4.3):
    charges = atoms.get_initial_charges()
    iron = atoms.symbols == "Fe"
    return np.where(iron, np.where(charges == 3, fe3, fe2), 0.01)


def without_charges(atoms):
    copy = atoms.copy()
    del copy.arrays["initial_charges"]
    return copy


def write(path, frames):
    ase.io.write(path, frames, format="extxyz")
    return path


@pytest.fixture(scope="module")
def dft():
    return read_frames([SHIPPED_FRAMES])


def test_the_dft_frames_are_read_whole(dft):
    assert len(dft.frames) == 247
    assert not dft.dropped
    frame = dft.frames[0]
    assert frame.energy == pytest.approx(-177.2196025669706)
    assert frame.forces.shape == (27, 3)
    assert frame.stress is None
    assert frame.decoration == "111-v1-1"
    assert frame.working_fraction == 0.75
    assert sum(frame.charges) == 0
    assert frame.atoms.calc is None


def test_formation_energies_are_those_that_the_data_state(dft):
    lowest = {frame.decoration: frame for frame in lowest_frames(dft.frames)}
    assert len(lowest) == 16
    full, empty = lowest["111-v0-0"], lowest["111-v4-0"]

    def formation(name):
        x = lowest[name].working_fraction
        return 1000 * (lowest[name].energy - x * full.energy - (1 - x) * empty.energy) / 4

    assert formation("111-v2-1") == pytest.approx(-17, abs=1)
    assert formation("111-v1-1") == pytest.approx(63, abs=1)
    assert formation("111-v3-1") == pytest.approx(54, abs=1)


def test_of_two_labels_on_one_geometry_the_lower_stays(dft):
    kept = without_repeats(dft.frames)
    assert len(kept) == 232
    by_tag = {(f.decoration, f.tag) for f in kept}
    assert ("111-v2-2", "relax6") in by_tag  # 59 meV below its repetition
    assert ("111-v2-2", "again") not in by_tag


def test_labels_from_moments_equal_formal_charges(dft, tmp_path):
    frames = [
        labelled(without_charges(f.atoms), f.energy, magmoms=f.moments) for f in dft.frames[::20]
    ]
    found = read_frames([write(tmp_path / "m.xyz", frames)], GPAW)
    assert not found.dropped
    for one, true in zip(found.frames, dft.frames[::20], strict=True):
        assert np.array_equal(one.charges, true.charges)


def test_what_cannot_be_labelled_is_dropped_and_counted(tmp_path):
    good, bare_iron = olivine(), olivine()
    frames = [
        labelled(without_charges(good), magmoms=moments_of(good)),
        labelled(without_charges(good), magmoms=moments_of(good, fe2=4.0)),
        labelled(without_charges(good), magmoms=moments_of(good, fe2=4.3)),
        labelled(without_charges(bare_iron)),
        good,
    ]
    frames[0].info["decoration"] = "a"
    frames.append(labelled(good))
    frames[-1].info["order_kept"] = False
    found = read_frames([write(tmp_path / "mixed.xyz", frames)], Labelling(code="gpaw"))
    assert [frame.decoration for frame in found.frames] == ["a"]
    assert found.dropped == {
        "ambiguous moment of Fe": 1,
        "neither energy nor forces": 1,
        "neither formal charges nor moments": 1,
        "not neutral": 1,
        "order not kept": 1,
    }


def test_no_usable_frame_is_an_error_that_counts_reasons(tmp_path):
    path = write(tmp_path / "none.xyz", [without_charges(olivine())] * 2)
    with pytest.raises(NoFramesError, match=r"neither formal charges nor moments \(2\)"):
        read_frames([path])


@pytest.mark.parametrize("sign", [1, -1])
def test_gallium_stands_for_iron_three_and_bader_charges_get_their_sign(tmp_path, sign):
    atoms = olivine()
    bader = 0.8 * sign * atoms.get_initial_charges()
    stranger = without_charges(atoms)
    charges = atoms.get_initial_charges()
    stranger.symbols[(charges == 3) & (atoms.symbols == "Fe")] = "Ga"
    stranger.arrays["bader_charge"] = bader
    full = without_charges(olivine(1.0))  # no Ga here, and yet of the same format
    path = write(tmp_path / "dtu.xyz", [labelled(stranger), labelled(full)])
    found = read_frames([path])
    assert not found.dropped
    assert "Ga" not in found.frames[0].atoms.symbols
    assert np.array_equal(found.frames[0].charges, charges)
    assert found.frames[0].partial_charges == pytest.approx(0.8 * charges)
    assert found.frames[1].partial_charges is None
    assert set(found.frames[1].charges) == {1, 2, 5, -2}


def test_partial_initial_charges_are_no_oxidation_states(tmp_path):
    atoms = olivine()
    partial = atoms.copy()
    partial.set_initial_charges(-0.6 * atoms.get_initial_charges())
    path = write(tmp_path / "partial.xyz", [labelled(partial, magmoms=-moments_of(atoms))])
    (frame,) = read_frames([path], Labelling(code="gpaw")).frames
    assert np.array_equal(frame.charges, atoms.get_initial_charges())
    assert frame.partial_charges == pytest.approx(0.6 * atoms.get_initial_charges())
    assert frame.moments.min() >= 0


def test_a_database_gives_what_an_xyz_file_gives(dft, tmp_path):
    path = tmp_path / "frames.db"
    with ase.db.connect(path) as database:
        for frame in dft.frames[:4]:
            atoms = labelled(frame.atoms, frame.energy, forces=frame.forces, magmoms=frame.moments)
            database.write(
                atoms,
                key_value_pairs={"decoration": frame.decoration, "tag": frame.tag},
                data={"bader_charge": 0.5 * frame.charges},
            )
    found = read_frames([path])
    for one, true in zip(found.frames, dft.frames[:4], strict=True):
        assert (one.decoration, one.tag, one.energy) == (true.decoration, true.tag, true.energy)
        assert np.array_equal(one.forces, true.forces)
        assert np.array_equal(one.charges, true.charges)
        assert one.partial_charges == pytest.approx(0.5 * true.charges)


def test_stress_is_read_in_both_forms(tmp_path):
    stress = 0.1 * np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]])
    voigt = labelled(olivine(), stress=stress)
    flat = labelled(olivine())
    flat.info["REF_stress"] = stress.flatten()
    for frame in read_frames([write(tmp_path / "stress.xyz", [voigt, flat])]).frames:
        assert frame.stress == pytest.approx(stress)


def test_files_that_are_no_data_are_refused(tmp_path):
    with pytest.raises(DataFileError, match="no such file"):
        read_frames([tmp_path / "missing.xyz"])
    text = tmp_path / "notes.txt"
    text.write_text("no frames here\n")
    with pytest.raises(DataFileError, match="expected one of"):
        read_frames([text])
    broken = tmp_path / "broken.xyz"
    broken.write_text("3\nLattice=\n")
    with pytest.raises(DataFileError, match=r"broken\.xyz: cannot be read"):
        read_frames([broken])


def test_an_unknown_code_is_refused_by_name():
    with pytest.raises(UnknownReaderError, match="gpaw"):
        Labelling(code="nosuch")


def test_the_data_hash_feels_every_label(dft, tmp_path):
    again = read_frames([SHIPPED_FRAMES])
    assert again.data_hash == dft.data_hash
    frame = again.frames[0]
    frame.forces[0, 0] += 1e-12
    assert again.data_hash != dft.data_hash


def test_folds_hold_whole_decorations_and_leave_end_members_in(dft):
    splits = [split_off(dft.frames, names) for names in fold_names(dft.frames, 5)]
    held_out = [name for split in splits for name in split.held_out]
    assert sorted(held_out) == sorted({f.decoration for f in dft.frames} - {"111-v0-0", "111-v4-0"})
    for split in splits:
        assert len(split.training) + len(split.validation) == 247
        assert not {f.decoration for f in split.training} & set(split.held_out)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 8), min_size=2, max_size=5),
    n_folds=st.integers(2, 6),
    seed=st.integers(0, 9),
)
def test_no_decoration_is_on_both_sides(sizes, n_folds, seed):
    frames = [
        Frame(olivine(x, 0), energy=float(k), decoration=f"{x}-{name}")
        for x, size in zip((0.25, 0.5, 0.75, 0.0, 1.0), sizes, strict=False)
        for name in range(size)
        for k in range(2)
    ]
    dealt = sum(size for size in sizes if size > 1)
    if dealt < n_folds:
        with pytest.raises(TooFewDecorationsError):
            fold_names(frames, n_folds, seed)
        return
    folds = fold_names(frames, n_folds, seed)
    assert len({name for fold in folds for name in fold}) == dealt
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    for fold in folds:
        split = split_off(frames, fold)
        assert not {f.decoration for f in split.training} & {f.decoration for f in split.validation}


def test_a_share_of_zero_holds_nothing_out(dft):
    assert split_by_decoration(dft.frames, 0.0).validation == ()
    share = len(split_by_decoration(dft.frames, 0.2).held_out) / 16
    assert 0.1 < share < 0.3


def test_label_pairs_of_the_data_are_the_ends_of_its_hop_lines(dft):
    pairs = {pair.decorations: pair for pair in label_pairs(dft.frames)}
    assert set(pairs) == {
        ("111-v2-6", "111-v2-3"),
        ("111-v2-6", "111-v2-4"),
        ("111-v2-6", "111-v2-5"),
        ("111-v2-4", "111-v2-5"),
        ("111-v2-1", "111-v2-2"),
        ("111-v3-1", "111-v3-0"),
    }
    for pair in pairs.values():
        assert 0.3 < pair.difference < 2.5
        assert not np.array_equal(
            pair.foreign.get_initial_charges(), pair.own.get_initial_charges()
        )


def test_a_parabola_is_extrapolated_exactly():
    own = olivine(0.5, 0)
    order = own.get_initial_charges().copy()
    iron = np.flatnonzero(own.symbols == "Fe")
    order[iron] = order[iron][::-1]
    way = 0.2 * np.random.default_rng(1).normal(size=own.positions.shape)
    stiffness = 3.0

    def at(share):
        atoms = bare(own, order.astype(int))
        atoms.positions += (share - 1) * way
        forces = -2 * stiffness * share * way / np.sum(way**2)
        tag = f"hop{round(100 * share)}:there"
        return Frame(atoms, stiffness * share**2, forces, decoration="here", tag=tag)

    there = Frame(bare(own, own.get_initial_charges().astype(int)), 1.0, decoration="there")
    (pair,) = label_pairs([at(0.35), at(0.5), at(0.65), there])
    assert pair.difference == pytest.approx(stiffness - 1.0, abs=1e-6)
    assert pair.decorations == ("here", "there")
    assert not label_pairs([at(0.2), at(0.35), at(0.5), there])  # not far enough


def test_frames_on_one_geometry_make_a_pair():
    atoms = olivine(0.5, 0)
    swapped = atoms.get_initial_charges().astype(int)
    iron = np.flatnonzero(atoms.symbols == "Fe")
    swapped[iron] = swapped[iron][::-1]
    one = Frame(bare(atoms, atoms.get_initial_charges().astype(int)), -2.0, decoration="a")
    other = Frame(bare(atoms, swapped), -1.5, decoration="b")
    (pair,) = label_pairs([one, other])
    assert abs(pair.difference) == pytest.approx(0.5)


def test_a_frame_knows_its_species_and_units(dft):
    frame = dft.frames[0]
    assert frame.n_units == 4
    assert frame.species[0] == Species("Na", 1)
    assert len(frame.redox_sites) == 4
    assert frame.composition == "Fe4Na3O16P4"
    hop = next(f for f in dft.frames if f.hop).hop
    assert 0 < hop.share < 1

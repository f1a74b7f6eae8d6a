"""Two levels of theory in one training are refused, named or not."""

from __future__ import annotations

import ase.io
import pytest
from crystals import olivine
from places import SHIPPED_FRAMES

from gasearch.training.data.mixing import EnergyGapError, MixedLevelsError
from gasearch.training.data.reading import read_frames


def write(path, shift=0.0, **info):
    """Write four frames of two compositions, their energies 0.3 eV apart."""
    frames = [olivine(x, seed) for x in (0.25, 0.5) for seed in (0, 1)]
    for k, atoms in enumerate(frames):
        atoms.info.update(REF_energy=-170.0 + 0.3 * k + shift, decoration=f"d{k}", **info)
    ase.io.write(path, frames, format="extxyz")
    return path


def test_two_levels_are_refused_with_their_names_and_numbers(tmp_path):
    one = write(tmp_path / "a.xyz", level="gpaw-pbeu450")
    other = write(tmp_path / "b.xyz", shift=-12.0, level="vasp-pbeu520")
    told = r"2 levels of theory: gpaw-pbeu450 \(4 frames\), vasp-pbeu520 \(4 frames\)"
    with pytest.raises(MixedLevelsError, match=told):
        read_frames([one, other])
    assert len(read_frames([one]).frames) == 4


def test_the_size_of_their_difference_does_not_matter_where_levels_are_named(tmp_path):
    one, other = (write(tmp_path / f"{k}.xyz", level=f"level-{k}") for k in (1, 2))
    with pytest.raises(MixedLevelsError):
        read_frames([one, other])


@pytest.mark.parametrize("info", [{}, {"level": "gpaw-pbeu450"}])
def test_levels_without_a_name_show_in_the_energies(tmp_path, info):
    one = write(tmp_path / "a.xyz", **info)
    other = write(tmp_path / "b.xyz", shift=-12.0)
    with pytest.raises(EnergyGapError, match=r"2 and 2 frames of Fe4NaO16P4 lie 11\.7 eV"):
        read_frames([one, other])


def test_frames_that_all_name_one_level_may_lie_far_apart(tmp_path):
    one = write(tmp_path / "a.xyz", level="mine")
    other = write(tmp_path / "b.xyz", shift=-12.0, level="mine")
    assert len(read_frames([one, other]).frames) == 8


def test_one_frame_far_off_is_no_second_level(tmp_path):
    path = write(tmp_path / "a.xyz")
    frames = ase.io.read(path, ":")
    frames[0].info["REF_energy"] += 12.0
    ase.io.write(path, frames, format="extxyz")
    assert len(read_frames([path]).frames) == 4


def test_frames_without_a_level_beside_others_are_told(tmp_path):
    path = write(tmp_path / "a.xyz", level="gpaw-pbeu450")
    assert not read_frames([path]).passed_over()
    found = read_frames([path, write(tmp_path / "b.xyz")])
    assert found.passed_over() == ["4 frames name no level: taken to be of gpaw-pbeu450"]
    assert not read_frames([SHIPPED_FRAMES]).passed_over()

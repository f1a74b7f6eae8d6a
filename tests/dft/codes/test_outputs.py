"""Outputs of any kind: read whole, or refused with the reason."""

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from fake_dft import refused

from gasearch.dft.codes.contract import OutputSettings
from gasearch.dft.codes.outputs import find_output, read_output, refuse_other_settings, settings_in
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.levels import dft_level
from gasearch.run.dft_section import DftSection


def iron_oxide():
    atoms = Atoms("FeO", cell=[4.0] * 3, pbc=True, positions=[[0, 0, 0], [2, 2, 2]])
    results = {"energy": -12.5, "forces": [[0.1, 0, 0], [-0.1, 0, 0]], "magmoms": [3.7, 0.05]}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


class TestAnyFile:
    @pytest.mark.parametrize("name", ["a.extxyz", "a.traj", "a.json"])
    def test_one_with_energy_and_moments_is_read(self, tmp_path, name):
        ase.io.write(tmp_path / name, iron_oxide())
        found = read_output(tmp_path / name)
        assert found.energy == -12.5
        assert found.moments == pytest.approx([3.7, 0.05])
        assert found.forces == pytest.approx(np.array([[0.1, 0, 0], [-0.1, 0, 0]]))

    @pytest.mark.parametrize(
        ("lost", "told"),
        [("energy", "no energy"), ("magmoms", "no magnetic moment of each atom")],
    )
    def test_one_without_them_is_refused(self, tmp_path, lost, told):
        atoms = iron_oxide()
        del atoms.calc.results[lost]
        ase.io.write(tmp_path / "a.traj", atoms)
        assert told in refused(tmp_path / "a.traj")

    def test_forces_may_be_missing(self, tmp_path):
        atoms = iron_oxide()
        del atoms.calc.results["forces"]
        ase.io.write(tmp_path / "a.traj", atoms)
        assert read_output(tmp_path / "a.traj").forces is None

    def test_numbers_that_are_none_are_refused(self, tmp_path):
        atoms = iron_oxide()
        atoms.calc.results["energy"] = float("nan")
        ase.io.write(tmp_path / "a.traj", atoms)
        assert "not finite" in refused(tmp_path / "a.traj")

    def test_what_ase_cannot_read_is_refused_in_one_line(self, tmp_path):
        (tmp_path / "a.dat").write_text("hello\nworld\n")
        (tmp_path / "b.traj").write_bytes(b"- of Ulm" + bytes(20))
        (tmp_path / "empty.extxyz").touch()
        for name in ("a.dat", "b.traj", "empty.extxyz", "missing.traj"):
            assert re.search("cannot read it|no such file|no structure", refused(tmp_path / name))


def test_the_output_of_a_folder_is_found(tmp_path):
    with pytest.raises(RefusedOutputError, match="no output in it yet"):
        find_output(tmp_path)
    (tmp_path / "OUTCAR").touch()
    assert find_output(tmp_path).name == "OUTCAR"
    (tmp_path / "vasprun.xml").touch()
    assert find_output(tmp_path) == Path(tmp_path / "vasprun.xml")


def test_other_files_say_nothing_of_their_settings(tmp_path, host):
    (tmp_path / "mine.extxyz").write_text("1\nLattice\nFe 0 0 0\n")
    assert settings_in("1\nLattice\nFe 0 0 0\n") == OutputSettings()
    level = dft_level("gpaw", DftSection(), host)
    refuse_other_settings(tmp_path / "mine.extxyz", level.name, level.settings, host)
    refuse_other_settings(tmp_path / "result.traj", level.name, level.settings, host)

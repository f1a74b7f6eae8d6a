"""Structures out of a run: what was computed comes back, with the oxidation states."""

import errno
import os
import shutil
import sqlite3
import warnings
from dataclasses import replace
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase.io.cif import parse_cif

from gasearch.analysis import export as exporting
from gasearch.analysis.export import NothingFoundError, damage, export, structures
from gasearch.analysis.findings import Findings, UnknownFormulaError
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.io.hosts import guess_declaration
from gasearch.crystal.species import species_of
from gasearch.errors import UsageError
from gasearch.files import OutputError, written
from gasearch.run.folder import RunFolder


@pytest.fixture(scope="module")
def found(finished):
    """All structures of a search, the ends of the range included."""
    with RunFolder(finished).open_store() as store:
        findings = Findings(store)
        return structures(store, findings.best(None, 100))


@pytest.fixture
def tampered(found, finished, tmp_path):
    """A function that gives all candidates of a copy of the run another composition."""

    def tamper(composition):
        run = Path(shutil.copytree(finished, tmp_path / "run"))
        database = sqlite3.connect(run / "search.db")
        database.execute("UPDATE candidate SET composition = ?", (composition,))
        database.commit()
        database.close()
        return RunFolder(run).open_store()

    return tamper


def charges(atoms):
    return np.sort(atoms.get_initial_charges())


@pytest.mark.parametrize("name", ["a.extxyz", "a.xyz", "a.traj", "a.db", "a.json", "A.EXTXYZ"])
def test_everything_comes_back_from_one_file(found, tmp_path, name):
    assert export(found, tmp_path / name) == len(found) == 16
    if name.endswith(("db", "json")):
        rows = ase.db.connect(tmp_path / name).select()
        read = [row.toatoms(add_additional_information=True) for row in rows]
        information = [atoms.info["key_value_pairs"] for atoms in read]
    else:
        read = ase.io.read(tmp_path / name, ":", format=None if name != "A.EXTXYZ" else "extxyz")
        information = [atoms.info for atoms in read]
    for (row, atoms), again, info in zip(found, read, information, strict=True):
        assert np.allclose(again.positions, atoms.positions, atol=1e-7)
        assert np.allclose(again.cell, atoms.cell, atol=1e-7)
        assert np.array_equal(again.get_initial_charges(), atoms.get_initial_charges())
        assert np.array_equal(
            again.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments()
        )
        assert again.get_potential_energy() == pytest.approx(row.energy_eV, abs=1e-7)
        assert np.allclose(again.get_forces(), atoms.get_forces(), atol=1e-7)
        assert again.get_stress().shape == (6,)
        assert (info["gaid"], info["orbit_size"]) == (row.id, row.orbit_size)
        assert isinstance(info["fingerprint"], str)
        assert info["fingerprint"].removeprefix("fp") == row.fingerprint
        assert info["level"].startswith("./toy.py:LabelEnergy-")
        assert info["above_hull_per_fu"] == pytest.approx(row.above_hull_eV_per_fu, abs=1e-7)


@pytest.mark.parametrize("name", ["a.extxyz", "a.traj", "a.db"])
def test_training_reads_one_decoration_for_each_structure(found, tmp_path, name):
    from gasearch.training.data.reading import read_frames

    export(found, tmp_path / name)
    data = read_frames([tmp_path / name])
    names = [frame.decoration for frame in data.frames]
    assert names == [f"111-{row.fingerprint}" for row, _ in found]
    assert len(set(names)) == len(found)
    assert data.named_by == {"decoration": len(found)}
    assert not data.passed_over()


def test_a_database_can_be_asked_by_the_keys_of_the_run(found, tmp_path):
    export(found, tmp_path / "a.db")
    database = ase.db.connect(tmp_path / "a.db")
    assert database.count("relaxed=1,x=0.5") == 10
    assert database.get(gaid=3).verdict == "ok"


def test_a_cif_keeps_the_oxidation_states(found, tmp_path):
    export(found, tmp_path / "all.cif")
    blocks = list(parse_cif(str(tmp_path / "all.cif")))
    assert len(blocks) == 16
    for (row, atoms), block in zip(found, blocks, strict=True):
        assert block.name == f"{row.formula}_{row.id:06d}"
        kinds = dict(
            zip(block["_atom_type_symbol"], block["_atom_type_oxidation_number"], strict=True)
        )
        states = sorted(kinds[kind] for kind in block["_atom_site_type_symbol"])
        assert states == charges(atoms).tolist()
        again = block.get_atoms()
        assert np.array_equal(again.numbers, atoms.numbers)
        assert np.allclose(again.get_all_distances(mic=True), atoms.get_all_distances(mic=True))


def test_pymatgen_reads_the_oxidation_states(found, tmp_path):
    structure = pytest.importorskip("pymatgen.core").Structure
    row, atoms = next(pair for pair in found if pair[0].x == 0.75)
    export([(row, atoms)], tmp_path / "one.cif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = structure.from_file(tmp_path / "one.cif")
    assert read.charge == 0
    assert sorted(str(site.specie) for site in read).count("Fe3+") == 1


@pytest.mark.parametrize("name", ["best.vasp", "POSCAR"])
def test_a_poscar_holds_one_structure_with_its_species_in_groups(found, tmp_path, name):
    row, atoms = next(pair for pair in found if pair[0].x == 0.75)
    export([(row, atoms)], tmp_path / name)
    lines = (tmp_path / name).read_text().splitlines()
    assert lines[0] == f"Na3Fe4P4O16_{row.id:06d}: Na+x3 Fe2+x3 Fe3+x1 P5+x4 O2-x16"
    assert lines[5:7] == ["Na Fe P O", "3 4 4 16"]
    again = ase.io.read(tmp_path / name, format="vasp")
    (iron_3,) = [n for n, s in enumerate(species_of(atoms)) if str(s) == "Fe3+"]
    assert np.allclose(again.cell, atoms.cell)
    assert np.allclose(again.get_scaled_positions()[6], atoms.get_scaled_positions()[iron_3])


def test_a_poscar_of_many_is_refused(found, tmp_path):
    with pytest.raises(UsageError, match="a POSCAR holds one structure, not 16"):
        export(found, tmp_path / "all.vasp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("one_each", "ending"), [(None, ".cif"), ("poscar", ".vasp"), ("extxyz", ".extxyz")]
)
def test_a_folder_gets_one_file_each(found, tmp_path, one_each, ending):
    assert export(found, tmp_path / "deep" / "all", one_each) == 16
    names = {path.name for path in (tmp_path / "deep" / "all").iterdir()}
    assert names == {f"{row.formula}_{row.id:06d}{ending}" for row, _ in found}
    for row, atoms in found:
        path = tmp_path / "deep" / "all" / f"{row.formula}_{row.id:06d}{ending}"
        assert sorted(ase.io.read(path).numbers) == sorted(atoms.numbers)


def test_a_folder_whose_name_has_an_ending_is_a_folder(found, tmp_path):
    (tmp_path / "results.v2").mkdir()
    export(found[:1], tmp_path / "results.v2")
    (tmp_path / "dir.db").mkdir()
    export(found[:1], tmp_path / "dir.db")
    assert len(list(tmp_path.rglob("*.cif"))) == 2


def test_exported_structures_are_hosts_again(found, tmp_path):
    row, atoms = next(pair for pair in found if pair[0].x == 1)
    export([(row, atoms)], tmp_path / "one.cif")
    assert guess_declaration(tmp_path / "one.cif").formula_unit == "NaFePO4"


class TestRefusals:
    @pytest.mark.parametrize("name", ["a.extxyz", "a.db", "a.json", "a.traj", "a.cif"])
    def test_a_file_is_never_written_over(self, found, tmp_path, name):
        (tmp_path / name).write_text("precious")
        with pytest.raises(UsageError, match="exists already"):
            export(found, tmp_path / name)
        assert (tmp_path / name).read_text() == "precious"

    def test_nor_is_one_in_a_folder_and_then_none_is_written(self, found, tmp_path):
        row, _ = found[-1]
        (tmp_path / f"{row.formula}_{row.id:06d}.cif").write_text("precious")
        with pytest.raises(UsageError, match="exists already"):
            export(found, tmp_path)
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize(
        ("name", "one_each", "line"),
        [
            ("a.png", None, "gasearch writes .extxyz, .xyz, .traj"),
            ("a.cif", "cif", "--format is for folders"),
            ("folder", "pdb", "--format 'pdb': expected cif, poscar, extxyz"),
        ],
    )
    def test_an_unknown_format_is_named(self, found, tmp_path, name, one_each, line):
        with pytest.raises(UsageError, match=line):
            export(found, tmp_path / name, one_each)
        assert list(tmp_path.iterdir()) == []

    def test_nothing_is_not_written(self, tmp_path):
        with pytest.raises(NothingFoundError, match="no candidate was relaxed"):
            export([], tmp_path / "a.cif")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["file/a.extxyz", "file/a.db", "file/folder"])
    def test_a_place_that_is_none_is_one_line(self, found, tmp_path, name):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="cannot be written") as raised:
            export(found, tmp_path / name)
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("ending", [".extxyz", ".db", ".cif"])
    def test_a_full_disk_is_one_line_and_leaves_no_half_of_a_file(
        self, found, tmp_path, monkeypatch, ending
    ):
        def write_half(found, path):
            path.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setitem(exporting._WRITERS, ending, write_half)
        with pytest.raises(OutputError, match="No space left on device"):
            export(found, tmp_path / f"a{ending}")
        assert list(tmp_path.iterdir()) == []


class TestStrangersDatabase:
    def test_a_formula_that_is_none_is_refused(self, tampered):
        with tampered("../../escaped/autostart/x") as store:
            (line,) = damage(store)
            assert "is damaged (ase: candidate 1" in line
            findings = Findings(store)
            with pytest.raises(UnknownFormulaError, match="no decoration of its host"):
                findings.best(None, 100)

    def test_a_name_is_that_of_the_decoration(self, tampered, found):
        with tampered("Fe4P4O16") as store:
            stored = Findings(store).best(None, 100)
            names = [row.formula for row, _ in structures(store, stored)]
        assert names == [row.formula for row, _ in found]
        assert {row.formula for row in stored} == {"Fe4P4O16"}

    def test_a_name_that_leaves_the_folder_stays_in_it(self, found, tmp_path):
        row, atoms = found[0]
        stranger = replace(row, formula="../../escaped/autostart/x")
        assert export([(stranger, atoms)], tmp_path / "a" / "b" / "out") == 1
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert [path.parent for path in written] == [tmp_path / "a" / "b" / "out"]

    def test_a_formula_adds_no_line_to_a_file(self, found, tmp_path):
        row, atoms = found[0]
        export([(replace(row, formula="x\n_cell_length_a 1\n"), atoms)], tmp_path / "a.cif")
        assert (tmp_path / "a.cif").read_text().count("\n_cell_length_a") == 1

    def test_a_whole_database_is_exported_without_a_word(self, finished):
        with RunFolder(finished).open_store() as store:
            assert damage(store) == []


class TestWritten:
    def test_a_file_appears_at_the_end(self, tmp_path):
        with written(tmp_path / "deep" / "a.txt") as path:
            path.write_text("all")
            assert not (tmp_path / "deep" / "a.txt").exists()
            assert path.suffix == ".txt"
        assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]

    def test_an_interrupt_leaves_nothing(self, tmp_path):
        def interrupted():
            with written(tmp_path / "a.txt") as path:
                path.write_text("half")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert list(tmp_path.iterdir()) == []

    def test_only_where_it_is_asked_for_it_replaces_a_file(self, tmp_path):
        (tmp_path / "a.txt").write_text("old")
        with written(tmp_path / "a.txt", replace=True) as path:
            path.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "new"
        with (
            pytest.raises(UsageError, match="exists already"),
            written(tmp_path, replace=True),
        ):
            pass


def test_species_are_read_off_the_labels():
    host = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
    decoration = Decoration.random(host, host.compositions[2], np.random.default_rng(1))
    atoms = decoration.to_atoms()
    names = [str(species) for species in species_of(atoms)]
    assert names.count("Fe3+") == names.count("Fe2+") == names.count("Na+") == 2

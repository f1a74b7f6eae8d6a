"""Inputs of VASP, Quantum ESPRESSO and ABINIT, read back by pymatgen and ASE."""

import ase.io
import numpy as np
import pytest

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.dft.codes.espresso import abinit_files, espresso_files
from gasearch.dft.codes.vasp import files, in_order
from gasearch.run.dft_section import DftSection


@pytest.fixture(scope="module")
def atoms():
    host = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
    drawn = Decoration.random(host, host.composition_at(0.75), np.random.default_rng(2))
    return drawn.to_atoms()


def vasp(folder, atoms, *, relax=True, ferromagnetic=True, **keywords):
    """Write the files and return INCAR, KPOINTS and POSCAR as pymatgen reads them."""
    inputs = pytest.importorskip("pymatgen.io.vasp.inputs")
    section = DftSection.model_validate(keywords)
    for name, text in files(
        atoms, section, "job", relax=relax, ferromagnetic=ferromagnetic
    ).items():
        (folder / name).write_text(text)
    return (
        inputs.Incar.from_file(folder / "INCAR"),
        inputs.Kpoints.from_file(folder / "KPOINTS"),
        inputs.Poscar.from_file(folder / "POSCAR", check_for_potcar=False),
    )


class TestVasp:
    def test_the_settings_are_those_of_the_paper(self, tmp_path, atoms):
        incar, _, _ = vasp(tmp_path, atoms)
        expected = {
            "ENCUT": 520, "LASPH": True, "LMAXMIX": 4, "ALGO": "All", "ISYM": 0, "ISMEAR": 0,
            "SIGMA": 0.05, "ISPIN": 2, "LDAU": True, "LORBIT": 11, "GGA": "Pe",
        }  # fmt: skip
        assert {tag: incar[tag] for tag in expected} == expected
        assert incar["NUPDOWN"] == 5 * 4 - 3
        assert incar.check_params() is None

    def test_arrays_go_by_the_species_of_the_poscar(self, tmp_path, atoms):
        incar, _, poscar = vasp(tmp_path, atoms)
        assert poscar.site_symbols == ["Na", "Fe", "P", "O"]
        assert poscar.natoms == [3, 4, 4, 16]
        assert incar["LDAUL"] == [-1, 2, -1, -1]
        assert incar["LDAUU"] == [0, 5.3, 0, 0]
        titles = (tmp_path / "POTCAR.titles").read_text().split()
        assert titles == ["Na_pv", "Fe_pv", "P", "O"]
        assert not (tmp_path / "POTCAR").exists()

    def test_each_moment_is_that_of_the_label_of_its_site(self, tmp_path, atoms):
        incar, _, poscar = vasp(tmp_path, atoms)
        places = poscar.structure.cart_coords
        assert len(incar["MAGMOM"]) == len(atoms)
        for moment, place in zip(incar["MAGMOM"], places, strict=True):
            nearest = int(np.argmin(np.linalg.norm(atoms.positions - place, axis=1)))
            assert np.linalg.norm(atoms.positions[nearest] - place) < 1e-6
            label = {("Fe", 2): 4, ("Fe", 3): 5}
            charge = round(atoms.get_initial_charges()[nearest])
            assert moment == label.get((atoms.symbols[nearest], charge), 0)

    def test_a_relaxation_keeps_the_cell(self, tmp_path, atoms):
        incar, _, _ = vasp(tmp_path, atoms, fmax=0.02, max_steps=80)
        assert (incar["IBRION"], incar["ISIF"], incar["NSW"]) == (2, 2, 80)
        assert incar["EDIFFG"] == -0.02
        incar, _, _ = vasp(tmp_path, atoms, relax=False)
        assert incar["NSW"] == 0
        assert "ISIF" not in incar

    def test_the_mesh_holds_gamma_and_is_dense(self, tmp_path, atoms):
        _, kpoints, _ = vasp(tmp_path, atoms)
        assert kpoints.style.name == "Gamma"
        assert tuple(kpoints.kpts[0]) == (3, 4, 5)

    def test_antiferromagnetic_moments_alternate_and_their_sum_is_fixed(self, tmp_path, atoms):
        incar, _, _ = vasp(tmp_path, atoms, ferromagnetic=False)
        moments = np.array(incar["MAGMOM"])
        assert sorted(np.abs(moments[moments != 0])) == [4, 4, 4, 5]
        assert (moments < 0).sum() == 2
        assert incar["NUPDOWN"] == moments.sum() == 1

    def test_the_assumed_magnetic_order_is_stated(self, tmp_path, atoms):
        vasp(tmp_path, atoms)
        text = (tmp_path / "README").read_text()
        assert "ferromagnetic" in text
        assert "NUPDOWN = 17" in text

    def test_the_user_has_the_last_word(self, tmp_path, atoms):
        own = {"vasp": {"incar": {"ncore": 4, "ALGO": "Normal"}, "potcar": {"Na": "Na"}}}
        incar, _, _ = vasp(tmp_path, atoms, **own)
        assert (incar["NCORE"], incar["ALGO"]) == (4, "Normal")
        assert (tmp_path / "POTCAR.titles").read_text().startswith("Na\n")

    def test_a_spin_state_changes_moments_and_their_sum(self, tmp_path, atoms):
        incar, _, _ = vasp(tmp_path, atoms, spin_states={"Fe3+": 1.0})
        assert sorted(m for m in incar["MAGMOM"] if m) == [1, 4, 4, 4]
        assert incar["NUPDOWN"] == 13

    def test_ase_reads_the_same_crystal(self, tmp_path, atoms):
        vasp(tmp_path, atoms)
        read = ase.io.read(tmp_path / "POSCAR", format="vasp")
        ordered, order = in_order(atoms)
        assert list(read.symbols) == list(ordered.symbols)
        assert read.get_all_distances(mic=True) == pytest.approx(
            atoms[order].get_all_distances(mic=True), abs=1e-8
        )


class TestEspresso:
    def text(self, atoms, **keywords):
        section = DftSection.model_validate(keywords)
        return espresso_files(atoms, section, "job", relax=True, ferromagnetic=True)["espresso.pwi"]

    def test_ase_reads_the_crystal_back(self, tmp_path, atoms):
        (tmp_path / "a.pwi").write_text(self.text(atoms))
        read = ase.io.read(tmp_path / "a.pwi")
        ordered, _ = in_order(atoms)
        assert list(read.symbols) == list(ordered.symbols)
        assert read.positions == pytest.approx(ordered.positions, abs=1e-6)

    def test_labels_are_species_of_their_own_with_u_and_a_fixed_moment(self, atoms):
        lines = [line.split() for line in self.text(atoms).splitlines()]
        named = {words[0]: words[2] for words in lines if words[1:2] == ["="]}
        assert float(named["tot_magnetization"]) == 17
        assert int(named["nspin"]) == 2
        assert ["U", "Fe-3d", "5.3"] in lines
        assert ["U", "Fe1-3d", "5.3"] in lines

    def test_pseudopotentials_are_the_users(self, atoms):
        text = self.text(atoms, espresso={"pseudopotentials": {"Fe": "mine.upf"}})
        assert text.count("mine.upf") == 2  # Fe2+ and Fe3+
        assert "Na.UPF" in text


class TestAbinit:
    def test_ase_reads_the_crystal_and_the_moments_back(self, tmp_path, atoms):
        section = DftSection()
        written = abinit_files(atoms, section, "job", relax=True, ferromagnetic=True)
        (tmp_path / "abinit.abi").write_text(written["abinit.abi"])
        read = ase.io.read(tmp_path / "abinit.abi", format="abinit-in")
        ordered, _ = in_order(atoms)
        assert list(read.symbols) == list(ordered.symbols)
        assert read.positions == pytest.approx(ordered.positions, abs=1e-6)
        lines = written["abinit.abi"].splitlines()
        assert "spinmagntarget 17" in lines
        assert "lpawu -1 2 -1 -1" in lines
        assert "upawu 0 5.3 0 0 eV" in lines
        start = lines.index("spinat") + 1
        spins = [float(line.split()[2]) for line in lines[start : start + len(atoms)]]
        assert sum(spins) == 17

"""POSCAR files: where oxidation states stand in them."""

import ase.io
import numpy as np
import pytest
from declared_hosts import olivine

from gasearch.crystal.declaration import HostError
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.io.oxidation_states import poscar
from gasearch.crystal.io.structures import read_structure
from gasearch.crystal.species import species_of

HEAD = "made by hand\n1.0\n4 0 0\n0 4 0\n0 0 8\n"
PLACES = ["0 0 0", "0.5 0.5 0", "0.5 0.5 0.5", "0 0 0.5"]


def half_filled():
    host = olivine()
    return Decoration.random(host, host.composition_at(0.5), np.random.default_rng(2)).to_atoms()


@pytest.fixture
def read(tmp_path):
    def read_text(text, name="POSCAR"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_structure(tmp_path / name)

    return read_text


def body(kinds, counts="1 1 1 1", labels=("",) * 4, flags="") -> str:
    head = f"{HEAD}{kinds}\n{counts}\n" + ("Selective dynamics\n" if flags else "") + "Direct\n"
    rows = [f"{p} {flags} {own}" for p, own in zip(PLACES, labels, strict=True)]
    return head + "\n".join([*rows, ""])


def test_the_line_of_species_may_hold_oxidation_states(read):
    structure = read(body("Na Fe2+ Fe3+ O2-"))
    assert list(structure.atoms.symbols) == ["Na", "Fe", "Fe", "O"]
    assert np.isnan(structure.charges[0])
    assert structure.charges[1:].tolist() == [2, 3, -2]


def test_names_of_potentials_and_upper_case_are_elements(read):
    structure = read(body("NA_pv FE_sv/6a2f546d Fe O_s"))
    assert list(structure.atoms.symbols) == ["Na", "Fe", "Fe", "O"]
    assert structure.charges is None


@pytest.mark.parametrize("flags", ["", "T F T"])
def test_labels_behind_the_coordinates_are_oxidation_states(read, flags):
    structure = read(body("Na Fe O", "1 2 1", ("Na+", "Fe3+", "Fe+2", "O2-"), flags))
    assert structure.charges.tolist() == [1, 3, 2, -2]


def test_labels_of_elements_alone_are_no_oxidation_states(read):
    assert read(body("Na Fe O", "1 2 1", ("Na", "Fe", "Fe", "O"))).charges is None


def test_a_label_of_another_element_is_not_taken(read):
    structure = read(body("Na Fe O", "1 2 1", ("Na+", "Mn3+", "Fe2+", "O2-")))
    assert np.isnan(structure.charges[1])


def test_our_own_export_comes_back_with_its_states(read):
    atoms = half_filled()
    structure = read(poscar(atoms, "candidate 7"))
    assert sorted(map(str, species_of(atoms))) == sorted(
        f"{s}{abs(c):.0f}{'+-'[int(c < 0)]}".replace("1+", "+")
        for s, c in zip(structure.atoms.symbols, structure.charges, strict=True)
    )


def test_a_file_of_vasp_4_and_one_of_ase_are_read_as_before(read, tmp_path):
    text = (
        body("Na Fe O", "1 2 1").replace("made by hand", "Na Fe O").replace("Na Fe O\n1 2", "1 2")
    )
    assert list(read(text).atoms.symbols) == ["Na", "Fe", "Fe", "O"]
    ase.io.write(tmp_path / "CONTCAR", half_filled())
    assert read_structure(tmp_path / "CONTCAR").charges is None


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("Na Fe O\n1 2 1", "Na Fe O\n1 2"), "cannot be read|lists 4 lines of coordinates"),
        (("1 2 1", "1 1 1"), "lists 4 lines of coordinates, but .* add up to 3: correct one"),
        (("1 2 1", "1 3 1"), "cannot be read as a structure"),
        (("0.5 0.5 0.5", "0.50.5 0.5"), "cannot be read as a structure"),
    ],
)
def test_atoms_do_not_vanish(read, change, line):
    with pytest.raises(HostError, match=line):
        read(body("Na Fe O", "1 2 1").replace(*change))


def test_velocities_behind_a_blank_line_are_no_atoms(read):
    assert len(read(body("Na Fe O", "1 2 1") + "\n" + "0 0 0\n" * 4).atoms) == 4


def test_a_species_that_is_none_is_one_clear_line(read):
    with pytest.raises(HostError, match=r"POSCAR: 'Qq2\+' is no element, as Na or Fe3\+ would be"):
        read(body("Na Qq2+ Fe3+ O2-"))

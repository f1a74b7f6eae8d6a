import re

import ase.io
import numpy as np
import pytest
from ase import Atoms

from gasearch.crystal.declaration import HostError
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.io.structures import read_structure, refuse_partial_framework
from gasearch.errors import UsageError

OLIVINE = """\
Na1 Na 0 0 0 {na}
Fe1 Fe 0.287 0.75 0.9863 {fe}
P1 P 0.1083 0.75 0.4426 1
O1 O 0.114 0.75 0.7524 1
O2 O 0.4685 0.75 0.1611 1
O3 O 0.1755 0.9446 0.3118 {o3}
"""


def cif(rows: str, cell=(10.4063, 6.2187, 4.9469), group: int = 62) -> str:
    a, b, c = cell
    return f"""\
data_test
_cell_length_a {a}
_cell_length_b {b}
_cell_length_c {c}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_cell_setting orthorhombic
_space_group_IT_number {group}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{rows}"""


def p1(rows: str, size: float = 8.0) -> str:
    text = cif(rows, (size,) * 3, 1).replace("_symmetry_cell_setting orthorhombic\n", "")
    return text.replace("loop_", "loop_\n_space_group_symop_operation_xyz\n'x, y, z'\nloop_", 1)


@pytest.fixture
def write(tmp_path):
    def write_file(text: str, name: str = "host.cif"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


def olivine(na="1", fe="1", o3="1") -> str:
    text = cif(OLIVINE.format(na=na, fe=fe, o3=o3))
    return text.replace("_symmetry_cell_setting orthorhombic\n", "")


@pytest.mark.parametrize("name", ["host.cif", "POSCAR", "CONTCAR", "host.xyz", "host.extxyz",
                                  "host.vasp", "host.json", "host.traj"])  # fmt: skip
def test_the_formats_that_ase_reads_give_the_same_crystal(tmp_path, name):
    unit = builtin_host("nafepo4-olivine").unit_cell
    fmt = "extxyz" if name.endswith("xyz") else None
    ase.io.write(tmp_path / name, unit, format=fmt)
    structure = read_structure(tmp_path / name)
    assert list(structure.atoms.symbols) == list(unit.symbols)
    assert structure.atoms.cell.cellpar() == pytest.approx(unit.cell.cellpar(), abs=1e-4)
    assert structure.atoms.get_all_distances(mic=True) == pytest.approx(
        unit.get_all_distances(mic=True), abs=1e-3
    )
    assert all(shares == {s: 1} for shares, s in zip(structure.shares, unit.symbols, strict=True))
    assert structure.atoms.pbc.all()


def test_the_last_structure_of_a_file_counts(tmp_path):
    unit = builtin_host("nafepo4-olivine").unit_cell
    ase.io.write(tmp_path / "two.xyz", [unit, unit.repeat((1, 2, 1))], format="extxyz")
    assert len(read_structure(tmp_path / "two.xyz").atoms) == 56


def test_a_cell_without_periodicity_is_taken_as_a_crystal(tmp_path):
    atoms = Atoms("NaFe", positions=[(0, 0, 0), (2, 2, 2)], cell=[4, 4, 4], pbc=False)
    ase.io.write(tmp_path / "host.xyz", atoms, format="extxyz")
    assert read_structure(tmp_path / "host.xyz").atoms.pbc.all()


def test_partial_occupancies_are_kept_per_site(write):
    structure = read_structure(write(olivine(na="0.70(2)")))
    assert len(structure.atoms) == 28
    sodium = np.flatnonzero(structure.atoms.symbols == "Na")
    assert len(sodium) == 4
    assert all(structure.shares[n] == {"Na": 0.7} for n in sodium)
    assert not any(structure.is_full(n) or structure.is_mixed(n) for n in sodium)
    assert structure.describe(sodium.tolist()) == "Na1 (Na 0.7)"


@pytest.mark.parametrize("value", ["?", ".", "1", "1.0", "1.0000", "0.9995"])
def test_an_unknown_occupancy_means_a_full_site(write, value):
    structure = read_structure(write(olivine(na=value)))
    assert all(structure.is_full(n) for n in range(28))


def test_elements_that_share_a_site_are_one_site(write):
    rows = "Mn1 Mn 0.287 0.75 0.9863 0.4\n" + OLIVINE.format(na=1, fe="0.6", o3=1)
    text = cif(rows).replace("_symmetry_cell_setting orthorhombic\n", "")
    structure = read_structure(write(text))
    assert len(structure.atoms) == 28
    iron = np.flatnonzero(structure.atoms.symbols == "Fe")
    assert len(iron) == 4
    assert all(structure.shares[n] == {"Fe": 0.6, "Mn": 0.4} for n in iron)
    assert structure.fractions(iron.tolist()) == {"Fe": 0.6, "Mn": 0.4}


def test_two_charge_states_of_one_element_on_a_site_are_added_up(write):
    rows = "Na1 Na 0 0 0 1\nFe1 Fe2+ 0.5 0.5 0.5 0.7\nFe2 Fe3+ 0.5 0.5 0.5 0.3\n"
    structure = read_structure(write(p1(rows)))
    assert structure.shares == ({"Na": 1}, {"Fe": 1})


def test_a_shared_site_may_be_listed_at_an_equivalent_position(write):
    rows = OLIVINE.format(na=1, fe="0.5", o3=1) + "Mn1 Mn 0.713 0.25 0.0137 0.5\n"
    text = cif(rows).replace("_symmetry_cell_setting orthorhombic\n", "")
    structure = read_structure(write(text))
    assert len(structure.atoms) == 28
    assert sum(shares == {"Fe": 0.5, "Mn": 0.5} for shares in structure.shares) == 4


def test_sites_that_nothing_occupies_are_left_out(write):
    structure = read_structure(write(p1("Na1 Na 0 0 0 1\nNa2 Na 0.5 0.5 0.5 0\n")))
    assert (len(structure.atoms), structure.labels) == (1, ("Na1",))


def test_listed_operations_need_no_known_setting(write):
    text = p1("Na1 Na 0 0 0 1\nFe1 Fe 0.5 0.5 0.5 1\n").replace(
        "_space_group_IT_number", "_symmetry_cell_setting triclinic\n_space_group_IT_number"
    )
    assert len(read_structure(write(text)).atoms) == 2


def test_the_framework_must_be_full_and_the_error_names_the_sites(write):
    structure = read_structure(write(olivine(na="0.7", o3="0.9")))
    sodium = np.flatnonzero(structure.atoms.symbols == "Na").tolist()
    with pytest.raises(
        HostError, match=r"partially filled framework sites: O3 \(O 0\.9\)\. Only declared"
    ):
        refuse_partial_framework(structure, sodium)
    refuse_partial_framework(structure, range(28))


WRONG = {
    "a missing file": (None, "there is no structure file .*host.cif"),
    "no structure": ("data_x\n_cell_length_a 3\n", "holds no structure: no atom sites are listed"),
    "an empty file": ("", r"cannot be read|no known format|holds no structure"),
    "garbage": ("data_x\nloop_\n_a\n_b\n1\n", "cannot be read as a structure: 1 values where"),
    "no cell": (
        re.sub("_cell.*\n", "", p1("Na1 Na 0 0 0 1\n")),
        "has no cell: a crystal with three lattice vectors is needed",
    ),
    "too much on a site": (
        p1("Na1 Na 0 0 0 0.8\nK1 K 0 0 0 0.7\n"),
        r"more than one atom on a site: Na1 \(Na 0.8, K 0.7\)",
    ),
    "only empty sites": (p1("Na1 Na 0 0 0 0\nNa2 Na 0.5 0.5 0.5 0\n"), "holds no atoms"),
    "an occupancy that is no number": (
        p1("Na1 Na 0 0 0 full\nNa2 Na 0.5 0.5 0.5 1\n"),
        "cannot be read as a structure",
    ),
}


@pytest.mark.parametrize(("text", "line"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_no_crystal_is_one_clear_line(tmp_path, write, text, line):
    path = tmp_path / "host.cif" if text is None else write(text)
    with pytest.raises(HostError, match=line) as caught:
        read_structure(path)
    assert isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("molecule.xyz", "1\n\nNa 0 0 0\n", "has no cell"),
        ("notes.txt", "nothing to see here\n", "is of no known format: give a CIF, POSCAR"),
        ("POSCAR", "Na\n1.0\n4 0 0\n0 4 0\n", "cannot be read as a structure"),
        ("dummy.xyz", '1\nLattice="4 0 0 0 4 0 0 0 4"\nX 0 0 0\n', "unknown element"),
        ("empty.xyz", "", "is of no known format"),
        (
            "states.extxyz",
            '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nFe3+ 0 0 0\n',
            r"Fe3\+ is no element: write the element, and the state as initial_charges",
        ),
    ],
)
def test_other_formats_fail_in_one_clear_line_too(write, name, text, line):
    with pytest.raises(HostError, match=line) as caught:
        read_structure(write(text, name))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_folder_is_no_structure_file(tmp_path):
    with pytest.raises(HostError, match="there is no structure file"):
        read_structure(tmp_path)

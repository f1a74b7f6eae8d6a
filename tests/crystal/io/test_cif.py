"""CIF files as users have them: what cannot be read right is one clear line, the rest is read."""

import re
import warnings
from collections import Counter

import numpy as np
import pytest
import spglib
from ase.spacegroup import crystal

from gasearch.crystal.declaration import HostError
from gasearch.crystal.io.structures import read_structure

HEAD = """\
data_test
_cell_length_a {a}
_cell_length_b {b}
_cell_length_c {c}
_cell_angle_alpha {alpha}
_cell_angle_beta {beta}
_cell_angle_gamma {gamma}
{symmetry}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{rows}
"""
PNMA = "_symmetry_space_group_name_H-M 'P n m a'\n_symmetry_Int_Tables_number 62"
ROWS = """\
Na1 Na 0 0 0 1
Fe1 Fe 0.2870 0.75 0.9863 1
P1 P 0.1083 0.75 0.4426 1
O1 O 0.1140 0.75 0.7524 1
O2 O 0.4685 0.75 0.1611 1
O3 O 0.1755 0.9446 0.3118 1"""
CELL = (10.4063, 6.2187, 4.9469, 90, 90, 90)


def cif(rows=ROWS, symmetry=PNMA, cell=CELL) -> str:
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return HEAD.format(rows=rows, symmetry=symmetry, **dict(zip(names, cell, strict=True)))


@pytest.fixture
def read(tmp_path):
    """Read text as a CIF; a warning of anything is an error."""

    def read_text(text, name="host.cif", **how):
        (tmp_path / name).write_text(text, **how)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_structure(tmp_path / name)

    return read_text


def group_of(structure, symprec=0.02) -> str:
    atoms = structure.atoms
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        crystal_data = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
        return spglib.get_spacegroup(crystal_data, symprec)


def contents(structure) -> dict[str, int]:
    return dict(Counter(structure.atoms.symbols))


OLIVINE = {"Na": 4, "Fe": 4, "P": 4, "O": 16}


# -- rows


@pytest.mark.parametrize(
    ("row", "glued"),
    [
        ("Fe1 Fe 0.2870 0.75 0.9863 1", "Fe1 Fe 0.28700.75 0.9863 1"),
        ("Fe1 Fe 0.2870 0.75 0.9863 1", "Fe1 Fe 0.2870 0.75 1"),
        ("O3 O 0.1755 0.9446 0.3118 1", "O3 O 0.1755 0.94460.3118 1"),
        ("O3 O 0.1755 0.9446 0.3118 1", "O3 O 0.1755 0.9446 0.3118"),
        ("Na1 Na 0 0 0 1", "Na1 Na 0 0 0 1 0"),
        ("Fe1 Fe 0.2870 0.75 0.9863 1", "Fe1 Fe 0.2870 ? 0.9863 1"),
        ("Fe1 Fe 0.2870 0.75 0.9863 1", "Fe1 Fe 0.287O 0.75 0.9863 1"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_not_dropped(read, row, glued):
    with pytest.raises(HostError, match=r"host.cif") as caught:
        read(cif(ROWS.replace(row, glued)))
    line = str(caught.value)
    assert "\n" not in line
    assert re.search(r"values where each row of a table has 6|expected a number", line)


def test_the_refusal_names_the_row_and_what_to_do(read):
    with pytest.raises(HostError, match=r"11 values .* has 6: Fe1 Fe 0.28700.75 0.9863 1 P1 P"):
        read(cif(ROWS.replace("0.2870 0.75", "0.28700.75")))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "utf-16", "latin1"])
def test_a_byte_order_mark_and_accents_do_no_harm(read, encoding):
    structure = read("# caf\u00e9\n" + cif(), encoding=encoding)
    assert (contents(structure), group_of(structure)) == (OLIVINE, "Pnma (62)")


def test_upper_case_elements_are_elements(read):
    text = cif(ROWS.replace("Na1 Na", "Na1 NA").replace("Fe1 Fe", "Fe1 FE"))
    assert contents(read(text)) == OLIVINE


@pytest.mark.parametrize(("label", "element"), [("OW1", "O"), ("FE1", None), ("Fe2", "Fe")])
def test_labels_alone_name_elements_where_they_can_mean_only_one(read, label, element):
    rows = [row.split() for row in ROWS.replace("Fe1", label).splitlines()]
    text = cif("\n".join(" ".join([row[0], *row[2:]]) for row in rows))
    text = text.replace("_atom_site_type_symbol\n", "")
    if element:
        assert contents(read(text))[element] >= 4
    else:
        with pytest.raises(HostError, match="the label 'FE1' may be Fe or F: write the element"):
            read(text)


def test_a_junk_first_line_is_shown(read):
    with pytest.raises(HostError, match=r"line 1 is 'my cathode', expected the first line of"):
        read("my cathode\n" + cif())


# -- symmetry


def p1_rows() -> str:
    atoms = crystal(
        ["Na", "Fe", "P", "O", "O", "O"],
        [[float(x) for x in row.split()[2:5]] for row in ROWS.splitlines()],
        spacegroup=62, cellpar=CELL,
    )  # fmt: skip
    places = zip(atoms.symbols, atoms.get_scaled_positions().round(6).tolist(), strict=True)
    return "\n".join(f"{s}{n} {s} {x} {y} {z} 1" for n, (s, (x, y, z)) in enumerate(places))


@pytest.mark.parametrize(
    "symmetry",
    [
        "_symmetry_Int_Tables_number 1\n_symmetry_equiv_pos_as_xyz x,y,z",
        "_symmetry_equiv_pos_as_xyz 'x, y, z'",
        "_space_group.IT_number 1\n_space_group_symop.operation_xyz x,y,z",
        "",
    ],
)
def test_one_operation_needs_no_loop(read, symmetry):
    structure = read(cif(p1_rows(), symmetry))
    assert (contents(structure), group_of(structure)) == (OLIVINE, "Pnma (62)")


def in_setting(matrix) -> str:
    """All sites of the olivine in P21/n: axes exchanged, half the operations left out."""
    rows = []
    for row in ROWS.splitlines():
        label, element, *numbers = row.split()
        place = np.array([float(x) for x in numbers[:3]]) @ np.array(matrix).T % 1
        rows.append(f"{label} {element} {place[0]:.5f} {place[1]:.5f} {place[2]:.5f} 1")
    return "\n".join(rows)


SETTINGS = {
    "P n m a": ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], CELL),
    "P b n m": ([[0, 0, 1], [1, 0, 0], [0, 1, 0]], (4.9469, 10.4063, 6.2187, 90, 90, 90)),
    "Pmnb": ([[0, 1, 0], [1, 0, 0], [0, 0, -1]], (6.2187, 10.4063, 4.9469, 90, 90, 90)),
    "P m c n": ([[0, 1, 0], [0, 0, 1], [1, 0, 0]], (6.2187, 4.9469, 10.4063, 90, 90, 90)),
}


@pytest.mark.parametrize("symbol", SETTINGS)
@pytest.mark.parametrize("number", ["", "\n_symmetry_Int_Tables_number 62"])
def test_the_setting_that_the_symbol_names_is_honoured(read, symbol, number):
    matrix, cell = SETTINGS[symbol]
    symmetry = f"_symmetry_space_group_name_H-M '{symbol}'{number}"
    structure = read(cif(in_setting(matrix), symmetry, cell))
    assert (contents(structure), group_of(structure)) == (OLIVINE, "Pnma (62)")
    assert distances(structure).min() == pytest.approx(distances(read(cif())).min(), abs=1e-3)


def distances(structure):
    found = structure.atoms.get_all_distances(mic=True)
    return found[np.triu_indices(len(found), 1)]


P21N = """\
Fe0 Fe 0.97508 0.21868 0.75000 1
Li4 Li 0.50000 0.00000 0.00000 1
Li5 Li 0.50000 0.00000 0.50000 1
O8 O 0.20746 0.04333 0.75000 1
O9 O 0.24159 0.09666 0.25000 1
O10 O 0.78526 0.16562 0.04621 1
O11 O 0.78526 0.16562 0.45379 1
P24 P 0.91826 0.09470 0.25000 1"""


@pytest.mark.parametrize("symbol", ["P 1 21/n 1", "P 21/n", "P2_1/n", "P21/n"])
def test_lithium_iron_phosphate_in_a_monoclinic_setting_is_pnma(read, symbol):
    symmetry = f"_symmetry_space_group_name_H-M '{symbol}'\n_symmetry_Int_Tables_number 14"
    structure = read(cif(P21N, symmetry, (4.75489, 10.41015, 6.06327, 90, 90, 90)))
    assert contents(structure) == {"Li": 4, "Fe": 4, "P": 4, "O": 16}
    assert group_of(structure) == "Pnma (62)"
    assert structure.notes == ()


SPINEL = {"1": (0.0, 0.625, 0.375 + 0.0047), "2": (0.125, 0.5, 0.2547)}


def spinel(origin, symbol):
    a, b, u = SPINEL[origin]
    rows = f"A Fe {a} {a} {a} 1\nB Fe {b} {b} {b} 1\nO O {u} {u} {u} 1".replace("A Fe", "Fe1 Fe")
    rows = rows.replace("B Fe", "Fe2 Fe").replace("O O", "O1 O")
    return cif(rows, f"_symmetry_space_group_name_H-M '{symbol}'", (8.3958,) * 3 + (90,) * 3)


@pytest.mark.parametrize(
    ("origin", "symbol"),
    [("1", "F d -3 m :1"), ("2", "F d -3 m :2"), ("1", "F d -3 m S"), ("2", "Fd-3mZ"),
     ("2", "F d 3 m Z"), ("2", "F d -3 m")],
)  # fmt: skip
def test_a_spinel_has_the_origin_that_its_symbol_tells_or_that_fits(read, origin, symbol):
    structure = read(spinel(origin, symbol))
    assert (contents(structure), group_of(structure)) == ({"Fe": 24, "O": 32}, "Fd-3m (227)")
    assert 1.8 < distances(structure).min() < 2.1
    said = symbol[-1] in "12SZ"
    assert structure.notes == (() if said else (structure.notes[0],))
    assert said or "origin choice 2" in structure.notes[0]


def test_an_origin_that_nothing_tells_is_refused(read):
    rows = "Na1 Na 0.1 0.15 0.2 1\nFe1 Fe 0.15 0.05 0.4 1"
    text = cif(rows, "_space_group_name_H-M_alt 'P n n n'", (22, 23, 24, 90, 90, 90))
    with pytest.raises(HostError, match=r"has two origins, .* write ':1' or ':2' behind"):
        read(text)
    assert len(read(text.replace("n n n'", "n n n :2'")).atoms) == 16


RHOMBOHEDRAL = (4.9966, 4.9966, 4.9966, 33.479, 33.479, 33.479)


@pytest.mark.parametrize("symbol", ["R -3 m :R", "R -3 m", "R -3 m R"])
def test_rhombohedral_axes_are_told_by_the_symbol_or_the_cell(read, symbol):
    rows = "Li1 Li 0.5 0.5 0.5 1\nNi1 Ni 0 0 0 1\nO1 O 0.258 0.258 0.258 1"
    structure = read(cif(rows, f"_symmetry_space_group_name_H-M '{symbol}'", RHOMBOHEDRAL))
    assert (contents(structure), group_of(structure)) == ({"Li": 1, "Ni": 1, "O": 2}, "R-3m (166)")


REFUSED = {
    "axes that the cell contradicts": (
        "_symmetry_space_group_name_H-M 'R -3 m :R'", (2.878, 2.878, 14.19, 90, 90, 120),
        r"the cell does not have the symmetry of the space group 'R -3 m :R'",
    ),
    "a setting that no table has": (
        "_symmetry_space_group_name_H-M 'C -1'\n_symmetry_Int_Tables_number 2", CELL,
        r"'C -1 2' is in a setting that is not known: list the symmetry operations in the file",
    ),
    "a symbol and a number of two groups": (
        "_symmetry_space_group_name_H-M 'P n m a'\n_symmetry_Int_Tables_number 63", CELL,
        "contradicts itself",
    ),
    "an operation that is missing": (
        "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x+1/2,-y,z+1/2'\n'-x,-y,-z'", CELL,
        "the 3 symmetry operations that it lists are no group",
    ),
    "an operation that is none": (
        "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x,-y'", CELL,
        r"'-x,-y' is no symmetry operation: expected as in 'x, -y, z\+1/2'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("symmetry", "cell", "line"), REFUSED.values(), ids=REFUSED)
def test_a_symmetry_that_cannot_be_honoured_is_one_clear_line(read, symmetry, cell, line):
    with pytest.raises(HostError, match=line) as caught:
        read(cif(symmetry=symmetry, cell=cell))
    assert "\n" not in str(caught.value)


def test_operations_that_do_not_fit_the_name_are_said(read):
    symmetry = PNMA + "\n_symmetry_equiv_pos_as_xyz x,y,z"
    structure = read(cif(symmetry=symmetry))
    assert len(structure.atoms) == 6
    assert structure.notes[0].startswith(
        "it lists 1 symmetry operations, and its space group P n m"
    )


def test_listed_operations_of_another_origin_are_taken_as_they_stand(read):
    """Pnma shifted by (1/4, 0, 0): its inversion centre is not at the origin."""
    rows = "Na1 Na 0.25 0 0 1\nFe1 Fe 0.537 0.75 0.9863 1"
    operations = [
        "x,y,z", "-x+1/2,-y,-z", "-x,-y,z+1/2", "x+1/2,y,-z+1/2", "x+1/2,-y+1/2,-z+1/2",
        "-x,y+1/2,z+1/2", "-x+1/2,y+1/2,-z", "x,-y+1/2,z",
    ]  # fmt: skip
    listed = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "\n".join(f"'{o}'" for o in operations)
    structure = read(cif(rows, f"_symmetry_Int_Tables_number 62\n{listed}"))
    assert (contents(structure), group_of(structure)) == ({"Na": 4, "Fe": 4}, "Pnma (62)")


P2 = """\
Na1 Na 0.667 0.333 0.25 1
Co1 Co 0 0 0 1
O1 O 0.333 0.667 0.0908 1"""


@pytest.mark.parametrize("digits", [2, 3, 4, 6])
def test_thirds_of_few_digits_are_thirds(read, digits):
    one, two = f"{1 / 3:.{digits}f}", f"{2 / 3:.{digits}f}"
    rows = P2.replace("0.333", one).replace("0.667", two)
    symmetry = "_symmetry_space_group_name_H-M 'P 63/m m c'"
    structure = read(cif(rows, symmetry, (2.833, 2.833, 10.88, 90, 90, 120)))
    assert contents(structure) == {"Na": 2, "Co": 2, "O": 4}
    assert group_of(structure, 0.01) == "P6_3/mmc (194)"
    if structure.notes:
        assert "coordinates of few digits, such as 0.333 for 1/3" in structure.notes[0]
        assert np.isclose(structure.atoms.get_scaled_positions()[0, 0] * 3 % 1, [0, 1]).any()


# -- what the user is told


def test_atoms_that_are_far_too_close_are_said(read):
    rows = ROWS.replace("Na1 Na 0 0 0 1", "Na1 Na 0.12 0.72 0.75 1")
    (note,) = read(cif(rows)).notes
    assert re.match(r"Na1 and O1 are 0\.\d+ Å apart, nearer than in any crystal", note)
    assert read(cif()).notes == ()


def test_sites_that_are_never_filled_both_may_be_close(read):
    rows = ROWS.replace("Na1 Na 0 0 0 1", "Na1 Na 0 0 0 0.5\nNa2 Na 0.02 0.01 0 0.2")
    assert read(cif(rows)).notes == ()


@pytest.mark.parametrize(
    ("formula", "units", "fits"),
    [
        ("'Na Fe P O4'", 4, True), ("'Na4 Fe4 P4 O16'", 4, True), ("'Fe Na O4 P'", None, True),
        ("'Na2 Fe2 P2 O8'", None, True), ("'Na Fe P O4'", 8, False),
        ("'Na Fe P O3'", 4, False), ("'Na Fe P O4 F'", 4, False), ("?", 4, True),
    ],
)  # fmt: skip
def test_the_formula_is_compared_with_the_file_s_own(read, formula, units, fits):
    told = f"_chemical_formula_sum {formula}\n"
    told += f"_cell_formula_units_Z {units}\n" if units else ""
    notes = read(cif(symmetry=told + PNMA)).notes
    assert [n.startswith("its cell holds Fe4 Na4 O16 P4, but its own") for n in notes] == (
        [] if fits else [True]
    )


# -- oxidation states


def charges_of(structure, element="Fe") -> list[float]:
    here = [n for n, symbol in enumerate(structure.atoms.symbols) if symbol == element]
    return structure.charges[here].tolist()


@pytest.mark.parametrize(
    ("two", "three"), [("Fe2+", "Fe3+"), ("Fe+2", "Fe+3"), ("FE2+", "FE3+"), ("Fe2.0+", "Fe3.0+")]
)
def test_the_sign_may_stand_before_or_behind_the_number(read, two, three):
    rows = f"Fe1 {two} 0 0 0 1\nFe2 {three} 0.5 0.5 0.5 1\nO1 O-2 0.5 0 0 1\nNa1 Na+ 0 0.5 0 1"
    structure = read(cif(rows, ""))
    assert charges_of(structure) == [2, 3]
    assert charges_of(structure, "O") == [-2]
    assert charges_of(structure, "Na") == [1]


TYPES = "loop_\n_atom_type_symbol\n_atom_type_oxidation_number\n"


@pytest.mark.parametrize(
    ("types", "labels"),
    [
        ("Fe1 +2\nFe2 +3", ("Fe1", "Fe2")), ("Fe1 2\nFe2 3", ("Fe1", "Fe2")),
        ("Fe1 2+\nFe2 3+", ("Fe1", "Fe2")), ("", ("Fe2+", "Fe3+")), ("", ("Fe+2", "Fe+3")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("with_types", [True, False])
def test_states_of_sites_are_read_from_labels_and_the_type_table(read, types, labels, with_types):
    rows = f"{labels[0]} Fe 0 0 0 1\n{labels[1]} Fe 0.5 0.5 0.5 1\nO1 O 0.5 0 0 1"
    text = cif(rows, TYPES + types if types else "")
    if not with_types:
        text = text.replace("_atom_site_type_symbol\n", "")
        text = re.sub(r"^(\S+) (Fe|O) ", r"\1 ", text, flags=re.MULTILINE)
    structure = read(text)
    assert charges_of(structure) == [2, 3]
    assert np.isnan(charges_of(structure, "O")).all()


def test_numbers_of_labels_are_no_charges(read):
    assert read(cif()).charges is None


# -- magnetic CIF

MAGNETIC = """
loop_
_space_group_symop_magn_operation.id
_space_group_symop_magn_operation.xyz
1 x,y,z,+1
2 -x,-y,-z,+1
loop_
_space_group_symop_magn_centering.id
_space_group_symop_magn_centering.xyz
1 x,y,z,+1
2 x+1/2,y+1/2,z,-1
loop_
_atom_site_moment.label
_atom_site_moment.crystalaxis_x
_atom_site_moment.crystalaxis_y
_atom_site_moment.crystalaxis_z
Fe1 3.0 -2.0 0.0
Fe2 0.0 0.0 4.3(1)"""


def test_a_magnetic_cif_gives_all_atoms_and_the_sizes_of_moments(read):
    rows = "Fe1 Fe 0 0 0 1\nFe2 Fe 0 0 0.5 1\nO1 O 0.1 0.3 0.2 1"
    structure = read(cif(rows, MAGNETIC), name="host.mcif")
    assert contents(structure) == {"Fe": 4, "O": 4}
    assert structure.moments.tolist() == pytest.approx([13**0.5] * 2 + [4.3] * 2 + [0] * 4)

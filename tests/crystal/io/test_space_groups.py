"""Settings of space groups by their names; spglib's tables are the reference."""

import warnings

import numpy as np
import pytest
import spglib
from ase.cell import Cell

from gasearch.crystal.declaration import HostError
from gasearch.crystal.io.space_groups import Operations, operations_of, read_operations


def table(hall: int):
    """Type and operations of one of the 530 settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = spglib.get_symmetry_from_database(hall)
        return spglib.get_spacegroup_type(hall), Operations(
            found["rotations"], found["translations"]
        )


def cell_for(number: int, choice: str) -> np.ndarray:
    """A cell of the setting's crystal system and no higher one."""
    unique = choice.strip("-")[:1] or "b"
    lengths = (7, 8, 9) if number < 75 else (7, 7, 9) if number < 195 else (9, 9, 9)
    angles = [90.0, 90.0, 90.0]
    if number <= 2:
        angles = [80.0, 95.0, 100.0]
    elif number <= 15:
        angles["abc".index(unique)] = 100.0
    elif choice == "R":
        lengths, angles = (7, 7, 7), [70.0] * 3
    elif 143 <= number < 195:
        angles[2] = 120.0
    return Cell.new([*lengths, *angles]).array


@pytest.mark.parametrize("hall", range(1, 531))
def test_every_setting_is_found_by_its_names_or_left_open(hall):
    kind, wanted = table(hall)
    cell = cell_for(kind.number, kind.choice)
    marked = f":{kind.choice[:1]}" if kind.choice[:1] in {*"12HR"} else ""
    if kind.number not in {67, 68}:  # whose names with e mean two settings each
        name = kind.international_full.replace("_", "") + marked
        (own,) = operations_of(name, kind.number, None, cell)
        assert own.keys() == wanted.keys()
    (own,) = operations_of(None, None, kind.hall_symbol, cell)
    assert own.keys() == wanted.keys()
    assert own.is_group()


@pytest.mark.parametrize(
    ("symbol", "hall"),
    [
        ("P 21/c", 81), ("P 1 21/n 1", 82), ("P21/n", 82), ("P 1 1 21/b", 86), ("C 2/m", 63),
        ("I 2/a", 92), ("P n m a", 292), ("Pbnm", 294), ("P m c n", 296), ("C m c a", 304),
        ("F m 3 m", 523), ("F d 3 m :2", 526), ("F d -3 m S", 525), ("F d -3 m Z", 526),
        ("R -3 m :H", 458), ("R -3 m H", 458), ("R-3mH", 458), ("R -3 m R", 459),
        ("P 63/m m c", 488), ("P6_3/mmc", 488), ("C m m a", 316), ("C m m e", 316),
        ("C m m b", 317), ("A b m m", 318), ("A c m m", 319), ("C c c b :1", 324),
    ],
)  # fmt: skip
def test_names_as_files_have_them_mean_these_settings(symbol, hall):
    kind, wanted = table(hall)
    (own,) = operations_of(symbol, None, None, cell_for(kind.number, kind.choice))
    assert own.keys() == wanted.keys()


@pytest.mark.parametrize("symbol", ["F d -3 m", "F d 3 m", "P n n n", "I 41/a m d", "P 4/n m m"])
def test_two_origins_are_both_returned(symbol):
    cell = Cell.new([9, 9, 9, 90, 90, 90]).array
    assert [own.choice for own in operations_of(symbol, None, None, cell)] == ["1", "2"]


@pytest.mark.parametrize("symbol", ["A e m m", "B m e m", "C -1", "X y z", "P n m a :3"])
def test_a_name_that_means_no_setting_or_several_is_refused(symbol):
    with pytest.raises(HostError, match="is in a setting that is not known: list the symmetry op"):
        operations_of(symbol, None, None, Cell.new([7, 8, 9, 90, 90, 90]).array)


def test_the_unique_axis_of_a_short_symbol_is_that_of_the_cell():
    for axis, hall in (("b", 82), ("c", 85), ("a", 88)):
        (own,) = operations_of("P 21/n", 14, None, cell_for(14, axis))
        assert own.keys() == table(hall)[1].keys()


@pytest.mark.parametrize(
    "text", ["-x+1/2, y, z-1/2", "1/2-X,Y,-1/2+Z", "'-x+0.5, y, z+.5'", "-x+1/2,y,z+1/2,-1"]
)
def test_operations_are_read_as_they_are_written(text):
    own = read_operations([text])
    assert own.rotations[0].tolist() == [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert own.translations[0].tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize("text", ["x,y", "x,y,q", "x,,z", "", "x y z", "2..5,y,z"])
def test_what_is_no_operation_is_refused(text):
    with pytest.raises(HostError, match="is no symmetry operation"):
        read_operations([text])

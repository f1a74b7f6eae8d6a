import pytest

from gasearch.crystal.io.guess.formula_units import formula_unit_of
from gasearch.crystal.species import formula_counts, formula_text


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("NaFePO4", {"Na": 1, "Fe": 1, "P": 1, "O": 4}),
        ("LiFe0.5Mn0.5PO4", {"Li": 1, "Fe": 0.5, "Mn": 0.5, "P": 1, "O": 4}),
        ("Li Fe.5 Mn.5 P O4", {"Li": 1, "Fe": 0.5, "Mn": 0.5, "P": 1, "O": 4}),
        ("NaNi1/3Fe1/3Mn1/3O2", {"Na": 1, "Ni": 1 / 3, "Fe": 1 / 3, "Mn": 1 / 3, "O": 2}),
        ("Na3V2(PO4)3", {"Na": 3, "V": 2, "P": 3, "O": 12}),
        ("HOH", {"H": 2, "O": 1}),
    ],
)
def test_formulas_are_read_with_shares_and_brackets(text, counts):
    assert formula_counts(text) == pytest.approx(counts)


@pytest.mark.parametrize("text", ["", "NaFe(PO4", "Xx2", "3", "Na1/0"])
def test_what_is_no_formula_is_an_error(text):
    with pytest.raises(ValueError):
        formula_counts(text)


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"Na": 1.0, "Fe": 1, "P": 1, "O": 4}, "NaFePO4"),
        ({"Li": 1.2, "Mn": 0.4, "Ti": 0.4, "O": 2}, "Li1.2Mn0.4Ti0.4O2"),
        ({"Na": 1, "Ni": 0.333, "Fe": 1 / 3, "Mn": 0.3334, "O": 2}, "NaNi1/3Fe1/3Mn1/3O2"),
        ({"Li": 1, "Co": 0.1667, "Ni": 0.8333, "O": 2}, "LiCo1/6Ni5/6O2"),
        ({"Li": 1, "Ni": 0.8, "Mn": 0.1, "Co": 0.1, "O": 2}, "LiNi0.8Mn0.1Co0.1O2"),
        ({"Na": 0.05, "O": 1}, "Na0.05O"),
        ({"Na": 0.0, "O": 1}, "O"),
    ],
)
def test_formulas_are_written_as_chemists_write_them(counts, text):
    assert formula_text(counts) == text
    left = {e: n for e, n in counts.items() if n}
    assert formula_counts(text) == pytest.approx(left, abs=0.002)


def full(*elements):
    return [{element: 1.0} for element in elements]


@pytest.mark.parametrize(
    ("shares", "first", "charges", "expected"),
    [
        (full(*"OOOO" "P", "Fe", "Na"), [6, 5], {"P": 5, "O": -2}, "NaFePO4"),
        (
            full(*["Na"] * 4, *["Fe"] * 2, *"PP", *["O"] * 8, "F", "F"),
            [0, 4], {"F": -1, "O": -2, "P": 5}, "Na2FeO4FP",
        ),
        (full(*["Na"] * 6, *["V"] * 4, *["P"] * 6, *["O"] * 24), [0, 6], {"P": 5, "O": -2},
         "Na3V2P3O12"),
        ([{"Na": 1.0}, {"Ni": 0.333, "Fe": 0.333, "Mn": 0.334}, {"O": 1.0}, {"O": 1.0}], [0, 1],
         {"O": -2}, "NaNi1/3Fe1/3Mn1/3O2"),
        (full("Ce", "O", "O"), [1, 0], {"O": -2}, "CeO2"),
    ],
)  # fmt: skip
def test_a_formula_unit_has_whole_numbers_of_sites(shares, first, charges, expected):
    expected = expected.replace("Na2FeO4FP", "Na2FePO4F")
    assert formula_unit_of(shares, first, charges) == expected


def test_the_moving_ions_of_a_formula_unit_are_those_at_x_1():
    shares = [*full("Na", "Na", "Na", "Na", "Co", "Co"), *full(*"OOOO")]
    moving = ("Na", [0, 1, 2, 3], 2.0)
    assert formula_unit_of(shares, range(6), {"O": -2}, moving) == "NaCoO2"
    moving = ("Na", [0, 1, 2, 3], 1.5)
    assert formula_unit_of(shares, range(6), {"O": -2}, moving) == "Na0.75CoO2"


def test_a_shared_sublattice_is_counted_per_two_anions():
    shares = [{"Li": 0.6, "Mn": 0.2, "Ti": 0.2}, {"O": 1.0}]
    assert formula_unit_of(shares, [0], {"O": -2}, ("Li", [0], 0.6)) == "Li1.2Mn0.4Ti0.4O2"

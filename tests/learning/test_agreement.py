"""When predictions agree with DFT: known numbers."""

from dataclasses import replace

import pytest

from gasearch.learning.agreement import Agreement, Compared, agreement, is_done
from gasearch.learning.settings import DoneSection

SETTINGS = DoneSection()


def one(x, expected, dft, fingerprint="", force=0.05, sigma=None, cell="1x1x1"):
    return Compared(cell, fingerprint or f"{x}{dft}", x, expected, dft, force, sigma)


def test_formation_energies_are_against_the_ends_of_each_level():
    """The potential has another zero and another slope in x: neither counts."""
    known = [one(0, 5.0, 0.0), one(1, 7.0, -1.0), one(0.5, 6.02, -0.5, sigma=0.01)]
    found = agreement(known[2:], known)
    assert found.formation_error_per_fu == pytest.approx(0.02)
    assert found.spread == pytest.approx(2.0)
    assert found.order_tau is None


def test_without_both_ends_there_is_no_formation_energy():
    found = agreement([one(0.5, 1, 1)], [one(0.5, 1, 1)])
    assert found.formation_error_per_fu is None
    assert not found.is_within(SETTINGS)
    assert agreement([], []).n == 0


def test_ends_that_failed_leave_no_formation_energy():
    known = [one(0.25, 5.0, 0.0), one(1, 7.0, -1.0), one(0.5, 6.02, -0.5)]
    assert agreement(known, known).formation_error_per_fu is not None
    assert agreement(known, known, (0.0, 1.0)).formation_error_per_fu is None


def test_at_one_x_energies_are_against_the_lowest():
    """Orders of a host whose ions stay, such as magnetite."""
    known = [one(1, 5.0, 0.0), one(1, 5.13, 0.1)]
    assert agreement(known, known, (1.0, 1.0)).formation_error_per_fu == pytest.approx(0.03)
    assert agreement(known, known).formation_error_per_fu is None


def test_tau_counts_pairs_with_a_new_order_at_one_x_and_cell():
    new = one(0.5, 0.3, 0.1, "a")
    known = [
        new, one(0.5, 0.2, 0.2, "b"), one(0.5, 0.4, 0.3, "c"),  # one wrong, one right
        one(0.5, 0.1, 0.4, "d", cell="1x2x1"),  # another cell
        one(0.25, 0.0, 0.9, "e"),  # another x
        one(0.5, 0.9, 0.1004, "f"),  # equal in DFT
    ]  # fmt: skip
    assert agreement([new], known).order_tau == 0.0
    assert agreement([new], [new, known[2]]).order_tau == 1.0


def test_cells_count_where_they_are_known():
    known = [one(0, 5.0, 0.0), one(1, 7.0, -1.0), replace(one(0.5, 6.0, -0.5), cell_error=0.012)]
    found = agreement(known, known)
    assert found.cell_error == pytest.approx(0.012)
    assert not found.is_within(SETTINGS)
    assert agreement([*known[:2], one(0.5, 6.0, -0.5)], known).is_within(SETTINGS)


def result(error=0.001, hull=("a", "b"), tau=1.0, forces=0.05, cells=0.001):
    found = Agreement(3, error, tau, forces, None, cells)
    members = [
        {"cell": "1x1x1", "fingerprint": one, "x": x, "formation_per_fu": -x * 0.05}
        for x, one in enumerate(hull)
    ]
    return {"agreement": found.to_json(), "hull": members}


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        ([], False),
        ([result()], False),
        ([result(), result()], True),
        ([result(), result(error=0.011)], False),
        ([result(forces=0.2), result()], False),
        ([result(tau=0.5), result()], False),
        ([result(), result(cells=0.02)], False),
        ([result(tau=None, forces=None), result()], True),
        ([result(error=None), result()], False),
        ([result(hull="ab"), result(hull="abc")], False),
        ([result(hull=""), result(hull="")], False),
        ([result(error=1.0), result(), result()], True),
    ],
)
def test_done_is_twice_in_a_row_with_the_same_hull(rounds, expected):
    assert is_done(rounds, SETTINGS) is expected


def member(x, formation, fingerprint="a", cell="1x1x1"):
    return {"cell": cell, "fingerprint": fingerprint, "x": x, "formation_per_fu": formation}


@pytest.mark.parametrize(
    ("hull", "expected"),
    [
        ([member(0.5, -0.05), member(0, 0)], True),  # in any order
        ([member(0, 0, "aa", "1x2x1"), member(0.5, -0.05)], True),  # an end, repeated
        ([member(0, 0), member(0.5, -0.0506, "bb", "1x2x1")], True),  # as low, but for noise
        ([member(0, 0), member(0.5, -0.052, "bb", "1x2x1")], False),  # lower
        ([member(0, 0), member(0.5, -0.06)], True),  # the same order, relaxed better
        ([member(0, 0), member(0.25, -0.05)], False),
        ([member(0, 0)], False),
    ],
)
def test_a_hull_is_the_same_where_dft_does_not_tell_its_members_apart(hull, expected):
    before = result() | {"hull": [member(0, 0), member(0.5, -0.05)]}
    assert is_done([before, before | {"hull": hull}], SETTINGS) is expected

"""Ranges of a hold from what end members look like, and its record."""

import math

import pytest

from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.potentials.held.hold import Hold, NothingToHoldError, held_ranges

FE2, FE3 = Species("Fe", 2), Species("Fe", 3)
MN2, MN3, MN4 = (Species("Mn", charge) for charge in (2, 3, 4))


def test_walls_stand_beyond_the_middle_by_a_share_of_the_gap():
    ranges = held_ranges("moments", {FE2: 3.9, FE3: 4.4}, hinge=0.25)
    assert ranges[FE2] == pytest.approx((-math.inf, 4.15 - 0.125))
    assert ranges[FE3] == pytest.approx((4.15 + 0.125, math.inf))


def test_moments_that_fall_with_the_charge_are_held_the_other_way_round():
    ranges = held_ranges("moments", {MN2: 4.66, MN3: 3.95})
    assert ranges[MN2][0] > 4.305 > ranges[MN3][1]
    assert ranges[MN2][1] == math.inf
    assert ranges[MN3][0] == -math.inf


def test_a_middle_state_has_two_walls():
    ranges = held_ranges("moments", {MN2: 4.6, MN3: 3.9, MN4: 3.1})
    assert ranges[MN3] == pytest.approx((3.5 + 0.2, 4.25 - 0.175))


def test_elements_do_not_mix_and_a_single_state_is_free():
    ranges = held_ranges("moments", {FE2: 3.9, FE3: 4.4, MN2: 4.6})
    assert set(ranges) == {FE2, FE3}


@pytest.mark.parametrize(
    ("by", "values", "expected"),
    [
        ("moments", {Species("Co", 2): 2.75, Species("Co", 3): 2.78}, "2.75 and 2.78 Bohr"),
        ("moments", {MN2: 4.6, MN3: 3.9, MN4: 4.2}, "Mn3[+] and Mn4[+]"),
        ("bonds", {FE2: 1.8, FE3: 1.9}, "bond valence sum 1.80 and 1.90 valence units"),
        ("bonds", {FE2: 2.6, FE3: 1.8}, "cannot be held by bonds"),
    ],
)
def test_states_that_look_alike_are_refused_with_both_numbers(by, values, expected):
    with pytest.raises(NothingToHoldError, match=expected):
        held_ranges(by, values)


@pytest.mark.parametrize("hinge", [0.0, 0.5, -0.1, math.nan])
def test_a_hinge_outside_of_the_gap_is_refused(hinge):
    with pytest.raises(UsageError, match=r"between 0 and 0\.5"):
        held_ranges("moments", {FE2: 3.9, FE3: 4.4}, hinge=hinge)


@pytest.mark.parametrize("stiffness", [0.0, -1.0, math.inf, math.nan])
def test_a_stiffness_that_holds_nothing_is_refused(stiffness):
    with pytest.raises(UsageError, match="above 0"):
        Hold("moments", {}, stiffness)


def test_a_hold_comes_back_from_its_record_with_open_sides():
    hold = Hold("bonds", held_ranges("bonds", {FE2: 1.8, FE3: 2.6}), 3.0, {"Fe-O": 1.744})
    again = Hold.from_json(hold.to_json())
    assert again == hold
    assert again.digest == hold.digest
    assert hold.to_json()["ranges"]["Fe2+"][0] is None
    assert hold.in_words() == "Fe2+ below 2.00, Fe3+ above 2.40 valence units"


def test_another_range_is_another_hold():
    ranges = held_ranges("moments", {FE2: 3.9, FE3: 4.4})
    one, other = (Hold("moments", ranges, stiffness) for stiffness in (10.0, 20.0))
    assert one.digest != other.digest

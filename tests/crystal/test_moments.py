"""Moment ranges: one table, by reader, of which each reader's own data are told apart."""

import pytest
from crystals import built

from gasearch.crystal.moments import MOMENT_RANGES, without_doubtful
from gasearch.crystal.species import Species
from gasearch.dft.classify import moment_ranges
from gasearch.training.data.labels import Labelling

FE2, FE3 = Species("Fe", 2), Species("Fe", 3)


@pytest.mark.parametrize(
    ("reader", "measured"),
    [
        ("vasp", {FE2: (3.76, 3.79), FE3: (4.33, 4.35)}),
        ("gpaw", {FE2: (3.64, 3.83), FE3: (4.20, 4.33)}),
        ("chgnet", {FE2: (3.87, 3.97), FE3: (4.30, 4.39)}),
    ],
)
def test_what_a_reader_was_measured_to_give_lies_well_inside(reader, measured):
    for species, (lowest, highest) in measured.items():
        low, high = MOMENT_RANGES[reader][species]
        assert low + 0.07 < lowest < highest < high - 0.06
        assert without_doubtful(MOMENT_RANGES[reader])[species][0] >= low


@pytest.mark.parametrize("reader", MOMENT_RANGES)
def test_no_moment_of_an_element_means_two_states(reader):
    ranges = without_doubtful(MOMENT_RANGES[reader])
    for one, (low, _) in ranges.items():
        for other, (_, high) in ranges.items():
            if one.element == other.element and low > ranges[other][0]:
                assert high < low - 0.1


def test_touching_ranges_are_parted_by_a_band():
    assert without_doubtful(MOMENT_RANGES["chgnet"]) == {
        FE2: (3.5, pytest.approx(4.08)),
        FE3: (pytest.approx(4.22), 4.8),
    }
    assert without_doubtful(MOMENT_RANGES["gpaw"]) == MOMENT_RANGES["gpaw"]


@pytest.mark.parametrize("reader", ["vasp", "gpaw"])
def test_results_of_a_code_and_training_frames_are_read_by_the_same_ranges(reader):
    collected = moment_ranges(built(), reader, {}, {})
    learned = Labelling(code=reader).moment_ranges
    assert {species: learned[species] for species in collected} == collected

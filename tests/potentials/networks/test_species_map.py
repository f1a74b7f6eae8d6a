"""Species maps: oxidation states to rows of an embedding."""

import copy
import pickle

import pytest
import torch

from gasearch.crystal.species import Species, UnknownSpeciesError
from gasearch.potentials.networks.species_map import (
    SpeciesMap,
    SpeciesMapError,
    UnmappedSpeciesError,
)

FE2, FE3, NA = Species("Fe", 2), Species("Fe", 3), Species("Na", 1)


def slots(species_map, *pairs):
    numbers, charges = zip(*pairs, strict=True)
    return species_map(torch.tensor(numbers), torch.tensor(charges)).tolist()


def test_fe3_goes_to_the_slot_of_gallium_and_all_else_to_its_element():
    species_map = SpeciesMap.parse({"Fe3+": "Ga"})
    assert slots(species_map, (26, 2), (26, 3), (11, 1), (8, -2)) == [26, 31, 11, 8]
    assert species_map.species is None
    assert species_map.slot(FE3) == 31
    assert slots(SpeciesMap({FE2: 26, FE3: 26}), (26, 2), (26, 3)) == [26, 26]


def test_a_closed_map_refuses_what_it_does_not_list():
    species_map = SpeciesMap({FE2: 26, FE3: 31})
    assert species_map.species == {FE2, FE3}
    with pytest.raises(UnmappedSpeciesError, match=r"no slot for Na\+: it maps Fe2\+, Fe3\+"):
        slots(species_map, (11, 1), (26, 2))


def test_own_slots_may_lie_beyond_the_elements():
    assert slots(SpeciesMap.parse({"Fe3+": 119}), (26, 3), (26, 2)) == [119, 26]


def test_a_surrogate_in_the_crystal_itself_is_refused():
    with pytest.raises(UnmappedSpeciesError, match=r"Ga3\+: the slot of Ga stands for Fe3\+"):
        slots(SpeciesMap.parse({"Fe3+": "Ga"}), (31, 3))


def test_a_spin_state_has_a_slot_of_its_own_where_the_map_lists_it():
    low = Species("Fe", 2, "ls")
    known = SpeciesMap({FE2: 26, low: 44, FE3: 31})
    assert [known.slot(one) for one in (FE2, low, FE3)] == [26, 44, 31]
    assert SpeciesMap.from_json(known.to_json()) == known
    with pytest.raises(UnmappedSpeciesError, match=r"no slot for Fe2\+ ls: it maps Fe2\+, Fe3\+"):
        SpeciesMap({FE2: 26, FE3: 31}).slot(low)


def test_an_open_map_takes_a_spin_state_for_its_ion():
    species_map = SpeciesMap.parse({"Fe3+": "Ga"})
    assert species_map.slot(Species("Fe", 2, "ls")) == 26
    assert species_map.slot(Species("Fe", 3, "ls")) == 31
    own = SpeciesMap.parse({"Fe3+": "Ga", "Fe3+ ls": 120})
    assert (own.slot(FE3), own.slot(Species("Fe", 3, "ls"))) == (31, 120)


def test_oxidation_states_out_of_range_are_refused():
    with pytest.raises(UnmappedSpeciesError):
        slots(SpeciesMap.parse({}), (26, 12))


@pytest.mark.parametrize(
    ("surrogates", "error", "text"),
    [
        ({"Fe3+": "Xx"}, SpeciesMapError, "no element"),
        ({"Fe3": "Ga"}, UnknownSpeciesError, "not a species"),
        ({"Fe3+": "Ga", "Mn3+": "Ga"}, SpeciesMapError, "share slot 31"),
        ({"Fe3+": 0}, SpeciesMapError, "expected 1 to"),
        ({"vacancy": "Ga"}, SpeciesMapError, "vacancy"),
    ],
)
def test_senseless_maps_are_refused(surrogates, error, text):
    with pytest.raises(error, match=text):
        SpeciesMap.parse(surrogates)


def test_maps_survive_json_copies_and_pickles():
    species_map = SpeciesMap({FE2: 26, FE3: 31, NA: 11})
    assert species_map.to_json() == {"Fe2+": 26, "Fe3+": 31, "Na+": 11}
    assert SpeciesMap.from_json(species_map.to_json()) == species_map
    assert copy.deepcopy(species_map) == species_map
    assert pickle.loads(pickle.dumps(species_map)) == species_map

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasearch.crystal.species import (
    VACANCY,
    NoSuchSpinError,
    NotNeutralError,
    Species,
    UnknownSpeciesError,
    formula,
)
from gasearch.errors import GasearchError, UsageError


@pytest.mark.parametrize(
    ("text", "element", "charge"),
    [("Na+", "Na", 1), ("Fe3+", "Fe", 3), ("O2-", "O", -2), ("F-", "F", -1), ("P5+", "P", 5)],
)
def test_a_species_is_written_as_chemists_write_it(text, element, charge):
    species = Species.parse(text)
    assert (species.element, species.charge) == (element, charge)
    assert str(species) == text


def test_one_plus_is_written_without_its_number():
    assert str(Species.parse("Na1+")) == "Na+"


def test_the_vacancy_has_no_element_and_no_charge():
    assert Species.parse("vacancy") == VACANCY
    assert str(VACANCY) == "vacancy"
    assert (VACANCY.is_vacancy, VACANCY.charge, VACANCY.number, VACANCY.moment) == (True, 0, 0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "Xx",
        "X",
        "fe2+",
        "Xx2+",
        "X+",
        "2+",
        "Fe2",
        "Fe+2",
        "",
        "Fe9+",
        "O5-",
        "Fe0+",
        "Na+ ",
        "Na+\n",
        "Fe2+ xs",
        "Fe2+ls",
        "Fe2+  ls",
        "ls",
    ],
)
def test_other_texts_are_refused_with_an_example(text):
    with pytest.raises(UnknownSpeciesError, match=r"is not a species.*'Fe3\+'") as caught:
        Species.parse(text)
    assert caught.value.text == text
    assert isinstance(caught.value, UsageError)
    assert isinstance(caught.value, ValueError)


@given(st.sampled_from(["Li", "Na", "Fe", "Mn", "O", "Zr"]), st.integers(-4, 8))
def test_every_species_reads_back_what_it_writes(element, charge):
    for species in Species(element, charge).spin_states:
        assert Species.parse(str(species)) == species


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Fe2+", 4), ("Fe3+", 5), ("Fe4+", 4), ("Mn2+", 5), ("Mn3+", 4), ("Mn4+", 3), ("Co2+", 3),
        ("Ni2+", 2), ("Cr3+", 3), ("V3+", 2), ("V5+", 0), ("Ti4+", 0), ("Ti3+", 1), ("Cu2+", 1),
        ("Zn2+", 0), ("Mo6+", 0), ("Mo4+", 2), ("W6+", 0), ("Hf4+", 0), ("Na+", 0), ("O2-", 0),
        ("P5+", 0), ("Ti8+", 0), ("Ce3+", 1), ("Ce4+", 0), ("La3+", 0), ("Gd3+", 7), ("Eu2+", 7),
        ("Lu3+", 0), ("U4+", 2), ("O-", 1), ("F-", 0), ("C", 0), ("Fe", 4), ("Co", 3),
    ],
)  # fmt: skip
def test_high_spin_moments_follow_from_the_number_of_d_electrons(text, moment):
    assert Species.parse(text).moment == moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Fe2+ ls", 0), ("Fe3+ ls", 1), ("Co2+ ls", 1), ("Co3+ ls", 0), ("Co4+ ls", 1),
        ("Ni3+ ls", 1), ("Ni4+ ls", 0), ("Mn2+ ls", 1), ("Mn3+ ls", 2), ("Ru4+ ls", 2),
        ("Co3+ is", 2), ("Fe3+ is", 3),
    ],
)  # fmt: skip
def test_low_and_intermediate_spin_follow_from_the_octahedron(text, moment):
    species = Species.parse(text)
    assert species.moment == moment
    assert str(species) == text
    assert species in species.spin_states
    assert species.ion == Species(species.element, species.charge)


@pytest.mark.parametrize(
    "text", ["Na+ ls", "Mn4+ ls", "Ni2+ ls", "Fe ls", "Co2+ is", "Mn3+ is", "O- ls", "Ce3+ ls"]
)
def test_a_spin_state_that_an_ion_does_not_have_is_refused(text):
    with pytest.raises(NoSuchSpinError, match="has no spin state"):
        Species.parse(text)


def test_high_spin_is_the_default_and_need_not_be_written():
    assert Species.parse("Fe2+ hs") == Species("Fe", 2)
    assert str(Species.parse("Fe2+ hs")) == "Fe2+"
    assert sorted([Species("Fe", 3), Species("Fe", 2, "ls"), Species("Fe", 2)]) == [
        Species("Fe", 2), Species("Fe", 2, "ls"), Species("Fe", 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("moment", "text"),
    [(4, "Fe2+"), (0, "Fe2+ ls"), (-2, "Fe2+ is"), (3.7, "Fe2+"), (None, "Fe2+"), (0.2, "Fe2+")],
)
def test_an_initial_moment_tells_the_spin_state_only_where_it_is_exactly_its(moment, text):
    assert str(Species.labelled("Fe", 2, moment)) == text


def test_a_bare_symbol_is_a_neutral_atom():
    assert Species.parse("C") == Species("C", 0)
    assert str(Species("Fe", 0)) == "Fe"
    assert Species.parse("C") != VACANCY


def test_atomic_numbers_come_from_the_element():
    assert (Species.parse("Fe2+").number, Species.parse("Fe3+").number) == (26, 26)


def test_species_sort_by_element_and_then_by_charge():
    texts = ["Mn2+", "Fe3+", "Fe2+", "vacancy"]
    assert [str(s) for s in sorted(map(Species.parse, texts))] == [
        "vacancy", "Fe2+", "Fe3+", "Mn2+",
    ]  # fmt: skip


def test_a_formula_keeps_the_order_of_first_appearance_and_skips_vacancies():
    assert formula(["Na", "", "Na", "Fe", "P", *"OOOO"]) == "Na2FePO4"
    assert formula([]) == ""


def test_an_error_of_neutrality_says_what_is_missing():
    error = NotNeutralError(-1, "Na3Fe4P4O16")
    assert str(error) == (
        "Na3Fe4P4O16 has charge -1, not 0: each vacant working-ion site needs an oxidised "
        "redox site."
    )
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        NotNeutralError(-1, "Na3Fe4P4O16"),
        NotNeutralError(2, "NaFePO4", "reduce two Fe"),
        UnknownSpeciesError("fe2"),
        NoSuchSpinError("Na+", "ls"),
        UsageError("supercell = [0, 1, 1]"),
    ],
)
def test_errors_survive_the_way_between_processes(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert isinstance(copy, GasearchError)

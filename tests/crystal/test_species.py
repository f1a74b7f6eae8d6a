import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasearch.crystal.species import VACANCY, NotNeutralError, Species, UnknownSpeciesError, formula
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
    ["Fe", "fe2+", "Xx2+", "X+", "2+", "Fe2", "Fe+2", "", "Fe9+", "O5-", "Fe0+", "Na+ ", "Na+\n"],
)
def test_other_texts_are_refused_with_an_example(text):
    with pytest.raises(UnknownSpeciesError, match=r"is not a species.*'Fe3\+'") as caught:
        Species.parse(text)
    assert caught.value.text == text
    assert isinstance(caught.value, UsageError)
    assert isinstance(caught.value, ValueError)


@given(st.sampled_from(["Li", "Na", "Fe", "Mn", "O", "Zr"]), st.integers(-4, 8))
def test_every_species_reads_back_what_it_writes(element, charge):
    if charge:
        species = Species(element, charge)
        assert Species.parse(str(species)) == species


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Fe2+", 4), ("Fe3+", 5), ("Fe4+", 4), ("Mn2+", 5), ("Mn3+", 4), ("Mn4+", 3), ("Co2+", 3),
        ("Ni2+", 2), ("Cr3+", 3), ("V3+", 2), ("V5+", 0), ("Ti4+", 0), ("Ti3+", 1), ("Cu2+", 1),
        ("Zn2+", 0), ("Mo6+", 0), ("Mo4+", 2), ("W6+", 0), ("Hf4+", 0), ("Na+", 0), ("O2-", 0),
        ("P5+", 0), ("Ti8+", 0),
    ],
)  # fmt: skip
def test_high_spin_moments_follow_from_the_number_of_d_electrons(text, moment):
    assert Species.parse(text).moment == moment


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
        UnknownSpeciesError("Fe"),
        UsageError("supercell = [0, 1, 1]"),
    ],
)
def test_errors_survive_the_way_between_processes(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert isinstance(copy, GasearchError)

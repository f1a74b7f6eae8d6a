"""Which potential a new run gets: one that can run its host."""

import tomllib
from dataclasses import replace

import ase.io
import pytest
from maricite import maricite, maricite_host
from typer.testing import CliRunner

from gasearch.cli.app import app
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.run.choice import default_choice, known_species, named_choice, why_not_held
from gasearch.testing import toy_host


def built(declaration, supercell=(1, 1, 1)):
    return Host.build(declaration, supercell)


def with_iron(*states):
    """Return perovskite NaxFeF3 with these species of Fe."""
    declaration = toy_host().declaration
    working, redox = declaration.sublattices
    species = tuple(map(Species.parse, states))
    return replace(declaration, sublattices=(working, replace(redox, species=species)))


@pytest.fixture
def maricite_file(tmp_path):
    ase.io.write(tmp_path / "maricite.cif", maricite())
    return tmp_path / "maricite.cif"


def test_the_shipped_model_is_not_offered_for_another_crystal_of_its_species():
    assert (
        default_choice(built(builtin_host("nafepo4-olivine"), (1, 3, 2))).name == "chgnet-nafepo4"
    )
    choice = default_choice(built(maricite_host()))
    assert (choice.name, choice.settings) == ("chgnet", {"potential.hold": "auto"})
    assert "chgnet-nafepo4 knows these species, but was trained on another crystal" in choice.note


def test_init_writes_another_potential_for_maricite_and_says_why(tmp_path, maricite_file):
    words = ["init", str(tmp_path / "run"), "--host", str(maricite_file), "--supercell", *"111"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    potential = tomllib.loads((tmp_path / "run" / "run.toml").read_text())["potential"]
    assert (potential["name"], potential["hold"]) == ("chgnet", "auto")
    assert "was trained on another crystal" in " ".join(result.stderr.split())


def test_a_model_that_is_asked_for_on_another_crystal_is_warned_of(tmp_path):
    choice = named_choice("chgnet-nafepo4", built(maricite_host()))
    assert choice.name == "chgnet-nafepo4"
    assert "its energies are not to be trusted" in choice.note


@pytest.mark.parametrize("potential", ["chgnet-nafepo4", "pmmcs"])
def test_a_potential_without_a_species_of_the_host_is_refused(potential):
    host = built(with_iron("Fe2+", "Fe3+"))  # F- is known to neither
    with pytest.raises(UsageError, match=rf"'{potential}' does not know F- of this host; it knows"):
        named_choice(potential, host)
    low = replace(builtin_host("nafepo4-olivine"), name="low spin")
    working, redox = low.sublattices
    species = tuple(map(Species.parse, ("Fe2+ ls", "Fe3+")))
    low = replace(low, sublattices=(working, replace(redox, species=species)))
    with pytest.raises(UsageError, match=r"does not know Fe2\+ ls of this host"):
        named_choice(potential, built(low))


def test_what_a_potential_knows():
    assert known_species("chgnet") is None
    assert "Fe3+" in known_species("painn-nafepo4")
    assert known_species("default") == known_species("chgnet-nafepo4")
    assert known_species("./mine.py:potential") is None


@pytest.mark.parametrize(
    ("states", "problem"),
    [
        (("Fe2+", "Fe3+"), ""),
        (("Fe2+", "Fe2+ ls", "Fe3+"), "Fe has several spin states in one oxidation state"),
    ],
)
def test_a_hold_is_asked_for_where_one_is_possible(states, problem):
    host = built(with_iron(*states), (2, 2, 1))
    assert why_not_held(host) == problem
    choice = default_choice(host)
    assert choice.name == "chgnet"
    assert choice.settings == (
        {"potential.allow_charge_blind": True} if problem else {"potential.hold": "auto"}
    )
    assert (problem in choice.note) == bool(problem) or not problem


def test_charge_order_alone_is_held_too():
    """Valence sums of states that are nowhere alone go in proportion to the charge."""
    choice = default_choice(built(builtin_host("fe3o4-magnetite"), (1, 1, 1)))
    assert (choice.name, choice.settings) == ("chgnet", {"potential.hold": "auto"})

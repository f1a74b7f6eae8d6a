"""The commented run.toml: it names every key, and what it says of defaults is true."""

import re
import tomllib

import pytest

from gasearch.crystal.declaration import SublatticeDeclaration
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.crystal.species import Species
from gasearch.execution.devices import DEVICE_ATOMS, LEAST_ON_DEVICE
from gasearch.run.config import run_settings, settings_table
from gasearch.run.template import run_file_text
from gasearch.testing import toy_host


def text_of(declaration, structure, supercell=(1, 1, 1), potential="pmmcs", **more):
    required = {"host.structure": structure, "host.supercell": supercell}
    return run_file_text(declaration, required | {"potential.name": potential} | more)


def read(text):
    return run_settings(tomllib.loads(text), "run.toml")


OWN = {"search.budget": 50, "search.seed": 7, "search.reproducible": True, "execution.workers": 2}
BUILT_IN = text_of(builtin_host("nafepo4-olivine"), "nafepo4-olivine", (1, 2, 1), **OWN)
FROM_FILE = text_of(toy_host(mixed=True).declaration, "inputs/a.cif", (2, 1, 1), "./p.py:f")


def keys(text):
    """Yield (section, key) of a run.toml, those in comments included."""
    section = ""
    for line in text.splitlines():
        if heading := re.match(r"(?:# )?\[+([\w.]+)\]", line):
            section = heading[1]
        elif found := re.match(r"(?:# )?(\w+) = ", line):
            yield section, found[1]


def uncommented(text):
    """Return a run.toml in which every default stands, but for the examples of operators."""
    head, operators, tail = re.split(r"(# \[operators\](?:.+\n)+)", text)
    assert operators
    return re.sub(r"(?m)^# (?=\w+ = )", "", head + tail)


def test_it_has_every_key_and_no_other():
    known = [(row.section, row.name) for row in settings_table()]
    host = [place for place in known if place[0].startswith("host")]
    built_in = [place for place in keys(BUILT_IN) if place[0] not in ("host", "operators")]
    assert built_in == [place for place in known if place not in host]
    tables = {"host.framework", "host.sublattice"}
    assert {*keys(FROM_FILE)} >= {place for place in host if ".".join(place) not in tables}


@pytest.mark.parametrize("text", [BUILT_IN, FROM_FILE])
def test_uncommenting_every_default_changes_nothing_but_the_host(text):
    written, short = read(uncommented(text)), read(text)
    assert written.model_copy(update={"host": short.host}) == short


def test_what_is_commented_out_of_the_host_is_what_is_declared():
    host, declared = read(uncommented(BUILT_IN)).host, builtin_host("nafepo4-olivine")
    for key in ("formula_unit", "symprec", "min_site_distance"):
        assert getattr(host, key) == getattr(declared, key)


def test_comments_stand_in_one_column_and_lines_are_short():
    assert max(map(len, BUILT_IN.splitlines())) <= 100
    assert re.search(r"\nbudget = 50 {21}# candidates to relax; may be raised later\n", BUILT_IN)
    assert re.search(r"\n# x = .all. {21}# \(fixed\) filled shares.*\n# {33}the two ", BUILT_IN)
    assert re.search(r"\n\[seeds\] {25}# \(fixed\) where the search starts", BUILT_IN)


@pytest.mark.parametrize("name", BUILTIN_HOSTS)
def test_it_is_valid_for_every_built_in_host(name):
    settings = read(text_of(builtin_host(name), name, **OWN))
    assert settings.host.structure == name
    assert (settings.search.budget, settings.search.seed, settings.execution.workers) == (50, 7, 2)


def test_a_host_from_a_file_has_its_sublattices_written_out():
    host = read(FROM_FILE).host
    assert host.structure == "inputs/a.cif"
    assert [s.kind for s in host.sublattice] == ["working_ion", "redox"]
    assert host.sublattice[1].species == ("Fe2+", "Fe3+", "Mn2+", "Mn3+")
    assert host.sublattice[1].elements == "free"
    assert host.sublattice[1].fractions == {"Fe": 0.5, "Mn": 0.5}
    assert host.framework == {"F": "F-"}


def test_names_with_quotes_and_foreign_letters_survive():
    structure, potential = 'inputs/a "b" ß\\c.cif', "./my π.py:f"
    settings = read(text_of(toy_host().declaration, structure, potential=potential))
    assert settings.host.structure == structure
    assert settings.potential.name == potential


def test_it_tells_how_many_candidates_keep_a_device_busy():
    told = " ".join(BUILT_IN.replace("#", " ").split())
    assert f"which is {DEVICE_ATOMS} atoms, but {LEAST_ON_DEVICE} at least" in told


def test_sites_may_be_indices():
    declared = toy_host().declaration
    species = tuple(Species.parse(text) for text in ("Fe2+", "Fe3+"))
    own = SublatticeDeclaration("redox", (1, 3), species)
    declared = type(declared)(**{**vars(declared), "sublattices": (declared.sublattices[0], own)})
    assert read(text_of(declared, "a.cif")).host.sublattice[1].sites == (1, 3)

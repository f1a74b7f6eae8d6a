"""The commented run.toml: it names every key, and what it says of defaults is true."""

import re
import tomllib

import pytest

from gasearch.crystal.declaration import SublatticeDeclaration
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.crystal.species import Species
from gasearch.execution.devices import DEVICE_ATOMS, LEAST_ON_DEVICE
from gasearch.run.config import RunSettings, SublatticeSection, run_settings
from gasearch.run.template import run_file_text
from gasearch.testing import toy_host

KEY = re.compile(r"(# )?(\w+) = (.+?)\s*(  # .*)?$")
BUILT_IN = run_file_text(
    builtin_host("nafepo4-olivine"), "nafepo4-olivine", (1, 2, 1), "pmmcs", 50, 7, 2
)
FROM_FILE = run_file_text(
    toy_host(mixed=True).declaration, "inputs/a.cif", (2, 1, 1), "./p.py:f", 9, 0
)


def keys(text):
    """Return {(section, key): (is_comment, value)} of a run.toml, its comments included."""
    found, section = {}, ""
    for line in text.splitlines():
        heading = re.match(r"(?:# )?\[+([\w.]+)\]", line)
        key = KEY.fullmatch(line)
        if heading:
            section = heading[1]
        elif key:
            found[section, key[2]] = (bool(key[1]), key[3])
    return found


def sections():
    """Yield the sections of a run.toml with their models, [dft.gpaw] and its like included."""
    for section, field in RunSettings.model_fields.items():
        if section != "operators":
            yield section, field.annotation
            for key, inner in field.annotation.model_fields.items():
                if hasattr(inner.annotation, "model_fields"):
                    yield f"{section}.{key}", inner.annotation


def fields():
    for section, model in sections():
        yield from ((section, key) for key in model.model_fields)
    yield from (("host.sublattice", key) for key in SublatticeSection.model_fields)


@pytest.mark.parametrize(("section", "key"), list(fields()))
def test_every_key_is_in_the_template(section, key):
    shown = keys(BUILT_IN) | keys(FROM_FILE)
    sections = {section for section, _ in shown}
    assert (section, key) in shown or f"{section}.{key}" in sections


@pytest.mark.parametrize("text", [BUILT_IN, FROM_FILE])
def test_every_key_of_the_template_exists(text):
    known = {*fields()}
    other = [place for place in keys(text) if place not in known]
    assert all(section in ("operators", "host.framework") for section, _ in other)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (section, key, value)
        for (section, key), (is_comment, value) in keys(BUILT_IN).items()
        if is_comment and section not in ("operators", "host")
    ],
)
def test_what_is_commented_out_is_the_default(section, key, value):
    default = dict(sections())[section].model_fields[key].default
    shown = tomllib.loads(f"v = {value}")["v"]
    assert shown == (list(default) if isinstance(default, tuple) else default)


def test_what_is_commented_out_of_the_host_is_the_default():
    declared = builtin_host("nafepo4-olivine")
    shown = keys(BUILT_IN)
    for key in ("symprec", "min_site_distance"):
        assert float(shown["host", key][1]) == getattr(declared, key)


def test_uncommenting_every_default_changes_nothing():
    lines = [
        re.sub(r"^# (?=\w+ = )", "", line) if "operators" not in line else line
        for line in BUILT_IN.splitlines()
        if "na_vacancy_swap" not in line
    ]
    written = run_settings(tomllib.loads("\n".join(lines)), "all")
    short = run_settings(tomllib.loads(BUILT_IN), "short")
    assert written.model_dump(exclude={"host"}) == short.model_dump(exclude={"host"})


@pytest.mark.parametrize("name", BUILTIN_HOSTS)
def test_it_is_valid_for_every_built_in_host(name):
    text = run_file_text(builtin_host(name), name, (1, 1, 1), "pmmcs", 12, 3, 2)
    settings = run_settings(tomllib.loads(text), name)
    assert settings.host.structure == name
    assert (settings.search.budget, settings.search.seed, settings.execution.workers) == (12, 3, 2)


def test_a_host_from_a_file_has_its_sublattices_written_out():
    host = run_settings(tomllib.loads(FROM_FILE), "file").host
    assert host.structure == "inputs/a.cif"
    assert [s.kind for s in host.sublattice] == ["working_ion", "redox"]
    assert host.sublattice[1].species == ("Fe2+", "Fe3+", "Mn2+", "Mn3+")
    assert host.sublattice[1].elements == "free"
    assert host.sublattice[1].fractions == {"Fe": 0.5, "Mn": 0.5}
    assert host.framework == {"F": "F-"}


def test_names_with_quotes_and_foreign_letters_survive():
    declared = toy_host().declaration
    structure, potential = 'inputs/a "b" ß\\c.cif', "./my π.py:f"
    text = run_file_text(declared, structure, (1, 1, 1), potential, 9, 0)
    settings = run_settings(tomllib.loads(text), "odd")
    assert settings.host.structure == structure
    assert settings.potential.name == potential


def test_it_tells_how_many_candidates_keep_a_device_busy():
    assert f"which\n#                                 is {DEVICE_ATOMS} atoms" in BUILT_IN
    assert f"but {LEAST_ON_DEVICE} at least" in BUILT_IN


def test_sites_may_be_indices():
    declared = toy_host().declaration
    species = tuple(Species.parse(text) for text in ("Fe2+", "Fe3+"))
    own = SublatticeDeclaration("redox", (1, 3), species)
    declared = type(declared)(**{**vars(declared), "sublattices": (declared.sublattices[0], own)})
    text = run_file_text(declared, "a.cif", (1, 1, 1), "pmmcs", 9, 0)
    assert run_settings(tomllib.loads(text), "i").host.sublattice[1].sites == (1, 3)

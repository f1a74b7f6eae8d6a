"""Sections whose keys say once what they are."""

import tomllib

import pytest

from gasearch.run.config import default_of, settings_table
from gasearch.settings import REQUIRED, Positive, Section, as_toml, key, keys_of


class Inner(Section):
    """[a.inner]: more."""

    tags: dict[str, str] = key({}, "of all")


class Outer(Section):
    """[a]: an example."""

    name: str = key(REQUIRED, "of it", fixed=True)
    width: Positive | None = key(None, "of its box", "Å")
    inner: Inner = Inner()


def test_what_is_declared_of_each_key_becomes_a_row():
    rows = {(row.section, row.name): row for row in keys_of(Outer, "a")}
    assert list(rows) == [("a", "name"), ("a", "width"), ("a.inner", "tags")]
    assert (rows["a", "name"].type, rows["a", "name"].fixed) == ("text", True)
    width = rows["a", "width"]
    assert (width.type, width.default, width.unit, width.sentence, width.fixed) == (
        "number > 0",
        None,
        "Å",
        "of its box",
        False,
    )


def test_every_key_of_run_toml_has_a_sentence_a_type_and_a_unit_where_it_needs_one():
    for row in settings_table():
        place = f"{row.section}.{row.name}"
        assert row.sentence, place
        assert not row.sentence.endswith("."), place
        assert row.type != "value", place
        if row.name.endswith(("_s", "_eV", "_per_fu", "reach", "fmax", "smax")):
            assert row.unit, place


@pytest.mark.parametrize(
    ("flat", "default"),
    [
        ("relax.long_calls", 150),
        ("search.reproducible", False),
        ("screening.features", ["points", "pairs", "triplets", "surroundings", "coulomb"]),
        ("host.structure", None),
        ("operators.weights", None),
        ("nothing", None),
    ],
)
def test_a_default_is_known_by_its_recorded_name(flat, default):
    assert default_of(flat) == default


@pytest.mark.parametrize(
    "value",
    ['a "b" ß', True, 3, 450.0, 5e-5, 1e20, [0.5, "2/3"], {}, {"Fe": 5.3, "Fe3+": {"a": [1, 2]}}],
)
def test_values_survive_toml(value):
    text = as_toml(value)
    assert tomllib.loads(f"v = {text}")["v"] == value
    assert "e-0" not in text

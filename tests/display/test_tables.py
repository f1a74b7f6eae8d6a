"""Tables and JSON: nothing is cut off, and JSON is JSON."""

import io

import pytest
from rich.console import Console

from gasearch.analysis.enumerate import host_of
from gasearch.analysis.findings import Ranked
from gasearch.display import tables

LONG = "0123456789abcdef" * 8


def shown(content, width=10_000):
    file = io.StringIO()
    Console(file=file, width=width, soft_wrap=True, highlight=False).print(content)
    return file.getvalue()


def ranked(number=1234567, **keys):
    given = {
        "x": 2 / 3,
        "energy_eV": -12345.67891,
        "formation_energy_eV_per_fu": -0.1234,
        "above_hull_eV_per_fu": 0.0,
        "fingerprint": LONG,
        "orbit_size": 48,
        "verdict": "ok",
        "formula": "Na32Fe24Mn24P48O192",
        "operator": "./my_operators.py:RandomOperation",
    }
    return Ranked(number, **(given | keys))


@pytest.mark.parametrize("width", [80, 100, 10_000])
class TestTables:
    def test_no_candidate_loses_a_digit(self, width):
        text = shown(tables.ranked_table([ranked()]), width)
        assert "…" not in text
        for word in ("1234567", "0.6667", "-12345.6789", "-123.4", "0.0"):
            assert word in text

    def test_a_fingerprint_is_whole_even_where_it_is_folded(self, width):
        text = shown(tables.ranked_table([ranked(number=1, operator="rule")]), width)
        rows = [line.rstrip().split(" ")[-1] for line in text.splitlines()[2:]]
        assert "".join(rows) == LONG

    def test_no_decoration_is_cut(self, width):
        row = {"x": 0.5, "orbit_size": 8, "fingerprint": "3f", "species": "vacancy Na+ Fe3+ " * 12}
        text = shown(tables.decoration_table([row]), width)
        assert text.count("vacancy") == 12


def test_a_count_of_any_size_is_whole():
    row = {"x": 0.5, "raw": 10**50 + 7, "distinct": 10**48 + 3, "exact": True}
    text = shown(tables.count_table([row])).replace(",", "")
    assert str(10**50 + 7) in text
    assert str(10**48 + 3) in text
    assert "at least" not in text


def test_a_count_that_is_a_bound_says_so():
    text = shown(tables.count_table([{"x": 0.5, "raw": 70, "distinct": 3, "exact": False}]))
    assert "at least 70" in text
    assert "at least 3" in text


def test_what_is_unknown_is_a_dash():
    unknown = {"formation_energy_eV_per_fu": None, "above_hull_eV_per_fu": None}
    assert shown(tables.ranked_table([ranked(**unknown)])).count(" - ") == 2


def test_no_document_holds_what_json_does_not_have():
    with pytest.raises(ValueError, match="JSON"):
        tables.as_json({"a": float("nan")})


def test_dataclasses_are_objects():
    assert '"id": 7' in tables.as_json([ranked(7)])


def test_a_host_is_shown_with_its_group_and_symprec():
    lines = "\n".join(tables.host_lines(host_of("nafepo4-olivine", (1, 2, 1))))
    assert "56 sites, 8 x NaFePO4" in lines
    assert "Pnma (62) at symprec = 0.01 Å, 16 operations in the supercell" in lines
    assert "working ion   8 sites: Na+, vacancy" in lines
    assert "x = 0 to 1 in 9 compositions, 874 distinct decorations" in lines


def test_what_is_left_of_a_hold_is_shown_where_any_is():
    assert "held" not in shown(tables.ranked_table([ranked(), ranked(2, penalty_eV=1e-5)]))
    text = shown(tables.ranked_table([ranked(), ranked(2, penalty_eV=0.0123)]))
    assert "held by" in text
    assert "12.3" in text


def test_how_certain_a_potential_is_stands_beside_the_energy_where_it_knows():
    certain = ranked(3, sigma_eV_per_fu=0.0047, force_sigma_eV_per_A=0.1)
    assert "+-" not in shown(tables.ranked_table([ranked()]))
    lines = shown(tables.ranked_table([ranked(2), certain])).splitlines()
    assert "+-" in lines[0]
    assert "4.7" in lines[-1]
    assert " - " in lines[-2]
    document = tables.ranked_documents([ranked(2), certain])
    assert [one["sigma_eV_per_fu"] for one in document] == [None, 0.0047]

"""How [host] of a run.toml becomes a host."""

import ase.io
import pytest

from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.errors import UsageError
from gasearch.run.host import HostSection, build_host, searched_compositions
from gasearch.run.sections import RunFileError, SearchSection

SITES = [
    {"kind": "working_ion", "sites": "Na", "species": ["Na+", "vacancy"]},
    {"kind": "redox", "sites": ["Fe"], "species": ["Fe2+", "Fe3+"]},
]


def section(**keys):
    given = {"structure": "nafepo4-olivine", "supercell": (1, 1, 1)} | keys
    return HostSection.model_validate(given)


@pytest.fixture
def folder(tmp_path):
    atoms = builtin_host("nafepo4-olivine").unit_cell
    ase.io.write(tmp_path / "a.extxyz", atoms)
    return tmp_path


def from_file(**keys):
    framework = {"P": "P5+", "O": "O2-"}
    return section(**{"structure": "a.extxyz", "sublattice": SITES, "framework": framework} | keys)


def test_a_built_in_name_is_enough(folder):
    host = build_host(section(), folder)
    assert host.n_formula_units == 4
    assert host.x_range == (0.0, 1.0)


def test_a_matrix_makes_a_cell_that_is_no_box(folder):
    rows = ((1, 0, 0), (0, 1, 1), (0, -1, 1))
    assert build_host(section(supercell=rows), folder).n_formula_units == 8


@pytest.mark.parametrize("rows", [((1, 0, 0), (2, 0, 0), (0, 0, 1)), ((0, 0, 0),) * 3])
def test_a_matrix_without_volume_is_refused(folder, rows):
    with pytest.raises(UsageError, match="volume"):
        build_host(section(supercell=rows), folder)


def test_a_built_in_host_can_be_declared_otherwise(folder):
    host = build_host(section(formula_unit="Na4Fe4P4O16", symprec=0.1), folder)
    assert host.n_formula_units == 1
    assert host.declaration.symprec == 0.1


def test_a_file_is_looked_up_from_the_folder(folder, monkeypatch):
    monkeypatch.chdir("/")
    own, built_in = build_host(from_file(), folder), build_host(section(), folder)
    assert own.compositions == built_in.compositions
    assert own.declaration.formula_unit == "NaFePO4"
    counts = [[h.n_distinct(c) for c in h.compositions] for h in (own, built_in)]
    assert counts[0] == counts[1]


def test_what_the_section_says_wins_over_the_file(folder):
    host = build_host(from_file(formula_unit="Na2Fe2P2O8", min_site_distance=1.5), folder)
    assert host.n_formula_units == 2
    assert host.declaration.min_site_distance == 1.5


def test_sites_exclude_each_other_by_the_given_distance(folder):
    assert len(build_host(from_file(), folder).exclusions) == 0
    host = build_host(from_file(min_site_distance=3.3), folder)
    lengths = host.distances[tuple(host.exclusions.T)]
    assert len(lengths) > 0
    assert lengths.max() < 3.3


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"structure": "nafepo4-olivin"}, "did you mean 'nafepo4-olivine'"),
        ({"structure": "none.cif"}, "and there is no file .*none.cif"),
        ({"sublattice": []}, r"needs \[\[host.sublattice\]\] tables"),
        ({"framework": {"P": "P5+"}}, "O"),
        ({"framework": {"P": "P3+", "O": "O2-"}}, "neutral"),
    ],
)
def test_what_makes_no_host_is_one_line(folder, keys, line):
    with pytest.raises(UsageError, match=line) as raised:
        build_host(from_file(**keys), folder)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_an_error_of_the_run_file(folder):
    with pytest.raises(RunFileError):
        build_host(section(structure="b.cif"), folder)


@pytest.mark.parametrize(
    ("x", "found"), [("all", [0, 0.25, 0.5, 0.75, 1]), ((0.5, "3/4"), [0.5, 0.75])]
)
def test_search_x_names_compositions(x, found):
    host = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
    assert [c.x for c in searched_compositions(SearchSection(x=x), host)] == found

import json

import ase.io
import numpy as np
import pytest
from declared_hosts import FE as FE_SITES
from declared_hosts import MIXED, sublattice
from declared_hosts import NA as NA_SITES

from gasearch.crystal.declaration import HostError
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.crystal.io.hosts import (
    declare_from_file,
    guess_declaration,
    host_from_json,
    host_to_json,
)
from gasearch.crystal.species import Species

FRAMEWORK = {"P": Species("P", 5), "O": Species("O", -2)}


def cif(*rows: str) -> str:
    return "\n".join([
        "data_test", "_cell_length_a 10.4063", "_cell_length_b 6.2187", "_cell_length_c 4.9469",
        "_cell_angle_alpha 90", "_cell_angle_beta 90", "_cell_angle_gamma 90",
        "_space_group_IT_number 62", "loop_", "_atom_site_label", "_atom_site_type_symbol",
        "_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z", "_atom_site_occupancy",
        *rows, "",
    ])  # fmt: skip


NA, FE = "Na1 Na 0 0 0 {}", "Fe1 Fe 0.287 0.75 0.9863 {}"
MN = "Mn1 Mn 0.287 0.75 0.9863 {}"
REST = (
    "P1 P 0.1083 0.75 0.4426 1", "O1 O 0.114 0.75 0.7524 1", "O2 O 0.4685 0.75 0.1611 1",
    "O3 O 0.1755 0.9446 0.3118 1",
)  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write_file(*rows: str):
        path = tmp_path / "host.cif"
        path.write_text(cif(*rows))
        return path

    return write_file


def counts(host: Host) -> list[int]:
    return [host.n_distinct(c) for c in host.compositions]


@pytest.mark.parametrize("name", ["host.cif", "POSCAR", "host.xyz"])
def test_a_declared_file_is_the_host_that_is_built_in(tmp_path, name):
    fmt = "extxyz" if name.endswith("xyz") else None
    ase.io.write(tmp_path / name, builtin_host("nafepo4-olivine").unit_cell, format=fmt)
    declaration = declare_from_file(tmp_path / name, (NA_SITES, FE_SITES), FRAMEWORK, "NaFePO4")
    assert declaration.name == name
    host = Host.build(declaration, [1, 2, 1])
    assert host.space_group.symbol == "Pnma (62)"
    assert counts(host) == [1, 4, 64, 196, 344, 196, 64, 4, 1]


def test_a_left_handed_file_is_the_same_host(tmp_path):
    atoms = builtin_host("nafepo4-olivine").unit_cell
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    ase.io.write(tmp_path / "POSCAR", atoms)
    host = Host.build(guess_declaration(tmp_path / "POSCAR"), [2, 1, 1])
    assert host.atoms.cell.handedness > 0
    assert counts(host) == [1, 4, 64, 196, 344, 196, 64, 4, 1]


def test_options_of_the_declaration_are_kept(write):
    path = write(NA.format(1), FE.format(1), *REST)
    declaration = declare_from_file(
        path, (NA_SITES, FE_SITES), FRAMEWORK, symprec=0.05, min_site_distance=1.5
    )
    assert (declaration.symprec, declaration.min_site_distance) == (0.05, 1.5)
    assert declaration.formula_unit == "NaFePO4"


def test_partially_filled_working_sites_become_filled_sites_of_the_host(write):
    path = write(NA.format(0.7), FE.format(1), *REST)
    for declaration in (
        declare_from_file(path, (NA_SITES, FE_SITES), FRAMEWORK, "NaFePO4"),
        guess_declaration(path),
    ):
        host = Host.build(declaration, [1, 1, 1])
        assert host.n_working_sites == 4
        assert counts(host) == [1, 2, 10, 2, 1]


def test_shared_redox_sites_give_the_fractions_of_a_free_sublattice(write):
    path = write(NA.format(1), FE.format(0.5), MN.format(0.5), *REST)
    free = sublattice("redox", ("Fe", "Mn"), MIXED, "free")
    declared = declare_from_file(path, (NA_SITES, free), FRAMEWORK, "NaFePO4")
    assert declared.sublattices[1].fractions == {"Fe": 0.5, "Mn": 0.5}
    guessed = guess_declaration(path)
    assert declared.sublattices[1].sites == (4, 5, 6, 7)  # no site is mostly manganese
    assert guessed.sublattices[1].sites == ("Fe",)
    hosts = [Host.build(declaration, [1, 2, 1]) for declaration in (declared, guessed)]
    assert [host.free_counts for host in hosts] == [{"Fe": 4, "Mn": 4}] * 2
    assert counts(hosts[0]) == counts(hosts[1])
    assert counts(hosts[0])[8] == 10  # Fe and Mn on eight sites, 70 raw


def test_shared_sites_may_be_named_by_their_minor_element(write):
    path = write(NA.format(1), FE.format(0.25), MN.format(0.75), *REST)
    free = sublattice("redox", ("Fe",), MIXED, "free")
    declaration = declare_from_file(path, (NA_SITES, free), FRAMEWORK)
    assert Host.build(declaration, [1, 1, 1]).free_counts == {"Fe": 1, "Mn": 3}


def test_declared_fractions_win_over_those_of_the_file(write):
    path = write(NA.format(1), FE.format(0.5), MN.format(0.5), *REST)
    free = sublattice("redox", ("Fe", "Mn"), MIXED, "free", Fe=0.75, Mn=0.25)
    declaration = declare_from_file(path, (NA_SITES, free), FRAMEWORK)
    assert Host.build(declaration, [1, 1, 1]).free_counts == {"Fe": 3, "Mn": 1}


def test_guests_on_working_sites_are_kept_in_their_number(write):
    path = write(NA.format(0.5), "K1 K 0 0 0 0.25", FE.format(1), *REST)
    sites = sublattice("working_ion", ("Na",), ("Na+", "K+", "vacancy"), "free")
    host = Host.build(declare_from_file(path, (sites, FE_SITES), FRAMEWORK), [1, 1, 1])
    assert host.free_counts == {"K": 1}
    assert host.compositions[0].formula == "KFe4P4O16"


def test_a_guess_says_the_same_when_it_is_declared(write):
    """A run file is written from the guess, and read back with the structure file."""
    for rows in (
        (NA.format(0.7), FE.format(1)),
        (NA.format(1), FE.format(0.25), MN.format(0.75)),
        (NA.format(1), FE.format(0.5), MN.format(0.25), "Ti1 Ti 0.287 0.75 0.9863 0.25"),
    ):
        path = write(*rows, *REST)
        guess = guess_declaration(path)
        again = declare_from_file(path, guess.sublattices, guess.framework, guess.formula_unit)
        assert again.sublattices == guess.sublattices
        assert (again.framework, again.formula_unit) == (guess.framework, guess.formula_unit)


ERRORS = {
    "a partial framework": (
        (NA.format(1), FE.format(1), *REST[:-1], "O3 O 0.1755 0.9446 0.3118 0.8"),
        (NA_SITES, FE_SITES),
        r"partially filled framework sites: O3 \(O 0.8\). Only declared sublattices may be",
    ),
    "partial redox sites": (
        (NA.format(1), FE.format(0.9), *REST),
        (NA_SITES, FE_SITES),
        r"partially filled redox sites: Fe1 \(Fe 0.9\). Only working-ion sites may be empty",
    ),
    "shared sites of a fixed sublattice": (
        (NA.format(1), FE.format(0.5), MN.format(0.5), *REST),
        (NA_SITES, sublattice("redox", ("Fe",), MIXED)),
        r"elements share Fe1 \(Fe 0.5, Mn 0.5\).*declare the sublattice with elements = 'free'",
    ),
    "an element without a species": (
        (NA.format(0.95), "Fe2 Fe 0 0 0 0.05", FE.format(1), *REST),
        (NA_SITES, sublattice("redox", tuple(range(4, 8)), ("Fe2+", "Fe3+"))),
        r"Na1 \(Na 0.95, Fe 0.05\) on the working_ion sites, whose declared species are Na\+, vac",
    ),
}


@pytest.mark.parametrize(("rows", "sublattices", "line"), ERRORS.values(), ids=ERRORS)
def test_disorder_that_is_not_supported_is_one_clear_line(write, rows, sublattices, line):
    with pytest.raises(HostError, match=line) as caught:
        declare_from_file(write(*rows), sublattices, FRAMEWORK)
    assert "\n" not in str(caught.value)
    assert "host.cif" in str(caught.value)


@pytest.mark.parametrize("sites", [("Co",), ("Fe", "Co"), ("Fe", "Mn", "Co"), ("Fe", 99)])
def test_sites_that_are_not_in_the_file_are_refused_by_the_host(write, sites):
    path = write(NA.format(1), FE.format(0.75), MN.format(0.25), *REST)
    wrong = sublattice("redox", sites, MIXED, "free")
    framework = {**FRAMEWORK, "Fe": Species("Fe", 2)}
    with pytest.raises(HostError, match=f"names the site {sites[-1]!r}|partially filled frame"):
        Host.build(declare_from_file(path, (NA_SITES, wrong), framework), [1, 1, 1])


def some_hosts(tmp_path) -> list[Host]:
    ase.io.write(tmp_path / "POSCAR", builtin_host("nafepo4-olivine").unit_cell)
    path = tmp_path / "mixed.cif"
    path.write_text(cif(NA.format(0.3), FE.format(0.25), MN.format(0.75), *REST))
    return [
        *(Host.build(builtin_host(name), [1, 2, 1]) for name in BUILTIN_HOSTS),
        Host.build(builtin_host("nafepo4-olivine"), [[1, 0, 0], [1, -2, 0], [0, 1, 1]]),
        Host.build(guess_declaration(tmp_path / "POSCAR"), [2, 1, 1]),
        Host.build(guess_declaration(path), [1, 1, 1]),
    ]


def test_a_host_comes_back_from_its_text_with_the_same_fingerprints(tmp_path):
    for host in some_hosts(tmp_path):
        text = host_to_json(host)
        copy = host_from_json(text)
        assert host_to_json(copy) == text
        assert np.array_equal(copy.permutations, host.permutations)
        assert np.array_equal(copy.atoms.positions, host.atoms.positions)
        assert np.array_equal(copy.atoms.cell.array, host.atoms.cell.array)
        assert copy.compositions == host.compositions
        assert copy.declaration.kpoints == host.declaration.kpoints  # by name, not in the text
        assert copy.declaration.note == host.declaration.note
        rng = np.random.default_rng(0)
        for composition in host.compositions:
            decoration = Decoration.random(host, composition, rng)
            assert Decoration(copy, decoration.occupation).fingerprint == decoration.fingerprint


def test_the_text_of_a_host_is_canonical_json(tmp_path):
    host = Host.build(builtin_host("nafepo4-olivine"), [1, 2, 1])
    text = host_to_json(host)
    document = json.loads(text)
    assert text == json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert not document.keys() & {"kpoints", "note"}  # stored texts are compared
    assert document["supercell"] == [[1, 0, 0], [0, 2, 0], [0, 0, 1]]
    assert document["framework"] == {"O": "O2-", "P": "P5+"}
    assert document["sublattices"][1]["species"] == ["Fe2+", "Fe3+"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"name": "x", "numbers": [11]}', "not"])
def test_a_damaged_text_of_a_host_is_one_clear_line(text):
    with pytest.raises(HostError, match=r"a host that cannot be read back .* is damaged"):
        host_from_json(text)

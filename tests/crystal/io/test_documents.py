"""JSON of pymatgen and the Materials Project."""

import json

import numpy as np
import pytest
from declared_hosts import olivine

from gasearch.crystal.declaration import HostError
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.io.structures import read_structure, read_structures
from gasearch.crystal.species import species_of

HOST = olivine()
ATOMS = Decoration.random(HOST, HOST.composition_at(0.5), np.random.default_rng(2)).to_atoms()


def document(states=True, moments=False, vacancy=False) -> dict:
    """A structure as `Structure.as_dict` of pymatgen 2024 gives it."""
    sites = []
    moment_of = ATOMS.get_initial_magnetic_moments()
    for n, (own, place) in enumerate(
        zip(species_of(ATOMS), ATOMS.get_scaled_positions(), strict=True)
    ):
        kind = {"element": own.element, "occu": 1}
        if states:
            kind["oxidation_state"] = float(own.charge)
        properties = {"magmom": float(moment_of[n])} if moments else {}
        sites.append({
            "species": [kind], "abc": place.tolist(), "label": own.element, "properties": properties
        })  # fmt: skip
    if vacancy:
        kind = {"element": "Vac", "oxidation_state": 0, "occu": 1}
        sites.append({"species": [kind], "abc": [0.5, 0.5, 0.5], "properties": {}})
    return {
        "@module": "pymatgen.core.structure", "@class": "Structure", "charge": 0,
        "lattice": {"matrix": ATOMS.cell.array.tolist()}, "sites": sites,
    }  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write_file(value):
        (tmp_path / "host.json").write_text(json.dumps(value), encoding="utf-8")
        return tmp_path / "host.json"

    return write_file


@pytest.mark.parametrize("wrap", [
    lambda one: one, lambda one: [one], lambda one: {"structure": one, "material_id": "mp-19017"},
    lambda one: {"data": [{"structure": one}]}, lambda one: [{"structure": one, "energy": -3.0}],
])  # fmt: skip
def test_a_structure_alone_in_a_list_or_in_an_entry_is_read(write, wrap):
    structure = read_structure(write(wrap(document())))
    assert structure.atoms.symbols.get_chemical_formula() == "Fe4Na2O16P4"
    assert structure.atoms.cell.cellpar() == pytest.approx(ATOMS.cell.cellpar())
    assert structure.charges.tolist() == ATOMS.get_initial_charges().tolist()
    assert structure.moments is None


def test_elements_that_share_a_site_have_their_own_states(write):
    shared = document()
    shared["sites"][-1]["species"] = [
        {"element": "Mn", "oxidation_state": 2, "occu": 0.5},
        {"element": "Fe", "oxidation_state": 2, "occu": 0.25},
        {"element": "Fe", "oxidation_state": 3, "occu": 0.25},
    ]
    structure = read_structure(write(shared))
    assert structure.stated(len(ATOMS) - 1) == {"Mn": 2, "Fe": 2.5}
    assert structure.stated(0) == {ATOMS.symbols[0]: ATOMS.get_initial_charges()[0]}
    assert read_structure(write(document(states=False))).stated(0) == {}


def test_moments_and_vacancies_are_read(write):
    path = write([document(states=False, moments=True, vacancy=True)])
    (structure,) = read_structures(path)
    assert len(structure.atoms) == len(ATOMS)
    assert structure.moments.tolist() == ATOMS.get_initial_magnetic_moments().tolist()
    assert structure.charges is None
    with pytest.raises(HostError, match=r"unknown element \(X\): in a host all sites are filled"):
        read_structure(path)


def test_partial_occupancies_are_kept(write):
    one = document()
    one["sites"][0]["species"] = [
        {"element": "Na", "occu": 0.6, "oxidation_state": 1},
        {"element": "K", "occu": 0.2, "oxidation_state": 1},
    ]
    structure = read_structure(write(one))
    assert structure.shares[0] == {"Na": 0.6, "K": 0.2}


def test_json_without_a_structure_is_one_clear_line(write):
    with pytest.raises(HostError) as caught:
        read_structure(write({"energy": -3.0}))
    assert "\n" not in str(caught.value)
    assert "host.json" in str(caught.value)

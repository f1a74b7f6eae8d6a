from collections import Counter

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from gasearch.crystal.declaration import HostError
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.errors import UsageError

KNOWN = {  # space group, filled cell, neutral range
    "nafepo4-olivine": ("Pnma (62)", {"Na": 4, "Fe": 4, "P": 4, "O": 16}, (0, 1)),
    "lifepo4-olivine": ("Pnma (62)", {"Li": 4, "Fe": 4, "P": 4, "O": 16}, (0, 1)),
    "nafepo4-maricite": ("Pnma (62)", {"Na": 4, "Fe": 4, "P": 4, "O": 16}, (0, 1)),
    "limnpo4-olivine": ("Pnma (62)", {"Li": 4, "Mn": 4, "P": 4, "O": 16}, (0, 1)),
    "na2fesio4": ("Pc (7)", {"Na": 4, "Fe": 2, "Si": 2, "O": 8}, (0.5, 1)),
    "limn2o4-spinel": ("Fd-3m (227)", {"Li": 2, "Mn": 4, "O": 8}, (0, 1)),
}


@pytest.mark.parametrize("name", BUILTIN_HOSTS)
def test_every_builtin_host_is_a_neutral_crystal(name):
    host = Host.build(builtin_host(name), [1, 1, 1])
    assert host.declaration.name == name
    assert host.n_formula_units >= 1
    assert host.compositions[-1].x == 1
    distances = host.atoms.get_all_distances(mic=True)
    assert distances[np.triu_indices(len(host.atoms), 1)].min() > 1.4


@pytest.mark.parametrize("name", KNOWN)
def test_the_space_group_and_the_range_of_x_are_the_known_ones(name):
    symbol, counts, (low, high) = KNOWN[name]
    host = Host.build(builtin_host(name), [1, 1, 1])
    assert host.space_group.symbol == symbol
    assert Counter(host.atoms.symbols) == counts
    assert (host.compositions[0].x, host.compositions[-1].x) == (low, high)


# of each element: oxygen neighbours, and the shortest and longest distance to them in Å
OCTAHEDRA = {"Fe": (6, 2.0, 2.4), "P": (4, 1.51, 1.58)}
NEIGHBOURS = {
    "nafepo4-olivine": {**OCTAHEDRA, "Na": (6, 2.2, 2.5)},
    "nafepo4-maricite": {**OCTAHEDRA, "Na": (10, 2.3, 3.0)},  # Le Page & Donnay: Na[10] Fe[6]
    "lifepo4-olivine": {**OCTAHEDRA, "Li": (6, 2.0, 2.3)},
    "limnpo4-olivine": {"P": (4, 1.51, 1.58), "Mn": (6, 2.1, 2.3), "Li": (6, 2.0, 2.3)},
    "limn2o4-spinel": {"Mn": (6, 1.95, 1.97), "Li": (4, 1.96, 1.98)},
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_cations_have_their_oxygen_neighbours(name):
    atoms = builtin_host(name).unit_cell
    i, j, d = neighbor_list("ijd", atoms, 3.0)
    for element, (number, shortest, longest) in NEIGHBOURS[name].items():
        for site in np.flatnonzero(atoms.symbols == element):
            near = d[(i == site) & (atoms.numbers[j] == 8) & (d < longest)]
            assert len(near) == number
            assert near.min() > shortest


def test_every_builtin_host_names_its_source():
    for name, host in BUILTIN_HOSTS.items():
        assert len(host.source) > 20, name


def test_the_silicate_is_a_network_of_tetrahedra_that_loses_one_of_two_sodium():
    host = Host.build(builtin_host("na2fesio4"), [1, 1, 1])
    distances = host.atoms.get_all_distances(mic=True)
    oxygen = np.flatnonzero(host.atoms.symbols == "O")
    for element, limit in {"Si": 1.7, "Fe": 2.1, "Na": 2.5}.items():
        for site in np.flatnonzero(host.atoms.symbols == element):
            assert np.count_nonzero(distances[site, oxygen] < limit) == 4
    assert [c.formula for c in host.compositions] == [
        "Na2Fe2Si2O8", "Na3Fe2Si2O8", "Na4Fe2Si2O8"
    ]  # fmt: skip
    assert [host.n_distinct(c) for c in host.compositions] == [4, 4, 1]
    assert [host.n_raw(c) for c in host.compositions] == [6, 8, 1]


def test_the_mean_iron_oxygen_distance_is_the_measured_one():
    atoms = builtin_host("nafepo4-olivine").unit_cell
    distances = atoms.get_all_distances(mic=True)
    oxygen, iron = np.flatnonzero(atoms.symbols == "O"), np.flatnonzero(atoms.symbols == "Fe")
    six = np.sort(distances[np.ix_(iron, oxygen)], axis=1)[:, :6]
    assert six.mean() == pytest.approx(2.185, abs=0.005)  # Fe3+ would have 2.05


def test_an_unknown_host_is_answered_with_the_known_ones():
    with pytest.raises(HostError, match=r"'nafepo4-olivin' \(did you mean 'nafepo4-olivine'\?\)"):
        builtin_host("nafepo4-olivin")
    with pytest.raises(UsageError, match=r"Built in: nafepo4-olivine, .*; or name a CIF, POSCAR"):
        builtin_host("corundum")

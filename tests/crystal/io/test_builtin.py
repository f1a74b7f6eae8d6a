from collections import Counter

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from gasearch.crystal.declaration import HostError
from gasearch.crystal.decoration import Decoration
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
    "na3v2p3o12-nasicon": ("R-3c (167)", {"Na": 8, "V": 4, "P": 6, "O": 24}, (1 / 3, 1)),
    "nanfm-o3": ("R-3m (166)", {"Na": 3, "Ni": 3, "O": 6}, (0, 1)),
    "nacoo2-p2": ("P6_3/mmc (194)", {"Na": 4, "Co": 2, "O": 4}, (0, 1)),
    "ceo2-fluorite": ("Fm-3m (225)", {"Ce": 4, "O": 8}, (0.75, 1)),
    "fe3o4-magnetite": ("Fd-3m (227)", {"Fe": 6, "O": 8}, (1, 1)),
}
# of the unit cell: raw and distinct decorations at each x, counted on paper or by brute force
COUNTS = {
    "na3v2p3o12-nasicon": [
        (1 / 3, 28, 5), (1 / 2, 224, 20), (2 / 3, 420, 46), (5 / 6, 224, 20), (1, 28, 5)
    ],
    "nacoo2-p2": [(0, 1, 1), (1 / 2, 4, 2), (1, 4, 3)],
    "ceo2-fluorite": [(3 / 4, 28, 3), (7 / 8, 48, 1), (1, 1, 1)],
    "fe3o4-magnetite": [(1, 6, 1)],
    "limn2o4-spinel": [(0, 1, 1), (1 / 2, 8, 1), (1, 6, 1)],
}  # fmt: skip
UNITS = {"na3v2p3o12-nasicon": 2, "nanfm-o3": 1, "nacoo2-p2": 2, "ceo2-fluorite": 4}


@pytest.mark.parametrize("name", BUILTIN_HOSTS)
def test_every_builtin_host_is_a_neutral_crystal(name):
    host = Host.build(builtin_host(name), [1, 1, 1])
    assert host.declaration.name == name
    assert host.n_formula_units >= 1
    assert host.compositions[-1].x == 1
    assert host.space_group.symbol == KNOWN[name][0]
    assert host.n_formula_units == UNITS.get(name, host.n_formula_units)
    filled = Decoration.random(host, host.compositions[-1], np.random.default_rng(0)).to_atoms()
    distances = filled.get_all_distances(mic=True)
    assert distances[np.triu_indices(len(filled), 1)].min() > 1.4


@pytest.mark.parametrize("name", COUNTS)
def test_its_decorations_are_as_many_as_counted_by_hand(name):
    host = Host.build(builtin_host(name), [1, 1, 1])
    found = [(c.x, host.n_raw(c), host.n_distinct(c)) for c in host.compositions]
    np.testing.assert_allclose(found, COUNTS[name])


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
    "na3v2p3o12-nasicon": {"P": (4, 1.51, 1.54), "V": (6, 1.95, 2.1)},
    "nanfm-o3": {"Ni": (6, 2.02, 2.04), "Na": (6, 2.3, 2.4)},
    "nacoo2-p2": {"Co": (6, 1.9, 1.92), "Na": (6, 2.3, 2.4)},
    "ceo2-fluorite": {"Ce": (8, 2.3, 2.4)},
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

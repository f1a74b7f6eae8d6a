"""How many decorations a host has, and which."""

import ase.db
import ase.io
import numpy as np
import pytest

from gasearch.analysis.enumerate import compositions_of, counts, decorations, host_of, listed, write
from gasearch.crystal.declaration import HostError
from gasearch.crystal.decoration import Decoration
from gasearch.errors import UsageError


@pytest.fixture(scope="module")
def host():
    return host_of("nafepo4-olivine", (1, 1, 1))


@pytest.mark.parametrize(
    ("supercell", "x", "raw", "distinct"),
    [
        ((1, 1, 1), "3/4", 16, 2),
        ((1, 1, 1), "0.5", 36, 10),
        ((1, 2, 1), "3/4", 784, 64),
        ((1, 2, 1), "1/2", 4900, 344),
        ((1, 3, 1), "5/6", 4356, 210),
        ((1, 3, 1), "2/3", 245_025, 10_410),
        ((1, 3, 2), "0.6667", 540_917_591_841, 11_269_366_602),
    ],
)
def test_the_known_counts(supercell, x, raw, distinct):
    host = host_of("nafepo4-olivine", supercell)
    (row,) = counts(host, compositions_of(host, x))
    assert (row["raw"], row["distinct"]) == (raw, distinct)


def test_all_compositions_without_an_x(host):
    rows = counts(host, compositions_of(host, None))
    assert [row["x"] for row in rows] == [0, 0.25, 0.5, 0.75, 1]
    assert [row["distinct"] for row in rows] == [1, 2, 10, 2, 1]
    assert all(type(row["raw"]) is int for row in rows)


def test_what_is_listed_is_what_was_counted(host):
    for composition in host.compositions:
        rows = listed(host, [composition])
        assert len({row["fingerprint"] for row in rows}) == host.n_distinct(composition)
        assert sum(row["orbit_size"] for row in rows) == host.n_raw(composition)
        assert all(row["x"] == composition.x for row in rows)
        for row in rows:
            species = row["species"].split()
            assert len(species) == 8
            assert species.count("Fe3+") == species.count("vacancy") == 4 - composition.n_working


def test_a_run_folder_has_its_own_host(tmp_path, make_run):
    folder = make_run(tmp_path / "run", supercell=(1, 2, 1))
    assert host_of(str(folder), None).n_formula_units == 8
    with pytest.raises(UsageError, match="leave --supercell out"):
        host_of(str(folder), (1, 1, 1))


def test_a_structure_file_is_a_host(tmp_path, host):
    ase.io.write(tmp_path / "a.cif", host.declaration.unit_cell)
    own = host_of(str(tmp_path / "a.cif"), (1, 1, 1))
    assert counts(own, own.compositions) == counts(host, host.compositions)


@pytest.mark.parametrize(
    ("name", "supercell", "line"),
    [
        ("nafepo4-olivine", None, "--supercell A B C is missing"),
        ("nafepo4-olivine", (0, 1, 1), "has no volume"),
        ("nafepo", (1, 1, 1), "and no file"),
    ],
)
def test_a_host_that_is_none_is_one_line(name, supercell, line):
    with pytest.raises(UsageError, match=line):
        host_of(name, supercell)


@pytest.mark.parametrize("x", ["0.3", "2", "x"])
def test_an_x_that_the_cell_cannot_hold_is_refused(host, x):
    with pytest.raises(HostError, match="x = "):
        compositions_of(host, x)


class TestWriting:
    @pytest.mark.parametrize("name", ["a.extxyz", "a.xyz", "a.db"])
    def test_one_structure_of_each_orbit(self, host, tmp_path, name):
        chosen = compositions_of(host, "0.5")
        assert write(host, chosen, tmp_path / name) == 10
        if name.endswith("db"):
            rows = list(ase.db.connect(tmp_path / name).select())
            read = [(row.toatoms(), row.key_value_pairs) for row in rows]
        else:
            read = [(atoms, atoms.info) for atoms in ase.io.read(tmp_path / name, ":")]
        fingerprints = set()
        for atoms, keys in read:
            decoration = Decoration.from_atoms(host, atoms)
            fingerprints.add(decoration.fingerprint)
            assert keys["fingerprint"].removeprefix("fp") == decoration.fingerprint
            assert keys["orbit_size"] == decoration.orbit_size
            assert np.isclose(keys["x"], 0.5)
        assert fingerprints == {d.fingerprint for d in decorations(host, chosen)}
        assert len(fingerprints) == 10

    def test_a_file_is_never_written_over(self, host, tmp_path):
        (tmp_path / "a.db").write_text("precious")
        with pytest.raises(UsageError, match="exists already"):
            write(host, host.compositions, tmp_path / "a.db")
        assert (tmp_path / "a.db").read_text() == "precious"

    def test_an_unknown_ending_is_named(self, host, tmp_path):
        with pytest.raises(UsageError, match=r"expected a name that ends in .extxyz, .xyz or .db"):
            write(host, host.compositions, tmp_path / "a.cif")

    def test_too_many_are_refused_before_any_work(self, tmp_path):
        large = host_of("nafepo4-olivine", (1, 3, 2))
        with pytest.raises(UsageError, match="too many to write: name one composition with -x"):
            write(large, large.compositions, tmp_path / "a.db")
        with pytest.raises(UsageError, match="too many to list: take a smaller cell"):
            listed(large, compositions_of(large, "2/3"))
        assert list(tmp_path.iterdir()) == []

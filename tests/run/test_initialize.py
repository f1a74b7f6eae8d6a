"""`gasearch init`: a folder from which a search can start, or nothing at all."""

import os
import re
import shutil

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.spacegroup import crystal
from places import TOYS

from gasearch.crystal.declaration import HostError
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.errors import UsageError
from gasearch.files import OutputError
from gasearch.potentials.shipped import DEFAULT
from gasearch.run.folder import NoRunError, RunFolder
from gasearch.run.host import build_host
from gasearch.run.host_file import HostReading, read_host
from gasearch.run.initialize import UnfinishedHostError, initialize
from gasearch.run.sections import RunFileError
from gasearch.search.check import check_run
from gasearch.search.session import Session

CIF = """\
data_olivine
_cell_length_a 10.4063
_cell_length_b 6.2187
_cell_length_c 4.9469
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P n m a'
_symmetry_Int_Tables_number 62
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_occupancy
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na {sodium} 0 0 0
{metals}
P1 P 1 0.1083 0.75 0.4426
O1 O {oxygen} 0.1140 0.75 0.7524
O2 O 1 0.4685 0.75 0.1611
O3 O 1 0.1755 0.9446 0.3118
"""


def write_cif(path, sodium=1, oxygen=1, **metals):
    place = "0.2870 0.75 0.9863"
    lines = [f"{e}1 {e} {share} {place}" for e, share in (metals or {"Fe": 1}).items()]
    path.write_text(CIF.format(sodium=sodium, oxygen=oxygen, metals="\n".join(lines)))
    return path


def start(folder, host="nafepo4-olivine", supercell=(1, 1, 1), **options):
    given = {"potential": None, "budget": 10, "seed": 1} | options
    return initialize(RunFolder(folder), str(host), supercell, **given)[0]


def again(folder):
    """Return the host that a search of the folder builds."""
    return build_host(RunFolder(folder).settings().host, folder)


def assert_same(one, other):
    assert one.atoms == other.atoms
    assert np.array_equal(one.permutations, other.permutations)
    assert one.compositions == other.compositions
    assert [s.species for s in one.sublattices] == [s.species for s in other.sublattices]
    assert one.n_formula_units == other.n_formula_units
    counts = [[h.n_distinct(c) for c in h.compositions] for h in (one, other)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", BUILTIN_HOSTS)
def test_every_built_in_host_comes_out_of_its_run_file(tmp_path, name):
    host = start(tmp_path / "run", name)
    assert_same(host, again(tmp_path / "run"))
    assert_same(host, Host.build(builtin_host(name), (1, 1, 1)))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.toml"]


def test_the_options_are_what_the_run_file_says(tmp_path):
    start(tmp_path / "a/b", supercell=(1, 2, 3), potential="./p.py:f", budget=7, seed=2**62)
    settings = RunFolder(tmp_path / "a/b").settings()
    assert settings.host.supercell == (1, 2, 3)
    assert settings.potential.name == "./p.py:f"
    assert (settings.search.budget, settings.search.seed) == (7, 2**62)
    assert settings.search.reproducible  # no default: runs of before this key rely on false


@pytest.mark.parametrize(
    ("name", "arguments", "distinct_at_half"),
    [
        ("full.cif", {}, 10),
        ("partial sodium.cif", {"sodium": 0.7}, 10),
        ("mixed.cif", {"Fe": 0.5, "Mn": 0.5}, 44),
        ("mixed and partial.cif", {"sodium": 0.3, "Fe": 0.75, "Mn": 0.25}, 24),
    ],
)
def test_a_cif_comes_out_of_its_run_file(tmp_path, name, arguments, distinct_at_half):
    source = write_cif(tmp_path / name, **arguments)
    host = start(tmp_path / "run", source)
    assert_same(host, again(tmp_path / "run"))
    assert host.n_distinct(host.composition_at(0.5)) == distinct_at_half
    assert (tmp_path / "run" / "inputs" / name).read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("name", "format_name"), [("POSCAR", "vasp"), ("a.extxyz", "extxyz"), ("b.vasp", "vasp")]
)
def test_a_structure_of_another_format_comes_out_of_its_run_file(tmp_path, name, format_name):
    ase.io.write(tmp_path / name, builtin_host("nafepo4-olivine").unit_cell, format=format_name)
    host = start(tmp_path / "run", tmp_path / name)
    assert_same(host, again(tmp_path / "run"))
    assert host.space_group.symbol.startswith("Pnma")


@pytest.mark.parametrize(
    "arguments", [{"sodium": 0.7}, {"Fe": 0.5, "Mn": 0.5}, {"sodium": 0.4, "Fe": 0.75, "Mn": 0.25}]
)
def test_a_search_of_a_host_from_a_file_runs(tmp_path, arguments):
    folder = tmp_path / "run"
    potential = "./toy.py:LabelEnergy"
    start(folder, write_cif(tmp_path / "a.cif", **arguments), potential=potential, budget=6)
    shutil.copy(TOYS, folder / "toy.py")
    text = (folder / "run.toml").read_text().replace("workers = ", "workers = 0  # ")
    (folder / "run.toml").write_text(text)
    assert Session(RunFolder(folder)).run() == "budget"
    assert check_run(RunFolder(folder), replay=True) == []


def test_a_structure_that_lies_in_the_folder_already_is_used_where_it_is(tmp_path):
    (tmp_path / "inputs").mkdir()
    source = write_cif(tmp_path / "inputs" / "a.cif")
    start(tmp_path, source)
    assert RunFolder(tmp_path).settings().host.structure == "inputs/a.cif"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.cif", "inputs", "run.toml"]


def test_another_structure_of_the_same_name_is_not_written_over(tmp_path):
    (tmp_path / "run/inputs").mkdir(parents=True)
    (tmp_path / "run/inputs/a.cif").write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        start(tmp_path / "run", write_cif(tmp_path / "a.cif"))
    assert (tmp_path / "run/inputs/a.cif").read_text() == "precious"
    assert not (tmp_path / "run/run.toml").exists()


@pytest.mark.parametrize("name", ["run.toml", "search.db"])
def test_a_folder_with_a_run_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="holds a run already; go on with: gasearch run "):
        start(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"supercell": (0, 1, 1)}, "every repeat must be 1 or more"),
        ({"supercell": (-1, 1, 1)}, "every repeat must be 1 or more"),
        ({"budget": 0}, "--budget 0: expected a whole number above 0."),
        ({"budget": -5}, "--budget -5"),
        ({"seed": -1}, "--seed -1: expected a whole number from 0"),
        ({"seed": 2**63}, "--seed 9223372036854775808"),
        ({"potential": "pmmc"}, r"unknown potential 'pmmc' \(did you mean 'pmmcs'\?\)"),
        ({"host": "lifepo4"}, r"no built-in host .*'lifepo4-olivine'.*, and no file"),
        ({"host": "/"}, "there is no structure file /"),
    ],
)
def test_what_cannot_be_leaves_nothing_behind(tmp_path, options, line):
    with pytest.raises(UsageError, match=line):
        start(tmp_path / "run", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_cannot_be_guessed_leaves_a_run_file_to_be_completed(tmp_path):
    source = write_cif(tmp_path / "a.cif", Al=1)
    with pytest.raises(UnfinishedHostError, match=r"no redox element among.*Wrote .*run\.toml, wh"):
        start(tmp_path / "run", source, budget=7, potential="pmmcs")
    text = (tmp_path / "run/run.toml").read_text()
    assert "# no redox element among Na, Al, P, O\n" in text
    assert (tmp_path / "run/inputs/a.cif").read_bytes() == source.read_bytes()
    with pytest.raises(RunFileError, match=r"needs \[\[host\.sublattice"):
        again(tmp_path / "run")
    settings = RunFolder(tmp_path / "run").settings()
    assert (settings.potential.name, settings.search.budget) == ("pmmcs", 7)
    with pytest.raises(UnfinishedHostError):
        start(tmp_path / "other", source, potential=None)
    potential = RunFolder(tmp_path / "other").settings().potential
    assert (potential.name, potential.hold) == ("chgnet", "auto")


def test_an_unfinished_run_file_is_completed_by_taking_away_its_comments(tmp_path):
    source = write_cif(tmp_path / "a.cif", Bi=1)
    with pytest.raises(UnfinishedHostError, match="the charge of Bi is ambiguous"):
        start(tmp_path / "run", source)
    text = (tmp_path / "run/run.toml").read_text()
    start_at, end = text.index("# [[host.sublattice]]"), text.index("[potential]")
    tables = re.sub(r"(?m)^# ", "", text[start_at:end])
    (tmp_path / "run/run.toml").write_text(text[:start_at] + tables + text[end:])
    with pytest.raises(UsageError, match="holds a run already"):
        start(tmp_path / "run", source)
    declared = RunFolder(tmp_path / "run").settings().host.sublattice
    assert [own.species for own in declared] == [("Na+", "vacancy"), ("Bi2+", "Bi3+")]
    assert again(tmp_path / "run").x_range == (0, 1)


def test_init_again_takes_the_place_of_an_unfinished_run_file(tmp_path):
    source = write_cif(tmp_path / "a.cif", Al=1)
    with pytest.raises(UnfinishedHostError):
        start(tmp_path / "run", source)
    delocalised = HostReading(charges="delocalised")
    host = start(tmp_path / "run", source, reading=delocalised)
    assert_same(host, again(tmp_path / "run"))


def test_a_centred_cell_becomes_the_primitive_one_beside_the_file(tmp_path):
    atoms = crystal(["Li", "Ni", "O"], [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.258)], spacegroup=166,
                    cellpar=[2.878, 2.878, 14.19, 90, 90, 120])  # fmt: skip
    ase.io.write(tmp_path / "my host.cif", atoms)
    host = start(tmp_path / "run", tmp_path / "my host.cif", 2)
    assert len(host.atoms) == 8
    assert RunFolder(tmp_path / "run").settings().host.structure == "inputs/my_host-primitive.cif"
    names = sorted(path.name for path in (tmp_path / "run/inputs").iterdir())
    assert names == ["my host.cif", "my_host-primitive.cif"]
    assert_same(host, again(tmp_path / "run"))
    kept = start(
        tmp_path / "kept", tmp_path / "my host.cif", (1, 1, 1), reading=HostReading("file")
    )
    assert len(kept.atoms) == 12


def test_a_noisy_cell_is_averaged_where_that_is_asked_for(tmp_path):
    atoms = builtin_host("nafepo4-olivine").unit_cell.repeat((1, 2, 2))
    atoms.rattle(0.03, seed=0)
    ase.io.write(tmp_path / "md.extxyz", atoms, format="extxyz")
    reading = HostReading(symprec=0.3)
    host = start(tmp_path / "run", tmp_path / "md.extxyz", (1, 2, 1), reading=reading)
    assert host.space_group.symbol == "Pnma (62)"
    assert sum(host.n_distinct(c) for c in host.compositions) == 874
    assert_same(host, again(tmp_path / "run"))
    assert "averaged to Pnma (62)" in (tmp_path / "run/run.toml").read_text()


@pytest.mark.parametrize(
    ("host", "n_sites"), [("nafepo4-olivine", 56), ("na2fesio4", 32), ("file", 56)]
)
def test_the_default_supercell_has_about_fifty_sites(tmp_path, host, n_sites):
    if host == "file":
        host = tmp_path / "a.cif"
        write_cif(host, Fe=0.5, Mn=0.5)
    found = start(tmp_path / "run", host, None)
    assert len(found.atoms) == n_sites
    assert_same(found, again(tmp_path / "run"))


def test_a_supercell_by_its_size_is_written_as_a_matrix(tmp_path):
    start(tmp_path / "run", supercell="8 f.u.")
    rows = RunFolder(tmp_path / "run").settings().host.supercell
    assert round(np.linalg.det(rows)) == 2


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="is a file: name a folder"):
        start(tmp_path / "run")
    with pytest.raises(OutputError, match="Not a directory"):
        start(tmp_path / "run" / "deeper")


def test_the_number_of_workers_suits_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    start(tmp_path / "big")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    start(tmp_path / "unknown")
    workers = [RunFolder(tmp_path / n).settings().execution.workers for n in ("big", "unknown")]
    assert workers == [4, 1]


def test_a_name_is_a_built_in_host_even_where_a_file_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nafepo4-olivine").write_text("")
    assert read_host("nafepo4-olivine").declaration.formula_unit == "NaFePO4"


def test_a_molecule_is_no_host(tmp_path):
    ase.io.write(tmp_path / "a.xyz", Atoms("H2", positions=[(0, 0, 0), (0, 0, 1)]))
    with pytest.raises(HostError, match="has no cell"):
        read_host(str(tmp_path / "a.xyz"))


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(NoRunError, match=r"Built in: .*lifepo4-olivine"):
        read_host("zzz")


def test_the_folder_of_a_trained_model_is_named_as_seen_from_the_run(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    start(tmp_path / "runs" / "first", potential="model")
    assert RunFolder(tmp_path / "runs" / "first").settings().potential.name == "../../model"
    start(tmp_path / "beside", potential=str(tmp_path / "model"))
    assert RunFolder(tmp_path / "beside").settings().potential.name == "../model"


@pytest.mark.parametrize(
    ("host", "potential", "name"),
    [
        ("nafepo4-olivine", None, DEFAULT),
        ("lifepo4-olivine", None, "chgnet-lifepo4"),
        ("na2fesio4", None, "chgnet"),
        ("nafepo4-olivine", "default", DEFAULT),
    ],
)
def test_the_default_is_taken_where_it_knows_the_host_and_written_as_the_model_that_it_means(
    tmp_path, host, potential, name
):
    start(tmp_path / "run", host, potential=potential)
    written = RunFolder(tmp_path / "run").settings().potential
    assert written.name == name
    assert written.hold == ("auto" if name == "chgnet" else "off")

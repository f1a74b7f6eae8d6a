"""Seeds: structures and smaller cells become decorations of the host, or one clear line."""

import itertools
import re

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import make_supercell
from ase.calculators.singlepoint import SinglePointCalculator
from ase.spacegroup import crystal
from places import DFT_FRAMES

from gasearch.analysis.cluster_expansion import on_all_sites
from gasearch.analysis.findings import Findings
from gasearch.cli.run import run_searches
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.io.oxidation_states import cif
from gasearch.crystal.species import Species, species_of
from gasearch.display.terminal import make_console
from gasearch.errors import UsageError
from gasearch.run.folder import RunFolder
from gasearch.run.sections import SeedsSection
from gasearch.search.resume import ChangedRunError
from gasearch.search.seeds import SeedError, collect_seeds, seeds_from_record, seeds_to_record
from gasearch.search.seeds.charge_orders import lowest_charge_order
from gasearch.search.seeds.placing import superlattices
from gasearch.search.session import Session
from gasearch.search.surrogate.coulomb import CoulombEnergy
from gasearch.store.sqlite.lock import DriverLock
from gasearch.testing import toy_host

OLIVINE = builtin_host("nafepo4-olivine")
UNIT, DOUBLE = Host.build(OLIVINE, (1, 1, 1)), Host.build(OLIVINE, (1, 2, 1))
SKEWED = Host.build(OLIVINE, [[1, 1, 0], [-1, 1, 0], [0, 0, 1]])
RNG = np.random.default_rng(5)


def drawn(host, x, seed=0):
    return Decoration.random(host, host.composition_at(x), np.random.default_rng(seed))


def without_charges(atoms):
    atoms = atoms.copy()
    atoms.set_initial_charges(None)
    atoms.set_initial_magnetic_moments(None)
    return atoms


def disturbed(atoms, rattle=0.1, strain=0.02, seed=1):
    """Strained by 2 %, rattled, shifted anywhere, turned, atoms in another order and cell."""
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    stretch = np.eye(3) + np.diag([strain, -strain, strain]) + rng.normal(0, 0.005, (3, 3))
    atoms.set_cell(atoms.cell.array @ stretch, scale_atoms=True)
    atoms.positions += rng.normal(0, rattle, atoms.positions.shape) + rng.uniform(0, 9, 3)
    atoms.positions += rng.integers(-1, 2, (len(atoms), 3)) @ atoms.cell.array
    atoms.rotate(33, (1, 2, 3), rotate_cell=True)
    return atoms[rng.permutation(len(atoms))]


@pytest.fixture
def seeds_of(tmp_path):
    """A function from structures (or text) to the seeds that they make in a host."""

    def collect(host, *structures, name="seed.extxyz", compositions=None):
        if isinstance(structures[0], str):
            (tmp_path / name).write_text(structures[0])
        else:
            ase.io.write(tmp_path / name, list(structures))
        section = SeedsSection(structures=[name])
        return collect_seeds(section, host, tmp_path, compositions or host.compositions)

    return collect


def decoration(host, seed):
    return Decoration.from_bytes(host, seed.occupation)


@pytest.mark.parametrize("host", [UNIT, DOUBLE, SKEWED], ids=["1x1x1", "1x2x1", "skewed"])
@pytest.mark.parametrize("seed", range(3))
def test_a_disturbed_structure_comes_back_as_its_decoration(seeds_of, host, seed):
    wanted = drawn(host, 0.5, seed)
    (found,) = seeds_of(host, disturbed(wanted.to_atoms(), seed=seed))
    assert decoration(host, found).fingerprint == wanted.fingerprint
    assert 0.05 < found.mean_shift < 0.25
    assert found.mean_shift < found.largest_shift < 0.6
    assert (found.origin, found.note) == ("seed.extxyz", "charge order as in the file")


def test_the_mapping_error_leaves_out_strain_and_shift_and_is_in_angstrom(seeds_of):
    atoms = drawn(DOUBLE, 0.75).to_atoms()
    atoms.positions += (1.0, 0.3, 2.0)
    atoms.positions[7] += (0, 0.28, 0)  # the mean of all others moves by 0.28 / n
    (exact,) = seeds_of(DOUBLE, atoms)
    assert exact.largest_shift == pytest.approx(0.28 * (1 - 1 / len(atoms)), abs=1e-5)
    assert exact.mean_shift == pytest.approx(2 * exact.largest_shift / len(atoms), abs=1e-5)
    atoms.set_cell(atoms.cell.array * (1.05, 0.97, 1.02), scale_atoms=True)
    (strained,) = seeds_of(DOUBLE, atoms)
    assert strained.largest_shift == pytest.approx(exact.largest_shift, rel=1e-4)


def test_every_frame_is_a_seed_and_equal_crystals_are_one(seeds_of):
    first, second = drawn(UNIT, 0.5, 1), drawn(UNIT, 0.75, 2)
    moved = first.moved(3)
    assert moved != first
    found = seeds_of(UNIT, *(d.to_atoms() for d in (first, moved, second)))
    assert [s.origin for s in found] == ["seed.extxyz@0", "seed.extxyz@2"]
    assert [decoration(UNIT, s).fingerprint for s in found] == [
        first.fingerprint,
        second.fingerprint,
    ]


def test_without_seeds_there_are_none(tmp_path):
    assert collect_seeds(SeedsSection(), UNIT, tmp_path, UNIT.compositions) == ()
    assert seeds_from_record(None) == ()


def all_orders(host, sodium):
    """Every neutral occupation with a Na order, by brute force."""
    sub = next(s for s in host.sublattices if s.kind == "redox")
    n_oxidised = int(sodium.sum())  # digit 1 is a vacancy, digit 1 of Fe is Fe3+
    rows = []
    for chosen in itertools.combinations(range(len(sub)), n_oxidised):
        row = np.zeros(host.n_sites, dtype=np.uint8)
        row[: len(sodium)] = sodium
        row[sub.start + np.array(chosen, dtype=int)] = 1
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("x", [0.5, 0.75])
def test_a_cif_of_elements_gets_the_charge_order_of_lowest_coulomb_energy(seeds_of, x, seed):
    wanted = drawn(DOUBLE, x, seed)
    atoms = without_charges(disturbed(wanted.to_atoms(), rattle=0.03))
    (found,) = seeds_of(DOUBLE, atoms, name="seed.cif")
    n_sodium = DOUBLE.n_working_sites
    energy = CoulombEnergy(DOUBLE)
    lowest = energy(all_orders(DOUBLE, wanted.occupation[:n_sodium])).min()
    own = decoration(DOUBLE, found)
    assert energy(own.occupation[None])[0] == pytest.approx(lowest, abs=1e-8)
    assert own.composition == wanted.composition
    assert found.note == "charge order chosen by Coulomb energy"


@pytest.mark.parametrize("seed", range(3))
def test_descents_find_the_lowest_of_all_orders(seed):
    host = Host.build(OLIVINE, (1, 3, 1))
    wanted = drawn(host, "2/3", seed)
    n_sodium = host.n_working_sites
    choices = [[d] for d in wanted.occupation[:n_sodium].tolist()] + [[0, 1]] * n_sodium
    orders = all_orders(host, wanted.occupation[:n_sodium])
    assert len(orders) == 495
    energy = CoulombEnergy(host)
    for enumerate_up_to in (20_000, 100):
        found = lowest_charge_order(host, choices, enumerate_up_to)
        assert energy(found[None])[0] == pytest.approx(energy(orders).min(), abs=1e-8)
        assert np.array_equal(found, lowest_charge_order(host, choices, enumerate_up_to))


def test_several_redox_elements_share_the_charge():
    host = toy_host(mixed=True)
    choices = [
        [d for d, s in enumerate(own) if s.element == chosen.element]
        for own, chosen in zip(
            [sub.species for sub in host.sublattices for _ in sub.sites],
            Decoration.random(host, host.compositions[len(host.compositions) // 2], RNG).species(),
            strict=True,
        )
    ]
    energy = CoulombEnergy(host)
    orders = [
        row
        for row in itertools.product(*choices)
        if host.composition_of(np.array(row, dtype=np.uint8)) is not None
    ]
    assert len(orders) > 1
    found = lowest_charge_order(host, choices)
    lowest = energy(np.array(orders, dtype=np.uint8)).min()
    assert energy(found[None])[0] == pytest.approx(lowest, abs=1e-8)
    Decoration(host, found)


@pytest.mark.parametrize("host", [DOUBLE, SKEWED], ids=["1x2x1", "skewed"])
@pytest.mark.parametrize("name", ["seed.extxyz", "seed.cif"])
def test_a_unit_cell_is_tiled_over_the_host(seeds_of, host, name):
    small = drawn(UNIT, 0.5, 4)
    atoms = small.to_atoms() if name.endswith("xyz") else cif(small.to_atoms(), "seed")
    (found,) = seeds_of(host, atoms, name=name)
    assert found.note == "charge order as in the file"
    tiled = decoration(host, found)
    assert tiled.x == small.x
    energy = CoulombEnergy(host)(tiled.occupation[None])[0]
    assert energy == pytest.approx(CoulombEnergy(UNIT)(small.occupation[None])[0], abs=1e-6)


def test_another_setting_of_the_same_crystal_is_turned(seeds_of):
    """Axes exchanged, as Pmnb for Pnma, and another choice of the cell's vectors."""
    wanted = drawn(DOUBLE, 0.75, 8)
    for matrix in ([[0, 1, 0], [0, 0, 1], [1, 0, 0]], [[1, 1, 0], [0, 1, 0], [0, -1, 1]]):
        atoms = make_supercell(wanted.to_atoms(), matrix)
        (found,) = seeds_of(DOUBLE, disturbed(atoms))
        assert decoration(DOUBLE, found).fingerprint == wanted.fingerprint


def test_a_lattice_of_lower_symmetry_keeps_its_hand(seeds_of):
    """In Pn, only one of the ways to put the cell onto itself is right."""
    host = Host.build(builtin_host("na2fesio4"), (1, 2, 1))
    for seed in range(4):
        wanted = drawn(host, 0.75, seed)
        (found,) = seeds_of(host, disturbed(wanted.to_atoms(), rattle=0.05, seed=seed))
        assert decoration(host, found).fingerprint == wanted.fingerprint
        assert found.mean_shift < 0.15


def test_a_cubic_lattice_has_its_24_rotations():
    assert len(superlattices(4 * np.eye(3), 4 * np.eye(3), 1)) == 24
    doubled = superlattices(4 * np.eye(3), 4 * np.diag([1.0, 1, 2]), 2)
    assert len(doubled) == 24
    assert np.array_equal(doubled[0], np.diag([1, 1, 2]))


def test_oxidation_states_of_a_cif_are_read(seeds_of):
    wanted = drawn(DOUBLE, 0.5, 3)
    for text in (
        cif(wanted.to_atoms(), "both"),
        re.sub(r"loop_\s+_atom_type_symbol\s+_atom_type_oxidation_number\n(  \S+  [+-]\d\n)+", "",
               cif(wanted.to_atoms(), "symbols")),
    ):  # fmt: skip
        (found,) = seeds_of(DOUBLE, text, name="seed.cif")
        assert decoration(DOUBLE, found) == wanted
        assert found.note == "charge order as in the file"


def test_every_block_of_a_cif_is_a_seed(seeds_of):
    wanted = [drawn(UNIT, x, 3) for x in (0.25, 0.75)]
    text = "".join(cif(d.to_atoms(), f"block{n}") for n, d in enumerate(wanted))
    found = seeds_of(UNIT, text, name="seed.cif")
    assert [s.origin for s in found] == ["seed.cif@0", "seed.cif@1"]
    assert [decoration(UNIT, s) for s in found] == wanted


def test_averaged_oxidation_states_tell_no_order(seeds_of):
    wanted = drawn(UNIT, 0.5, 3)
    text = cif(wanted.to_atoms(), "averaged").replace("Fe3+", "Fe2.5+").replace("Fe2+", "Fe2.5+")
    text = re.sub(r"Fe2\.5\+  \+\d", "Fe2.5+  2.5", text)
    (found,) = seeds_of(UNIT, text, name="seed.cif")
    assert found.note == (
        "charge order chosen by Coulomb energy "
        "(not used: the oxidation states in the file are no whole numbers)"
    )


# -- what else tells a charge order


def with_moments(wanted, two, three, computed=True):
    """A structure without charges; moments of Fe in Bohr magnetons, of O small ones."""
    atoms = wanted.to_atoms()
    charges = atoms.get_initial_charges()
    moments = np.where(charges == 3, three, np.where(charges == 2, two, 0.05))
    atoms = without_charges(atoms)
    if computed:
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, magmoms=moments)
    else:
        atoms.set_initial_magnetic_moments(moments)
    return atoms


@pytest.mark.parametrize(
    ("two", "three", "computed"),
    [(3.7, 4.3, True), (-3.75, 4.25, True), (4.0, 5.0, False), (3.77, 4.34, False)],
)
def test_moments_tell_the_charge_order(seeds_of, two, three, computed):
    wanted = drawn(DOUBLE, 0.5, 3)
    (found,) = seeds_of(DOUBLE, with_moments(wanted, two, three, computed))
    assert decoration(DOUBLE, found).fingerprint == wanted.fingerprint
    assert found.note == "charge order by the magnetic moments in the file"


@pytest.mark.parametrize(
    ("two", "three", "reason"),
    [
        (5.0, 5.0, r"by the magnetic moments in the file its charge would be \+4"),
        (4.0, 4.0, r"by the magnetic moments in the file its charge would be -4"),
        (2.0, 4.3, r"4 of 8 magnetic moments in the file tell no oxidation state"),
    ],
)
def test_moments_that_tell_no_order_are_said_not_to_be_used(seeds_of, two, three, reason):
    (found,) = seeds_of(DOUBLE, with_moments(drawn(DOUBLE, 0.5, 3), two, three))
    assert re.fullmatch(
        rf"charge order chosen by Coulomb energy \(not used: {reason}\)", found.note
    )


def test_charges_count_before_moments(seeds_of):
    wanted = drawn(DOUBLE, 0.5, 3)
    atoms = wanted.to_atoms()
    atoms.set_initial_magnetic_moments(5.0 * np.ones(len(atoms)))
    (found,) = seeds_of(DOUBLE, atoms)
    assert decoration(DOUBLE, found) == wanted
    assert found.note == "charge order as in the file"


def test_states_of_some_atoms_are_kept_and_the_rest_are_chosen(seeds_of):
    wanted = drawn(DOUBLE, 0.5, 3)
    text = re.sub(r"loop_\s+_atom_type_symbol(.*\n)+loop_", "loop_", cif(wanted.to_atoms(), "some"))
    text = text.replace("  Fe2+  Fe", "  Fe  Fe")  # only Fe3+ are told
    (found,) = seeds_of(DOUBLE, text, name="seed.cif")
    assert decoration(DOUBLE, found) == wanted
    assert found.note.startswith("4 of 8 oxidation states from the file; the rest: charge order ch")


def test_surrogate_elements_and_marked_vacancies_are_read(seeds_of):
    """As in files of the field and in our own exports for icet: Ga for Fe3+, X for no Na."""
    wanted = drawn(DOUBLE, 0.5, 3)
    atoms = wanted.to_atoms()
    atoms.symbols[np.flatnonzero(atoms.get_initial_charges() == 3)] = "Ga"
    atoms = without_charges(atoms)
    vacant = host_sites(DOUBLE, wanted, "vacancy")
    atoms += Atoms(f"X{len(vacant)}", positions=DOUBLE.atoms.positions[vacant])
    (found,) = seeds_of(DOUBLE, atoms)
    assert decoration(DOUBLE, found) == wanted
    assert found.note == "charge order as in the file (Ga read as Fe3+)"


@pytest.mark.parametrize("host", [DOUBLE, toy_host(mixed=True)], ids=["iron", "iron and manganese"])
def test_what_is_exported_for_icet_comes_back(seeds_of, host):
    composition = host.compositions[len(host.compositions) // 2]
    wanted = Decoration.random(host, composition, np.random.default_rng(7))
    (found,) = seeds_of(host, on_all_sites(wanted))
    assert decoration(host, found).fingerprint == wanted.fingerprint
    assert "Ga read as Fe3+" in found.note


def host_sites(host, wanted, name):
    return host.sites[[n for n, s in enumerate(wanted.species()) if str(s) == name]]


@pytest.mark.parametrize("name", ["POSCAR", "seed.json", "seed.cif"])
def test_files_of_pymatgen_keep_their_oxidation_states(seeds_of, name):
    pymatgen = pytest.importorskip("pymatgen.core")
    wanted = drawn(DOUBLE, 0.5, 3)
    atoms = wanted.to_atoms()
    species = [str(s) for s in species_of(atoms)]
    structure = pymatgen.Structure(atoms.cell.array, species, atoms.get_scaled_positions())
    fmt = name.partition(".")[2] or "poscar"
    (found,) = seeds_of(DOUBLE, structure.to(fmt=fmt), name=name)
    assert decoration(DOUBLE, found) == wanted
    assert found.note == "charge order as in the file"


def test_a_magnetic_cif_of_pymatgen_tells_the_order_by_moments(seeds_of):
    pymatgen = pytest.importorskip("pymatgen.core")
    from pymatgen.io.cif import CifWriter

    wanted = drawn(DOUBLE, 0.5, 3)
    atoms = wanted.to_atoms()
    properties = {"magmom": atoms.get_initial_magnetic_moments().tolist()}
    structure = pymatgen.Structure(
        atoms.cell.array, list(atoms.symbols), atoms.get_scaled_positions(),
        site_properties=properties,
    )  # fmt: skip
    text = str(CifWriter(structure, write_magmoms=True))
    (found,) = seeds_of(DOUBLE, text, name="seed.mcif")
    assert decoration(DOUBLE, found) == wanted
    assert found.note == "charge order by the magnetic moments in the file"


def test_iron_phosphate_fits_the_sodium_host_though_it_is_smaller(seeds_of):
    """About the cell of heterosite, up to 8 % shorter, with another origin."""
    basis = [
        (0.2753, 0.25, 0.948), (0.094, 0.25, 0.395), (0.122, 0.25, 0.710),
        (0.439, 0.25, 0.159), (0.168, 0.045, 0.250),
    ]  # fmt: skip
    cell = [9.7599, 5.7519, 4.7560, 90, 90, 90]
    atoms = crystal(["Fe", "P", "O", "O", "O"], basis, spacegroup=62, cellpar=cell)
    (found,) = seeds_of(SKEWED, atoms, name="seed.cif")
    assert decoration(SKEWED, found).x == 0
    assert found.largest_shift < 0.4
    assert found.note == "the only charge order at this x"


def test_relaxed_dft_structures_keep_their_orders(seeds_of):
    frames = ase.io.read(DFT_FRAMES, ":")
    for frame in frames:
        (found,) = seeds_of(UNIT, frame)
        assert decoration(UNIT, found).orbit_size == frame.info["orbit_size"]
        assert found.largest_shift < 0.6


def with_lithium(atoms):
    atoms.symbols[np.flatnonzero(atoms.symbols == "Na")] = "Li"


def stretched(atoms):
    atoms.set_cell(atoms.cell.array * (1.3, 1, 1), scale_atoms=True)


def too_oxidised(atoms):
    charges = atoms.get_initial_charges()
    charges[np.flatnonzero(charges == 2)[0]] = 3
    atoms.set_initial_charges(charges)


def too_high(atoms):
    charges = atoms.get_initial_charges()
    charges[np.flatnonzero(charges == 2)[0]] = 4
    atoms.set_initial_charges(charges)


def without_a_phosphorus(atoms):
    del atoms[np.flatnonzero(atoms.symbols == "P")[0]]


def scrambled(atoms):
    atoms.set_scaled_positions(np.random.default_rng(3).random((len(atoms), 3)))


def far_oxygen(atoms):
    atoms.positions[np.flatnonzero(atoms.symbols == "O")[0]] += (0, 1.9, 0)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (with_lithium, r"it holds Li, which no site of the host may hold \(Fe, Na, O, P\)"),
        (stretched, r"its cell \(13.5 12.4 4.95 Å, 90 90 90°\) cannot be .* supercell \(10.4 12.4"),
        (too_oxidised, r"Na4Fe8P8O32 has charge \+1, not 0: reduce Fe sites"),
        (too_high, r"is Fe with charge \+4, expected \+2 or \+3: set formal oxidation states"),
        (without_a_phosphorus, "does not fit a whole number of times into the host"),
        (scrambled, r"atom \d+ \(\w+\) is .*1.6 Å"),
        (far_oxygen, r"atom \d+ \(O\) is 1.\d+ Å from its site, more than 1.6 Å"),
    ],
)
def test_a_structure_that_does_not_fit_is_one_clear_line(seeds_of, change, line):
    atoms = drawn(DOUBLE, 0.5).to_atoms()
    change(atoms)
    with pytest.raises(SeedError, match=line) as caught:
        seeds_of(DOUBLE, atoms)
    assert str(caught.value).startswith("seed seed.extxyz")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UsageError)


def test_partial_occupancies_are_refused(seeds_of):
    text = cif(drawn(UNIT, 0.5).to_atoms(), "partial").replace("Na1  1.0", "Na1  0.67")
    with pytest.raises(SeedError, match=r"seed a.cif: .*partially filled sites: Na1 \(Na 0.67\)"):
        seeds_of(UNIT, text, name="a.cif")


def test_a_larger_cell_and_one_that_is_no_part_are_refused(seeds_of):
    with pytest.raises(SeedError, match="does not fit a whole number of times into the host"):
        seeds_of(UNIT, drawn(DOUBLE, 0.5).to_atoms())
    other = Host.build(OLIVINE, (1, 1, 2))
    with pytest.raises(SeedError, match="cannot be repeated and turned to the host's supercell"):
        seeds_of(DOUBLE, drawn(other, 0.5).to_atoms())


def test_what_cannot_be_neutral_says_what_x_can_be(seeds_of):
    host = Host.build(builtin_host("na2fesio4"), (1, 1, 1))
    atoms = without_charges(drawn(host, 0.5).to_atoms())
    del atoms[np.flatnonzero(atoms.symbols == "Na")[0]]
    with pytest.raises(SeedError, match=r"no charge order .* between -1 and \+1|between -\d and"):
        seeds_of(host, atoms)


def test_another_x_than_those_searched_is_refused(seeds_of):
    searched = [DOUBLE.composition_at(x) for x in (0, 0.5, 1)]
    with pytest.raises(SeedError, match=r"has x = 0.75, but this search is at x = 0, 0.5, 1: add"):
        seeds_of(DOUBLE, drawn(DOUBLE, 0.75).to_atoms(), compositions=searched)


@pytest.mark.parametrize(
    ("text", "line"),
    [(None, "there is no structure file .*a.cif"), ("nonsense", "a.cif (is of no known|cannot)")],
)
def test_a_file_that_is_no_structure_is_named(tmp_path, text, line):
    if text:
        (tmp_path / "a.cif").write_text(text)
    section = SeedsSection(structures=["a.cif"])
    with pytest.raises(SeedError, match=line):
        collect_seeds(section, UNIT, tmp_path, UNIT.compositions)


# -- tilings of another run


@pytest.fixture(scope="module")
def small_run(tmp_path_factory, make_run):
    """A finished search of the unit cell."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "small", potential="pmmcs", budget=12)
    assert Session(RunFolder(folder)).run() == "budget"
    (folder.parent / "large").mkdir()
    return folder


def tilings(host, small_run, folder, per_composition=1, compositions=None):
    section = SeedsSection(runs=["../small"], tilings_per_composition=per_composition)
    return collect_seeds(section, host, folder, compositions or host.compositions)


@pytest.mark.parametrize("host", [DOUBLE, SKEWED], ids=["1x2x1", "skewed"])
def test_ground_states_of_a_smaller_cell_are_tiled(small_run, host):
    found = tilings(host, small_run, small_run.parent / "large")
    with RunFolder(small_run).open_store() as store:
        findings = Findings(store)
        lowest = findings.lowest(1)
        small = findings.host
    assert [s.origin for s in found] == [f"../small, candidate {row.id}" for row in lowest]
    assert {s.note for s in found} == {"tiled over this cell"}
    large_energy, small_energy = CoulombEnergy(host), CoulombEnergy(small)
    for seed, row in zip(found, lowest, strict=True):
        tiled = decoration(host, seed)
        source = Decoration.from_fingerprint(small, row.fingerprint)
        assert tiled.x == source.x
        energy = small_energy(source.occupation[None])[0]
        assert large_energy(tiled.occupation[None])[0] == pytest.approx(energy, abs=1e-6)
        assert (seed.largest_shift, seed.mean_shift) == (0, 0)


def test_a_run_that_is_going_on_may_be_tiled(small_run):
    with DriverLock(RunFolder(small_run).database):
        found = tilings(DOUBLE, small_run, small_run.parent / "large")
    with RunFolder(small_run).open_store() as store:
        searched = {row.x for row in Findings(store).lowest(1)}
    assert {decoration(DOUBLE, seed).x for seed in found} == searched
    assert {0, 0.5, 1} < searched  # at x = 1/4 Na leaves its sites with pmmcs


def test_several_of_each_composition_and_only_searched_ones(small_run):
    folder = small_run.parent / "large"
    one, two = (tilings(DOUBLE, small_run, folder, n) for n in (1, 2))
    assert len(one) < len(two)
    half = [DOUBLE.composition_at(0.5)]
    (only,) = tilings(DOUBLE, small_run, folder, compositions=half)
    assert decoration(DOUBLE, only).x == 0.5


def test_a_search_at_another_level_begins_with_what_was_lowest_at_the_first(small_run, make_run):
    seeds = {"runs": ["../small"], "tilings_per_composition": 2, "coulomb": False}
    folder = make_run(small_run.parent / "another", budget=10, seeds=seeds)
    assert Session(RunFolder(folder)).run() == "budget"
    with RunFolder(small_run).open_store() as store:
        lowest = {row.fingerprint for row in Findings(store).lowest(2)}
        first_level = store.level.name
    with RunFolder(folder).open_store() as store:
        proposals, level = store.proposals(), store.level.name
    first = {p.fingerprint for p in proposals if p.operator in ("seed", "end_member")}
    assert level != first_level
    assert lowest <= first
    assert max(p.number for p in proposals if p.operator == "seed") <= len(first)


def test_a_run_that_does_not_fit_is_one_line(small_run, tmp_path, make_run):
    folder = small_run.parent / "large"
    lithium = Host.build(builtin_host("lifepo4-olivine"), (1, 2, 1))
    with pytest.raises(SeedError, match=r"\.\./small: its host 'nafepo4-olivine' is not the one"):
        tilings(lithium, small_run, folder)
    with pytest.raises(SeedError, match=r"names \.\./nowhere, but there is no folder"):
        collect_seeds(SeedsSection(runs=["../nowhere"]), DOUBLE, folder, DOUBLE.compositions)
    larger = make_run(tmp_path / "larger", supercell=(1, 2, 1), budget=4)
    Session(RunFolder(larger)).run()
    other = Host.build(OLIVINE, (1, 3, 1))
    with pytest.raises(SeedError, match="does not fit a whole number of times into"):
        collect_seeds(SeedsSection(runs=["larger"]), other, tmp_path, other.compositions)
    one = [DOUBLE.composition_at("5/8")]
    with pytest.raises(SeedError, match="has no valid result yet at a composition"):
        tilings(DOUBLE, small_run, folder, compositions=one)


# -- in a run


def seeded_run(make_run, folder, **seeds):
    return make_run(folder, supercell=(1, 2, 1), budget=4, seeds=seeds)


def test_a_run_tells_its_seeds_and_keeps_them_when_the_files_are_gone(tmp_path, make_run, capsys):
    wanted = drawn(DOUBLE, 0.5, 6)
    folder = seeded_run(make_run, tmp_path / "run", structures=["my.extxyz"])
    ase.io.write(folder / "my.extxyz", disturbed(wanted.to_atoms()))
    run_searches([RunFolder(folder)], make_console(), make_console(stderr=True))
    line = r"seed my.extxyz: x = 0.500, atoms within 0.\d\d Å of the host's sites, mean 0.\d\d; "
    assert re.search(line + "charge order as in the file\n", capsys.readouterr().out)
    (folder / "my.extxyz").unlink()
    again = Session(RunFolder(folder))
    assert [decoration(again.host, s).fingerprint for s in again.seeds] == [wanted.fingerprint]
    assert seeds_from_record(seeds_to_record(again.seeds)) == again.seeds
    make_run(folder, supercell=(1, 2, 1), budget=6, seeds={"structures": ["my.extxyz"]})
    assert Session(RunFolder(folder)).run() == "budget"


def test_other_seeds_on_resume_are_refused(tmp_path, make_run):
    folder = make_run(tmp_path / "run", budget=4)
    Session(RunFolder(folder)).run()
    assert Session(RunFolder(folder)).seeds == ()
    make_run(folder, budget=8, seeds={"runs": ["../small"]})
    with pytest.raises(ChangedRunError, match=r"seeds.runs defines the search"):
        Session(RunFolder(folder)).run()


def test_a_run_with_a_bad_seed_is_not_started(tmp_path, make_run):
    folder = seeded_run(make_run, tmp_path / "run", structures=["none.cif"])
    with pytest.raises(SeedError, match=r"seeds\.structures: there is no structure file .*none"):
        run_searches([RunFolder(folder)], make_console(), make_console(stderr=True))
    assert not (folder / "search.db").exists()


def test_the_spin_states_of_a_file_are_kept_where_the_host_has_both(seeds_of):
    host = toy_host(spins=True)
    seen = set()
    for seed in range(4):
        wanted = drawn(host, "3/4", seed)
        seen |= {one.spin for one in wanted.species() if one.ion == Species("Fe", 2)}
        (found,) = seeds_of(host, wanted.to_atoms())
        assert decoration(host, found).fingerprint == wanted.fingerprint
    assert seen == {"", "ls"}

import ase.io
import pytest
from ase import Atoms
from ase.spacegroup import crystal

from gasearch.crystal.declaration import HostError
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.crystal.io.guess import formula_unit_of, guess
from gasearch.crystal.io.structures import HostStructure
from gasearch.crystal.species import Species


def structure(atoms: Atoms, shares: dict[int, dict[str, float]] | None = None) -> HostStructure:
    own = [{symbol: 1.0} for symbol in atoms.symbols]
    for site, share in (shares or {}).items():
        own[site] = share
    labels = tuple(f"{s}{n}" for n, s in enumerate(atoms.symbols))
    return HostStructure("host.cif", atoms, tuple(own), labels)


def grid(formula: str, bonded: str = "", bond: float | None = None) -> Atoms:
    """Atoms far apart, where only the composition speaks; one O may be bonded to an element."""
    atoms = Atoms(formula, cell=[300, 9, 9], pbc=True)
    atoms.set_scaled_positions([(n / len(atoms), 0, 0) for n in range(len(atoms))])
    if bond is not None:
        element, oxygen = (list(atoms.symbols).index(symbol) for symbol in (bonded, "O"))
        atoms.positions[oxygen] = atoms.positions[element] + (0, 0, bond)
    return atoms


def species(declared) -> list[list[str]]:
    return [[str(s) for s in own.species] for own in declared]


# more sites than Na; elements that share sites; no charge order; O that leaves; two kinds of Fe
DECLARED_BY_HAND = {
    "na3v2p3o12-nasicon", "nanfm-o3", "nacoo2-p2", "ceo2-fluorite", "fe3o4-magnetite"
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in BUILTIN_HOSTS if name not in DECLARED_BY_HAND])
def test_the_builtin_hosts_are_guessed_as_they_are_declared(name):
    declaration = builtin_host(name)
    sublattices, framework = guess(structure(declaration.unit_cell))
    assert sublattices == declaration.sublattices
    assert framework == declaration.framework


@pytest.mark.parametrize(
    ("formula", "redox"),
    [
        ("NaFePO4", ["Fe2+", "Fe3+"]),
        ("Na2FeSiO4", ["Fe2+", "Fe3+"]),
        ("NaFeO2", ["Fe3+", "Fe4+"]),
        ("NaCrO2", ["Cr3+", "Cr4+"]),
        ("Na3V2P3O12", ["V3+", "V4+"]),
        ("Na2FePO4F", ["Fe2+", "Fe3+"]),
        ("Na2FeMnP2O8", ["Fe2+", "Fe3+", "Mn2+", "Mn3+"]),
        ("Na4Fe3P4O15", ["Fe2+", "Fe3+"]),
        ("LiNiO2", ["Ni3+", "Ni4+"]),
        ("NaTiO2", ["Ti3+", "Ti4+"]),
        ("Na4VMnP3O12", ["V2+", "V3+", "Mn2+", "Mn3+"]),
        ("MgMn2O4", ["Mn3+", "Mn4+"]),
        ("ZnMn2O4", ["Mn3+", "Mn4+"]),
        ("LiFeSO4F", ["Fe2+", "Fe3+"]),
        ("KFeF3", ["Fe2+", "Fe3+"]),
        ("LiCoO2", ["Co3+", "Co4+"]),
    ],
)
def test_redox_elements_get_the_states_that_make_the_filled_host_neutral(formula, redox):
    atoms = grid(formula, "S", 1.47 if "S" in Atoms(formula).symbols else None)
    (working, declared), framework = guess(structure(atoms))
    assert species([declared])[0] == redox
    assert declared.elements == "fixed"
    assert str(working.species[1]) == "vacancy"
    assert working.sites == (working.species[0].element,)
    assert set(framework).isdisjoint([*working.sites, *declared.sites])


@pytest.mark.parametrize(
    ("formula", "redox", "framework"),
    [
        ("Na3TiMnP3O12", ["Mn2+", "Mn3+"], {"Ti": 4}),
        ("Na2NiMnO4", ["Ni2+", "Ni3+"], {"Mn": 4}),
        ("Na3NiMnCoO6", ["Ni2+", "Ni3+", "Co2+", "Co3+"], {"Mn": 4}),
        ("Na3NiMn2O6", ["Ni3+", "Ni4+", "Mn3+", "Mn4+"], {}),
        ("Na2FeAlO4", ["Fe3+", "Fe4+"], {"Al": 3}),
    ],
)
def test_titanium_and_manganese_stay_four_plus_where_chemists_expect_it(formula, redox, framework):
    (_, declared), found = guess(structure(grid(formula)))
    assert species([declared])[0] == redox
    assert {e: s.charge for e, s in found.items() if e != "O" and e != "P"} == framework


@pytest.mark.parametrize(
    ("formula", "bond", "element", "charge"),
    [
        ("LiFeSO4F", 1.47, "S", 6),
        ("NaFeS2", None, "S", -2),
        ("Na3FePO4CO3", 1.28, "C", 4),
        ("NaFeN3O9", 1.25, "N", 5),
        ("Li3FeN2", None, "N", -3),
    ],
)
def test_some_charges_follow_from_the_bonds(formula, bond, element, charge):
    _, framework = guess(structure(grid(formula, element, bond)))
    assert framework[element] == Species(element, charge)


def test_cyanide_makes_a_prussian_blue():
    atoms = crystal(
        ["Na", "Fe", "Fe", "C", "N"],
        [(0.25,) * 3, (0, 0, 0), (0.5,) * 3, (0.19, 0, 0), (0.30, 0, 0)],
        spacegroup=225,
        cellpar=[10.4, 10.4, 10.4, 90, 90, 90],
    )
    (_, redox), framework = guess(structure(atoms))
    assert {e: s.charge for e, s in framework.items()} == {"C": 2, "N": -3}
    assert species([redox]) == [["Fe2+", "Fe3+"]]


def test_elements_that_share_sites_become_a_free_sublattice_with_their_fractions():
    atoms = grid("Na2Fe2P2O8")
    shared = {2: {"Fe": 0.75, "Mn": 0.25}, 3: {"Fe": 0.25, "Mn": 0.75}}
    (_, redox), framework = guess(structure(atoms, shared))
    assert redox.elements == "free"
    assert redox.fractions == {"Fe": 0.5, "Mn": 0.5}
    assert redox.sites == ("Fe",)
    assert species([redox]) == [["Fe2+", "Fe3+", "Mn2+", "Mn3+"]]
    assert list(framework) == ["P", "O"]


def test_a_dopant_on_redox_sites_keeps_its_charge():
    atoms = grid("Na4Mn4O8")
    shared = {n: {"Mn": 0.75, "Mg": 0.25} for n in range(4, 8)}
    (_, redox), _ = guess(structure(atoms, shared))
    assert redox.fractions == {"Mg": 0.25, "Mn": 0.75}
    assert species([redox]) == [["Mg2+", "Mn3+", "Mn4+"]]


def test_full_and_shared_redox_sites_are_two_declarations():
    atoms = grid("Na2Fe2P2O8")
    sublattices, _ = guess(structure(atoms, {3: {"Fe": 0.5, "Mn": 0.5}}))
    _, full, shared = sublattices
    assert (full.sites, full.elements) == ((2,), "fixed")
    assert (shared.sites, shared.elements) == ((3,), "free")


@pytest.mark.parametrize(
    ("formula", "filled", "redox"),
    [
        (
            "Na4V2P3O12",
            0.75,
            ["V2+", "V3+", "V4+"],
        ),  # NASICON is never full
        ("NaFePO4", 0.7, ["Fe2+", "Fe3+"]),
        ("NaMnO2", 0.67, ["Mn3+", "Mn4+"]),
        ("Li2NiO2", 0.0001, ["Ni2+", "Ni3+", "Ni4+"]),
    ],
)
def test_the_composition_of_the_file_is_inside_the_guessed_range(formula, filled, redox):
    atoms = grid(formula)
    ions = [n for n, symbol in enumerate(atoms.symbols) if symbol in ("Na", "Li")]
    partly = {n: {atoms.symbols[n]: filled} for n in ions}
    (_, declared), _ = guess(structure(atoms, partly))
    assert species([declared])[0] == redox


def test_the_partially_filled_alkali_is_the_working_ion():
    atoms = grid("NaLiFe2P2O8")
    (working, _), framework = guess(structure(atoms, {0: {"Na": 0.6}}))
    assert working.sites == ("Na",)
    assert framework["Li"] == Species("Li", 1)


WRONG = {
    "no working ion": (structure(grid("FePO4")), "it holds no alkali, Mg, Ca or Zn"),
    "two alkalis": (structure(grid("NaLiFe2P2O8")), "Na or Li may be the working ion"),
    "no redox element": (structure(grid("NaAlO2")), "no redox element among Al, O"),
    "an ambiguous element": (structure(grid("NaFeBiO4")), "the charge of Bi is ambiguous"),
    "an ambiguous bond": (
        structure(Atoms("NaFeC2", cell=[9, 9, 9], pbc=True,
                        positions=[(0, 0, 0), (4, 0, 0), (0, 4, 0), (0, 4, 1.5)])),
        "C is bonded to C: its charge is ambiguous",
    ),
    "an odd charge": (
        structure(grid("NaFeF9")),
        r"needs a mean charge of \+8.00 on Fe, which they do not have or cannot lose",
    ),
    "a shared working site": (
        structure(grid("NaFePO4"), {0: {"Na": 0.9, "Fe": 0.1}}),
        r"other elements share Na0 \(Na 0.9, Fe 0.1\)",
    ),
    "a partial framework": (
        structure(grid("NaFePO4"), {5: {"O": 0.9}}),
        r"partially filled framework sites: O5 \(O 0.9\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "line"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_guessed_is_one_clear_line(wrong, line):
    with pytest.raises(HostError, match=line) as caught:
        guess(wrong)
    assert "\n" not in str(caught.value)
    assert "run.toml" in str(caught.value) or "declare" in str(caught.value)


@pytest.mark.parametrize(
    ("formula", "first", "framework", "expected"),
    [
        ("O16P4Fe4Na4", [24, 20], {"P": 5, "O": -2}, "NaFePO4"),
        ("Na4Fe2P2O8F2", [0, 4], {"F": -1, "O": -2, "P": 5}, "Na2FePO4F"),
        ("Na4Fe2Mn2P4O16", [0, 4, 6], {"P": 5, "O": -2}, "Na4Fe2Mn2P4O16"),
        ("Na6V4P6O24", [0, 6], {"P": 5, "O": -2}, "Na3V2P3O12"),
    ],
)
def test_a_formula_unit_is_the_reduced_formula_in_the_order_of_chemists(
    formula, first, framework, expected
):
    charges = {e: Species(e, c) for e, c in framework.items()}
    expected = expected.replace("Na4Fe2Mn2P4O16", "Na2FeMnP2O8")
    assert formula_unit_of(list(Atoms(formula).symbols), first, charges) == expected


def test_a_guess_from_a_file_without_charges_needs_no_charges(tmp_path):
    atoms = builtin_host("lifepo4-olivine").unit_cell
    ase.io.write(tmp_path / "POSCAR", atoms)
    read = ase.io.read(tmp_path / "POSCAR")
    assert guess(structure(read))[0] == builtin_host("lifepo4-olivine").sublattices

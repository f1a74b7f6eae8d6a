import dataclasses
import pickle
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.spacegroup import crystal

from gasearch.crystal.declaration import HostError
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.crystal.io.guess.sublattices import guess
from gasearch.crystal.io.structures import HostStructure
from gasearch.crystal.species import Species


def structure(atoms: Atoms, shares: dict[int, dict[str, float]] | None = None) -> HostStructure:
    own = [{symbol: 1.0} for symbol in atoms.symbols]
    for site, share in (shares or {}).items():
        own[site] = share
    labels = tuple(f"{s}{n}" for n, s in enumerate(atoms.symbols))
    return HostStructure(Path("host.cif"), atoms, tuple(own), labels)


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
    found = guess(structure(declaration.unit_cell))
    assert found.sublattices == declaration.sublattices
    assert found.framework == declaration.framework
    assert found.formula_unit == declaration.formula_unit
    assert (found.charges, found.notes) == ("integer", ())


@pytest.mark.parametrize(
    ("formula", "redox"),
    [
        ("NaFePO4", ["Fe2+", "Fe3+"]),
        ("Na2FeSiO4", ["Fe2+", "Fe3+"]),
        ("NaFeO2", ["Fe3+", "Fe4+"]),
        ("NaCrO2", ["Cr3+", "Cr4+"]),
        ("Na3V2P3O12", ["V3+", "V4+", "V5+"]),
        ("LiVPO4F", ["V3+", "V4+"]),
        ("Na2FePO4F", ["Fe2+", "Fe3+"]),
        ("Na2FeMnP2O8", ["Fe2+", "Fe3+", "Mn2+", "Mn3+"]),
        ("Na4Fe3P4O15", ["Fe2+", "Fe3+"]),
        ("LiNiO2", ["Ni3+", "Ni4+"]),
        ("NaTiO2", ["Ti3+", "Ti4+"]),
        ("Na4VMnP3O12", ["V3+", "V4+", "V5+", "Mn2+", "Mn3+", "Mn4+"]),
        ("Na4MnCrP3O12", ["Mn2+", "Mn3+", "Mn4+", "Cr3+", "Cr4+"]),
        ("LiNi5O10Li4", ["Ni3+", "Ni4+"]),
        ("MgMn2O4", ["Mn3+", "Mn4+"]),
        ("ZnMn2O4", ["Mn3+", "Mn4+"]),
        ("LiFeSO4F", ["Fe2+", "Fe3+"]),
        ("KFeF3", ["Fe2+", "Fe3+"]),
        ("LiCoO2", ["Co3+", "Co4+"]),
    ],
)
def test_redox_elements_get_the_states_that_make_the_filled_host_neutral(formula, redox):
    atoms = grid(formula, "S", 1.47 if "S" in Atoms(formula).symbols else None)
    found = guess(structure(atoms))
    (working, declared), framework = found.sublattices, found.framework
    assert species([declared])[0] == redox
    assert declared.elements == "fixed"
    assert str(working.species[1]) == "vacancy"
    assert working.sites == (working.species[0].element,)
    assert set(framework).isdisjoint([*working.sites, *declared.sites])


@pytest.mark.parametrize(
    ("formula", "redox", "framework"),
    [
        ("Na3TiMnP3O12", ["Mn2+", "Mn3+", "Mn4+"], {"Ti": 4}),
        ("Na2NiMnO4", ["Ni2+", "Ni3+", "Ni4+"], {"Mn": 4}),
        ("Na3NiMnCoO6", ["Ni2+", "Ni3+", "Ni4+", "Co3+", "Co4+"], {"Mn": 4}),
        ("Na3NiMn2O6", ["Ni2+", "Ni3+", "Ni4+", "Mn3+", "Mn4+"], {}),
        ("Na3NiFeMnO6", ["Ni2+", "Ni3+", "Ni4+", "Fe3+", "Fe4+"], {"Mn": 4}),
        ("Li2NiMn3O8", ["Ni2+", "Ni3+", "Ni4+"], {"Mn": 4}),
        ("Na2FeAlO4", ["Fe3+", "Fe4+"], {"Al": 3}),
        ("LiCrMnO4", ["Cr3+", "Cr4+"], {"Mn": 4}),
        ("LiMn2O4", ["Mn3+", "Mn4+"], {}),
        ("Na4Mn9O18", ["Mn3+", "Mn4+"], {}),
        ("Li2FeTiO4", ["Fe2+", "Fe3+"], {"Ti": 4}),
        ("Li2RuO3", ["Ru4+", "Ru5+", "Ru6+"], {}),
    ],
)
def test_electrons_leave_in_the_order_of_potentials(formula, redox, framework):
    """Titanium and manganese are 4+ before nickel is 3+, and x reaches 0 where states allow."""
    found = guess(structure(grid(formula)))
    assert species(found.sublattices[1:])[0] == redox
    own = {e: s.charge for e, s in found.framework.items() if e != "O" and e != "P"}
    assert own == framework


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
    framework = guess(structure(grid(formula, element, bond))).framework
    assert framework[element] == Species(element, charge)


def test_cyanide_makes_a_prussian_blue():
    atoms = crystal(
        ["Na", "Fe", "Fe", "C", "N"],
        [(0.25,) * 3, (0, 0, 0), (0.5,) * 3, (0.19, 0, 0), (0.30, 0, 0)],
        spacegroup=225,
        cellpar=[10.4, 10.4, 10.4, 90, 90, 90],
    )
    found = guess(structure(atoms))
    assert {e: s.charge for e, s in found.framework.items()} == {"C": 2, "N": -3}
    assert species(found.sublattices[1:]) == [["Fe2+ ls", "Fe3+ ls"], ["Fe2+", "Fe3+"]]
    at_carbon = found.sublattices[1].sites
    assert [atoms.get_distances(n, atoms.symbols == "C", mic=True).min() < 2.1 for n in at_carbon]
    assert found.formula_unit == "Na2Fe2C6N6"


def test_elements_that_share_sites_become_a_free_sublattice_with_their_fractions():
    atoms = grid("Na2Fe2P2O8")
    shared = {2: {"Fe": 0.75, "Mn": 0.25}, 3: {"Fe": 0.25, "Mn": 0.75}}
    found = guess(structure(atoms, shared))
    (_, redox), framework = found.sublattices, found.framework
    assert redox.elements == "free"
    assert redox.fractions == {"Fe": 0.5, "Mn": 0.5}
    assert redox.sites == ("Fe",)
    assert species([redox]) == [["Fe2+", "Fe3+", "Mn2+", "Mn3+"]]
    assert list(framework) == ["P", "O"]
    assert found.formula_unit == "NaFe0.5Mn0.5PO4"


def test_a_dopant_on_redox_sites_keeps_its_charge():
    atoms = grid("Na4Mn4O8")
    shared = {n: {"Mn": 0.75, "Mg": 0.25} for n in range(4, 8)}
    _, redox = guess(structure(atoms, shared)).sublattices
    assert redox.fractions == {"Mg": 0.25, "Mn": 0.75}
    assert species([redox]) == [["Mg2+", "Mn3+", "Mn4+"]]


def test_full_and_shared_redox_sites_are_two_declarations():
    atoms = grid("Na2Fe2P2O8")
    _, full, shared = guess(structure(atoms, {3: {"Fe": 0.5, "Mn": 0.5}})).sublattices
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
    _, declared = guess(structure(atoms, partly)).sublattices
    assert species([declared])[0] == redox


def test_the_partially_filled_alkali_is_the_working_ion():
    atoms = grid("NaLiFe2P2O8")
    found = guess(structure(atoms, {0: {"Na": 0.6}}))
    assert found.sublattices[0].sites == ("Na",)
    assert found.framework["Li"] == Species("Li", 1)


def shared(formula: str, **more) -> HostStructure:
    """A grid with some sites that hold other shares: site3={"O": 0.9}."""
    own = {int(name.removeprefix("site")): shares for name, shares in more.items()}
    return structure(grid(formula), own)


def test_what_shares_sites_with_the_moving_ion_is_kept_there():
    found = guess(shared("LiNiO2", site0={"Li": 0.95, "Ni": 0.05}))
    mixed, redox = found.sublattices
    assert species([redox]) == [["Ni2+", "Ni3+", "Ni4+"]]
    assert (mixed.kind, mixed.moves, mixed.elements) == ("mixed", "Li", "free")
    assert species([mixed]) == [["Li+", "Ni2+", "Ni3+", "Ni4+", "vacancy"]]
    assert mixed.fractions == {"Ni": 0.05}


def test_rounded_occupancies_do_not_make_states():
    layer = {"Li": 0.2, "Ni": 0.13, "Co": 0.13, "Mn": 0.54}  # Ni2+, Co3+, Mn4+ but for 0.01 e
    found = guess(shared("LiNiO2", site1=layer))
    expected = ["Li+", "Co3+", "Co4+", "Mn4+", "Ni2+", "Ni3+", "Ni4+", "vacancy"]
    assert species(found.sublattices) == [["Li+", "vacancy"], expected]
    assert found.formula_unit == "Li1.2Ni0.13Co0.13Mn0.54O2"


def test_cations_on_one_sublattice():
    found = guess(shared("LiO", site0={"Li": 0.6, "Mn": 0.2, "Ti": 0.2}))
    (mixed,) = found.sublattices
    assert (mixed.kind, mixed.moves) == ("mixed", "Li")
    assert species([mixed]) == [["Li+", "Mn3+", "Mn4+", "Ti4+", "vacancy"]]
    assert found.formula_unit == "Li1.2Mn0.4Ti0.4O2"


def test_vacancies_on_metal_sites_are_kept():
    found = guess(shared("NaFeO2", site0={"Na": 0.7}, site1={"Fe": 0.9}))
    mixed = found.sublattices[-1]
    assert (mixed.kind, mixed.moves, mixed.fractions) == ("mixed", "", {"Fe": 0.9})
    assert species([mixed]) == [["Fe3+", "Fe4+", "vacancy"]]
    assert found.formula_unit == "NaFe0.9O2"


def test_oxygen_vacancies_are_kept_beside_a_working_ion_and_move_alone():
    kept = guess(shared("NaMnO2", site2={"O": 0.9})).sublattices[-1]
    assert (kept.kind, kept.moves, kept.fractions) == ("mixed", "", {"O": 0.9})
    assert species([kept]) == [["O2-", "vacancy"]]
    moving = guess(shared("SrFeO3", site4={"O": 0.75}))
    assert species(moving.sublattices) == [["O2-", "vacancy"], ["Fe3+", "Fe4+"]]
    assert moving.sublattices[0].sites == (4,)
    assert moving.formula_unit == "SrFeO3"


def test_oxygen_moves_where_it_is_asked_for():
    found = guess(structure(grid("CeO2")), moving="O")
    assert species(found.sublattices) == [["O2-", "vacancy"], ["Ce3+", "Ce4+"]]
    assert (found.framework, found.formula_unit) == ({}, "CeO2")


def test_charge_order_needs_no_moving_ion():
    (redox,) = guess(structure(grid("Fe3O4"))).sublattices
    assert species([redox]) == [["Fe2+", "Fe3+"]]


def test_states_of_the_file_win():
    atoms = grid("Fe3O4")
    charges = np.array([3, 2.5, 2.5, -2, -2, -2, -2])
    found = guess(dataclasses.replace(structure(atoms), charges=charges))
    assert found.sublattices[0].sites == (1, 2)
    assert found.framework["Fe"] == Species("Fe", 3)
    atoms = grid("Na4MnCrP3O12")
    charges = np.array([1] * 4 + [3, 2] + [5] * 3 + [-2] * 12)  # not what potentials tell
    found = guess(dataclasses.replace(structure(atoms), charges=charges))
    assert species(found.sublattices)[1] == ["Mn3+", "Mn4+", "Cr2+", "Cr3+"]
    assert found.notes == ()


def test_an_ordered_file_does_not_pin_its_charges():
    atoms = grid("NaFe2P2O8")
    charges = np.array([1, 2, 3, 5, 5] + [-2] * 8)
    found = guess(dataclasses.replace(structure(atoms), charges=charges))
    assert found.sublattices[1].sites == ("Fe",)


def test_wrong_states_in_a_file_are_not_used_and_that_is_said():
    charges = np.array([1, 4, 5, -2, -2, -2, -2])
    found = guess(dataclasses.replace(structure(grid("NaFePO4")), charges=charges))
    assert species(found.sublattices)[1] == ["Fe2+", "Fe3+"]
    assert found.notes[0].endswith("(Fe4+) leave a charge of +2.00 e: they are not used")


def test_x_may_be_limited_by_charge():
    atoms = grid("Na3Fe2S3O12")
    for sulfur in range(5, 8):
        atoms.positions[sulfur + 3] = atoms.positions[sulfur] + (0, 0, 1.47)
    found = guess(structure(atoms))
    assert species(found.sublattices)[1] == ["Fe2+", "Fe3+"]
    assert found.formula_unit == "Na2Fe2S3O12"
    assert "Fe would be +1.50, lower than any common state" in found.notes[0]


def test_sites_that_exclude_each_other_are_counted_once():
    atoms = Atoms("Na2CoO2", cell=[9, 9, 9], pbc=True)
    atoms.positions = [(0, 0, 0), (1.6, 0, 0), (4, 4, 0), (4, 4, 4), (0, 4, 4)]
    partly = {0: {"Na": 0.4}, 1: {"Na": 0.3}}
    found = guess(structure(atoms, partly))
    assert (species(found.sublattices)[1], found.formula_unit) == (["Co3+", "Co4+"], "NaCoO2")
    found = guess(structure(atoms, partly), "delocalised")
    assert (species(found.sublattices), found.formula_unit) == ([["Na+", "vacancy"]], "NaCoO2")


@pytest.mark.parametrize(
    ("formula", "framework"),
    [
        ("LiNiO2", {"Ni": "Ni", "O": "O2-"}),
        ("LiC6", {"C": "C"}),
        ("LiTiS2", {"Ti": "Ti", "S": "S2-"}),
    ],
)
def test_delocalised_charges_leave_the_order_of_ions(formula, framework):
    found = guess(structure(grid(formula)), "delocalised")
    assert species(found.sublattices) == [["Li+", "vacancy"]]
    assert {e: str(s) for e, s in found.framework.items()} == framework
    assert found.charges == "delocalised"


WRONG = {
    "nothing to order": (structure(grid("CeO2")), "every charge is fixed .Ce4.*--moving O"),
    "nothing that moves": (structure(grid("MnPO4")), r"every charge is fixed \(Mn3\+\)"),
    "two alkalis": (structure(grid("NaLiFe2P2O8")), "Na or Li may be what moves.*--moving Na"),
    "no redox element": (structure(grid("NaAlO2")), "no redox element among Na, Al, O"),
    "oxygen redox": (
        structure(grid("Li2MnO3")),
        r"Mn4\+ cannot be oxidised further, so that Li leaves only if oxygen is oxidised .redox of",
    ),
    "an ambiguous element": (structure(grid("NaFeBiO4")), "the charge of Bi is ambiguous"),
    "an ambiguous bond": (
        structure(Atoms("NaFeC2", cell=[9, 9, 9], pbc=True,
                        positions=[(0, 0, 0), (4, 0, 0), (0, 4, 0), (0, 4, 1.5)])),
        "C is bonded to C: its charge is ambiguous",
    ),
    "an odd charge": (
        structure(grid("NaFeF9")),
        r"needs a mean charge of \+8.00 on Fe, which they do not have in any common state",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "line"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_guessed_is_one_clear_line(wrong, line):
    with pytest.raises(HostError, match=line) as caught:
        guess(wrong)
    assert "\n" not in str(caught.value)
    assert "run.toml" in str(caught.value)


def test_only_what_is_there_can_move():
    with pytest.raises(HostError, match=r"--moving K: host\.cif holds Na, Fe, P, O and no K"):
        guess(structure(grid("NaFePO4")), moving="K")


def test_an_error_survives_the_way_between_processes():
    with pytest.raises(HostError) as caught:
        guess(structure(grid("Li2MnO3")))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_guess_from_a_file_without_charges_needs_no_charges(tmp_path):
    atoms = builtin_host("lifepo4-olivine").unit_cell
    ase.io.write(tmp_path / "POSCAR", atoms)
    read = ase.io.read(tmp_path / "POSCAR")
    assert guess(structure(read)).sublattices == builtin_host("lifepo4-olivine").sublattices

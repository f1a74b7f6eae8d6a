import pickle
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from declared_hosts import FE, MIXED, NA, perovskite, sublattice

from gasearch.crystal.declaration import (
    HostDeclaration,
    HostError,
    SublatticeDeclaration,
    right_handed,
    supercell_matrix,
)
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species
from gasearch.errors import UsageError


def declare(atoms: Atoms | None = None, *sublattices: SublatticeDeclaration) -> HostDeclaration:
    return HostDeclaration(
        "toy",
        perovskite() if atoms is None else atoms,
        sublattices or (NA, FE),
        {"F": Species("F", -1)},
        "NaFeF3",
    )


def test_three_repeats_are_a_diagonal_matrix():
    assert np.array_equal(supercell_matrix([1, 2, 3]), np.diag([1, 2, 3]))
    assert supercell_matrix((1, 1, 2)).dtype == np.int64


def test_a_matrix_is_kept_and_made_right_handed():
    matrix = [[1, 1, 0], [-1, 1, 0], [0, 0, 2]]
    assert np.array_equal(supercell_matrix(matrix), matrix)
    left = [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert np.array_equal(supercell_matrix(left), -np.array(left))


@pytest.mark.parametrize(
    "supercell",
    [
        [1, 2], [1.5, 1, 1], "abc", ["a", 1, 1], [[1, 0], [0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0]],
        [float("nan"), 1, 1], None, 3, [[1, 0, 0], [0, 0.5, 0], [0, 0, 2]],
    ],
)  # fmt: skip
def test_what_is_no_supercell_is_shown_beside_what_is(supercell):
    with pytest.raises(HostError, match=r"expected three whole numbers such as \[1, 2, 1\]"):
        supercell_matrix(supercell)


@pytest.mark.parametrize(
    "supercell", [[0, 1, 1], [-1, 1, -1], [[1, 1, 0], [1, 1, 0], [0, 0, 1]], [-1, -1, -1]]
)
def test_a_supercell_without_volume_is_refused(supercell):
    with pytest.raises(HostError, match="has no volume: every repeat must be 1 or more"):
        supercell_matrix(supercell)


def test_a_left_handed_cell_is_made_right_handed_and_stays_the_same_crystal():
    unit = builtin_host("nafepo4-olivine").unit_cell
    left = unit.copy()
    left.set_cell(unit.cell.array[[1, 0, 2]])
    assert left.cell.handedness < 0
    right = right_handed(left)
    assert right.cell.handedness > 0
    assert np.allclose(right.get_all_distances(mic=True), unit.get_all_distances(mic=True))
    scaled = right.get_scaled_positions(wrap=False)
    assert scaled.min() > -1e-9
    assert scaled.max() < 1


def test_a_left_handed_host_counts_like_the_right_handed_one():
    declaration = builtin_host("nafepo4-olivine")
    left = declaration.unit_cell.copy()
    left.set_cell(left.cell.array[[1, 0, 2]])
    host = Host.build(replace(declaration, unit_cell=left), [2, 1, 1])  # its a is the other's b
    assert [host.n_distinct(c) for c in host.compositions] == [1, 4, 64, 196, 344, 196, 64, 4, 1]


def test_the_site_of_a_declaration_may_be_an_index_or_an_element():
    by_index = declare(perovskite(), sublattice("working_ion", (0,), ["Na+", "vacancy"]), FE)
    assert by_index.unit_cell.symbols[0] == "Na"
    assert Host.build(by_index, [1, 1, 1]).n_working_sites == 1


def test_a_formula_unit_counts_the_filled_cell():
    assert Host.build(declare(), [2, 1, 1]).n_formula_units == 2
    double = replace(declare(), formula_unit="Na2Fe2F6")
    assert Host.build(double, [2, 1, 1]).n_formula_units == 1


def two_crystals() -> Atoms:
    """Na, Fe, F and a second working ion."""
    atoms = perovskite(2, 1, 1)
    symbols = list(atoms.symbols)
    symbols[symbols.index("Na")] = "K"
    atoms.symbols = symbols
    return atoms


ERRORS = {
    "a site that does not exist": (
        declare(None, sublattice("working_ion", (7,), ["Na+", "vacancy"]), FE),
        r"names the site 7, but the structure has 5 sites \(0 to 4\) of Na, Fe, F",
    ),
    "a negative index": (
        declare(None, sublattice("working_ion", (-1,), ["Na+", "vacancy"]), FE),
        "names the site -1",
    ),
    "an element that is not there": (
        declare(None, sublattice("working_ion", ("K",), ["K+", "vacancy"]), FE),
        "names the site 'K', but the structure has 5 sites",
    ),
    "a site in two sublattices": (
        declare(None, NA, FE, sublattice("redox", (1,), ["Fe2+", "Fe3+"])),
        "site 1 belongs to two sublattices; name each site once",
    ),
    "no sublattice": (replace(declare(), sublattices=()), "declares no sublattice: add"),
    "charges that nothing balances": (
        replace(declare(None, NA), framework={"Fe": Species("Fe", 6), "F": Species("F", -1)}),
        "never reaches 0 at",
    ),
    "one species only": (
        declare(None, NA, sublattice("redox", ("Fe",), ["Fe2+"])),
        r"a redox sublattice needs two or more different species, not Fe2\+",
    ),
    "a species twice": (
        declare(None, NA, sublattice("redox", ("Fe",), ["Fe2+", "Fe2+", "Fe3+"])),
        "two or more different species",
    ),
    "no species": (
        declare(None, NA, sublattice("redox", ("Fe",), [])),
        "needs two or more different species, not none",
    ),
    "vacant redox sites": (
        declare(None, NA, sublattice("redox", ("Fe",), ["Fe2+", "vacancy"])),
        "a redox sublattice holds no vacancies: write kind = 'mixed'",
    ),
    "working ions that cannot leave": (
        declare(None, sublattice("working_ion", ("Na",), ["Na+", "K+"]), FE),
        "needs the species 'vacancy'",
    ),
    "two ions on fixed sites": (
        declare(None, sublattice("working_ion", ("Na",), ["Na+", "K+", "vacancy"]), FE),
        "hold Na, K need elements = 'free'",
    ),
    "species that do not fit the sites": (
        declare(None, NA, sublattice("redox", ("Fe",), MIXED[2:], "free")),
        r"the redox sites of the structure hold Fe, but the declared species are Mn2\+, Mn3\+",
    ),
    "a species that fixed sites can never hold": (
        declare(None, NA, sublattice("redox", ("Fe",), MIXED)),
        r"Mn2\+ is declared for redox sites, which hold Fe .*: with elements = 'fixed' it can",
    ),
    "vacancies named first": (
        declare(None, sublattice("working_ion", ("Na",), ["vacancy", "Na+"]), FE),
        "must all name the same ion first, not vacancy",
    ),
    "two working ions": (
        declare(two_crystals(), NA, sublattice("working_ion", ("K",), ["K+", "vacancy"]), FE),
        "must all name the same ion first, not K, Na",
    ),
    "a framework element without a charge": (
        replace(declare(), framework={}),
        "the charge of F on the framework is not declared: add it, as in .host.framework. F = ",
    ),
    "a framework charge of another element": (
        replace(declare(), framework={"F": Species("O", -2)}),
        "F = 'O2-' names another element",
    ),
    "a formula unit that is none": (
        replace(declare(), formula_unit="Na(Fe"),
        r"formula_unit = 'Na\(Fe' is no formula",
    ),
    "a formula unit that does not fit": (
        replace(declare(), formula_unit="NaFePO4"),
        "formula_unit = 'NaFePO4' does not fit the filled cell",
    ),
    "an empty formula unit": (replace(declare(), formula_unit=""), "is no formula"),
    "fractions of unknown elements": (
        declare(None, NA, sublattice("redox", ("Fe",), MIXED, "free", Co=1.0)),
        "fractions name Co, which no declared species has",
    ),
    "fractions that do not add up": (
        declare(perovskite(2, 1, 1), NA, sublattice("redox", ("Fe",), MIXED, "free", Fe=0.5)),
        "the fractions of Fe, Mn fill 1 of 2 sites; without vacancies they must add up to 1",
    ),
    "fractions outside 0 to 1": (
        declare(None, NA, sublattice("redox", ("Fe",), MIXED, "free", Fe=2.0, Mn=-1.0)),
        "the fraction of Fe is 2: expected 0 to 1",
    ),
    "fractions that are no whole number of sites": (
        declare(None, NA, sublattice("redox", ("Fe",), MIXED, "free", Fe=0.5, Mn=0.5)),
        "0.5 of 1 sites is 0.5 Fe, not a whole number: choose another supercell",
    ),
    "more guests than sites": (
        declare(
            perovskite(2, 1, 1),
            sublattice("working_ion", ("Na",), ["Na+", "K+", "Li+", "vacancy"], "free", K=1, Li=1),
            FE,
        ),
        "the fractions of K, Li fill 4 of 2 sites",
    ),
    "an element that moves on redox sites": (
        declare(None, NA, replace(sublattice("redox", ("Fe",), ["Fe2+", "Fe3+"]), moves="Fe")),
        "moves = 'Fe' is for sublattices of kind 'mixed' alone",
    ),
    "a moving element that is not there": (
        declare(None, replace(sublattice("mixed", ("Fe",), ["Fe2+", "Fe3+"]), moves="Li")),
        r"moves = 'Li', which no declared species has: Fe2\+, Fe3\+",
    ),
    "a charge that nothing balances": (
        declare(None, NA, sublattice("redox", ("Fe",), ["Fe4+", "Fe5+"])),
        r"NaFeF3 cannot be neutral: .* its charge lies between \+1 and \+3 e and never reaches 0",
    ),
    "no lattice": (
        declare(Atoms("NaFeF3", positions=np.eye(5, 3) * 3)),
        "the host has no cell: a crystal with three lattice vectors is needed",
    ),
    "sites that exclude themselves": (
        replace(declare(), min_site_distance=4.5),
        "a site lies 4.00 Å from its own image, less than host.min_site_distance = 4.5 Å",
    ),
}


@pytest.mark.parametrize(("declaration", "line"), ERRORS.values(), ids=ERRORS)
def test_a_host_that_cannot_be_is_one_clear_line(declaration, line):
    with pytest.raises(HostError, match=line) as caught:
        Host.build(declaration, [1, 1, 1])
    assert isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_fractions_may_be_rounded_as_files_round_them():
    thirds = sublattice("redox", ("Fe",), MIXED, "free", Fe=0.67, Mn=0.33)
    host = Host.build(declare(None, NA, thirds), [3, 2, 1])
    assert host.free_counts == {"Fe": 4, "Mn": 2}


def test_declarations_survive_the_way_between_processes():
    declaration = builtin_host("nafepo4-olivine")
    copy = pickle.loads(pickle.dumps(declaration))
    assert copy.sublattices == declaration.sublattices
    assert copy.unit_cell == declaration.unit_cell

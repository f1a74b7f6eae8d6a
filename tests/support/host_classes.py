"""One host of each class that a crystal can belong to, small enough to list all decorations."""

from ase import Atoms
from ase.spacegroup import crystal
from declared_hosts import species, sublattice

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.host import Host
from gasearch.crystal.species import Species

FRAMEWORK = {"O": Species("O", -2)}


def p2(supercell=(2, 2, 1), *, charges="integer") -> Host:
    """P2-NaxCoO2 (Na sites 1.64 Å apart exclude each other), cell of Huang et al. 2004."""
    atoms = crystal(
        ["Na", "Na", "Co", "O"],
        basis=[(0, 0, 0.25), (2 / 3, 1 / 3, 0.25), (0, 0, 0), (1 / 3, 2 / 3, 0.09)],
        spacegroup=194,
        cellpar=[2.84, 2.84, 10.81, 90, 90, 120],
    )
    own = [sublattice("working_ion", ("Na",), ("Na+", "vacancy"))]
    framework = FRAMEWORK | ({"Co": Species("Co", 3)} if charges == "delocalised" else {})
    if charges == "integer":
        own.append(sublattice("redox", ("Co",), ("Co3+", "Co4+")))
    declared = HostDeclaration("p2", atoms, tuple(own), framework, "NaCoO2", charges=charges)
    return Host.build(declared, supercell)


def magnetite(supercell=(1, 1, 1)) -> Host:
    """Fe3O4: charge order alone, on the octahedral and the tetrahedral sites."""
    atoms = crystal(
        ["Fe", "Fe", "O"],
        basis=[(1 / 8,) * 3, (0.5,) * 3, (0.2549,) * 3],
        spacegroup=227,
        setting=2,
        cellpar=[8.396] * 3 + [90] * 3,
        primitive_cell=True,
    )
    own = (sublattice("redox", ("Fe",), ("Fe2+", "Fe3+")),)
    return Host.build(HostDeclaration("magnetite", atoms, own, FRAMEWORK, "Fe3O4"), supercell)


def rocksalt(own: SublatticeDeclaration, formula_unit: str, supercell) -> Host:
    """A rocksalt whose cations are those of one sublattice, in the primitive cell."""
    half = 2.07
    cell = [[0, half, half], [half, 0, half], [half, half, 0]]
    atoms = Atoms("LiO", positions=[(0, 0, 0), (half,) * 3], cell=cell, pbc=True)
    return Host.build(
        HostDeclaration("rocksalt", atoms, (own,), FRAMEWORK, formula_unit), supercell
    )


def disordered_rocksalt(supercell=(5, 1, 1)) -> Host:
    """Li1.2Mn0.4Ti0.4O2: four cations on one sublattice, their numbers kept."""
    shares = {"Li": 0.6, "Mn": 0.2, "Ti": 0.2}
    own = SublatticeDeclaration(
        "mixed", ("Li",), species("Li+", "Mn3+", "Mn4+", "Ti4+"), fractions=shares
    )
    return rocksalt(own, "Li3MnTiO5", supercell)


def charged_rocksalt(supercell=(5, 1, 1)) -> Host:
    """The same from which Li can be taken out."""
    shares = {"Li": 0.6, "Mn": 0.2, "Ti": 0.2}
    texts = ("Li+", "vacancy", "Mn3+", "Mn4+", "Ti4+")
    own = SublatticeDeclaration("mixed", ("Li",), species(*texts), fractions=shares, moves="Li")
    return rocksalt(own, "Li3MnTiO5", supercell)


def vacant_redox(supercell=(2, 2, 1)) -> Host:
    """A perovskite with a quarter of its Fe missing."""
    corners = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    unit = Atoms("NaFeF3", scaled_positions=corners, cell=[3.9, 3.9, 3.9], pbc=True)
    iron = SublatticeDeclaration(
        "mixed", ("Fe",), species("Fe2+", "Fe3+", "vacancy"), fractions={"Fe": 0.75}
    )
    own = (sublattice("working_ion", ("Na",), ("Na+", "vacancy")), iron)
    declared = HostDeclaration("vacant", unit, own, {"F": Species("F", -1)}, "Na4Fe3F12")
    return Host.build(declared, supercell)


def antisites(supercell=(2, 2, 1)) -> Host:
    """Li and Ni change places, and Li comes and goes."""
    corners = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5)]
    unit = Atoms("LiNiO2", scaled_positions=corners, cell=[3.9, 3.9, 3.9], pbc=True)
    lithium = SublatticeDeclaration(
        "mixed", ("Li",), species("Li+", "vacancy", "Ni2+"), fractions={"Li": 1.0}, moves="Li"
    )
    nickel = SublatticeDeclaration(
        "mixed", ("Ni",), species("Ni2+", "Ni3+", "Ni4+", "Li+"), fractions={"Ni": 1.0}
    )
    declared = HostDeclaration("antisites", unit, (lithium, nickel), FRAMEWORK, "LiNiO2")
    return Host.build(declared, supercell)


def ceria(supercell=(1, 1, 1)) -> Host:
    """CeO2-x: oxygen comes and goes, Ce3+ pays."""
    atoms = crystal(["Ce", "O"], [(0, 0, 0), (0.25,) * 3], spacegroup=225,
                    cellpar=[5.41] * 3 + [90] * 3)  # fmt: skip
    own = (
        sublattice("working_ion", ("O",), ("O2-", "vacancy")),
        sublattice("redox", ("Ce",), ("Ce3+", "Ce4+")),
    )
    return Host.build(HostDeclaration("ceria", atoms, own, {}, "CeO2"), supercell)


CLASSES = {
    "exclusive sites": p2,
    "exclusive sites, delocalised charge": lambda: p2(charges="delocalised"),
    "charge order alone": magnetite,
    "cations on one sublattice": disordered_rocksalt,
    "cations on one sublattice, Li comes and goes": charged_rocksalt,
    "vacancies on redox sites": vacant_redox,
    "antisites": antisites,
    "anion vacancies": ceria,
}

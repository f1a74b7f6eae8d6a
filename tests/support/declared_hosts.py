"""Hosts and species that tests of several modules declare."""

from ase import Atoms
from ase.spacegroup import crystal

from gasearch.crystal.declaration import SublatticeDeclaration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species

MIXED = ("Fe2+", "Fe3+", "Mn2+", "Mn3+")


def species(*texts: str) -> tuple[Species, ...]:
    return tuple(map(Species.parse, texts))


def sublattice(kind, sites, texts, elements="fixed", **fractions) -> SublatticeDeclaration:
    return SublatticeDeclaration(kind, sites, species(*texts), elements, fractions)


NA = sublattice("working_ion", ("Na",), ("Na+", "vacancy"))
FE = sublattice("redox", ("Fe",), ("Fe2+", "Fe3+"))


def olivine(*supercell) -> Host:
    """NaFePO4, a unit cell by default."""
    return Host.build(builtin_host("nafepo4-olivine"), supercell or (1, 1, 1))


def perovskite(*repeats: int) -> Atoms:
    """NaFeF3, cubic."""
    atoms = crystal(
        ["Na", "Fe", "F"],
        [(0, 0, 0), (0.5,) * 3, (0.5, 0.5, 0)],
        spacegroup=221,
        cellpar=[4, 4, 4, 90, 90, 90],
    )
    return atoms.repeat(repeats or (1, 1, 1))

"""A host so small that all its decorations can be listed, for tests of plug-ins."""

from __future__ import annotations

from ase import Atoms

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.host import Host
from gasearch.crystal.species import Species

_REDOX = ("Fe2+", "Fe3+")
_MIXED = ("Fe2+", "Fe3+", "Mn2+", "Mn3+")
_SPINS = ("Fe2+", "Fe2+ ls", "Fe3+")


def exclusive_host(supercell: tuple[int, int, int] = (2, 2, 1)) -> Host:
    """Return invented NaxFeO2 with two Na sites per Fe, 1.9 Å apart: one of two is filled at most.

    x from 0 to 1; sites of neighbouring cells do not exclude each other.
    """
    places = [(0, 0, 0), (0.38, 0, 0), (0.19, 0.5, 0.5), (0.19, 0, 0.5), (0.69, 0.5, 0.5)]
    unit = Atoms("Na2FeO2", scaled_positions=places, cell=[5.0, 4.0, 4.2], pbc=True)
    working = SublatticeDeclaration(
        "working_ion", ("Na",), (Species.parse("Na+"), Species.parse("vacancy"))
    )
    redox = SublatticeDeclaration("redox", ("Fe",), (Species.parse("Fe3+"), Species.parse("Fe4+")))
    framework = {"O": Species.parse("O2-")}
    declaration = HostDeclaration("toy", unit, (working, redox), framework, "NaFeO2")
    return Host.build(declaration, supercell)


def toy_host(
    *, mixed: bool = False, spins: bool = False, supercell: tuple[int, int, int] = (2, 2, 1)
) -> Host:
    """Return cubic perovskite NaxFeF3: four Na and four Fe sites, x from 0 to 1.

    Parameters
    ----------
    mixed
        Whether half of the iron is manganese, on the same sites.
    spins
        Whether Fe2+ may be of high or low spin.
    """
    corners = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    unit = Atoms("NaFeF3", scaled_positions=corners, cell=[3.9, 3.9, 3.9], pbc=True)
    working = SublatticeDeclaration(
        "working_ion", ("Na",), (Species.parse("Na+"), Species.parse("vacancy"))
    )
    texts = _MIXED if mixed else _SPINS if spins else _REDOX
    species = tuple(Species.parse(text) for text in texts)
    redox = SublatticeDeclaration("redox", ("Fe",), species)
    if mixed:
        shares = {"Fe": 0.5, "Mn": 0.5}
        redox = SublatticeDeclaration("redox", ("Fe",), species, "free", shares)
    framework = {"F": Species.parse("F-")}
    declaration = HostDeclaration("toy", unit, (working, redox), framework, "NaFeF3")
    return Host.build(declaration, supercell)

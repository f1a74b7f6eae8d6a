"""Hosts that come with gasearch: structure and source, k-points of the shipped data, notes.

Another one is a function here and its entry in `BUILTIN_HOSTS`; nothing else knows them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ase import Atoms
from ase.build import make_supercell
from ase.spacegroup import crystal

from gasearch.crystal.declaration import HostDeclaration, HostError, SublatticeDeclaration
from gasearch.crystal.species import VACANCY, Species
from gasearch.plugins import nearest

Sites = Mapping[str, Sequence[tuple[float, float, float]]]
"""Fractional coordinates of an asymmetric unit by element."""
_OXYGEN = Species("O", -2)


@dataclass(frozen=True)
class BuiltinHost:
    """A host that comes with gasearch.

    Parameters
    ----------
    source
        Where its structure was published.
    """

    declare: Callable[[], HostDeclaration]
    source: str

    def __call__(self) -> HostDeclaration:
        """Return its declaration."""
        return self.declare()


def _declare(
    name: str,
    atoms: Atoms,
    ion: str,
    redox: Mapping[str, Sequence[int]],
    formula_unit: str,
    cation: Species | None = None,
    **more: Any,
) -> HostDeclaration:
    """Return an oxide whose working ions leave their sites.

    Parameters
    ----------
    redox
        Elements of the redox sites with their charges; the element of the structure's sites first.
    cation
        Of the framework, beside oxygen.
    """
    first = next(iter(redox))
    return HostDeclaration(
        name=name,
        unit_cell=atoms,
        sublattices=(
            SublatticeDeclaration("working_ion", (ion,), (Species(ion, 1), VACANCY)),
            SublatticeDeclaration(
                "redox", (first,), tuple(Species(e, q) for e, own in redox.items() for q in own)
            ),
        ),
        framework={**({cation.element: cation} if cation else {}), "O": _OXYGEN},
        formula_unit=formula_unit,
        **more,
    )


def _phosphate(
    name: str,
    sites: Sites,
    cell: Sequence[float],
    **more: Any,
) -> HostDeclaration:
    """Return a phosphate AMPO4 of four formula units in Pnma, A and M first."""
    ion, metal, *_ = sites
    atoms = crystal(
        [element for element, own in sites.items() for _ in own],
        basis=[site for own in sites.values() for site in own],
        spacegroup=62,
        cellpar=[*cell, 90, 90, 90],
    )
    unit = f"{ion}{metal}PO4"
    return _declare(
        f"{unit.lower()}-{name}", atoms, ion, {metal: (2, 3)}, unit, Species("P", 5), **more
    )


_SHIPPED_KPOINTS = ((0.0, 0.25, 0.25),)
"""Of the shipped DFT data, in the unit cell of olivine (axes a > b > c)."""


def nafepo4_olivine() -> HostDeclaration:
    """Return triphylite NaFePO4; x from 0 to 1."""
    sites: Sites = {
        "Na": [(0, 0, 0)],
        "Fe": [(0.2870, 0.75, 0.9863)],
        "P": [(0.1083, 0.75, 0.4426)],
        "O": [(0.1140, 0.75, 0.7524), (0.4685, 0.75, 0.1611), (0.1755, 0.9446, 0.3118)],
    }
    note = "For NaFePO4 it is: maricite is the stable polymorph, not olivine."
    cell = (10.4063, 6.2187, 4.9469)
    return _phosphate("olivine", sites, cell, kpoints=_SHIPPED_KPOINTS, note=note)


def nafepo4_maricite() -> HostDeclaration:
    """Return maricite NaFePO4; x from 0 to 1.

    The cell is the mineral's. The atoms were relaxed in it with CHGNet 0.3.0, on the published
    sites (Na 4c, Fe 4a); nothing moves by more than 0.05 Å from there.
    """
    sites: Sites = {
        "Na": [(0.3527, 0.25, 0.9750)],
        "Fe": [(0, 0, 0)],
        "P": [(0.1772, 0.25, 0.4679)],
        "O": [(0.1202, 0.25, 0.7587), (0.3515, 0.25, 0.4512), (0.1218, 0.0658, 0.3228)],
    }
    note = "Of NaFePO4, olivine exists too, made from LiFePO4."
    return _phosphate("maricite", sites, (8.9874, 6.8612, 5.0450), note=note)


def lifepo4_olivine() -> HostDeclaration:
    """Return LiFePO4; x from 0 to 1."""
    sites: Sites = {
        "Li": [(0, 0, 0)],
        "Fe": [(0.28222, 0.25, 0.97472)],
        "P": [(0.09486, 0.25, 0.41820)],
        "O": [
            (0.09678, 0.25, 0.74279), (0.45710, 0.25, 0.20602), (0.16558, 0.04646, 0.28478)
        ],
    }  # fmt: skip
    cell = (10.3323, 6.0103, 4.6922)
    return _phosphate("olivine", sites, cell, kpoints=_SHIPPED_KPOINTS)


def limnpo4_olivine() -> HostDeclaration:
    """Return lithiophilite LiMnPO4; x from 0 to 1."""
    sites: Sites = {
        "Li": [(0, 0, 0)],
        "Mn": [(0.2817, 0.25, 0.9719)],
        "P": [(0.0923, 0.25, 0.4081)],
        "O": [(0.0968, 0.25, 0.7336), (0.4561, 0.25, 0.2073), (0.1609, 0.0491, 0.2779)],
    }
    return _phosphate("olivine", sites, (10.46, 6.100, 4.744))


def na2fesio4() -> HostDeclaration:
    """Return Na2FeSiO4 in Pn, a stuffed cristobalite; x from 0.5 to 1 (one Na per Fe2+/Fe3+).

    No ordered experimental structure is published with coordinates that we know of. This one is
    the lowest of 90 collapses of the F-43m parent (Fe-Si zincblende network; Ye et al., arXiv
    1512.03368) relaxed with `pmmcs`; its volume is 2 % above the experimental one. Relax it with
    your own potential or DFT before publishing.
    """
    sites = [
        (0.77179, 0.81803, 0.25552), (0.52156, 0.30549, 0.00181), (0.26103, 0.82202, 0.75181),
        (0.00683, 0.67576, 0.00317), (0.67821, 0.69936, 0.97874), (0.27414, 0.17123, 0.68843),
        (0.95104, 0.78572, 0.81549), (0.10973, 0.60399, 0.52837),
    ]  # fmt: skip
    atoms = crystal(
        ["Na", "Na", "Fe", "Si", "O", "O", "O", "O"],
        basis=sites,
        spacegroup=7,
        cellpar=[5.22064, 5.48487, 8.72194, 90, 126.61171, 90],
    )
    return _declare("na2fesio4", atoms, "Na", {"Fe": (2, 3)}, "Na2FeSiO4", Species("Si", 4))


def limn2o4_spinel() -> HostDeclaration:
    """Return the cubic spinel LiMn2O4 in its primitive cell of two formula units; x from 0 to 1.

    Only tetrahedral Li sites: what goes in beyond x = 1 sits in octahedra.
    """
    atoms = crystal(
        ["Li", "Mn", "O"],
        basis=[(0.125, 0.125, 0.125), (0.5, 0.5, 0.5), (0.2632, 0.2632, 0.2632)],
        spacegroup=227,
        setting=2,
        cellpar=[8.2476, 8.2476, 8.2476, 90, 90, 90],
        primitive_cell=True,
    )
    return _declare("limn2o4-spinel", atoms, "Li", {"Mn": (3, 4)}, "LiMn2O4")


def na3v2p3o12_nasicon() -> HostDeclaration:
    """Return NASICON Na3V2(PO4)3 in its primitive cell of two formula units; x from 1/3 to 1.

    All four Na sites of a formula unit are there, Na1 (6b) and Na2 (18e); V3+/V4+ lets one to three
    of them be filled. x = 1 is Na3V2(PO4)3.
    """
    atoms = crystal(
        ["Na", "Na", "V", "P", "O", "O"],
        basis=[
            (0, 0, 0), (0.6386, 0, 0.25), (0, 0, 0.1472), (0.2955, 0, 0.25),
            (0.1795, -0.0290, 0.1935), (0.1905, 0.1680, 0.0870),
        ],
        spacegroup=167,
        cellpar=[8.728, 8.728, 21.83, 90, 90, 120],
        primitive_cell=True,
    )  # fmt: skip
    unit = "Na3V2P3O12"
    return _declare("na3v2p3o12-nasicon", atoms, "Na", {"V": (3, 4)}, unit, Species("P", 5))


def nanfm_o3() -> HostDeclaration:
    """Return O3-NaNi1/3Fe1/3Mn1/3O2 in a cell of three MO2, sqrt(3) a x sqrt(3) a; x from 0 to 1.

    Ni2+/Ni3+/Ni4+, Fe3+/Fe4+ and Mn4+ share the sites of the layers, a third of each.
    """
    layers = crystal(
        ["Na", "Ni", "O"],
        basis=[(0, 0, 0.5), (0, 0, 0), (0, 0, 0.2660)],
        spacegroup=166,
        cellpar=[2.977, 2.977, 16.02, 90, 90, 120],
        primitive_cell=True,
    )
    atoms = make_supercell(layers, [[2, -1, -1], [1, 1, -2], [1, 0, 0]])
    species = [Species("Ni", 2), Species("Ni", 3), Species("Ni", 4)]
    species += [Species("Fe", 3), Species("Fe", 4), Species("Mn", 4)]
    third = 1 / 3
    return HostDeclaration(
        name="nanfm-o3",
        unit_cell=atoms,
        sublattices=(
            SublatticeDeclaration("working_ion", ("Na",), (Species("Na", 1), VACANCY)),
            SublatticeDeclaration(
                "redox",
                ("Ni",),
                tuple(species),
                elements="free",
                fractions={"Ni": third, "Fe": third, "Mn": third},
            ),
        ),
        framework={"O": _OXYGEN},
        formula_unit="Na3NiFeMnO6",
    )


def nacoo2_p2() -> HostDeclaration:
    """Return P2-NaxCoO2; x from 0 to 1, Na sites that exclude each other, delocalised charge.

    Na_f (2b) sits between two Co, Na_e (2d) does not; 1.64 Å apart, two neighbours are never both
    filled. NaxCoO2 is a metal: no Co is Co3+ or Co4+.
    """
    atoms = crystal(
        ["Na", "Na", "Co", "O"],
        basis=[(0, 0, 0.25), (2 / 3, 1 / 3, 0.25), (0, 0, 0), (1 / 3, 2 / 3, 0.0908)],
        spacegroup=194,
        cellpar=[2.833, 2.833, 10.88, 90, 90, 120],
    )
    return HostDeclaration(
        name="nacoo2-p2",
        unit_cell=atoms,
        sublattices=(SublatticeDeclaration("working_ion", ("Na",), (Species("Na", 1), VACANCY)),),
        framework={"Co": Species("Co", 3), "O": _OXYGEN},
        formula_unit="NaCoO2",
        charges="delocalised",
    )


def ceo2_fluorite() -> HostDeclaration:
    """Return CeO2-x, fluorite with oxygen vacancies; x from 0.75 (Ce2O3) to 1 (CeO2).

    Each vacancy makes two Ce3+.
    """
    atoms = crystal(
        ["Ce", "O"],
        basis=[(0, 0, 0), (0.25, 0.25, 0.25)],
        spacegroup=225,
        cellpar=[5.411, 5.411, 5.411, 90, 90, 90],
    )
    return HostDeclaration(
        name="ceo2-fluorite",
        unit_cell=atoms,
        sublattices=(
            SublatticeDeclaration("mixed", ("O",), (_OXYGEN, VACANCY), moves="O"),
            SublatticeDeclaration("redox", ("Ce",), (Species("Ce", 3), Species("Ce", 4))),
        ),
        framework={},
        formula_unit="CeO2",
    )


def fe3o4_magnetite() -> HostDeclaration:
    """Return magnetite Fe3O4 in its primitive cell of two formula units: one composition.

    Nothing moves; Fe2+ and Fe3+ order on the octahedral sites (16d). The tetrahedral ones (8a) are
    Fe3+.
    """
    atoms = crystal(
        ["Fe", "Fe", "O"],
        basis=[(0.5, 0.5, 0.5), (0.125, 0.125, 0.125), (0.2549, 0.2549, 0.2549)],
        spacegroup=227,
        setting=2,
        cellpar=[8.3941, 8.3941, 8.3941, 90, 90, 90],
        primitive_cell=True,
    )
    octahedral = tuple(range(4))
    return HostDeclaration(
        name="fe3o4-magnetite",
        unit_cell=atoms,
        sublattices=(
            SublatticeDeclaration("redox", octahedral, (Species("Fe", 2), Species("Fe", 3))),
        ),
        framework={"Fe": Species("Fe", 3), "O": _OXYGEN},
        formula_unit="Fe3O4",
    )


BUILTIN_HOSTS: dict[str, BuiltinHost] = {
    "nafepo4-olivine": BuiltinHost(nafepo4_olivine, "Moreau et al., Chem. Mater. 2010, 22, 4126"),
    "nafepo4-maricite": BuiltinHost(
        nafepo4_maricite,
        "cell and sites: Le Page & Donnay, Can. Mineral. 1977, 15, 518; atoms: CHGNet 0.3.0",
    ),
    "lifepo4-olivine": BuiltinHost(
        lifepo4_olivine, "Streltsov et al., Acta Cryst. B 1993, 49, 147"
    ),
    "limnpo4-olivine": BuiltinHost(limnpo4_olivine, "Geller & Durand, Acta Cryst. 1960, 13, 325"),
    "na2fesio4": BuiltinHost(
        na2fesio4, "a model: F-43m parent of Ye et al., arXiv 1512.03368, relaxed with pmmcs"
    ),
    "limn2o4-spinel": BuiltinHost(
        limn2o4_spinel, "cell: ICDD 35-782; O at u = 0.2632, where refinements agree within 0.001"
    ),
    "na3v2p3o12-nasicon": BuiltinHost(
        na3v2p3o12_nasicon,
        "sites: Zatovsky, Acta Cryst. E 2010, 66, i12; cell: Jian et al., Electrochem. Commun. "
        "2012, 14, 86",
    ),
    "nanfm-o3": BuiltinHost(nanfm_o3, "Kim et al., Electrochem. Commun. 2012, 18, 66"),
    "nacoo2-p2": BuiltinHost(
        nacoo2_p2, "sites: Balsys & Davis, Solid State Ionics 1996, 93, 279; cell: that of x = 0.7"
    ),
    "ceo2-fluorite": BuiltinHost(ceo2_fluorite, "fluorite; cell: ICDD 34-394"),
    "fe3o4-magnetite": BuiltinHost(fe3o4_magnetite, "Fleet, Acta Cryst. B 1981, 37, 917"),
}


def builtin_host(name: str) -> HostDeclaration:
    """Return a built-in host; an unknown name lists those there are."""
    if name not in BUILTIN_HOSTS:
        raise HostError(
            f"unknown host {name!r}{nearest(name, BUILTIN_HOSTS)}. Built in: "
            f"{', '.join(BUILTIN_HOSTS)}; or name a CIF, POSCAR or extxyz file."
        )
    return BUILTIN_HOSTS[name]()

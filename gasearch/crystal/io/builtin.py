"""Hosts that come with gasearch: structure and source, k-points of the shipped data, notes.

Another one is a function here and its entry in `BUILTIN_HOSTS`; nothing else knows them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ase import Atoms
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
}


def builtin_host(name: str) -> HostDeclaration:
    """Return a built-in host; an unknown name lists those there are."""
    if name not in BUILTIN_HOSTS:
        raise HostError(
            f"unknown host {name!r}{nearest(name, BUILTIN_HOSTS)}. Built in: "
            f"{', '.join(BUILTIN_HOSTS)}; or name a CIF, POSCAR or extxyz file."
        )
    return BUILTIN_HOSTS[name]()

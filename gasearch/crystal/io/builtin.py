"""Hosts that come with gasearch: structure and source, k-points of the shipped data, notes.

Another one is a function here and its entry in `BUILTIN_HOSTS`; nothing else knows them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ase import Atoms
from ase.spacegroup import crystal

from gasearch.crystal.declaration import HostDeclaration, HostError, SublatticeDeclaration
from gasearch.crystal.species import VACANCY, Species
from gasearch.plugins import nearest


def _declare(
    name: str, atoms: Atoms, ion: str, formula_unit: str, cation: Species, **more: Any
) -> HostDeclaration:
    return HostDeclaration(
        name=name,
        unit_cell=atoms,
        sublattices=(
            SublatticeDeclaration("working_ion", (ion,), (Species(ion, 1), VACANCY)),
            SublatticeDeclaration("redox", ("Fe",), (Species("Fe", 2), Species("Fe", 3))),
        ),
        framework={cation.element: cation, "O": Species("O", -2)},
        formula_unit=formula_unit,
        **more,
    )


def _olivine(
    ion: str, sites: Sequence[tuple[float, float, float]], cell: Sequence[float], **more: Any
) -> HostDeclaration:
    """Return an iron phosphate of four formula units in Pnma (axes a > b > c)."""
    elements = [ion, "Fe", "P", "O", "O", "O"]
    atoms = crystal(elements, basis=sites, spacegroup=62, cellpar=[*cell, 90, 90, 90])
    formula_unit = f"{ion}FePO4"
    more["kpoints"] = ((0.0, 0.25, 0.25),)  # of the shipped data
    return _declare(
        f"{formula_unit.lower()}-olivine", atoms, ion, formula_unit, Species("P", 5), **more
    )


def nafepo4_olivine() -> HostDeclaration:
    """Return triphylite NaFePO4 (Moreau et al., Chem. Mater. 2010, 22, 4126); x from 0 to 1."""
    sites = [
        (0, 0, 0), (0.2870, 0.75, 0.9863), (0.1083, 0.75, 0.4426),
        (0.1140, 0.75, 0.7524), (0.4685, 0.75, 0.1611), (0.1755, 0.9446, 0.3118),
    ]  # fmt: skip
    note = "For NaFePO4 it is: maricite is the stable polymorph, not olivine."
    return _olivine("Na", sites, (10.4063, 6.2187, 4.9469), note=note)


def lifepo4_olivine() -> HostDeclaration:
    """Return LiFePO4 (Streltsov et al., Acta Cryst. B 1993, 49, 147); x from 0 to 1."""
    sites = [
        (0, 0, 0), (0.28222, 0.25, 0.97472), (0.09486, 0.25, 0.41820),
        (0.09678, 0.25, 0.74279), (0.45710, 0.25, 0.20602), (0.16558, 0.04646, 0.28478),
    ]  # fmt: skip
    return _olivine("Li", sites, (10.3323, 6.0103, 4.6922))


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
    return _declare("na2fesio4", atoms, "Na", "Na2FeSiO4", Species("Si", 4))


BUILTIN_HOSTS: dict[str, Callable[[], HostDeclaration]] = {
    "nafepo4-olivine": nafepo4_olivine,
    "lifepo4-olivine": lifepo4_olivine,
    "na2fesio4": na2fesio4,
}


def builtin_host(name: str) -> HostDeclaration:
    """Return a built-in host; an unknown name lists those there are."""
    if name not in BUILTIN_HOSTS:
        raise HostError(
            f"unknown host {name!r}{nearest(name, BUILTIN_HOSTS)}. Built in: "
            f"{', '.join(BUILTIN_HOSTS)}; or name a CIF, POSCAR or extxyz file."
        )
    return BUILTIN_HOSTS[name]()

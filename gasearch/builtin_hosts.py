"""Hosts that come with gasearch, by name, each with its source."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ase import Atoms
from ase.spacegroup import crystal

from gasearch.chemistry import VACANCY, Species
from gasearch.host_declaration import HostDeclaration, HostError, SublatticeDeclaration
from gasearch.plugins import nearest

_O, _P, _SI = Species("O", -2), Species("P", 5), Species("Si", 4)


def _olivine(
    working_ion: str, sites: Sequence[tuple[float, float, float]], cell: Sequence[float]
) -> Atoms:
    """Return a four-formula-unit olivine phosphate in Pnma (axes a > b > c)."""
    return crystal(
        [working_ion, "Fe", "P", "O", "O", "O"],
        basis=sites,
        spacegroup=62,
        cellpar=[*cell, 90, 90, 90],
    )


def _declare(
    name: str, atoms: Atoms, ion: str, formula_unit: str, framework: dict[str, Species]
) -> HostDeclaration:
    return HostDeclaration(
        name=name,
        unit_cell=atoms,
        sublattices=(
            SublatticeDeclaration("working_ion", (ion,), (Species(ion, 1), VACANCY)),
            SublatticeDeclaration("redox", ("Fe",), (Species("Fe", 2), Species("Fe", 3))),
        ),
        framework=framework,
        formula_unit=formula_unit,
    )


def nafepo4_olivine() -> HostDeclaration:
    """Return triphylite NaFePO4 (Moreau et al., Chem. Mater. 2010, 22, 4126); x from 0 to 1."""
    sites = [
        (0, 0, 0), (0.2870, 0.75, 0.9863), (0.1083, 0.75, 0.4426),
        (0.1140, 0.75, 0.7524), (0.4685, 0.75, 0.1611), (0.1755, 0.9446, 0.3118),
    ]  # fmt: skip
    atoms = _olivine("Na", sites, (10.4063, 6.2187, 4.9469))
    return _declare("nafepo4-olivine", atoms, "Na", "NaFePO4", {"P": _P, "O": _O})


def lifepo4_olivine() -> HostDeclaration:
    """Return LiFePO4 (Streltsov et al., Acta Cryst. B 1993, 49, 147); x from 0 to 1."""
    sites = [
        (0, 0, 0), (0.28222, 0.25, 0.97472), (0.09486, 0.25, 0.41820),
        (0.09678, 0.25, 0.74279), (0.45710, 0.25, 0.20602), (0.16558, 0.04646, 0.28478),
    ]  # fmt: skip
    atoms = _olivine("Li", sites, (10.3323, 6.0103, 4.6922))
    return _declare("lifepo4-olivine", atoms, "Li", "LiFePO4", {"P": _P, "O": _O})


BUILTIN_HOSTS: dict[str, Callable[[], HostDeclaration]] = {
    "nafepo4-olivine": nafepo4_olivine,
    "lifepo4-olivine": lifepo4_olivine,
}


def builtin_host(name: str) -> HostDeclaration:
    """Return a built-in host; an unknown name lists those there are."""
    if name not in BUILTIN_HOSTS:
        raise HostError(
            f"unknown host {name!r}{nearest(name, BUILTIN_HOSTS)}. Built in: "
            f"{', '.join(BUILTIN_HOSTS)}; or name a CIF, POSCAR or extxyz file."
        )
    return BUILTIN_HOSTS[name]()

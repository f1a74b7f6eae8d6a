"""Maricite, the other NaFePO4: the same species as olivine in another crystal."""

import numpy as np
from ase import Atoms
from ase.spacegroup import crystal

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import VACANCY, Species

_SITES = {
    "Na": (0.3516, 0.25, 0.9692),
    "Fe": (0.0, 0.0, 0.0),
    "P": (0.1762, 0.25, 0.4609),
    "O1": (0.3491, 0.25, 0.4479),
    "O2": (0.1193, 0.25, 0.7464),
    "O3": (0.1211, 0.0678, 0.3160),
}
"""As CHGNet 0.3.0 relaxes it: edge-sharing chains of FeO6 along b, Na between ten O."""


def maricite() -> Atoms:
    """Return the unit cell, 28 atoms, Pnma."""
    symbols = [name.rstrip("123") for name in _SITES]
    cell = [9.098, 6.925, 5.140, 90, 90, 90]
    atoms: Atoms = crystal(symbols, list(_SITES.values()), spacegroup=62, cellpar=cell)
    return Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell.array, pbc=True)


def maricite_host() -> HostDeclaration:
    """Return it as a host: Na+ and vacancies, Fe2+ and Fe3+."""
    sublattices = (
        SublatticeDeclaration("working_ion", ("Na",), (Species("Na", 1), VACANCY)),
        SublatticeDeclaration("redox", ("Fe",), (Species("Fe", 2), Species("Fe", 3))),
    )
    framework = {"P": Species("P", 5), "O": Species("O", -2)}
    return HostDeclaration("maricite", maricite(), sublattices, framework, "NaFePO4")


def exchanged() -> Atoms:
    """Return olivine in which sodium and iron have changed places."""
    atoms = builtin_host("nafepo4-olivine").unit_cell.copy()
    symbols = np.array(atoms.get_chemical_symbols())
    sodium, iron = symbols == "Na", symbols == "Fe"
    symbols[sodium], symbols[iron] = "Fe", "Na"
    atoms.symbols = list(symbols)
    return atoms

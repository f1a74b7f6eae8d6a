"""Oxidation states in CIF and POSCAR files, which ASE's readers and writers leave out."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.cif import CIFBlock
from numpy.typing import NDArray

from gasearch.crystal.species import Species

_STATE = re.compile(r"[A-Z][a-z]?(?:(\d*\.?\d*)([+-])|([+-])(\d+\.?\d*))")

_CIF = """\
data_{name}
_chemical_formula_sum  '{formula}'
_cell_length_a     {0:.8f}
_cell_length_b     {1:.8f}
_cell_length_c     {2:.8f}
_cell_angle_alpha  {3:.8f}
_cell_angle_beta   {4:.8f}
_cell_angle_gamma  {5:.8f}
_space_group_name_H-M_alt  'P 1'
_space_group_IT_number     1
loop_
  _space_group_symop_operation_xyz
  'x, y, z'
loop_
  _atom_type_symbol
  _atom_type_oxidation_number
{types}
loop_
  _atom_site_type_symbol
  _atom_site_label
  _atom_site_occupancy
  _atom_site_fract_x
  _atom_site_fract_y
  _atom_site_fract_z
{sites}
"""


def species_of(atoms: Atoms) -> list[Species]:
    """Return the species of each atom, from its symbol and its initial charge."""
    charges = np.rint(atoms.get_initial_charges()).astype(int).tolist()
    return [Species(e, charge) for e, charge in zip(atoms.symbols, charges, strict=True)]


def cif(atoms: Atoms, name: str) -> str:
    """Return a CIF block in P1 with the oxidation states where pymatgen and VESTA look for them."""
    species = species_of(atoms)
    types = [f"  {s}  {s.charge:+d}" for s in dict.fromkeys(species)]
    count = Counter[str]()
    sites = []
    for own, place in zip(species, atoms.get_scaled_positions(), strict=True):
        count[own.element] += 1
        place_text = "  ".join(f"{value:.10f}" for value in place)
        sites.append(f"  {own}  {own.element}{count[own.element]}  1.0  {place_text}")
    formula = " ".join(f"{element}{n}" for element, n in count.items())
    parts = {"name": name, "formula": formula}
    lines = {"types": "\n".join(types), "sites": "\n".join(sites)}
    return _CIF.format(*atoms.cell.cellpar(), **parts, **lines)


def poscar(atoms: Atoms, name: str) -> str:
    """Return a POSCAR; elements and, within them, oxidation states lie together.

    The first line lists them, in the order of the atoms: VASP itself has no place for them.
    """
    species = species_of(atoms)
    first = {element: n for n, element in reversed(list(enumerate(atoms.symbols)))}
    order = sorted(range(len(atoms)), key=lambda n: (first[species[n].element], species[n].charge))
    counts = Counter(species[n] for n in order)
    elements = Counter(species[n].element for n in order)
    held = " ".join(f"{s}x{n}" for s, n in counts.items())
    rows = [*atoms.cell.array, *atoms.get_scaled_positions()[order]]
    numbers = ["  ".join(f"{value:20.14f}" for value in row) for row in rows]
    head = [f"{name}: {held}", "1.0", *numbers[:3]]
    kinds = [" ".join(elements), " ".join(map(str, elements.values())), "Direct"]
    return "\n".join([*head, *kinds, *numbers[3:], ""])


def cif_charges(block: CIFBlock, n_listed: int) -> NDArray[np.float64] | None:
    """Return the oxidation states (n_listed,) of the atoms that a CIF block lists, in e.

    From its table of atom types, else from symbols such as Fe3+; NaN for those without; None if
    there are none at all.
    """
    symbols = _column(block, "_atom_site_type_symbol")
    if len(symbols) != n_listed:
        return None
    types = _column(block, "_atom_type_symbol")
    numbers = _column(block, "_atom_type_oxidation_number")
    table = dict(zip(map(str, types), numbers, strict=False))
    charges = np.array([_state(str(symbol), table.get(str(symbol))) for symbol in symbols])
    return None if np.isnan(charges).all() else charges


def _column(block: CIFBlock, name: str) -> list[Any]:
    values = block.get(name)
    return values if isinstance(values, list) else []


def _state(symbol: str, number: Any) -> float:
    """Return the oxidation state of an atom type, NaN if it has none."""
    if isinstance(number, int | float):
        return float(number)
    found = _STATE.match(symbol)
    if not found:
        return float("nan")
    size, sign = (found[1], found[2]) if found[2] else (found[4], found[3])
    return float(f"{sign}{size or 1}")

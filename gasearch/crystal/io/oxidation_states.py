"""Oxidation states in CIF and POSCAR files, which ASE's readers and writers leave out."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.cif import CIFBlock
from numpy.typing import NDArray

from gasearch.crystal.species import species_of

_STATE = re.compile(r"[A-Z][A-Za-z]?([+-]\d*\.?\d*|\d*\.?\d*[+-])(?![\d.])")
_NUMBER = re.compile(r"([+-]?)(\d*\.?\d*)([+-]?)")

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


def cif(atoms: Atoms, name: str) -> str:
    """Return a CIF block in P1 with the oxidation states where pymatgen and VESTA look for them."""
    species = [own.ion for own in species_of(atoms)]
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
    species = [own.ion for own in species_of(atoms)]
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

    From its table of atom types, by type or by site, else from types and labels such as Fe3+; NaN
    for those without; None if there are none at all.
    """
    types, labels = column(block, "_gasearch_type_symbol"), column(block, "_atom_site_label")
    if len(types) != n_listed or len(labels) != n_listed:
        return None
    names = map(str, column(block, "_atom_type_symbol"))
    numbers = column(block, "_atom_type_oxidation_number")
    table = {
        name: state
        for name, number in zip(names, numbers, strict=False)
        if not np.isnan(state := number_of_state(number))
    }
    charges = np.array([
        table.get(label, table.get(kind, state_of(kind, state_of(label))))
        for kind, label in zip(map(str, types), map(str, labels), strict=True)
    ])  # fmt: skip
    return None if np.isnan(charges).all() else charges


def cif_moments(block: CIFBlock, n_listed: int) -> NDArray[np.float64] | None:
    """Return the sizes (n_listed,) of the magnetic moments of a magnetic CIF, in Bohr magnetons.

    0 where none is listed; None if none is at all. Their components lie along the cell's axes.
    """
    labels = column(block, "_atom_site_label")
    named = column(block, "_atom_site_moment_label")
    columns = [column(block, f"_atom_site_moment_crystalaxis_{axis}") for axis in "xyz"]
    if not named or len(labels) != n_listed or any(len(c) != len(named) for c in columns):
        return None
    cell = block.get_cell().array
    axes = cell / np.linalg.norm(cell, axis=1)[:, None]
    sizes = np.linalg.norm(np.array(columns, dtype=float).T @ axes, axis=1)
    known = dict(zip(map(str, named), sizes, strict=True))
    return np.array([known.get(str(label), 0.0) for label in labels])


def column(block: CIFBlock, name: str) -> list[Any]:
    """Return a column of a table of a CIF block; empty if there is none."""
    values = block.get(name)
    return values if isinstance(values, list) else []


def state_of(text: str, otherwise: float = math.nan) -> float:
    """Return the oxidation state in an atom type or a label: 3 of Fe3+ and Fe+3."""
    found = _STATE.match(text)
    return number_of_state(found[1]) if found else otherwise


def number_of_state(value: Any) -> float:
    """Return the oxidation state that 3, '+3', '3+' or '+' mean; NaN for anything else."""
    if isinstance(value, int | float):
        return float(value)
    found = _NUMBER.fullmatch(str(value).strip("'\" "))
    if not found:
        return math.nan
    sign, size, sign_behind = found.groups()
    if sign and sign_behind:
        return math.nan
    return float(f"{sign or sign_behind}{size or 1}")

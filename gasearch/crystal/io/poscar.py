"""POSCAR files with the oxidation states that people and programs write into them."""

from __future__ import annotations

import io
import itertools
import re
from pathlib import Path
from typing import cast

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.declaration import HostError
from gasearch.crystal.io.cif import element_of, text_of
from gasearch.crystal.io.oxidation_states import state_of

_SPECIES_LINE, _MODE_LINE = 5, 7
_HELD = re.compile(r"([A-Z][a-z]?\d*[+-])x(\d+)")  # of our own exports


def read_poscar(path: Path) -> tuple[Atoms, NDArray[np.float64] | None]:
    """Return the crystal and its oxidation states (n_atoms,) in e; NaN where it has none.

    From the labels behind the coordinates, as pymatgen writes them, else from the line of species
    (Na Fe2+ Fe3+), else from the first line of our own exports. None if there are none.
    """
    lines = text_of(path).splitlines()
    kinds = lines[_SPECIES_LINE].split() if len(lines) > _MODE_LINE else []
    if not kinds or kinds[0].isdecimal():
        return cast(Atoms, ase.io.read(path, format="vasp")), None
    names = [re.split("[_/]", kind)[0] for kind in kinds]
    elements = [element_of(path, name) for name in names]
    lines[_SPECIES_LINE] = " ".join(elements)
    atoms = cast(Atoms, ase.io.read(io.StringIO("\n".join([*lines, ""])), format="vasp"))
    _refuse_more_rows(path, lines, len(atoms))
    counts = [int(n) for n in lines[_SPECIES_LINE + 1].split("!")[0].split()]
    by_kind = np.repeat([state_of(name) for name in names], counts)
    found = (_labelled(lines, atoms), by_kind, _of_first_line(lines[0], atoms))
    return atoms, next((own for own in found if not np.isnan(own).all()), None)


def _rows(lines: list[str]) -> tuple[int, int]:
    """Return the index of the first line of coordinates, and how many values it has."""
    is_selective = lines[_MODE_LINE].strip()[:1].lower() == "s"
    return (_MODE_LINE + 2, 6) if is_selective else (_MODE_LINE + 1, 3)


def _refuse_more_rows(path: Path, lines: list[str], n_atoms: int) -> None:
    """Refuse coordinates beyond the number of atoms; velocities stand behind a blank line."""
    first, _ = _rows(lines)
    listed = list(itertools.takewhile(str.strip, lines[first:]))
    for row in listed[n_atoms:]:
        try:
            numbers = [float(value) for value in row.split()[:3]]
        except ValueError:
            return
        if len(numbers) == 3:
            raise HostError(
                f"{path} lists {len(listed)} lines of coordinates, but its numbers of atoms add up "
                f"to {n_atoms}: correct one of the two."
            )


def _labelled(lines: list[str], atoms: Atoms) -> NDArray[np.float64]:
    """Return the states in labels behind the coordinates of their own element."""
    first, n_numbers = _rows(lines)
    found = np.full(len(atoms), np.nan)
    for n, (line, symbol) in enumerate(zip(lines[first:], atoms.symbols, strict=False)):
        label = next(iter(line.split()[n_numbers:]), "")
        if re.match(r"[A-Za-z]*", label)[0].capitalize() == symbol:  # type: ignore[index]
            found[n] = state_of(label)
    return found


def _of_first_line(line: str, atoms: Atoms) -> NDArray[np.float64]:
    held = [(kind, int(n)) for kind, n in _HELD.findall(line)]
    kinds = [kind for kind, n in held for _ in range(n)]
    if [kind.rstrip("+-").rstrip("0123456789") for kind in kinds] != list(atoms.symbols):
        return np.full(len(atoms), np.nan)
    return np.array([state_of(kind) for kind in kinds])

"""What `gasearch init` and `gasearch enumerate` make of the name of a host, or of a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gasearch.crystal.declaration import HostDeclaration, HostError
from gasearch.crystal.formulas import formula_text
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.crystal.io.cells import WhichCell, choose_cell, cif_of
from gasearch.crystal.io.hosts import declare_guess
from gasearch.crystal.io.structures import HostStructure, read_structure
from gasearch.crystal.supercell import supercell_of
from gasearch.plugins import nearest
from gasearch.run.folder import NoRunError

MANY_SITES = 100
"""Sites of a supercell that the default does not exceed without a word."""
_USUAL_SITES = 56  # two cells of olivine
_SIZES = (24, 20, 18, 16, 15, 12, 10, 9, 8, 6, 5, 4, 3, 2, 1)  # hold many shares as whole numbers
_BUILTIN_SUPERCELL = [1, 2, 1]


@dataclass(frozen=True)
class HostReading:
    """How a structure file becomes a host; built-in hosts are as they are.

    Parameters
    ----------
    cell
        "primitive", or "file" for the cell as it is there.
    symprec
        In Å: average the crystal to the symmetry that it has within this.
    """

    cell: WhichCell = "primitive"
    symprec: float | None = None


@dataclass(frozen=True, eq=False)
class NamedHost:
    """A host by its name or its file.

    Parameters
    ----------
    declaration
        The host.
    structure
        As it is used; None for a built-in host.
    source
        The user's file.
    text
        CIF of the structure in its place; "" where the file itself is used.
    lines
        What a user should know of the reading, each as a sentence.
    """

    declaration: HostDeclaration
    structure: HostStructure | None = None
    source: Path = Path()
    text: str = ""
    lines: tuple[str, ...] = field(default=())

    @property
    def file_name(self) -> str:
        """Of the structure that a run.toml names."""
        return self.declaration.name


def read_host(host: str, reading: HostReading | None = None) -> NamedHost:
    """Return a built-in host, or a guess of what a structure file holds."""
    if host in BUILTIN_HOSTS:
        return NamedHost(builtin_host(host))
    if not Path(host).exists():
        known = ", ".join(BUILTIN_HOSTS)
        raise NoRunError(
            f"--host {host!r}: no built-in host{nearest(host, BUILTIN_HOSTS)}, and no file. "
            f"Built in: {known}."
        )
    source = Path(host).resolve()
    structure, text, lines = read_cell(source, reading or HostReading())
    declaration = declare_guess(structure)
    if text:
        declaration = replace(declaration, name=_name(text))
    return NamedHost(declaration, structure, source, text, lines)


def read_cell(source: Path, reading: HostReading) -> tuple[HostStructure, str, tuple[str, ...]]:
    """Return the structure in a file in the cell that was asked for, its CIF, and what to say.

    A cell that is not the file's own is read back from its CIF, as every later command reads it.
    """
    given = read_structure(source)
    _refuse_impossible(given)
    found = choose_cell(given, reading.cell, reading.symprec)
    lines = (*given.notes, *found.lines)
    if found.is_file:
        return given, "", lines
    name = f"{'_'.join(source.stem.split())}-{found.suffix}"
    comment = f"{found.suffix} cell of {source.name}, {len(found.structure.atoms)} sites"
    text = cif_of(found.structure, name, comment)
    with tempfile.TemporaryDirectory(prefix="gasearch-") as place:
        path = Path(place) / f"{name}.cif"
        path.write_text(text, encoding="utf-8")
        return replace(read_structure(path), path=source), text, lines


def _name(text: str) -> str:
    """Return the name of the file of a CIF of our own: that of its block."""
    return f"{text.split(maxsplit=1)[0].removeprefix('data_')}.cif"


def formula_line(structure: HostStructure) -> str:
    """Return what the cell of a structure holds, and the formula that its file names."""
    held: dict[str, float] = {}
    for shares in structure.shares:
        for element, share in shares.items():
            held[element] = held.get(element, 0.0) + share
    own = f"; the file names {structure.formula}" if structure.formula else ""
    return f"{formula_text(held)} on {len(structure.atoms)} sites{own}"


def default_supercell(named: NamedHost) -> tuple[Any, str]:
    """Return the supercell of a host for which none was given, and what to say of it.

    For a file the most compact one of about fifty sites whose numbers of ions are whole.
    """
    if named.structure is None:
        return _BUILTIN_SUPERCELL, ""
    n_sites = len(named.declaration.unit_cell)
    problems: list[HostError] = []
    for n_cells in _sizes(n_sites):
        supercell = supercell_of(named.declaration, n_cells)
        try:
            host = Host.build(named.declaration, supercell)
        except HostError as error:
            problems.append(error)
        else:
            return supercell, _default_line(supercell, n_cells, len(host.atoms))
    raise problems[0]


def _default_line(supercell: Any, n_cells: int, n_sites: int) -> str:
    large = f": more than {MANY_SITES} sites make a slow search" if n_sites > MANY_SITES else ""
    return (
        f"supercell = {supercell} ({n_cells} x the unit cell, {n_sites} sites) is the default; "
        f"--supercell takes repeats, a matrix, 4, or '12 f.u.'{large}"
    )


def _sizes(n_sites: int) -> Iterator[int]:
    """Yield numbers of unit cells to try: from the usual size down, then above it."""
    fitting = [n for n in _SIZES if n * n_sites <= _USUAL_SITES]
    yield from fitting or [1]
    yield from (n for n in reversed(_SIZES) if _USUAL_SITES < n * n_sites <= MANY_SITES)


def _refuse_impossible(structure: HostStructure) -> None:
    """Refuse atoms that are nearer to each other than in any crystal."""
    if structure.problem:
        raise HostError(f"{structure.path}: {structure.problem}.")

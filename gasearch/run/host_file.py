"""What `gasearch init` and `gasearch enumerate` make of the name of a host, or of a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gasearch.crystal.declaration import HostDeclaration, HostError
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.crystal.io.cells import WhichCell, choose_cell, cif_of
from gasearch.crystal.io.guess.ions import Charges
from gasearch.crystal.io.hosts import declare_guess
from gasearch.crystal.io.structures import HostStructure, read_structure
from gasearch.crystal.io.supercells import supercell_of
from gasearch.crystal.species import formula_text
from gasearch.plugins import nearest
from gasearch.run.folder import NoRunError

MANY_SITES = 100
"""Sites of a supercell that the default does not exceed without a word."""
_USUAL_SITES = 60
_SIZES = (24, 18, 16, 12, 9, 8, 6, 4, 3, 2, 1)  # hold halves, thirds and quarters
_FIFTHS = (30, 20, 15, 10, 5)
_BUILTIN_SUPERCELL = [1, 2, 1]


@dataclass(frozen=True)
class HostReading:
    """How a structure file becomes a host; built-in hosts are as they are.

    Parameters
    ----------
    cell
        "primitive", or "file" for the cell as it is there.
    symprec
        In Å: average the crystal to the symmetry that it has within this; with the cell of the
        file, the tolerance of the host's symmetry, which leaves the atoms where they are.
    charges, moving
        See `gasearch.crystal.io.guess.sublattices.guess`.
    """

    cell: WhichCell = "primitive"
    symprec: float | None = None
    charges: Charges = "integer"
    moving: str | None = None


@dataclass(frozen=True, eq=False)
class HostFile:
    """A structure file as a host is made of it.

    Parameters
    ----------
    source
        The user's file.
    structure
        As it is used.
    name
        Of the file that a run.toml names.
    text
        Its CIF, where it is not the user's file itself; else "".
    lines
        What a user should know of the reading, each as a sentence.
    """

    source: Path
    reading: HostReading
    structure: HostStructure
    name: str
    text: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class NamedHost:
    """A host by its name or its file.

    Parameters
    ----------
    file
        None for a built-in host.
    lines
        What a user should know of the reading and of the guess, each as a sentence.
    """

    declaration: HostDeclaration
    file: HostFile | None = None
    lines: tuple[str, ...] = ()


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
    file = read_cell(Path(host).resolve(), reading or HostReading())
    declaration, notes = declare_guess(file.structure, file.reading.charges, file.reading.moving)
    own: dict[str, Any] = {"name": file.name}
    if file.reading.cell == "file" and file.reading.symprec is not None:
        own["symprec"] = file.reading.symprec
    return NamedHost(replace(declaration, **own), file, (*file.lines, *notes))


def read_cell(source: Path, reading: HostReading) -> HostFile:
    """Return the structure in a file in the cell that was asked for.

    A cell that is not the file's own is read back from its CIF, as every later command reads it.
    """
    given = read_structure(source)
    _refuse_impossible(given)
    found = choose_cell(given, reading.cell, reading.symprec)
    lines = (*given.notes, *found.lines)
    if found.is_file:
        return HostFile(source, reading, given, source.name, lines=lines)
    name = f"{'_'.join(source.stem.split())}-{found.suffix}"
    comment = f"{found.suffix} cell of {source.name}, {len(found.structure.atoms)} sites"
    text = cif_of(found.structure, name, comment)
    with tempfile.TemporaryDirectory(prefix="gasearch-") as place:
        path = Path(place) / f"{name}.cif"
        path.write_text(text, encoding="utf-8")
        structure = replace(read_structure(path), path=source, formula=given.formula)
    return HostFile(source, reading, structure, f"{name}.cif", text, lines)


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

    For a file the most compact one of about sixty sites at most whose numbers of ions are whole.
    """
    if named.file is None:
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
    known = [*_SIZES, *_FIFTHS]
    fitting = [n for n in known if n * n_sites <= _USUAL_SITES]
    yield from fitting or [1]
    yield from (n for n in sorted(known) if _USUAL_SITES < n * n_sites <= MANY_SITES)


def _refuse_impossible(structure: HostStructure) -> None:
    """Refuse atoms that are nearer to each other than in any crystal."""
    if structure.problem:
        raise HostError(f"{structure.path}: {structure.problem}.")

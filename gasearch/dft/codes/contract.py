"""What gasearch needs of a DFT code: how its inputs are written, its outputs read and compared.

A code is one module beside this one, which ends in a `Code`, and its line in `registry`. The
moments by which it tells oxidation states apart are in `gasearch.crystal.moments`, under its name.
"""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ase import Atoms
from ase.io.formats import get_compression, open_with_compression

from gasearch.crystal.host import Host
from gasearch.dft.errors import RefusedOutputError
from gasearch.run.dft_section import DftSection

NUMBER = r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_KPOINT = rf"\s*(?:\d+:)?\s+({NUMBER})\s+({NUMBER})\s+({NUMBER})\s+[\d./]+\s*"
_TAIL = 20_000  # bytes in which a finished output says so


@dataclass(frozen=True)
class OutputSettings:
    """What an output says of its own settings; None where it says nothing.

    Parameters
    ----------
    hubbard_u_eV
        (element, U) of each block of atoms, 0 where there is none: one element may have several.
    kpoints
        Fractions of the reciprocal vectors of the cell that was computed.
    tags
        What else energies depend on, by its name in the code.
    of_blocks
        The same, where each block of atoms has its own: (element, value) of each.
    """

    cutoff_eV: float | None = None
    hubbard_u_eV: Sequence[tuple[str, float]] | None = None
    kpoints: Sequence[Sequence[float]] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    of_blocks: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class ExpectedSettings:
    """What an output of a level says of its settings; None where anything goes.

    Parameters
    ----------
    hubbard_u_eV
        By element; those without U may be left out.
    kpoints_of_unit_cell
        As `gasearch.dft.kpoints.canonical` has them.
    tags, of_elements
        As in `OutputSettings`; what one of both does not name is not compared.
    """

    cutoff_eV: float | None = None
    hubbard_u_eV: Mapping[str, float] | None = None
    kpoints_of_unit_cell: Sequence[Sequence[float]] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    of_elements: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> ExpectedSettings:
        """Return what the settings of a level say by themselves."""
        return cls(
            settings.get("cutoff_eV"),
            settings.get("hubbard_u_eV"),
            settings.get("kpoints_of_unit_cell"),
            settings.get("tags", {}),
            settings.get("of_elements", {}),
        )


def expected_as_named(settings: Mapping[str, Any], start: Atoms | None) -> ExpectedSettings:
    """Return what a level says by itself, whatever the job begins with."""
    del start
    return ExpectedSettings.of(settings)


@dataclass(frozen=True)
class Program:
    """What `gasearch dft run` needs of a code: a script that computes alone in a job's folder.

    It reads job.json and start.traj, and leaves progress.json while it runs, result.traj, and last
    of all outcome.json.

    Parameters
    ----------
    job_input
        Returns what the script reads, from (atoms, host, section, relax=...).
    refreshed
        Returns an input with what may change between starts, as run.toml has it now.
    retries
        Returns by name what is tried, one after another; the first are the settings as they are.
    with_retry
        Returns the input for the retry of that index, and the number of the attempt.
    command
        Returns the words that start an interpreter that has the code.
    require
        Returns in words what would compute, with its version, or raises `NoCodeError`.
    n_iterations
        Returns how many iterations of the electrons an attempt has done in a folder; None where
        there are none.
    shared
        Names of files that a job leaves for the later ones of its run and level.
    """

    script: Path
    job_input: Callable[..., dict[str, Any]]
    refreshed: Callable[[Mapping[str, Any], DftSection], dict[str, Any]]
    retries: Callable[[Mapping[str, Any]], list[str]]
    with_retry: Callable[[Mapping[str, Any], int, int], dict[str, Any]]
    command: Callable[[DftSection], list[str]]
    require: Callable[[DftSection], str]
    n_iterations: Callable[[Path, int], int] | None = None
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Code:
    """A DFT code.

    Parameters
    ----------
    level_settings
        Its own part of a level: cutoff_eV, kpoints_of_unit_cell, and whatever else energies depend
        on. Of a code whose moments have no ranges in `gasearch.crystal.moments`, "moments" may be
        the ranges, by species; "label" may be what names its levels.
    output_names
        Names of its outputs in a job's folder, the best first; one with * where only one fits.
    outputs
        By the name that ASE gives a format: returns the file to read, or raises
        `RefusedOutputError` where the output is truncated or did not converge.
    settings_in
        What the text of an output says of its settings; None where the text is another code's.
    expected
        What it would say at a level, of the job that begins with a structure.
    converged_steps
        By the name that ASE gives a format: returns for each step of the atoms whether its
        electrons converged, from the text.
    complete_steps
        By the name that ASE gives a format: changes the steps that ASE read of a file. Adds what
        other files of the run say of them, and takes away what the output holds in part only.
    beside
        Files beside an output that say more of its settings.
    write_inputs
        Returns the text of each input file, by name, from (atoms, section, title, relax=...,
        ferromagnetic=..., lattice=...); None where jobs are computed here and nowhere else.
    program
        None where gasearch does not run the code.
    has_electrons
        Whether what [dft] says of electrons (functional, U, spin) belongs to its levels.
    """

    name: str
    level_settings: Callable[[DftSection, Host], dict[str, Any]]
    output_names: tuple[str, ...]
    outputs: Mapping[str, Callable[[Path], Path]]
    settings_in: Callable[[str], OutputSettings | None] = lambda text: None  # noqa: ARG005
    expected: Callable[[Mapping[str, Any], Atoms | None], ExpectedSettings] = expected_as_named
    converged_steps: Mapping[str, Callable[[str], list[bool]]] = field(default_factory=dict)
    complete_steps: Mapping[str, Callable[[Path, Sequence[Atoms]], None]] = field(
        default_factory=dict
    )
    beside: Callable[[Path], list[Path]] = lambda output: []  # noqa: ARG005
    write_inputs: Callable[..., dict[str, str]] | None = None
    program: Program | None = None
    has_electrons: bool = True


def read_text(path: Path) -> str:
    """Return the text of an output, compressed or not."""
    return _bytes(path).decode("utf-8", errors="replace")


def read_tail(path: Path) -> str:
    """Return the end of an output, where a program says that it ended by itself."""
    if get_compression(path.name)[1]:
        return _bytes(path)[-_TAIL:].decode(errors="replace")
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read().decode(errors="replace")


@contextmanager
def plain_file(path: Path) -> Iterator[Path]:
    """Give a file for readers that know no compression: itself, or a copy for the time being."""
    if get_compression(path.name)[1] is None:
        yield path
        return
    with TemporaryDirectory(prefix="gasearch-") as folder:
        copy = Path(folder) / get_compression(path.name)[0]
        copy.write_bytes(_bytes(path))
        yield copy


def _bytes(path: Path) -> bytes:
    if get_compression(path.name)[1] is None:
        return path.read_bytes()
    try:
        with open_with_compression(str(path), "rb") as file:
            content: bytes = file.read()
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise RefusedOutputError(path, f"it cannot be read whole ({reason})") from error
    return content


def kpoint_table(after: str) -> list[list[float]] | None:
    """Return the k-points of a table that begins in the line after."""
    points = []
    for line in after.splitlines()[1:]:
        row = re.fullmatch(_KPOINT, line)
        if row is None:
            break
        points.append([float(part) for part in row.groups()])
    return points or None


def first_number(pattern: str, text: str) -> float | None:
    """Return the number in the first group of a pattern; None where the text has none."""
    found = re.search(pattern, text, re.MULTILINE)
    return float(found[1]) if found else None

"""What gasearch needs of a DFT code: how its inputs are written, its outputs read and compared.

A code is one module beside this one, which ends in a `Code`, and its line in `registry`. The
moments by which it tells oxidation states apart are in `gasearch.crystal.moments`, under its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gasearch.crystal.host import Host
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
        By element; those without U are left out.
    kpoints
        Fractions of the reciprocal vectors of the cell that was computed.
    """

    cutoff_eV: float | None = None
    hubbard_u_eV: Mapping[str, float] | None = None
    kpoints: Sequence[Sequence[float]] | None = None


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
        Returns the version of the code that would compute, or raises `NoCodeError`.
    n_iterations
        Returns how many iterations of the electrons an attempt has done in a folder.
    """

    script: Path
    job_input: Callable[..., dict[str, Any]]
    refreshed: Callable[[Mapping[str, Any], DftSection], dict[str, Any]]
    retries: Callable[[Mapping[str, Any]], list[str]]
    with_retry: Callable[[Mapping[str, Any], int, int], dict[str, Any]]
    command: Callable[[DftSection], list[str]]
    require: Callable[[DftSection], str]
    n_iterations: Callable[[Path, int], int]


@dataclass(frozen=True)
class Code:
    """A DFT code.

    Parameters
    ----------
    level_settings
        Its own part of a level: cutoff_eV, kpoints_of_unit_cell, and whatever else energies depend
        on.
    output_names
        Patterns of its outputs in a job's folder, the best first.
    outputs
        By the name that ASE gives a format: returns the file to read, or raises
        `RefusedOutputError` where the output is truncated or did not converge.
    settings_in
        What the text of an output says of its settings; None where the text is another code's.
    beside
        Files beside an output that say more of its settings.
    write_inputs
        Returns the text of each input file, by name, from (atoms, section, title, relax=...,
        ferromagnetic=...); None where jobs are computed here and nowhere else.
    program
        None where gasearch does not run the code.
    """

    name: str
    level_settings: Callable[[DftSection, Host], dict[str, Any]]
    output_names: tuple[str, ...]
    outputs: Mapping[str, Callable[[Path], Path]]
    settings_in: Callable[[str], OutputSettings | None] = lambda text: None  # noqa: ARG005
    beside: Callable[[Path], list[Path]] = lambda output: []  # noqa: ARG005
    write_inputs: Callable[..., dict[str, str]] | None = None
    program: Program | None = None


def read_text(path: Path) -> str:
    """Return the text of an output."""
    return path.read_text(encoding="utf-8", errors="replace")


def read_tail(path: Path) -> str:
    """Return the end of an output, where a program says that it ended by itself."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read().decode(errors="replace")


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

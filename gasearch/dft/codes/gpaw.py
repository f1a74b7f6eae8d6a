"""GPAW: the input of a job, its retries, its outputs, and whether the program is there.

It is never imported here: `gpaw_job.py`, which is copied into the folder of a job, does that.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ase import Atoms

from gasearch.crystal.host import Host
from gasearch.crystal.species import species_of
from gasearch.dft.codes.contract import (
    NUMBER,
    Code,
    ExpectedSettings,
    OutputSettings,
    Program,
    first_number,
    kpoint_table,
    read_text,
)
from gasearch.dft.codes.inputs import correlated_orbital
from gasearch.dft.errors import NoCodeError, RefusedOutputError
from gasearch.dft.kpoints import canonical, gpaw_points
from gasearch.dft.spins import spin_of, start_moments, total_moment
from gasearch.run.dft_section import DftSection

_GRID = "grid spacing"
_CONVERGED = r"Converged after \d+ iterations"
SCRIPT = Path(__file__).with_name("gpaw_job.py")
RETRIES = ("as set", "mixing", "smearing", "surrogate")
"""What is tried, one after another, where the electrons do not converge. None changes the level.

1. the settings as they are;
2. slower mixing, and twice the iterations;
3. the same, begun with broad occupations and then continued with those of the level;
4. the same as 2, from a geometry that was relaxed with surrogate elements, Ga in place of Fe3+.
"""
ADVICE = (
    "install it with `pip install 'gasearch[gpaw]'` (README, DFT, says what it needs), or name "
    'the interpreter that has it in run.toml: [dft.gpaw] command = ["/path/to/python"]'
)


def level_settings(section: DftSection, host: Host) -> dict[str, Any]:
    """Return the part of a level that is GPAW's own."""
    own = section.gpaw
    points = gpaw_points(host, own.kpoints, own.k_spacing)
    newer = {"grid_spacing_A": own.grid_spacing, "basis_correction": own.basis_correction}
    newer = {name: value for name, value in newer.items() if value}  # levels of before have neither
    return {"cutoff_eV": own.cutoff_eV, **newer, "kpoints_of_unit_cell": canonical(points, host)}


def job_input(atoms: Atoms, host: Host, section: DftSection, *, relax: bool) -> dict[str, Any]:
    """Return what `gpaw_job.py` reads, for a structure with oxidation states."""
    own, states = section.gpaw, section.spin_states
    elements = sorted(set(atoms.symbols))
    surrogates = {
        str(index): section.surrogates[str(species)]
        for index, species in enumerate(species_of(atoms))
        if str(species) in section.surrogates and spin_of(species, states)
    }
    return {
        "task": "relax" if relax else "single-point",
        "fmax": section.fmax,
        "max_steps": section.max_steps,
        "max_step_length": section.max_step_length,
        "xc": section.xc,
        "cutoff_eV": own.cutoff_eV,
        "grid_spacing_A": own.grid_spacing,
        "basis_correction": own.basis_correction,
        "kpoints": gpaw_points(host, own.kpoints, own.k_spacing).tolist(),
        "hubbard": {
            e: [correlated_orbital(e), u]
            for e, u in section.hubbard_u_eV.items()
            if e in elements and u
        },
        "smearing_eV": section.smearing_eV,
        "mixer": list(own.mixer),
        "max_scf": own.max_scf,
        "orbital_starts": own.orbital_starts,
        "convergence": {
            "energy": own.energy_convergence,
            "density": own.density_convergence,
            "eigenstates": own.eigenstates_convergence,
        },
        "moments": start_moments(atoms, states).tolist(),
        "total_moment": total_moment(atoms, states),
        "surrogates": surrogates,
        "surrogate_moments": _surrogate_moments(atoms, states, surrogates),
    }


def _surrogate_moments(
    atoms: Atoms, states: dict[str, float], surrogates: dict[str, str]
) -> list[float]:
    """Return start moments with closed shells where surrogates stand."""
    others = atoms.copy()
    charges = others.get_initial_charges()
    symbols = list(others.symbols)
    for index, element in surrogates.items():
        symbols[int(index)] = element
    others.symbols = symbols
    others.set_initial_charges(charges)
    found: list[float] = start_moments(others, states).tolist()
    return found


def refreshed(written: Mapping[str, Any], section: DftSection) -> dict[str, Any]:
    """Return an input with what may change between starts, as run.toml has it now."""
    return {
        **written,
        "fmax": section.fmax,
        "max_steps": section.max_steps,
        "max_step_length": section.max_step_length,
        "mixer": list(section.gpaw.mixer),
        "max_scf": section.gpaw.max_scf,
        "orbital_starts": section.gpaw.orbital_starts,
    }


def retries(job: Mapping[str, Any]) -> list[str]:
    """Return what can be tried for a job; without an oxidised site there is no surrogate."""
    return [name for name in RETRIES if name != "surrogate" or job["surrogates"]]


def with_retry(job: Mapping[str, Any], retry: int, attempt: int) -> dict[str, Any]:
    """Return the input of a job for one of its retries; job.json calls it a rung."""
    name = retries(job)[retry]
    changed = {**job, "rung": name, "attempt": attempt}
    if name != "as set":
        beta, history, weight = job["mixer"]
        changed |= {"mixer": [beta / 2, history, 2 * weight], "max_scf": 2 * job["max_scf"]}
    return changed


def n_iterations(folder: Path, attempt: int) -> int:
    """Return how many iterations of the electrons an attempt has done."""
    try:
        return read_text(folder / f"gpaw-{attempt}.txt").count("\niter:")
    except OSError:
        return 0


def command_of(section: DftSection) -> list[str]:
    """Return the words that start Python with GPAW in it."""
    return list(section.gpaw.command) or [sys.executable]


def require_gpaw(section: DftSection) -> str:
    """Return GPAW with the version that would compute, or raise `NoCodeError`."""
    return "GPAW " + _version(tuple(command_of(section)))


@functools.cache
def _version(command: Sequence[str]) -> str:
    ask = "import gpaw; print(gpaw.__version__)"
    try:
        found = subprocess.run([*command, "-c", ask], capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoCodeError(
            f"{command[0]} cannot be started ({error.strerror}): {ADVICE}."
        ) from error
    if found.returncode or not found.stdout.strip():
        why = (found.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise NoCodeError(f"no GPAW for {command[0]} ({why}): {ADVICE}.")
    return found.stdout.strip().splitlines()[-1]


def converged_text(path: Path) -> Path:
    """Make sure that the electrons of every step converged."""
    text = read_text(path)
    steps = text.count("positions:\n") or 1
    if len(re.findall(_CONVERGED, text, re.IGNORECASE)) < steps:
        raise RefusedOutputError(path, "the electrons did not converge, or it is truncated")
    return path


def settings_in(text: str) -> OutputSettings | None:
    """Return what GPAW's text says of its settings."""
    if "Plane wave expansion" not in text or "Input parameters:" not in text:
        return None
    hubbard: list[tuple[str, float]] = []
    species = text.partition("\nspecies:\n")[2].partition("\nReference energy")[0]
    for element, block in re.findall(
        r"^  ([A-Z][a-z]?):\n(.*?)(?=^  [A-Z][a-z]?:\n|\Z)", species, re.MULTILINE | re.DOTALL
    ):
        value = re.search(rf"Hubbard: \{{U: ({NUMBER})", block)
        hubbard.append((element, float(value[1]) if value else 0.0))
    after = text.partition("k-points in crystal coordinates")[2]
    cutoff = first_number(rf"Cutoff energy: +({NUMBER}) eV", text)
    xc = re.search(r"^ +xc: '?([\w+-]+)'? *$", text, re.MULTILINE)
    tags = {"xc": xc[1]} if xc else {}
    points = re.search(r"^ +gpts: (\S.*)$", text, re.MULTILINE)
    spacing = first_number(rf"^ +h: ({NUMBER}) *$", text)
    tags[_GRID] = f"that of {points[1]} points" if points else _grid_text(spacing)
    return OutputSettings(cutoff, hubbard if species else None, kpoint_table(after), tags)


def expected(settings: Mapping[str, Any], start: Atoms | None) -> ExpectedSettings:
    """Return what GPAW would say at a level."""
    del start
    tags = {"xc": str(settings["xc"]), _GRID: _grid_text(settings.get("grid_spacing_A"))}
    return replace(ExpectedSettings.of(settings), tags=tags)


def _grid_text(spacing: float | None) -> str:
    return f"{spacing:g} Å" if spacing else "GPAW's own"


def converged_steps(text: str) -> list[bool]:
    """Return for each step of the atoms whether its electrons converged."""
    _, *steps = text.split("positions:\n")
    return [bool(re.search(_CONVERGED, step, re.IGNORECASE)) for step in steps]


def newest_text_beside(output: Path) -> list[Path]:
    """Return the text of the last attempt beside a trajectory."""
    texts = output.parent.glob("gpaw*.txt") if output.suffix == ".traj" else ()
    return sorted(texts, key=_attempt)[-1:]


def _attempt(text: Path) -> tuple[int, str]:
    number = re.search(r"(\d+)\.txt$", text.name)
    return (int(number[1]) if number else 0, text.name)


GPAW = Code(
    name="gpaw",
    level_settings=level_settings,
    output_names=("result.traj", "gpaw.txt", "gpaw*.txt"),
    outputs={"gpaw-out": converged_text},
    settings_in=settings_in,
    expected=expected,
    converged_steps={"gpaw-out": converged_steps},
    beside=newest_text_beside,
    program=Program(
        script=SCRIPT,
        job_input=job_input,
        refreshed=refreshed,
        retries=retries,
        with_retry=with_retry,
        command=command_of,
        require=require_gpaw,
        n_iterations=n_iterations,
        shared=("basis.json",),
    ),
)

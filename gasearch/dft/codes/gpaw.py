"""GPAW: the input of a job, and whether the program is there. It is never imported here."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.data import atomic_numbers

from gasearch.crystal.host import Host
from gasearch.crystal.io.oxidation_states import species_of
from gasearch.dft.errors import NoCodeError
from gasearch.dft.kpoints import gpaw_points
from gasearch.dft.spins import atomic_limit, spins, start_moments
from gasearch.run.dft_section import DftSection

SCRIPT = Path(__file__).with_name("gpaw_job.py")
ADVICE = (
    "install it with `pip install 'gasearch[gpaw]'` (README, DFT, says what it needs), or name "
    'the interpreter that has it in run.toml: [dft.gpaw] command = ["/path/to/python"]'
)


def job_input(atoms: Atoms, host: Host, section: DftSection, *, relax: bool) -> dict[str, Any]:
    """Return what `gpaw_job.py` reads, for a structure with oxidation states."""
    own, states = section.gpaw, section.spin_states
    elements = sorted(set(atoms.symbols))
    surrogates = {
        str(index): section.surrogates[str(species)]
        for index, species in enumerate(species_of(atoms))
        if str(species) in section.surrogates and species.moment
    }
    return {
        "task": "relax" if relax else "single-point",
        "fmax": section.fmax,
        "max_steps": section.max_steps,
        "max_step_length": section.max_step_length,
        "xc": section.xc,
        "cutoff_eV": own.cutoff_eV,
        "kpoints": gpaw_points(host, own.kpoints, own.k_spacing).tolist(),
        "hubbard": {
            e: [correlated_orbital(e), u]
            for e, u in section.hubbard_u_eV.items()
            if e in elements and u
        },
        "smearing_eV": section.smearing_eV,
        "mixer": list(own.mixer),
        "max_scf": own.max_scf,
        "convergence": {
            "energy": own.energy_convergence,
            "density": own.density_convergence,
            "eigenstates": own.eigenstates_convergence,
        },
        "moments": start_moments(atoms, states).tolist(),
        "total_moment": float(spins(atoms, states).sum()),
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


def correlated_orbital(element: str) -> str:
    """Return where a Hubbard U acts: d for the d block, f for the f block, else p."""
    number = atomic_numbers[element]
    if atomic_limit(number) or number in (30, 48, 80):
        return "d"
    return "f" if 57 <= number <= 71 or 89 <= number <= 103 else "p"


def command_of(section: DftSection) -> list[str]:
    """Return the words that start Python with GPAW."""
    return list(section.gpaw.command) or [sys.executable]


def require_gpaw(section: DftSection) -> str:
    """Return the version of GPAW that would compute, or raise `NoCodeError`."""
    return _version(tuple(command_of(section)))


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

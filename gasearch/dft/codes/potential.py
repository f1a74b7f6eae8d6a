"""A potential in the place of a DFT code: for tests of what uses DFT, and for expensive potentials.

Jobs, levels and results are those of a code. The potential itself is loaded where its hash is asked
for and in the job's own process, `potential_job.py`.
"""

from __future__ import annotations

import functools
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from gasearch.crystal.host import Host
from gasearch.crystal.species import MomentRanges, Species
from gasearch.dft.classify import redox_species
from gasearch.dft.codes.contract import Code, Program
from gasearch.dft.errors import NoCodeError
from gasearch.dft.spins import spin_of, spins
from gasearch.errors import GasearchError
from gasearch.plugins import registered
from gasearch.run.dft_section import DftPotentialSection, DftSection

SCRIPT = Path(__file__).with_name("potential_job.py")
_AS_SET = "as set"
_APART = 0.3  # Bohr magnetons; labels nearer than that tell nothing
_WIDTH = 0.1  # Bohr magnetons, of the range around the moment of a label


@dataclass(frozen=True)
class _Known:
    """What a level says of a potential."""

    weights_hash: str
    moment_ranges: MomentRanges


def at_home(section: DftSection, folder: Path) -> DftSection:
    """Return [dft] whose potential is named from anywhere: its files lie relative to a folder."""
    own = section.potential
    text, path = own.name, own.name.rpartition(":")[0] or own.name
    is_file = path.endswith(".py") if ":" in text else text not in registered("potential")
    if not is_file or not ("/" in path or (folder / path).exists()):
        return section
    name = f"{(folder / path).resolve()}{text[len(path) :]}"
    return section.model_copy(update={"potential": own.model_copy(update={"name": name})})


def level_settings(section: DftSection, host: Host) -> dict[str, Any]:
    """Return the part of a level that is a potential's own: which one, with which weights."""
    own = section.potential
    name = own.name.rpartition("/")[2]
    known = _known(own)
    label = re.sub(r"[^A-Za-z0-9.+_-]+", "-", f"{name}-{known.weights_hash[:8]}")
    return {
        "potential": name,
        **({"species": dict(own.species)} if own.species else {}),
        "weights_hash": known.weights_hash,
        "moments": _ranges(host, known, section.spin_states),
        "label": label,
    }


def _ranges(
    host: Host, known: _Known, states: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """Return the ranges of moments of a result: the potential's own, or around those of labels."""
    found: dict[str, tuple[float, float]] = {}
    for element, species in redox_species(host).items():
        if element in own_elements(known.moment_ranges, species):
            found |= {str(one): known.moment_ranges[one] for one in species}
            continue
        moments = sorted(spin_of(one, states) for one in species)
        if all(high - low >= _APART for low, high in itertools.pairwise(moments)):
            labels = {str(one): spin_of(one, states) for one in species}
            found |= {one: (max(0.0, m - _WIDTH), m + _WIDTH) for one, m in labels.items()}
    return found


def own_elements(ranges: MomentRanges, species: Sequence[Species]) -> list[str]:
    """Return the elements of which a potential tells all species apart."""
    elements = sorted({one.element for one in species})
    return [e for e in elements if all(one in ranges for one in species if one.element == e)]


def job_input(atoms: Atoms, host: Host, section: DftSection, *, relax: bool) -> dict[str, Any]:
    """Return what `potential_job.py` reads, for a structure with oxidation states."""
    known = _known(section.potential)
    redox = [one for species in redox_species(host).values() for one in species]
    written = {
        "task": "relax" if relax else "single-point",
        "weights_hash": known.weights_hash,
        "moments": spins(atoms, section.spin_states).tolist(),
        "own_moments": own_elements(known.moment_ranges, redox),
    }
    return refreshed(written, section)


def refreshed(written: Mapping[str, Any], section: DftSection) -> dict[str, Any]:
    """Return an input with what may change between starts, as run.toml has it now."""
    own = section.potential
    return {
        **written,
        "potential": own.name,
        "species": dict(own.species),
        "device": own.device,
        "fmax": section.fmax,
        "max_steps": section.max_steps,
        "max_step_length": section.max_step_length,
    }


def retries(job: Mapping[str, Any]) -> list[str]:
    """Return what can be tried for a job: a potential has no other way."""
    del job
    return [_AS_SET]


def with_retry(job: Mapping[str, Any], retry: int, attempt: int) -> dict[str, Any]:
    """Return the input of a job for an attempt."""
    del retry
    return {**job, "rung": _AS_SET, "attempt": attempt}


def require_potential(section: DftSection) -> str:
    """Return the potential that would compute, or raise `NoCodeError`."""
    own = section.potential
    try:
        return f"potential {own.name.rpartition('/')[2]}-{_known(own).weights_hash[:8]}"
    except GasearchError as error:
        raise NoCodeError(f"[dft.potential] name: {error}") from error


def _known(own: DftPotentialSection) -> _Known:
    path = Path(own.name.rpartition(":")[0] if ":" in own.name else own.name)
    files = sorted(path.glob("*")) if path.is_dir() else [path] if path.is_file() else []
    stamps = tuple((file.name, file.stat().st_mtime_ns) for file in files)
    return _loaded(own.name, tuple(sorted(own.species.items())), own.device, stamps)


@functools.lru_cache(maxsize=16)
def _loaded(
    name: str, species: tuple[tuple[str, str | int], ...], device: str, stamps: tuple[object, ...]
) -> _Known:
    """Load a potential for what a level says of it, once for each state of its files."""
    from gasearch.potentials.registry import load_potential

    del stamps
    potential = load_potential(name, None, device, dict(species))
    return _Known(potential.weights_hash, getattr(potential, "moment_ranges", None) or {})


POTENTIAL = Code(
    name="potential",
    level_settings=level_settings,
    output_names=("result.traj",),
    outputs={},
    program=Program(
        script=SCRIPT,
        job_input=job_input,
        refreshed=refreshed,
        retries=retries,
        with_retry=with_retry,
        command=lambda section: [sys.executable],  # noqa: ARG005
        require=require_potential,
    ),
    has_electrons=False,
)

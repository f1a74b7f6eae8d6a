"""Outputs of codes, read whole or refused: unconverged, truncated, or of other settings.

What a code says of its own convergence and settings is the business of its module; structure and
results are read by ASE.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype
from numpy.typing import NDArray

from gasearch.crystal.host import Host
from gasearch.dft.codes.contract import OutputSettings, read_text
from gasearch.dft.codes.registry import CODES
from gasearch.dft.errors import NoOutputError, RefusedOutputError
from gasearch.dft.kpoints import canonical

_CUTOFF_TOLERANCE_eV = 0.1
_U_TOLERANCE_eV = 1e-3


@dataclass(frozen=True, eq=False)
class Computed:
    """What a code computed for one structure.

    Parameters
    ----------
    atoms
        Final structure, without labels.
    energy
        Of the cell, extrapolated to zero width where the code does so, in eV.
    forces
        (n_atoms, 3), in eV/Å; None where the file has none.
    moments
        (n_atoms,) in Bohr magnetons.
    code
        Whose ranges of moments tell oxidation states apart.
    """

    atoms: Atoms
    energy: float
    forces: NDArray[np.float64] | None
    moments: NDArray[np.float64]
    code: str
    source: Path
    n_steps: int = 0
    wall_s: float = 0.0


def find_output(folder: Path) -> Path:
    """Return the output in a folder that is to be collected."""
    names = [name for code in CODES.values() for name in code.output_names]
    for pattern in names:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if found:
            return found[-1]
    raise NoOutputError(
        folder, f"there is no output in it yet ({', '.join(names)}); name the file itself"
    )


def read_output(path: Path) -> Computed:
    """Return what an output file says, or raise `RefusedOutputError`."""
    if not path.is_file():
        raise RefusedOutputError(path, "there is no such file")
    source, name = path, ""
    kind = _kind(path)
    for code in CODES.values():
        if kind in code.outputs:
            source, name = code.outputs[kind](path), code.name
    atoms, n_frames = _last_frame(source, kind if source == path else _kind(source))
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    energy = _finite(path, results.get("energy"), "energy")
    moments = results.get("magmoms")
    if moments is None or np.shape(moments) != (len(atoms),):
        raise RefusedOutputError(
            path, "it has no magnetic moment of each atom, which tell the order"
        )
    forces = results.get("forces")
    own = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell.array, pbc=True)
    return Computed(
        atoms=own,
        energy=float(energy),
        forces=None if forces is None else _finite(path, forces, "forces"),
        moments=_finite(path, moments, "moments"),
        code=name or str(atoms.info.get("code", "")),
        source=path,
        n_steps=n_frames - 1,
    )


def _kind(path: Path) -> str:
    try:
        return str(filetype(str(path)))
    except (UnknownFileTypeError, OSError, ValueError):
        return "unknown"


def _last_frame(path: Path, kind: str) -> tuple[Atoms, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Any = ase.io.read(path, index=":", format=None if kind == "unknown" else kind)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or "no reason given"
        raise RefusedOutputError(
            path, f"ASE cannot read it ({type(error).__name__}: {reason})"
        ) from error
    if not found:
        raise RefusedOutputError(path, "there is no structure in it")
    return found[-1], len(found)


def _finite(path: Path, value: Any, name: str) -> NDArray[np.float64]:
    array = np.asarray(np.nan if value is None else value, dtype=np.float64)
    if not np.isfinite(array).all():
        problem = f"it has no {name}" if value is None else f"its {name} are not finite numbers"
        raise RefusedOutputError(path, problem)
    return array


def refuse_other_settings(
    output: Path, level: str, settings: Mapping[str, Any], host: Host
) -> None:
    """Raise where an output says that it was computed with other settings than its level has.

    VASP's OUTCAR and vasprun.xml and GPAW's text say their cutoff, U and k-points; other files are
    taken at their word.

    Parameters
    ----------
    output
        What was read; files beside it that say more of its settings are asked too.
    settings
        Of the level; what it does not name is not compared.
    """
    beside = [path for code in CODES.values() for path in code.beside(output)]
    for path in [*([] if output.suffix == ".traj" else [output]), *beside]:
        found = settings_in(read_text(path))
        for problem in _differences(found, settings, host):
            raise RefusedOutputError(
                path,
                f"it was computed with {problem} of the level {level}: collect it as another "
                "level, with --candidate and --level",
            )


def settings_in(text: str) -> OutputSettings:
    """Return what the text of an output says of its settings, whichever code wrote it."""
    for code in CODES.values():
        found = code.settings_in(text)
        if found is not None:
            return found
    return OutputSettings()


def _differences(found: OutputSettings, settings: Mapping[str, Any], host: Host) -> list[str]:
    own = {str(tag).upper(): value for tag, value in dict(settings.get("incar", {})).items()}
    problems = []
    cutoff = own.get("ENCUT", settings.get("cutoff_eV"))
    if (
        found.cutoff_eV is not None
        and isinstance(cutoff, int | float)
        and abs(found.cutoff_eV - cutoff) > _CUTOFF_TOLERANCE_eV
    ):
        problems.append(f"a cutoff of {found.cutoff_eV:g} eV, not the {cutoff:g} eV")
    hubbard = None if any(tag.startswith("LDA") for tag in own) else settings.get("hubbard_u_eV")
    if (
        found.hubbard_u_eV is not None
        and isinstance(hubbard, Mapping)
        and _differ(found.hubbard_u_eV, hubbard)
    ):
        problems.append(f"U = {_u_text(found.hubbard_u_eV)}, not the {_u_text(hubbard)}")
    points = None if "KSPACING" in own else settings.get("kpoints_of_unit_cell")
    if found.kpoints and points and canonical(found.kpoints, host) != points:
        problems.append(f"k-points ({len(found.kpoints)}) that are not those")
    return problems


def _differ(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return any(abs(one.get(e, 0.0) - other.get(e, 0.0)) > _U_TOLERANCE_eV for e in {*one, *other})


def _u_text(hubbard: Mapping[str, float]) -> str:
    return ", ".join(f"{u:g} eV on {e}" for e, u in sorted(hubbard.items())) or "0"

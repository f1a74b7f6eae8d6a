"""Outputs of codes, read whole or refused: unconverged and truncated ones carry no result.

What a code says about its own convergence is looked for in its text; structure and results are
read by ASE.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype
from numpy.typing import NDArray

from gasearch.dft.errors import NoOutputError, RefusedOutputError

_TAIL = 20_000  # bytes in which a finished output says so


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
        Whose thresholds tell the moments.
    """

    atoms: Atoms
    energy: float
    forces: NDArray[np.float64] | None
    moments: NDArray[np.float64]
    code: str
    source: Path
    n_steps: int = 0
    wall_s: float = 0.0


def read_output(path: Path) -> Computed:
    """Return what an output file says, or raise `RefusedOutputError`."""
    if not path.is_file():
        raise RefusedOutputError(path, "there is no such file")
    kind = _kind(path)
    code, check = _CHECKS.get(kind, ("", _any))
    source = check(path)
    atoms, n_frames = _last_frame(source, _READERS.get(kind, kind))
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
        code=code or str(atoms.info.get("code", "")),
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
        told = " ".join(str(error).split())[:200] or "no reason given"
        raise RefusedOutputError(
            path, f"ASE cannot read it ({type(error).__name__}: {told})"
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


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read().decode(errors="replace")


def _outcar(path: Path) -> Path:
    """Make sure that VASP ended by itself, and that electrons and geometry converged."""
    if "General timing and accounting" not in _tail(path):
        raise RefusedOutputError(path, "it is truncated: VASP did not end by itself")
    text = _text(path)
    *_, last = re.split(r"-+ Iteration +\d+\( +1\) +-+", text)
    if "aborting loop because EDIFF is reached" not in last:
        raise RefusedOutputError(path, "the electrons did not converge (EDIFF was not reached)")
    relaxes = re.search(r"IBRION *= *([123])\b", text)
    nsw = re.search(r"NSW *= *(\d+)", text)
    if relaxes and nsw and int(nsw[1]) > 1 and "reached required accuracy" not in text:
        raise RefusedOutputError(
            path, "the geometry did not converge (raise NSW, go on from CONTCAR)"
        )
    return path


def _vasprun(path: Path) -> Path:
    """Return the OUTCAR beside a vasprun.xml, which itself holds no moments."""
    if "</modeling>" not in _tail(path):
        raise RefusedOutputError(path, "it is truncated: VASP did not end by itself")
    outcar = path.with_name(path.name.replace("vasprun.xml", "OUTCAR"))
    if outcar == path or not outcar.is_file():
        raise RefusedOutputError(path, "it holds no moments of atoms: put the OUTCAR beside it")
    return _outcar(outcar)


def _gpaw_text(path: Path) -> Path:
    text = _text(path)
    steps = text.count("positions:\n") or 1
    if len(re.findall(r"Converged after \d+ iterations", text, re.IGNORECASE)) < steps:
        raise RefusedOutputError(path, "the electrons did not converge, or it is truncated")
    return path


def _espresso(path: Path) -> Path:
    text = _text(path)
    if "JOB DONE." not in text:
        raise RefusedOutputError(path, "it is truncated: pw.x did not end by itself")
    if "convergence NOT achieved" in text:
        raise RefusedOutputError(path, "the electrons did not converge")
    if "bfgs failed" in text or "The maximum number of steps has been reached" in text:
        raise RefusedOutputError(path, "the geometry did not converge")
    return path


def _abinit(path: Path) -> Path:
    text = _text(path)
    if "Calculation completed" not in text:
        raise RefusedOutputError(path, "it is truncated: ABINIT did not end by itself")
    if "ScfConvergenceWarning" in text or "not enough SCF cycles to converge" in text:
        raise RefusedOutputError(path, "the electrons did not converge")
    return path


def _any(path: Path) -> Path:
    return path


_CHECKS: Mapping[str, tuple[str, Callable[[Path], Path]]] = {
    "vasp-out": ("vasp", _outcar),
    "vasp-xml": ("vasp", _vasprun),
    "gpaw-out": ("gpaw", _gpaw_text),
    "espresso-out": ("espresso", _espresso),
    "abinit-out": ("abinit", _abinit),
}
_READERS: Mapping[str, str] = {"vasp-xml": "vasp-out"}
_NAMES = ("vasprun*.xml", "OUTCAR*", "result.traj", "*.pwo", "espresso*.out", "*.abo", "gpaw*.txt")


def find_output(folder: Path) -> Path:
    """Return the output in a folder that is to be collected."""
    for pattern in _NAMES:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if found:
            return found[-1]
    raise NoOutputError(
        folder, f"there is no output in it yet ({', '.join(_NAMES)}); name the file itself"
    )

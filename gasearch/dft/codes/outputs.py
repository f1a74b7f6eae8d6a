"""Outputs of codes, read whole or refused: unconverged, truncated, or of other settings.

What a code says of its own convergence and settings is the business of its module; structure and
results are read by ASE.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype, get_compression
from numpy.typing import NDArray

from gasearch.crystal.host import Host
from gasearch.dft.codes.contract import ExpectedSettings, OutputSettings, plain_file, read_text
from gasearch.dft.codes.registry import CODES
from gasearch.dft.errors import NoOutputError, RefusedOutputError
from gasearch.dft.kpoints import canonical

_CUTOFF_TOLERANCE_eV = 0.1
_U_TOLERANCE_eV = 1e-3
ELSEWHERE = "computed elsewhere"
"""The geometry of a level that is known from its outputs alone."""
OF_ONE_JOB = ("NUPDOWN",)
"""Tags that belong to a job, not to its level."""
_NUMBERED = r"[._-]?(?:relax|run|step)?[._-]?(\d+)"
_LAST = 10**12  # beyond any number of a file


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
    """Return the output in a folder that is to be collected.

    The file of the exact name comes first, compressed or not; then the highest number (OUTCAR.10
    after OUTCAR.9, OUTCAR.relax2 after OUTCAR.relax1). Backups are never taken: they are named.
    """
    names = [name for code in CODES.values() for name in code.output_names]
    files = sorted(path for path in folder.glob("*") if path.is_file())
    ranked = [
        (rank, place, bool(get_compression(path.name)[1]), path)
        for path in files
        for place, name in enumerate(names)
        if (rank := _rank(get_compression(path.name)[0], name)) is not None
    ]
    if ranked:
        return min(ranked)[-1]
    for name in names:
        alike = [path for path in files if fnmatch(get_compression(path.name)[0], name)]
        if len(alike) > 1:
            listed = ", ".join(path.name for path in alike)
            raise NoOutputError(folder, f"there are several outputs in it ({listed}): name one")
        if alike:
            return alike[0]
    stems = {name.partition(".")[0] for name in names if "*" not in name}
    others = [path.name for path in files if any(path.name.startswith(stem) for stem in stems)]
    beside = f", only {', '.join(others)}" if others else ""
    raise NoOutputError(
        folder,
        f"there is no output in it yet ({', '.join(names)}){beside}; name the file itself",
    )


def _rank(file: str, name: str) -> int | None:
    """Return how far a file is from a name: 0 the name itself, then higher numbers first."""
    if file == name:
        return 0
    stem, dot, ending = name.partition(".")
    inside = f"{re.escape(stem)}{_NUMBERED}{re.escape(dot + ending)}"
    found = re.fullmatch(f"{inside}|{re.escape(name)}{_NUMBERED}", file)
    return None if found is None else _LAST - int(found[1] or found[2])


def read_output(path: Path) -> Computed:
    """Return what an output file says, or raise `RefusedOutputError`."""
    if not path.is_file():
        raise RefusedOutputError(path, "there is no such file")
    source, kind, name = _whole(path)
    frames = _frames(source, kind)
    atoms, n_frames = frames[-1], len(frames)
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


def read_steps(path: Path) -> list[tuple[Atoms, bool]]:
    """Return each step of the atoms in an output, and whether its electrons converged."""
    source, kind, _ = _whole(path)
    frames = _frames(source, kind)
    complete_steps(source, kind, frames)
    return list(zip(frames, converged_steps(source, kind, len(frames)), strict=True))


def _whole(path: Path) -> tuple[Path, str, str]:
    """Return the file to read instead of an output, its format, and its code, "" if unknown."""
    kind = _kind(path)
    for code in CODES.values():
        if kind in code.outputs:
            source = code.outputs[kind](path)
            return source, kind if source == path else _kind(source), code.name
    return path, kind, ""


def complete_steps(path: Path, kind: str, frames: Sequence[Atoms]) -> None:
    """Change the frames of a file to what its code's run says of them, as a whole.

    Parameters
    ----------
    kind
        The name that ASE gives the format.
    """
    for code in CODES.values():
        if kind in code.complete_steps:
            code.complete_steps[kind](path, frames)


def converged_steps(path: Path, kind: str, n_frames: int) -> list[bool]:
    """Return for each frame of a file whether its electrons converged.

    True where a format does not say so. Frames that nothing is said of did not converge.

    Parameters
    ----------
    kind
        The name that ASE gives the format.
    """
    for code in CODES.values():
        if kind in code.converged_steps:
            found = code.converged_steps[kind](read_text(path))[:n_frames]
            return found + [False] * (n_frames - len(found))
    return [True] * n_frames


def _frames(path: Path, kind: str) -> list[Atoms]:
    try:
        with warnings.catch_warnings(), plain_file(path) as plain:
            warnings.simplefilter("ignore")
            found: Any = ase.io.read(plain, index=":", format=None if kind == "unknown" else kind)
    except RefusedOutputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or "no reason given"
        raise RefusedOutputError(
            path, f"ASE cannot read it ({type(error).__name__}: {reason})"
        ) from error
    if not found:
        raise RefusedOutputError(path, "there is no structure in it")
    return list(found)


def _finite(path: Path, value: Any, name: str) -> NDArray[np.float64]:
    array = np.asarray(np.nan if value is None else value, dtype=np.float64)
    if not np.isfinite(array).all():
        problem = f"it has no {name}" if value is None else f"its {name} are not finite numbers"
        raise RefusedOutputError(path, problem)
    return array


def refuse_other_settings(
    output: Path,
    level: str,
    settings: Mapping[str, Any],
    host: Host,
    start: Atoms | None = None,
) -> None:
    """Raise where an output says that it was computed with other settings than its level has.

    VASP's OUTCAR and vasprun.xml and GPAW's text say their settings; other files are taken at
    their word.

    Parameters
    ----------
    output
        What was read; files beside it that say more of its settings are asked too.
    settings
        Of the level; what it does not name is not compared.
    start
        What the job begins with, by whose labels the total moment is known.
    """
    code = CODES.get(str(settings.get("code")))
    is_own = code is not None and settings.get("geometry") != ELSEWHERE
    expected = code.expected(settings, start) if code and is_own else ExpectedSettings.of(settings)
    for path in _files_with_settings(output):
        for problem in _differences(settings_in(read_text(path)), expected, host):
            raise RefusedOutputError(
                path,
                f"it was computed with {problem} of the level {level}: collect it as another "
                "level, with --candidate and --level",
            )


def expected_settings(settings: Mapping[str, Any], start: Atoms | None) -> ExpectedSettings:
    """Return what an output of a level says of its settings."""
    code = CODES.get(str(settings.get("code")))
    if code is None or settings.get("geometry") == ELSEWHERE:
        return ExpectedSettings.of(settings)
    return code.expected(settings, start)


def settings_of_level(output: Path, host: Host) -> dict[str, Any]:
    """Return what an output says of its settings, as the settings of a level have it.

    For a level that is known from its outputs alone: what the first one says, the others must.
    """
    found: dict[str, Any] = {}
    for path in _files_with_settings(output):
        said = settings_in(read_text(path))
        of_elements = {name: dict(blocks) for name, blocks in said.of_blocks.items()}
        own = {
            "cutoff_eV": said.cutoff_eV,
            "hubbard_u_eV": None if said.hubbard_u_eV is None else dict(said.hubbard_u_eV),
            "kpoints_of_unit_cell": canonical(said.kpoints, host) if said.kpoints else None,
            "tags": {tag: one for tag, one in said.tags.items() if tag not in OF_ONE_JOB},
            "of_elements": of_elements,
        }
        found = {name: one for name, one in own.items() if one} | found
    return found


def _files_with_settings(output: Path) -> list[Path]:
    beside = [path for code in CODES.values() for path in code.beside(output)]
    return [*([] if output.suffix == ".traj" else [output]), *beside]


def settings_in(text: str) -> OutputSettings:
    """Return what the text of an output says of its settings, whichever code wrote it."""
    for code in CODES.values():
        found = code.settings_in(text)
        if found is not None:
            return found
    return OutputSettings()


def _differences(found: OutputSettings, expected: ExpectedSettings, host: Host) -> list[str]:
    problems = []
    cutoff, hubbard = expected.cutoff_eV, expected.hubbard_u_eV
    if (
        found.cutoff_eV is not None
        and cutoff is not None
        and abs(found.cutoff_eV - cutoff) > _CUTOFF_TOLERANCE_eV
    ):
        problems.append(f"a cutoff of {found.cutoff_eV:g} eV, not the {cutoff:g} eV")
    blocks = found.hubbard_u_eV
    if blocks is not None and hubbard is not None:
        wrong = [abs(u - hubbard.get(e, 0.0)) > _U_TOLERANCE_eV for e, u in blocks]
        if any(wrong):
            problems.append(f"U = {_u_text(blocks)}, not the {_u_text(hubbard.items())}")
    points = expected.kpoints_of_unit_cell
    if found.kpoints and points and canonical(found.kpoints, host) != points:
        problems.append(f"k-points ({len(found.kpoints)}) that are not those")
    for tag, value in found.tags.items():
        wanted = expected.tags.get(tag)
        if wanted is not None and value != wanted:
            problems.append(f"{tag} = {value}, not the {wanted}")
    for name, values in found.of_blocks.items():
        known = expected.of_elements.get(name, {})
        problems += [
            f"{name} {value} on {element}, not the {known[element]}"
            for element, value in values
            if value != known.get(element, value)
        ]
    return problems


def _u_text(hubbard: Iterable[tuple[str, float]]) -> str:
    found = list(hubbard)
    elements = {element: {u for e, u in found if e == element} for element, _ in found}
    parts = [
        f"{' and '.join(f'{u:g}' for u in sorted(values))} eV on {element}"
        for element, values in sorted(elements.items())
        if any(values)
    ]
    return ", ".join(parts) or "0"

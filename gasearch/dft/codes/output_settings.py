"""Whether an output was computed with the settings of its level, as far as the file tells.

VASP's OUTCAR and vasprun.xml and GPAW's text tell the cutoff, U and the k-points; other files are
taken at their word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gasearch.crystal.host import Host
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.kpoints import canonical

_CUTOFF_TOLERANCE_eV = 0.1
_U_TOLERANCE_eV = 1e-3
_NUMBER = r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_ROW = rf"\s*(?:\d+:)?\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s+[\d./]+\s*"


@dataclass(frozen=True)
class Told:
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


def refuse_other_settings(
    output: Path, level: str, settings: Mapping[str, Any], host: Host
) -> None:
    """Raise where an output says that it was computed with other settings than its level has.

    Parameters
    ----------
    output
        What was read; in a folder of GPAW's the text beside it is asked.
    settings
        Of the level; what it does not name is not compared.
    """
    for path in _texts(output):
        found = told_settings(path.read_text(encoding="utf-8", errors="replace"))
        for problem in _differences(found, settings, host):
            raise RefusedOutputError(
                path,
                f"it was computed with {problem} of the level {level}: collect it as another "
                "level, with --candidate and --level",
            )


def told_settings(text: str) -> Told:
    """Return what the text of an output says."""
    if "<modeling>" in text:
        return _vasprun(text)
    if re.search(r"^ *ENCUT *=", text, re.MULTILINE):
        return _outcar(text)
    if "Plane wave expansion" in text and "Input parameters:" in text:
        return _gpaw(text)
    return Told()


def _texts(output: Path) -> list[Path]:
    """Return the files that tell the settings of an output."""
    if output.suffix == ".traj":
        texts = output.parent.glob("gpaw*.txt")
        return sorted(texts, key=lambda path: path.stat().st_mtime)[-1:]
    beside = output.with_name(output.name.replace("OUTCAR", "vasprun.xml"))
    return [output, *([beside] if beside != output and beside.is_file() else [])]


def _differences(found: Told, settings: Mapping[str, Any], host: Host) -> list[str]:
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


def _outcar(text: str) -> Told:
    cutoff = re.search(rf"^ *ENCUT *= *({_NUMBER})", text, re.MULTILINE)
    elements = re.findall(r"VRHFIN *= *([A-Z][a-z]?)", text)
    values = re.search(rf"LDAUU *=((?: +{_NUMBER})+)", text)
    hubbard = None
    if values is None:
        hubbard = {}
    elif len(values[1].split()) == len(elements):
        hubbard = _with_u(elements, values[1].split())
    after = text.partition("k-points in reciprocal lattice and weights:")[2]
    return Told(float(cutoff[1]) if cutoff else None, hubbard, _points(after))


def _vasprun(text: str) -> Told:
    cutoff = re.search(rf'<i name="ENCUT"> *({_NUMBER}) *</i>', text)
    listed = re.search(r'<varray name="kpointlist" *>(.*?)</varray>', text, re.DOTALL)
    rows = re.findall(r"<v>(.*?)</v>", listed[1]) if listed else []
    points = [[float(part) for part in row.split()] for row in rows]
    return Told(float(cutoff[1]) if cutoff else None, None, points or None)


def _gpaw(text: str) -> Told:
    cutoff = re.search(rf"Cutoff energy: +({_NUMBER}) eV", text)
    hubbard: dict[str, float] = {}
    species = text.partition("\nspecies:\n")[2].partition("\nReference energy")[0]
    for element, block in re.findall(
        r"^  ([A-Z][a-z]?):\n(.*?)(?=^  [A-Z][a-z]?:\n|\Z)", species, re.MULTILINE | re.DOTALL
    ):
        value = re.search(rf"Hubbard: \{{U: ({_NUMBER})", block)
        if value:
            hubbard[element] = float(value[1])
    after = text.partition("k-points in crystal coordinates")[2]
    return Told(float(cutoff[1]) if cutoff else None, hubbard if species else None, _points(after))


def _with_u(elements: Sequence[str], values: Sequence[str]) -> dict[str, float]:
    rows = zip(elements, map(float, values), strict=True)
    return {element: u for element, u in rows if u}


def _points(after: str) -> list[list[float]] | None:
    """Return the k-points of a table that begins in the line after."""
    points = []
    for line in after.splitlines()[1:]:
        row = re.fullmatch(_ROW, line)
        if row is None:
            break
        points.append([float(part) for part in row.groups()])
    return points or None

"""Outputs of VASP: whether they are whole and converged, and what they say of their settings."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import get_compression

from gasearch.dft.codes.contract import (
    NUMBER,
    OutputSettings,
    first_number,
    kpoint_table,
    plain_file,
    read_tail,
    read_text,
)
from gasearch.dft.errors import RefusedOutputError

HUBBARD_TAGS = ("LDAUL", "LDAUU", "LDAUJ")
_DEFAULTS: Mapping[str, str] = {
    "ADDGRID": "F", "GGA": "PE", "ISMEAR": "1", "ISPIN": "1", "IVDW": "0", "I_CONSTRAINED_M": "0",
    "LASPH": "F", "LDIPOL": "F", "LHFCALC": "F", "LNONCOLLINEAR": "F", "LREAL": "F", "LSOL": "F",
    "LSORBIT": "F", "LUSE_VDW": "F", "METAGGA": "--", "PREC": "N", "PSTRESS": "0", "SIGMA": "0.2",
}  # fmt: skip
"""Tags that energies depend on, as an INCAR has them that does not name them."""
_STEP = re.compile(r"-+ Iteration +(\d+)\( *(\d+)\) +-+")
_CONVERGED = "aborting loop because EDIFF is reached"
_SAME_ENERGY_eV = 1e-4  # of a step in two files of a run
_COMPRESSIONS = ("", ".gz", ".bz2", ".xz")


def finished_outcar(path: Path) -> Path:
    """Make sure that VASP ended by itself, and that electrons and geometry converged."""
    if "General timing and accounting" not in read_tail(path):
        raise RefusedOutputError(path, "it is truncated: VASP did not end by itself")
    text = read_text(path)
    if not converged_steps(text)[-1:] == [True]:
        raise RefusedOutputError(
            path,
            "the electrons did not converge (EDIFF was not reached in its last step, or with "
            "the last of NELM iterations): raise NELM",
        )
    relaxes = re.search(r"IBRION *= *([123])\b", text)
    nsw = re.search(r"NSW *= *(\d+)", text)
    if relaxes and nsw and int(nsw[1]) > 1 and "reached required accuracy" not in text:
        raise RefusedOutputError(
            path, "the geometry did not converge (raise NSW, go on from CONTCAR)"
        )
    return path


def converged_steps(outcar: str) -> list[bool]:
    """Return for each ionic step whether its electrons converged.

    VASP 5 says that EDIFF is reached at the end of NELM iterations too: a step that took all of
    them did not converge.
    """
    limit = first_number(r"\bNELM *= *(\d+)", outcar)
    _, *parts = _STEP.split(outcar)
    steps: list[bool] = []
    for electronic, body in zip(parts[1::3], parts[2::3], strict=True):
        if int(electronic) == 1 or not steps:
            steps.append(False)
        steps[-1] = _CONVERGED in body and (limit is None or int(electronic) < limit)
    return steps


def converged_steps_of_vasprun(xml: str) -> list[bool]:
    """Return for each ionic step whether its electrons converged before NELM iterations."""
    limit = first_number(r'name="NELM" *>\s*(\d+)', xml)
    steps = re.findall(r"<calculation>(.*?)</calculation>", xml, re.DOTALL)
    return [limit is None or step.count("<scstep>") < limit for step in steps]


def outcar_of_vasprun(path: Path) -> Path:
    """Return the OUTCAR beside a vasprun.xml, which itself holds no moments."""
    if "</modeling>" not in read_tail(path):
        raise RefusedOutputError(path, "it is truncated: VASP did not end by itself")
    outcar = _outcar_beside(path)
    if outcar is None:
        raise RefusedOutputError(path, "it holds no moments of atoms: put the OUTCAR beside it")
    return finished_outcar(outcar)


def _outcar_beside(path: Path) -> Path | None:
    return _beside(path, "vasprun{}.xml", "vasprun.xml{}", others=("OUTCAR{}",))


def complete_vasprun(path: Path, frames: Sequence[Atoms]) -> None:
    """Give the steps of a vasprun.xml, which has none, the moments of the OUTCAR beside it.

    Where both have the same steps: the same number, with the same energies.
    """
    without_half_a_stress(path, frames)
    outcar = _outcar_beside(path)
    if outcar is None:
        return
    try:
        with warnings.catch_warnings(), plain_file(outcar) as plain:
            warnings.simplefilter("ignore")
            steps: Any = ase.io.read(plain, index=":", format="vasp-out")
    except Exception:  # noqa: BLE001 -- then it says nothing of the steps
        return
    if len(frames) != len(steps) or not _have_same_energies(frames, steps):
        return
    for frame, step in zip(frames, steps, strict=True):
        moments = _result(step, "magmoms")
        if moments is not None and frame.calc is not None:
            frame.calc.results["magmoms"] = moments


def without_half_a_stress(path: Path, frames: Sequence[Atoms]) -> None:
    """Take away stresses of which VASP computes nothing but the trace, with ISIF below 2."""
    text = read_text(path)
    isif = first_number(r"\bISIF *= *(\d)", text) or first_number(r'name="ISIF" *>\s*(\d)', text)
    for frame in frames:
        if frame.calc is not None and (isif == 1 or _result(frame, "stress") is None):
            frame.calc.results.pop("stress", None)


def _have_same_energies(some: Sequence[Atoms], others: Sequence[Atoms]) -> bool:
    first, second = (
        np.array([_result(one, "free_energy") for one in those], dtype=np.float64)
        for those in (some, others)
    )
    return bool(np.allclose(first, second, rtol=0, atol=_SAME_ENERGY_eV))


def _result(atoms: Atoms, name: str) -> Any:
    return None if atoms.calc is None else atoms.calc.results.get(name)


def vasprun_beside(output: Path) -> list[Path]:
    """Return the vasprun.xml beside an OUTCAR, where there is one."""
    path = _beside(output, "OUTCAR{}", others=("vasprun{}.xml", "vasprun.xml{}"))
    return [] if path is None else [path]


def _beside(path: Path, *names: str, others: Sequence[str]) -> Path | None:
    """Return the file of the same run under another name: OUTCAR.2.gz for vasprun.2.xml."""
    file = get_compression(path.name)[0]
    for name in names:
        found = re.fullmatch(re.escape(name).replace(r"\{\}", "(.*)"), file)
        if found:
            for other in others:
                for compression in _COMPRESSIONS:
                    candidate = path.with_name(other.format(found[1]) + compression)
                    if candidate.is_file():
                        return candidate
    return None


def settings_in(text: str) -> OutputSettings | None:
    """Return what an OUTCAR or a vasprun.xml says of its settings."""
    if "<modeling>" in text:
        return _settings_of_vasprun(text)
    head = _STEP.split(text, maxsplit=1)[0]
    cutoff = first_number(rf"^ *ENCUT *= *({NUMBER})", head)
    if cutoff is None:
        return None
    after = text.partition("k-points in reciprocal lattice and weights:")[2]
    elements = re.findall(r"VRHFIN *= *([A-Z][a-z]?)", head)
    titles = re.findall(r"TITEL *= *(\S+ +\S+)", head)
    said = {tag: ["0"] * len(elements) for tag in HUBBARD_TAGS} | {
        tag: found[-1].split()
        for tag in HUBBARD_TAGS
        if (found := re.findall(rf"\b{tag} *=((?: +{NUMBER})+)", head))
    }
    tags = {}
    for tag in _NAMES:
        values = re.findall(rf"(?<![A-Z_]){tag}[ \t]*=[ \t]*([^\s;]+)", head)
        if values:  # VASP 5 writes METAGGA twice, and F in one of the places
            told = [one for one in values if normal(tag, one) != normal(tag, "--")]
            tags[tag] = (told or values)[0]
    charge = _charge(head)
    return _settings(cutoff, kpoint_table(after), elements, titles, said, tags | charge)


def _charge(head: str) -> dict[str, str]:
    """Return the charge of the cell, where an OUTCAR tells it, in e."""
    n_electrons = first_number(rf"NELECT *= *({NUMBER})", head)
    valences = re.findall(rf"ZVAL *= *({NUMBER}) +mass and valenz", head)
    counts = re.search(r"ions per type = *((?: *\d+)+)", head)
    if n_electrons is None or counts is None or len(counts[1].split()) != len(valences):
        return {}
    pairs = zip(valences, counts[1].split(), strict=True)
    return {"charge": str(sum(float(z) * int(n) for z, n in pairs) - n_electrons)}


def _settings_of_vasprun(xml: str) -> OutputSettings:
    cutoff = first_number(rf'<i name="ENCUT"> *({NUMBER}) *</i>', xml)
    listed = re.search(r'<varray name="kpointlist" *>(.*?)</varray>', xml, re.DOTALL)
    rows = re.findall(r"<v>(.*?)</v>", listed[1]) if listed else []
    points = [[float(part) for part in row.split()] for row in rows]
    table = re.search(r'<array name="atomtypes" *>(.*?)</array>', xml, re.DOTALL)
    types = re.findall(r"<rc>(.*?)</rc>", table[1], re.DOTALL) if table else []
    cells = [[one.strip() for one in re.findall(r"<c>(.*?)</c>", row)] for row in types]
    said = {
        tag: found[1].split()
        for tag in HUBBARD_TAGS
        if (found := re.search(rf'<v[^>]*name="{tag}"[^>]*>([^<]*)<', xml))
    }
    tags = {
        tag: found[1]
        for tag in _NAMES
        if (found := re.search(rf'<i[^>]*name="{tag}"[^>]*>([^<]*)<', xml))
    }
    elements = [row[1] for row in cells if len(row) == 5]
    titles = [" ".join(row[4].split()[:2]) for row in cells if len(row) == 5]
    return _settings(cutoff, points or None, elements, titles, said, tags)


def _settings(
    cutoff: float | None,
    points: list[list[float]] | None,
    elements: Sequence[str],
    titles: Sequence[str],
    said: Mapping[str, Sequence[str]],
    tags: Mapping[str, str],
) -> OutputSettings:
    """Return settings; what has another number of blocks than there are elements is not told."""
    hubbard = {
        tag: list(zip(elements, values, strict=True))
        for tag, values in said.items()
        if elements and len(values) == len(elements)
    }
    blocks = of_blocks(hubbard)
    if titles and len(titles) == len(elements):
        blocks["POTCAR"] = [
            (element, " ".join(title.split()))
            for element, title in zip(elements, titles, strict=True)
        ]
    u = [(element, float(value)) for element, value in hubbard.get("LDAUU", [])]
    return OutputSettings(cutoff, u or None, points, _normal_tags(tags), blocks)


def of_blocks(hubbard: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, list[tuple[str, str]]]:
    """Return J of each block, and the orbital of each that has a U or a J."""
    found: dict[str, list[tuple[str, str]]] = {}
    if "LDAUJ" in hubbard:
        found["LDAUJ"] = [(e, normal("LDAUJ", value)) for e, value in hubbard["LDAUJ"]]
    if len(hubbard) == len(HUBBARD_TAGS):
        sums = [
            abs(float(u)) + abs(float(j))
            for (_, u), (_, j) in zip(hubbard["LDAUU"], hubbard["LDAUJ"], strict=True)
        ]
        pairs = zip(hubbard["LDAUL"], sums, strict=True)
        found["LDAUL"] = [(e, orbital) for (e, orbital), acts in pairs if acts]
    return found


def energy_tags(incar: Mapping[str, str]) -> dict[str, str]:
    """Return what an output says of the tags that energies depend on, from its INCAR."""
    named = {tag: incar[tag] for tag in _NAMES if tag in incar}
    charge = {} if "NELECT" in incar else {"charge": "0"}
    return _normal_tags({**_DEFAULTS, **named, **charge})


_NAMES = (*_DEFAULTS, "LDAUTYPE", "NUPDOWN", "NSW", "IBRION", "ISIF")


def _normal_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags as they can be compared; NSW, IBRION and ISIF become what moves."""
    found = {tag: normal(tag, text) for tag, text in tags.items()}
    steps, way, stress = (found.pop(tag, None) for tag in ("NSW", "IBRION", "ISIF"))
    if steps is not None or way is not None:
        rests = way == "-1" or steps in ("0", "1")
        kinds = {"0": "molecular dynamics", "1": "relaxed", "2": "relaxed", "3": "relaxed"}
        found["geometry"] = "as given" if rests else kinds.get(way or "2", f"IBRION {way}")
    if stress is not None and found.get("geometry") == "relaxed":
        found["cell"] = "free" if float(stress) >= 3 else "fixed"
    return found


def normal(tag: str, text: str) -> str:
    """Return a value of a tag in the one form in which it is compared."""
    word = text.strip().strip('".').upper() or "--"
    if tag == "PREC":
        return word[0]
    if tag in ("GGA", "METAGGA"):
        nothing = "PE" if tag == "GGA" else "--"
        return nothing if word in ("--", "NONE", "F") else word
    if word in ("T", "TRUE", "AUTO", "A", "ON", "O") and tag.startswith("L"):
        return "T"
    if word in ("F", "FALSE") and tag.startswith(("L", "ADDGRID")):
        return "F"
    try:
        return f"{round(float(word), 4) + 0.0:g}"
    except ValueError:
        return "T" if word == "TRUE" else word

"""VASP: INCAR, KPOINTS, POSCAR and the titles of the POTCAR, which cannot be passed on; outputs."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase import Atoms

from gasearch.crystal.io.oxidation_states import poscar
from gasearch.dft.codes.contract import (
    NUMBER,
    Code,
    OutputSettings,
    first_number,
    kpoint_table,
    read_tail,
    read_text,
)
from gasearch.dft.codes.inputs import (
    ORBITAL_L,
    correlated_orbital,
    in_order,
    mesh_settings,
    signed_moments,
)
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.kpoints import mesh
from gasearch.run.dft_section import DftSection

POTCAR: Mapping[str, str] = {
    "Li": "Li_sv", "Na": "Na_pv", "K": "K_sv", "Mg": "Mg_pv", "Ca": "Ca_sv", "Ti": "Ti_pv",
    "V": "V_pv", "Cr": "Cr_pv", "Mn": "Mn_pv", "Fe": "Fe_pv", "Ni": "Ni_pv", "Cu": "Cu_pv",
    "Zn": "Zn", "Rb": "Rb_sv",
}  # fmt: skip
"""Titles of the PBE sets that are commonly taken; other elements have the set of their name."""


def incar(
    atoms: Atoms, section: DftSection, name: str, *, relax: bool, ferromagnetic: bool
) -> dict[str, Any]:
    """Return the tags of the INCAR for a structure that is in the order of its POSCAR."""
    elements = list(dict.fromkeys(atoms.symbols))
    moments = signed_moments(atoms, section, ferromagnetic=ferromagnetic)
    hubbard = {e: section.hubbard_u_eV.get(e, 0.0) for e in elements}
    tags: dict[str, Any] = {
        "SYSTEM": name,
        "PREC": "Accurate",
        "ENCUT": section.vasp.cutoff_eV,
        "GGA": "PE",
        "LASPH": True,
        "ALGO": "All",
        "NELM": 200,
        "EDIFF": 1e-5,
        "LREAL": False,
        "ISMEAR": 0,
        "SIGMA": section.smearing_eV,
        "ISYM": 0,
        "ISPIN": 2,
        "MAGMOM": moments,
        "NUPDOWN": round(sum(moments), 6),
        "LORBIT": 11,
        "LMAXMIX": 6 if any(u and correlated_orbital(e) == "f" for e, u in hubbard.items()) else 4,
        "LWAVE": False,
        "LCHARG": False,
    }
    if any(hubbard.values()):
        tags |= {
            "LDAU": True,
            "LDAUTYPE": 2,
            "LDAUL": [ORBITAL_L[correlated_orbital(e)] if u else -1 for e, u in hubbard.items()],
            "LDAUU": list(hubbard.values()),
            "LDAUJ": [0.0] * len(hubbard),
            "LDAUPRINT": 1,
        }
    if relax:
        tags |= {"IBRION": 2, "ISIF": 2, "NSW": section.max_steps, "EDIFFG": -section.fmax}
    else:
        tags |= {"IBRION": -1, "NSW": 0}
    return tags | {tag.upper(): value for tag, value in section.vasp.incar.items()}


def incar_text(tags: Mapping[str, Any]) -> str:
    """Return an INCAR."""
    return "".join(f"{tag} = {_value(tag, value)}\n" for tag, value in tags.items())


def _value(tag: str, value: Any) -> str:
    if isinstance(value, bool):
        return ".TRUE." if value else ".FALSE."
    if tag == "MAGMOM" and isinstance(value, list):
        return _runs([_number(one) for one in value])
    if isinstance(value, list | tuple):
        return " ".join(_value("", one) for one in value)
    return _number(value) if isinstance(value, float) else str(value)


def _runs(words: list[str]) -> str:
    """Return words with repeats as VASP writes them: 4*0 1*5."""
    return " ".join(f"{len([*same])}*{word}" for word, same in itertools.groupby(words))


def _number(value: float) -> str:
    return f"{value:g}"


def kpoints_text(atoms: Atoms, section: DftSection) -> str:
    """Return a KPOINTS file: a mesh that holds Gamma."""
    size = mesh(atoms, section.vasp.k_spacing)
    head = f"at most {section.vasp.k_spacing:g} 1/A apart (with 2 pi)"
    return f"{head}\n0\nGamma\n{' '.join(map(str, size))}\n0 0 0\n"


def potcar_titles(atoms: Atoms, section: DftSection) -> str:
    """Return the titles of the POTCAR, one line each, in the order of the POSCAR."""
    chosen = {**POTCAR, **section.vasp.potcar}
    return "".join(f"{chosen.get(e, e)}\n" for e in dict.fromkeys(atoms.symbols))


def input_files(
    atoms: Atoms, section: DftSection, name: str, *, relax: bool, ferromagnetic: bool
) -> dict[str, str]:
    """Return the text of each input file, by name."""
    ordered, _ = in_order(atoms)
    tags = incar(ordered, section, name, relax=relax, ferromagnetic=ferromagnetic)
    return {
        "INCAR": incar_text(tags),
        "KPOINTS": kpoints_text(ordered, section),
        "POSCAR": poscar(ordered, name),
        "POTCAR.titles": potcar_titles(ordered, section),
        "README": _readme(ordered, tags, section, name, ferromagnetic=ferromagnetic),
    }


def _readme(
    atoms: Atoms, tags: Mapping[str, Any], section: DftSection, name: str, *, ferromagnetic: bool
) -> str:
    counts = ", ".join(f"{n} {e}" for e, n in Counter(atoms.symbols).items())
    if ferromagnetic:
        assumed = (
            "Assumed: ferromagnetic order. All moments are parallel and their sum is fixed "
            f"(NUPDOWN = {tags['NUPDOWN']:g}), which pins the charge order.\nThe true "
            "magnetic order may be another one: `gasearch dft export --antiferromagnetic` writes "
            "a variant."
        )
    else:
        assumed = (
            "Assumed: antiferromagnetic order, neighbours antiparallel as far as it goes, "
            f"with the sum fixed (NUPDOWN = {tags['NUPDOWN']:g}). It is a level of its own."
        )
    titles = ", ".join(potcar_titles(atoms, section).split())
    return (
        f"{name}: {counts}\n\n"
        "POTCAR is not here, for its licence does not allow it: join the PBE sets named in\n"
        f"POTCAR.titles, in that order ({titles}).\n\n"
        f"{assumed}\n\n"
        "Settings: those of Petersen et al. 2026 (arXiv 2603.26471) where they are published: "
        "PBE+U, ENCUT,\nLASPH, LMAXMIX, ALGO, ISYM, ISMEAR and SIGMA, NUPDOWN, MAGMOM. The k-point "
        "mesh, PREC, EDIFF, the cell\n(ISIF = 2: fixed) and the POTCAR titles are gasearch's; "
        "[dft.vasp] in run.toml changes them.\n\n"
        "MAGMOM is by label: Fe2+ and Fe3+ are one species of the POSCAR, Fe2+ first. Afterwards,\n"
        "with OUTCAR (and vasprun.xml) in this folder: gasearch dft collect RUN\n"
    )


def finished_outcar(path: Path) -> Path:
    """Make sure that VASP ended by itself, and that electrons and geometry converged."""
    if "General timing and accounting" not in read_tail(path):
        raise RefusedOutputError(path, "it is truncated: VASP did not end by itself")
    text = read_text(path)
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


def outcar_of_vasprun(path: Path) -> Path:
    """Return the OUTCAR beside a vasprun.xml, which itself holds no moments."""
    if "</modeling>" not in read_tail(path):
        raise RefusedOutputError(path, "it is truncated: VASP did not end by itself")
    outcar = path.with_name(path.name.replace("vasprun.xml", "OUTCAR"))
    if outcar == path or not outcar.is_file():
        raise RefusedOutputError(path, "it holds no moments of atoms: put the OUTCAR beside it")
    return finished_outcar(outcar)


def settings_in(text: str) -> OutputSettings | None:
    """Return what an OUTCAR or a vasprun.xml says of its settings."""
    if "<modeling>" in text:
        cutoff = first_number(rf'<i name="ENCUT"> *({NUMBER}) *</i>', text)
        listed = re.search(r'<varray name="kpointlist" *>(.*?)</varray>', text, re.DOTALL)
        rows = re.findall(r"<v>(.*?)</v>", listed[1]) if listed else []
        points = [[float(part) for part in row.split()] for row in rows]
        return OutputSettings(cutoff, None, points or None)
    cutoff = first_number(rf"^ *ENCUT *= *({NUMBER})", text)
    if cutoff is None:
        return None
    after = text.partition("k-points in reciprocal lattice and weights:")[2]
    return OutputSettings(cutoff, _hubbard_u_in(text), kpoint_table(after))


def _hubbard_u_in(outcar: str) -> dict[str, float] | None:
    """Return U by element, in eV; None where the text has another number of elements."""
    elements = re.findall(r"VRHFIN *= *([A-Z][a-z]?)", outcar)
    values = re.search(rf"LDAUU *=((?: +{NUMBER})+)", outcar)
    if values is None:
        return {}
    if len(values[1].split()) != len(elements):
        return None
    rows = zip(elements, map(float, values[1].split()), strict=True)
    return {element: u for element, u in rows if u}


def vasprun_beside(output: Path) -> list[Path]:
    """Return the vasprun.xml beside an OUTCAR, where there is one."""
    path = output.with_name(output.name.replace("OUTCAR", "vasprun.xml"))
    return [path] if path != output and path.is_file() else []


VASP = Code(
    name="vasp",
    level_settings=lambda section, host: mesh_settings(section.vasp, host, "incar", "potcar"),
    output_names=("vasprun*.xml", "OUTCAR*"),
    outputs={"vasp-out": finished_outcar, "vasp-xml": outcar_of_vasprun},
    settings_in=settings_in,
    beside=vasprun_beside,
    write_inputs=input_files,
)

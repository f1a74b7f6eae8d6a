"""VASP inputs: INCAR, KPOINTS, POSCAR and the titles of the POTCAR, which cannot be passed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.io.oxidation_states import poscar
from gasearch.dft.codes.gpaw import correlated_orbital
from gasearch.dft.kpoints import mesh
from gasearch.dft.spins import alternating_signs, spins
from gasearch.run.dft_section import DftSection

POTCAR: Mapping[str, str] = {
    "Li": "Li_sv", "Na": "Na_pv", "K": "K_sv", "Mg": "Mg_pv", "Ca": "Ca_sv", "Ti": "Ti_pv",
    "V": "V_pv", "Cr": "Cr_pv", "Mn": "Mn_pv", "Fe": "Fe_pv", "Ni": "Ni_pv", "Cu": "Cu_pv",
    "Zn": "Zn", "Rb": "Rb_sv",
}  # fmt: skip
"""Titles of the PBE sets that are commonly taken; other elements have the set of their name."""
_L = {"p": 1, "d": 2, "f": 3}


def in_order(atoms: Atoms) -> tuple[Atoms, NDArray[np.int64]]:
    """Return a structure as a POSCAR has it, and where each atom of it stood.

    Elements lie together, in the order in which they first appear; Fe2+ and Fe3+ are one element,
    Fe2+ first.
    """
    first = {symbol: n for n, symbol in reversed(list(enumerate(atoms.symbols)))}
    charges = atoms.get_initial_charges()
    order = np.array(
        sorted(range(len(atoms)), key=lambda n: (first[atoms.symbols[n]], charges[n], n))
    )
    ordered: Atoms = atoms[order]
    return ordered, order


def signed_moments(atoms: Atoms, section: DftSection, *, ferromagnetic: bool) -> list[float]:
    """Return (n_atoms,) moments by label, alternating between neighbours if antiferromagnetic."""
    moments = spins(atoms, section.spin_states)
    if not ferromagnetic:
        moments = moments * alternating_signs(atoms, section.spin_states)
    return [float(m) for m in moments]


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
            "LDAUL": [_L[correlated_orbital(e)] if u else -1 for e, u in hubbard.items()],
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
    runs: list[tuple[str, int]] = []
    for word in words:
        if runs and runs[-1][0] == word:
            runs[-1] = (word, runs[-1][1] + 1)
        else:
            runs.append((word, 1))
    return " ".join(f"{n}*{word}" for word, n in runs)


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


def files(
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

"""VASP: INCAR, KPOINTS, POSCAR and the titles of the POTCAR, which cannot be passed on.

Its outputs are read in `vasp_outputs`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ase import Atoms

from gasearch.crystal.io.oxidation_states import poscar
from gasearch.dft.codes import vasp_outputs
from gasearch.dft.codes.contract import Code, ExpectedSettings
from gasearch.dft.codes.inputs import (
    ORBITAL_L,
    correlated_orbital,
    in_order,
    mesh_settings,
    signed_moments,
)
from gasearch.dft.kpoints import mesh
from gasearch.run.dft_section import DftSection, VaspSection

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


def expected(settings: Mapping[str, Any], start: Atoms | None) -> ExpectedSettings:
    """Return what VASP would say at a level, from the INCAR that is written for it.

    Parameters
    ----------
    start
        What the job begins with; without it, what goes by its atoms is not named.
    """
    section = _section_of(settings)
    atoms = Atoms() if start is None else in_order(start)[0]
    relax = settings["geometry"] != "as given"
    ferromagnetic = settings["spin"] == "ferromagnetic"
    tags = incar(atoms, section, "", relax=relax, ferromagnetic=ferromagnetic)
    own = {tag.upper() for tag in section.vasp.incar}
    elements = list(dict.fromkeys(atoms.symbols))
    texts = {tag: _value(tag, value) for tag, value in tags.items()}
    hubbard: dict[str, Mapping[str, str]] = {}
    if elements:
        is_on = vasp_outputs.normal("LDAU", texts.get("LDAU", "F")) == "T"
        nothing = " ".join("0" for _ in elements)
        for tag in vasp_outputs.HUBBARD_TAGS:
            values = texts.get(tag, nothing) if is_on else nothing
            hubbard[tag] = dict(zip(elements, values.split(), strict=False))
    u = settings["hubbard_u_eV"] if not own & {"LDAU", "LDAUU"} else None
    if hubbard:
        u = {element: float(value) for element, value in hubbard["LDAUU"].items()}
    titles = {**POTCAR, **section.vasp.potcar}
    of_elements = vasp_outputs.of_blocks(
        {tag: list(values.items()) for tag, values in hubbard.items()}
    )
    return ExpectedSettings(
        cutoff_eV=float(tags["ENCUT"]),
        hubbard_u_eV=u,
        kpoints_of_unit_cell=None if "KSPACING" in own else settings["kpoints_of_unit_cell"],
        tags=vasp_outputs.energy_tags(
            texts if start is not None else {t: v for t, v in texts.items() if t != "NUPDOWN"}
        ),
        of_elements={
            **{name: dict(blocks) for name, blocks in of_elements.items()},
            "POTCAR": {e: f"PAW_PBE {titles.get(e, e)}" for e in elements},
        },
    )


def _section_of(settings: Mapping[str, Any]) -> DftSection:
    """Return the part of [dft] that a level was made from."""
    shared = ("xc", "hubbard_u_eV", "smearing_eV", "spin_states")
    own = {key: settings[key] for key in VaspSection.model_fields if key in settings}
    return DftSection.model_validate({key: settings[key] for key in shared} | {"vasp": own})


VASP = Code(
    name="vasp",
    level_settings=lambda section, host: mesh_settings(section.vasp, host, "incar", "potcar"),
    output_names=("vasprun.xml", "OUTCAR"),
    outputs={
        "vasp-out": vasp_outputs.finished_outcar,
        "vasp-xml": vasp_outputs.outcar_of_vasprun,
    },
    settings_in=vasp_outputs.settings_in,
    expected=expected,
    converged_steps={
        "vasp-out": vasp_outputs.converged_steps,
        "vasp-xml": vasp_outputs.converged_steps_of_vasprun,
    },
    beside=vasp_outputs.vasprun_beside,
    write_inputs=input_files,
)

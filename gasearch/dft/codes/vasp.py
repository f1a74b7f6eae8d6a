"""VASP: INCAR, KPOINTS, POSCAR and the titles of the POTCAR, which cannot be passed on.

Its outputs are read in `vasp_outputs`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.config import cfg

from gasearch.crystal.host import Host
from gasearch.crystal.io.oxidation_states import poscar
from gasearch.crystal.species import species_of
from gasearch.dft.codes import vasp_outputs
from gasearch.dft.codes.contract import Code, ExpectedSettings, read_text
from gasearch.dft.codes.inputs import (
    ORBITAL_L,
    correlated_orbital,
    in_order,
    mesh_settings,
    signed_moments,
)
from gasearch.dft.kpoints import mesh
from gasearch.dft.spins import bonded_anions, input_doubts, moments_in_words, spin_of
from gasearch.errors import UsageError
from gasearch.run.dft_section import DftSection, VaspSection

POTCAR: Mapping[str, str] = {
    "Li": "Li_sv", "Na": "Na_pv", "K": "K_sv", "Mg": "Mg_pv", "Ca": "Ca_sv", "Ti": "Ti_pv",
    "V": "V_pv", "Cr": "Cr_pv", "Mn": "Mn_pv", "Fe": "Fe_pv", "Ni": "Ni_pv", "Cu": "Cu_pv",
    "Zn": "Zn", "Rb": "Rb_sv",
}  # fmt: skip
"""Titles of the PBE sets that are commonly taken; other elements have the set of their name."""
_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "gasearch": {},
    "petersen2026": {"EDIFF": 1e-6, "NELM": 300, "LREAL": "Auto", "SYMPREC": 1e-7},
}
"""Tags of the INCARs of the public workflow of Petersen et al. 2026, where ours are others."""
_THEIR_CELL, _THEIR_MESH = (10.4, 18.7, 9.9), (3, 1, 3)  # 1x3x2, Å
SURROGATE = "1-surrogate"
_DRAWN_IN = 0.05  # of a bond
_SWAP_BACK = """\
#!/bin/sh
# The geometry of {folder}/CONTCAR as POSCAR here, with {true} in place of {other}.
set -e
test -s {folder}/CONTCAR
awk 'NR == 6 {{ print "{elements}"; next }} NR == 7 {{ print "{counts}"; next }} {{ print }}' \\
    {folder}/CONTCAR > POSCAR
"""


def frees_cell(own: VaspSection) -> bool:
    """Return whether relaxations change the cell."""
    return own.preset == "petersen2026"


def k_mesh(own: VaspSection, atoms: Atoms) -> tuple[int, int, int]:
    """Return how many k-points lie along each reciprocal vector of a supercell."""
    if own.mesh:
        n1, n2, n3 = own.mesh
        return n1, n2, n3
    if own.preset == "gasearch":
        return mesh(atoms, own.k_spacing)
    if np.allclose(atoms.cell.lengths(), _THEIR_CELL, rtol=0.1, atol=0):
        return _THEIR_MESH
    edges = " x ".join(f"{length:.1f}" for length in atoms.cell.lengths())
    raise UsageError(
        f"the mesh of the preset {own.preset} is known for the 1x3x2 cell of olivine alone, "
        f"3 x 1 x 3, and this cell is {edges} Å: set mesh under [dft.vasp]."
    )


def _blocks(atoms: Atoms) -> list[tuple[str, int]]:
    """Return the blocks of a POSCAR: elements that lie together, and how many atoms each has."""
    return [(element, len([*same])) for element, same in itertools.groupby(atoms.symbols)]


def incar(
    atoms: Atoms, section: DftSection, name: str, *, relax: bool, ferromagnetic: bool
) -> dict[str, Any]:
    """Return the tags of the INCAR for a structure that is in the order of its POSCAR."""
    moments = signed_moments(atoms, section, ferromagnetic=ferromagnetic)
    hubbard = [(e, section.hubbard_u_eV.get(e, 0.0)) for e, _ in _blocks(atoms)]
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
        "LMAXMIX": 6 if any(u and correlated_orbital(e) == "f" for e, u in hubbard) else 4,
        "LWAVE": False,
        "LCHARG": False,
    }
    tags |= _PRESETS[section.vasp.preset]
    if any(u for _, u in hubbard):
        tags |= {
            "LDAU": True,
            "LDAUTYPE": 2,
            "LDAUL": [ORBITAL_L[correlated_orbital(e)] if u else -1 for e, u in hubbard],
            "LDAUU": [u for _, u in hubbard],
            "LDAUJ": [0.0] * len(hubbard),
            "LDAUPRINT": 1,
        }
    if relax:
        isif = 3 if frees_cell(section.vasp) else 2
        tags |= {"IBRION": 2, "ISIF": isif, "NSW": section.max_steps, "EDIFFG": -section.fmax}
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


def kpoints_text(section: DftSection, size: tuple[int, int, int]) -> str:
    """Return a KPOINTS file: a mesh that holds Gamma."""
    own = section.vasp
    is_spaced = not own.mesh and own.preset == "gasearch"
    head = f"at most {own.k_spacing:g} 1/A apart (with 2 pi)" if is_spaced else "as set"
    return f"{head}\n0\nGamma\n{' '.join(map(str, size))}\n0 0 0\n"


def potcar_titles(atoms: Atoms, section: DftSection) -> str:
    """Return the titles of the POTCAR, one line each, in the order of the POSCAR."""
    chosen = {**POTCAR, **section.vasp.potcar}
    return "".join(f"{chosen.get(e, e)}\n" for e, _ in _blocks(atoms))


def potcar(titles: Sequence[str]) -> str | None:
    """Return the POTCAR, where ASE or pymatgen are told where the PBE sets are; else None.

    ASE by VASP_PP_PATH, in the environment or its config.ini; pymatgen by PMG_VASP_PSP_DIR, in the
    environment or .pmgrc.yaml.
    """
    known = {name: path for name, path in _potcar_paths().items() if path}
    if not known:
        return None
    return "".join(_potcar_of(title, known) for title in titles)


_POTCAR_PLACES = {
    "VASP_PP_PATH": ("potpaw_PBE/{}/POTCAR", "potpaw_PBE.54/{}/POTCAR", "potpaw_PBE.64/{}/POTCAR"),
    "PMG_VASP_PSP_DIR": ("POT_GGA_PAW_PBE/POTCAR.{}", "POT_GGA_PAW_PBE/{}/POTCAR"),
}


def _potcar_paths() -> dict[str, str]:
    """Return what ASE and pymatgen are told, by the name of their setting."""
    found = {name: os.environ.get(name, "") for name in _POTCAR_PLACES}
    if not found["VASP_PP_PATH"] and "VASP_PP_PATH" in cfg:
        found["VASP_PP_PATH"] = str(cfg["VASP_PP_PATH"])
    own = os.environ.get("PMG_CONFIG_FILE", "")
    for file in (own, "~/.config/.pmgrc.yaml", "~/.pmgrc.yaml"):
        path = Path(file).expanduser()
        if file and path.is_file() and not found["PMG_VASP_PSP_DIR"]:
            text = path.read_text(encoding="utf-8", errors="replace")
            told = re.search(r"^PMG_VASP_PSP_DIR: *(.+?) *$", text, re.MULTILINE)
            found["PMG_VASP_PSP_DIR"] = told[1].strip("'\"") if told else ""
    return found


def _potcar_of(title: str, known: Mapping[str, str]) -> str:
    files = [
        Path(path).expanduser() / (place.format(title) + ending)
        for name, path in known.items()
        for place in _POTCAR_PLACES[name]
        for ending in ("", ".gz")
    ]
    for file in files:
        if file.is_file():
            return read_text(file)
    paths = " and ".join(f"{name} = {path}" for name, path in known.items())
    raise UsageError(
        f"there is no POTCAR of {title} ({paths}; looked for {files[0]}): correct the path, name "
        "another title under [dft.vasp] potcar, or take the setting away to export without POTCAR."
    )


def input_files(
    atoms: Atoms,
    section: DftSection,
    name: str,
    *,
    relax: bool,
    ferromagnetic: bool,
    lattice: Atoms | None = None,
) -> dict[str, str]:
    """Return the text of each input file, by name.

    Parameters
    ----------
    lattice
        Whose cell decides the mesh of k-points; the structure itself if None.
    """
    ordered, _ = in_order(atoms)
    size = k_mesh(section.vasp, ordered if lattice is None else lattice)
    tags = incar(ordered, section, name, relax=relax, ferromagnetic=ferromagnetic)
    files = _files(ordered, tags, section, poscar(ordered, name), size)
    stage = {}
    if relax and frees_cell(section.vasp):
        stage = _surrogate_files(ordered, section, name, size, ferromagnetic=ferromagnetic)
    files["README"] = _readme(
        ordered, tags, section, name, files=(*files, *stage), ferromagnetic=ferromagnetic
    )
    return files | stage


def _files(
    atoms: Atoms,
    tags: Mapping[str, Any],
    section: DftSection,
    poscar_text: str,
    size: tuple[int, int, int],
) -> dict[str, str]:
    titles = potcar_titles(atoms, section)
    joined = potcar(titles.split())
    return {
        "INCAR": incar_text(tags),
        "KPOINTS": kpoints_text(section, size),
        "POSCAR": poscar_text,
        "POTCAR.titles": titles,
    } | ({} if joined is None else {"POTCAR": joined})


def _surrogate_files(
    ordered: Atoms,
    section: DftSection,
    name: str,
    size: tuple[int, int, int],
    *,
    ferromagnetic: bool,
) -> dict[str, str]:
    """Return the inputs of a first relaxation with Ga in place of Fe3+, and what swaps it back.

    The anions around each such site begin 5 % nearer to it. The atoms keep their sequence, so that
    the swap changes two lines of a POSCAR.
    """
    species = species_of(ordered)
    sites = {
        n: section.surrogates[str(one)]
        for n, one in enumerate(species)
        if str(one) in section.surrogates and spin_of(one, section.spin_states)
    }
    if not sites:
        return {}
    drawn: Atoms = ordered.copy()
    for site in sites:
        anions = bonded_anions(ordered, site)
        drawn.positions[anions] -= _DRAWN_IN * ordered.get_distances(
            site, anions, mic=True, vector=True
        )
    other = drawn.copy()
    other.symbols = [sites.get(n, e) for n, e in enumerate(ordered.symbols)]
    other.set_initial_charges(ordered.get_initial_charges())
    lines = poscar(drawn, f"{name}, with surrogates").splitlines()
    lines[5], lines[6] = _block_lines(other)
    tags = incar(other, section, name, relax=True, ferromagnetic=ferromagnetic)
    files = _files(other, tags, section, "\n".join([*lines, ""]), size)
    elements, counts = _block_lines(ordered)
    swap = _SWAP_BACK.format(
        folder=SURROGATE,
        true=", ".join(sorted({str(species[n]) for n in sites})),
        other=", ".join(sorted(set(sites.values()))),
        elements=elements,
        counts=counts,
    )
    return {f"{SURROGATE}/{file}": text for file, text in files.items()} | {"swap_back.sh": swap}


def _block_lines(atoms: Atoms) -> tuple[str, str]:
    blocks = _blocks(atoms)
    return " ".join(e for e, _ in blocks), " ".join(str(n) for _, n in blocks)


_SETTINGS = {
    "gasearch": (
        "Settings: gasearch's own (preset gasearch), at fixed cell (ISIF = 2). Those of Petersen "
        'et al. 2026\n(arXiv 2603.26471) are the preset "petersen2026" of [dft.vasp] in run.toml.'
    ),
    "petersen2026": (
        "Settings: those of the INCARs of Petersen et al. 2026 (arXiv 2603.26471): ENCUT, EDIFF, "
        "NELM, LREAL, SYMPREC,\nLASPH, ALGO, ISIF = 3, EDIFFG, U, and for the 1x3x2 cell the "
        "mesh. PREC, NSW and the POTCAR titles are gasearch's."
    ),
}


def _readme(
    atoms: Atoms,
    tags: Mapping[str, Any],
    section: DftSection,
    name: str,
    *,
    files: Sequence[str],
    ferromagnetic: bool,
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
    pseudos = (
        f"POTCAR: the PBE sets {titles}, from the path that ASE or pymatgen are told.\n\n"
        if "POTCAR" in files
        else "POTCAR is not here, for its licence does not allow it: join the PBE sets named in\n"
        f"POTCAR.titles, in that order ({titles}); with VASP_PP_PATH or PMG_VASP_PSP_DIR set, "
        "it is written.\n\n"
    )
    doubts = "".join(f"Beware: {doubt}.\n" for doubt in input_doubts(species_of(atoms), section))
    stages = (
        f"Two steps: run VASP in {SURROGATE}, where a closed shell stands in place of each "
        "oxidised site, its anions\n5 % nearer; then `sh swap_back.sh` here, which makes POSCAR "
        "from its CONTCAR, and run VASP here.\n\n"
        if "swap_back.sh" in files
        else ""
    )
    return (
        f"{name}: {counts}\n\n{pseudos}{assumed}\n{doubts}\n{stages}"
        f"{_SETTINGS[section.vasp.preset]}\n[dft] and [dft.vasp] in run.toml change them.\n\n"
        f"MAGMOM is by label ({moments_in_words(atoms, section.spin_states) or 'none'}): the "
        "oxidation states of an element are one\nspecies of the POSCAR, lowest first. Afterwards,\n"
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


def level_settings(section: DftSection, host: Host) -> dict[str, Any]:
    """Return the part of a level that is VASP's own; our preset goes without saying."""
    own = section.vasp
    settings = mesh_settings(own, host, "incar", "potcar", size=k_mesh(own, host.atoms))
    if own.preset != "gasearch":
        settings |= {"preset": own.preset, "cell_is_free": frees_cell(own)}
    return settings


VASP = Code(
    name="vasp",
    level_settings=level_settings,
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
    complete_steps={
        "vasp-out": vasp_outputs.without_half_a_stress,
        "vasp-xml": vasp_outputs.complete_vasprun,
    },
    beside=vasp_outputs.vasprun_beside,
    write_inputs=input_files,
)

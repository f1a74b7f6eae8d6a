"""ABINIT with PAW sets: its input, written by ASE, and its outputs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ase import Atoms

from gasearch.dft.codes.contract import Code, read_text
from gasearch.dft.codes.inputs import (
    ORBITAL_L,
    correlated_orbital,
    in_order_with_moments,
    mesh_settings,
    pseudopotential_files,
    readme,
)
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.kpoints import mesh
from gasearch.run.dft_section import DftSection


def input_files(
    atoms: Atoms,
    section: DftSection,
    name: str,
    *,
    relax: bool,
    ferromagnetic: bool,
    lattice: Atoms | None = None,
) -> dict[str, str]:
    """Return the input of ABINIT with PAW sets, which are the user's."""
    from ase.io.abinit import write_abinit_in

    ordered, moments = in_order_with_moments(atoms, section, ferromagnetic=ferromagnetic)
    own = section.abinit
    pseudos = pseudopotential_files(ordered, own.pseudopotentials, "xml")
    elements = list(dict.fromkeys(ordered.symbols))
    numbers = list(dict.fromkeys(ordered.numbers.tolist()))
    hubbard = [section.hubbard_u_eV.get(e, 0.0) for e in elements]
    lpawu = [
        ORBITAL_L[correlated_orbital(e)] if u else -1
        for e, u in zip(elements, hubbard, strict=True)
    ]
    size = mesh(ordered if lattice is None else lattice, own.k_spacing)
    raw = [
        "kptopt 3",
        f"ngkpt {' '.join(map(str, size))}",
        "nshiftk 1",
        "shiftk 0.0 0.0 0.0",
        f"pawecutdg {2 * own.cutoff_eV:g} eV",
        f"spinmagntarget {round(sum(moments), 6):g}",
        "nsym 1",
        "prtdensph 1",
    ]
    if any(hubbard):
        raw += [
            "usepawu 1",
            f"lpawu {' '.join(map(str, lpawu))}",
            f"upawu {' '.join(f'{u:g}' for u in hubbard)} eV",
            f"jpawu {' '.join('0' for _ in hubbard)} eV",
        ]
    if relax:
        raw += ['geoopt "bfgs"', "optcell 0", f"ntime {section.max_steps}"]
        raw += [f"tolmxf {section.fmax / 51.42206747632:.3e}"]
    param: dict[str, Any] = {
        "pps": "pawxml",
        "ecut": own.cutoff_eV,
        "occopt": 7,
        "tsmear": section.smearing_eV,
        "nstep": 200,
        "toldfe": 1e-6,
        "raw": raw,
    }
    text = io.StringIO()
    write_abinit_in(text, ordered, param=param, species=numbers, pseudos=list(pseudos.values()))
    head = readme(ordered, section, name, pseudos, moments, ferromagnetic=ferromagnetic)
    more = "Afterwards put the .abo file in this folder and run: gasearch dft collect RUN\n"
    return {"abinit.abi": text.getvalue(), "README": head + more}


def finished_output(path: Path) -> Path:
    """Make sure that ABINIT ended by itself, and that the electrons converged."""
    text = read_text(path)
    if "Calculation completed" not in text:
        raise RefusedOutputError(path, "it is truncated: ABINIT did not end by itself")
    if "ScfConvergenceWarning" in text or "not enough SCF cycles to converge" in text:
        raise RefusedOutputError(path, "the electrons did not converge")
    return path


ABINIT = Code(
    name="abinit",
    level_settings=lambda section, host: mesh_settings(section.abinit, host, "pseudopotentials"),
    output_names=("abinit.abo", "*.abo"),
    outputs={"abinit-out": finished_output},
    write_inputs=input_files,
)

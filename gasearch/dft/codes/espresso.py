"""Quantum ESPRESSO: inputs of pw.x, written by ASE, and its outputs."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.units import Rydberg

from gasearch.dft.codes.contract import (
    NUMBER,
    Code,
    ExpectedSettings,
    OutputSettings,
    first_number,
    read_text,
)
from gasearch.dft.codes.inputs import (
    correlated_orbital,
    in_order_with_moments,
    mesh_settings,
    pseudopotential_files,
    readme,
)
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.kpoints import mesh
from gasearch.run.dft_section import DftSection

_SHELL = {"p": "2p", "d": "3d", "f": "4f"}


def input_files(
    atoms: Atoms,
    section: DftSection,
    name: str,
    *,
    relax: bool,
    ferromagnetic: bool,
    lattice: Atoms | None = None,
) -> dict[str, str]:
    """Return the input of pw.x; its files of pseudopotentials are the user's."""
    from ase.io.espresso import write_espresso_in

    ordered, moments = in_order_with_moments(atoms, section, ferromagnetic=ferromagnetic)
    own = section.espresso
    pseudos = pseudopotential_files(ordered, own.pseudopotentials, "UPF")
    names = _species_names(ordered)
    hubbard = [
        f"U {label}-{_SHELL[correlated_orbital(e)]} {section.hubbard_u_eV[e]:g}"
        for label, e in names.items()
        if section.hubbard_u_eV.get(e)
    ]
    data: dict[str, Any] = {
        "control": {
            "calculation": "relax" if relax else "scf",
            "prefix": "job",
            "outdir": "./out",
            "pseudo_dir": "./pseudo",
            "tprnfor": True,
            "nstep": section.max_steps,
            "forc_conv_thr": section.fmax / (Rydberg / 0.529177210903),
        },
        "system": {
            "ecutwfc": own.cutoff_eV / Rydberg,
            "ecutrho": own.density_cutoff_eV / Rydberg,
            "nspin": 2,
            "tot_magnetization": round(sum(moments), 6),
            "nosym": True,
            "occupations": "smearing",
            "smearing": "gaussian",
            "degauss": section.smearing_eV / Rydberg,
        },
        "electrons": {"conv_thr": 1e-7, "mixing_beta": 0.3, "electron_maxstep": 200},
    }
    text = io.StringIO()
    write_espresso_in(
        text,
        ordered,
        input_data=data,
        pseudopotentials=pseudos,
        kpts=mesh(ordered if lattice is None else lattice, own.k_spacing),
        additional_cards=["HUBBARD ortho-atomic", *hubbard] if hubbard else None,
    )
    head = readme(ordered, section, name, pseudos, moments, ferromagnetic=ferromagnetic)
    more = (
        "starting_magnetization is in Bohr magnetons, as pw.x 7.3 and later take it; divide by the "
        "valence charge for\nolder ones. The HUBBARD card needs pw.x 7.1 or later.\n"
        "Afterwards put espresso.pwo in this folder and run: gasearch dft collect RUN\n"
        "Moments of atoms are needed: pw.x prints them at the end of each SCF.\n"
    )
    return {"espresso.pwi": text.getvalue(), "README": head + more}


def _species_names(atoms: Atoms) -> dict[str, str]:
    """Return the elements by the labels that ASE gives them: one for each moment, Fe and Fe1."""
    found: dict[tuple[str, float], str] = {}
    for symbol, moment in zip(atoms.symbols, atoms.get_initial_magnetic_moments(), strict=True):
        if (symbol, moment) not in found:
            n_same = sum(key[0] == symbol for key in found)
            found[symbol, moment] = f"{symbol}{n_same or ''}"
    return {label: symbol for (symbol, _), label in found.items()}


def finished_output(path: Path) -> Path:
    """Make sure that pw.x ended by itself, and that electrons and geometry converged."""
    text = read_text(path)
    if "JOB DONE." not in text:
        raise RefusedOutputError(path, "it is truncated: pw.x did not end by itself")
    if "convergence NOT achieved" in text:
        raise RefusedOutputError(path, "the electrons did not converge")
    if "bfgs failed" in text or "The maximum number of steps has been reached" in text:
        raise RefusedOutputError(path, "the geometry did not converge")
    return path


def settings_in(text: str) -> OutputSettings | None:
    """Return what an output of pw.x says of its settings; k-points are not compared."""
    cutoff = first_number(rf"kinetic-energy cutoff *= *({NUMBER}) *Ry", text)
    if "Program PWSCF" not in text or cutoff is None:
        return None
    density = first_number(rf"charge density cutoff *= *({NUMBER}) *Ry", text)
    xc = re.search(r"Exchange-correlation *= *([^(\n]+)", text)
    tags = {
        "density cutoff": None if density is None else _rydbergs(density),
        "xc": " ".join(xc[1].split()).replace("SLA PW PBX PBC", "PBE") if xc else None,
        "geometry": "relaxed" if re.search(r"^ *nstep *=", text, re.MULTILINE) else "as given",
    }
    return OutputSettings(
        cutoff_eV=cutoff * Rydberg,
        hubbard_u_eV=_hubbard_u_in(text),
        tags={name: one for name, one in tags.items() if one is not None},
    )


def _hubbard_u_in(text: str) -> list[tuple[str, float]] | None:
    """Return U by species; None where it is told in another way than that of pw.x 7.1."""
    species = re.findall(r"PseudoPot\. # *\d+ for +([A-Z][a-z]?)", text)
    told = re.findall(rf"^ *U\(([A-Z][a-z]?)\w*-\d[spdf]\) *= *({NUMBER})", text, re.MULTILINE)
    if not told and re.search(r"Hubbard|LDA\+U|DFT\+U", text):
        return None
    values = dict(told)
    return [(element, float(values.get(element, 0.0))) for element in species] or None


def _rydbergs(cutoff: float) -> str:
    return f"{cutoff:.1f} Ry"


def expected(settings: Mapping[str, Any], start: Atoms | None) -> ExpectedSettings:
    """Return what pw.x would say at a level."""
    del start
    tags = {
        "density cutoff": _rydbergs(settings["density_cutoff_eV"] / Rydberg),
        "xc": settings["xc"],
        "geometry": "as given" if settings["geometry"] == "as given" else "relaxed",
    }
    return replace(ExpectedSettings.of(settings), tags=tags)


ESPRESSO = Code(
    name="espresso",
    level_settings=lambda section, host: mesh_settings(
        section.espresso, host, "density_cutoff_eV", "pseudopotentials"
    ),
    output_names=("espresso.pwo", "espresso.out", "*.pwo", "espresso*.out"),
    outputs={"espresso-out": finished_output},
    settings_in=settings_in,
    expected=expected,
    write_inputs=input_files,
)

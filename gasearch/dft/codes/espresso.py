"""Inputs of Quantum ESPRESSO and ABINIT, written by ASE."""

from __future__ import annotations

import io
from typing import Any

from ase import Atoms
from ase.units import Rydberg

from gasearch.dft.codes.gpaw import correlated_orbital
from gasearch.dft.codes.vasp import in_order, signed_moments
from gasearch.dft.kpoints import mesh
from gasearch.run.dft_section import AbinitSection, DftSection, EspressoSection

_SHELL = {"p": "2p", "d": "3d", "f": "4f"}
_L = {"p": 1, "d": 2, "f": 3}


def espresso_files(
    atoms: Atoms, section: DftSection, name: str, *, relax: bool, ferromagnetic: bool
) -> dict[str, str]:
    """Return the input of pw.x; its files of pseudopotentials are the user's."""
    from ase.io.espresso import write_espresso_in

    ordered, moments = _magnetic(atoms, section, ferromagnetic=ferromagnetic)
    own, pseudos = section.espresso, _pseudos(ordered, section.espresso, "UPF")
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
        kpts=mesh(ordered, own.k_spacing),
        additional_cards=["HUBBARD ortho-atomic", *hubbard] if hubbard else None,
    )
    readme = _readme(name, pseudos, moments, ferromagnetic=ferromagnetic)
    more = (
        "starting_magnetization is in Bohr magnetons, as pw.x 7.3 and later take it; divide by the "
        "valence charge for\nolder ones. The HUBBARD card needs pw.x 7.1 or later.\n"
        "Afterwards put espresso.pwo in this folder and run: gasearch dft collect RUN\n"
        "Moments of atoms are needed: pw.x prints them at the end of each SCF.\n"
    )
    return {"espresso.pwi": text.getvalue(), "README": readme + more}


def abinit_files(
    atoms: Atoms, section: DftSection, name: str, *, relax: bool, ferromagnetic: bool
) -> dict[str, str]:
    """Return the input of ABINIT with PAW sets, which are the user's."""
    from ase.io.abinit import write_abinit_in

    ordered, moments = _magnetic(atoms, section, ferromagnetic=ferromagnetic)
    own, pseudos = section.abinit, _pseudos(ordered, section.abinit, "xml")
    elements = list(dict.fromkeys(ordered.symbols))
    numbers = list(dict.fromkeys(ordered.numbers.tolist()))
    hubbard = [section.hubbard_u_eV.get(e, 0.0) for e in elements]
    lpawu = [_L[correlated_orbital(e)] if u else -1 for e, u in zip(elements, hubbard, strict=True)]
    size = mesh(ordered, own.k_spacing)
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
    readme = _readme(name, pseudos, moments, ferromagnetic=ferromagnetic)
    more = "Afterwards put the .abo file in this folder and run: gasearch dft collect RUN\n"
    return {"abinit.abi": text.getvalue(), "README": readme + more}


def _magnetic(
    atoms: Atoms, section: DftSection, *, ferromagnetic: bool
) -> tuple[Atoms, list[float]]:
    ordered, _ = in_order(atoms)
    moments = signed_moments(ordered, section, ferromagnetic=ferromagnetic)
    ordered.set_initial_magnetic_moments(moments)
    return ordered, moments


def _species_names(atoms: Atoms) -> dict[str, str]:
    """Return the elements by the labels that ASE gives them: one for each moment, Fe and Fe1."""
    found: dict[tuple[str, float], str] = {}
    for symbol, moment in zip(atoms.symbols, atoms.get_initial_magnetic_moments(), strict=True):
        if (symbol, moment) not in found:
            n_same = sum(key[0] == symbol for key in found)
            found[symbol, moment] = f"{symbol}{n_same or ''}"
    return {label: symbol for (symbol, _), label in found.items()}


def _pseudos(atoms: Atoms, section: EspressoSection | AbinitSection, ending: str) -> dict[str, str]:
    elements = dict.fromkeys(atoms.symbols)
    return {e: section.pseudopotentials.get(e, f"{e}.{ending}") for e in elements}


def _readme(
    name: str, pseudos: dict[str, str], moments: list[float], *, ferromagnetic: bool
) -> str:
    order = "ferromagnetic" if ferromagnetic else "antiferromagnetic"
    return (
        f"{name}\n\n"
        f"Assumed: {order} order, total moment fixed to {sum(moments):g}, which pins the charge "
        "order.\n"
        f"Pseudopotentials are not here; supply {', '.join(pseudos.values())}, or name yours in "
        "run.toml.\n"
    )

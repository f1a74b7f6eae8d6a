"""The level of theory of DFT: a code and its settings, down to k set and treatment of geometry.

Two results may share a hull only where all of this is the same; a hash of it is in the name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gasearch.crystal.host import Host
from gasearch.dft.kpoints import canonical, gpaw_points, grid, mesh
from gasearch.errors import UsageError
from gasearch.run.dft_section import DftSection

Code = Literal["gpaw", "vasp", "espresso", "abinit"]
CODES: tuple[Code, ...] = ("gpaw", "vasp", "espresso", "abinit")


@dataclass(frozen=True)
class DftLevel:
    """What computes DFT energies.

    Parameters
    ----------
    settings
        All that energies depend on, as JSON has it; the hull of another one is another hull.
    """

    code: str
    name: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, code: str, label: str, settings: Mapping[str, Any]) -> DftLevel:
        """Return a level that is named after its settings."""
        text = json.dumps(settings, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return cls(code, f"{code}-{label}-{digest}", json.loads(text))


def dft_level(
    code: str, section: DftSection, host: Host, *, relax: bool = True, ferromagnetic: bool = True
) -> DftLevel:
    """Return the level that a code has with these settings in this supercell."""
    if code not in CODES:
        raise UsageError(f"unknown code {code!r}: expected one of {', '.join(CODES)}.")
    own = _OWN[code](section, host)
    elements = {e for s in host.sublattices for e in s.elements} | set(host.atoms.symbols)
    hubbard = {e: u for e, u in section.hubbard_u_eV.items() if e in elements and u}
    settings = {
        "code": code,
        "xc": section.xc,
        "hubbard_u_eV": hubbard,
        "smearing_eV": section.smearing_eV,
        "spin": "ferromagnetic" if ferromagnetic else "antiferromagnetic",
        "spin_states": dict(section.spin_states),
        "geometry": "relaxed at fixed cell" if relax else "as given",
        **own,
    }
    label = f"{section.xc.lower()}{'u' if hubbard else ''}{own['cutoff_eV']:.0f}"
    label += "" if relax else "-sp"
    return DftLevel.of(code, label if ferromagnetic else f"{label}-afm", settings)


def _gpaw(section: DftSection, host: Host) -> dict[str, Any]:
    own = section.gpaw
    points = gpaw_points(host, own.kpoints, own.k_spacing)
    return {"cutoff_eV": own.cutoff_eV, "kpoints_of_unit_cell": canonical(points, host)}


def _vasp(section: DftSection, host: Host) -> dict[str, Any]:
    own = section.vasp
    return {
        "cutoff_eV": own.cutoff_eV,
        "kpoints_of_unit_cell": _mesh_points(host, own.k_spacing),
        "incar": dict(own.incar),
        "potcar": dict(own.potcar),
    }


def _espresso(section: DftSection, host: Host) -> dict[str, Any]:
    own = section.espresso
    return {
        "cutoff_eV": own.cutoff_eV,
        "density_cutoff_eV": own.density_cutoff_eV,
        "kpoints_of_unit_cell": _mesh_points(host, own.k_spacing),
        "pseudopotentials": dict(own.pseudopotentials),
    }


def _abinit(section: DftSection, host: Host) -> dict[str, Any]:
    own = section.abinit
    return {
        "cutoff_eV": own.cutoff_eV,
        "kpoints_of_unit_cell": _mesh_points(host, own.k_spacing),
        "pseudopotentials": dict(own.pseudopotentials),
    }


def _mesh_points(host: Host, spacing: float) -> list[list[float]]:
    return canonical(grid(mesh(host.atoms, spacing)), host)


_OWN = {"gpaw": _gpaw, "vasp": _vasp, "espresso": _espresso, "abinit": _abinit}

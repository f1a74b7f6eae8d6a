"""The level of theory of DFT: a code and its settings, down to k set and treatment of geometry.

Two results may share a hull only where all of this is the same; a hash of it is in the name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gasearch.crystal.host import Host
from gasearch.dft.codes.registry import code_named
from gasearch.dft.spins import with_usual_spins
from gasearch.run.dft_section import DftSection

_RELAXED = "relaxed"
_SINGLE_POINT = "-sp"
_ANTIFERROMAGNETIC = "-afm"


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
    known = code_named(code)
    own = known.level_settings(section, host)
    extent = "with its cell" if own.pop("cell_is_free", False) else "at fixed cell"
    electrons = _electrons(section, host, ferromagnetic) if known.has_electrons else {}
    geometry = f"{_RELAXED} {extent}" if relax else "as given"
    named = own.pop("label", "")
    settings = {"code": code, **electrons, "geometry": geometry, **own}
    label = named or _label(section, settings)
    label += "" if relax else _SINGLE_POINT
    return DftLevel.of(code, label if ferromagnetic else label + _ANTIFERROMAGNETIC, settings)


def level_of_frames(level: DftLevel) -> str:
    """Return the name by which labelled frames of a level go: that of its single points.

    Each step of a relaxation is a single point, so frames of both may be learned together.
    """
    if not str(level.settings.get("geometry", "")).startswith(_RELAXED):
        return level.name
    label = level.name.removeprefix(f"{level.code}-").rpartition("-")[0]
    ending = _ANTIFERROMAGNETIC if label.endswith(_ANTIFERROMAGNETIC) else ""
    label = label.removesuffix(ending) + _SINGLE_POINT + ending
    return DftLevel.of(level.code, label, {**level.settings, "geometry": "as given"}).name


def _electrons(section: DftSection, host: Host, ferromagnetic: bool) -> dict[str, Any]:
    elements = {e for s in host.sublattices for e in s.elements} | set(host.atoms.symbols)
    return {
        "xc": section.xc,
        "hubbard_u_eV": {e: u for e, u in section.hubbard_u_eV.items() if e in elements and u},
        "smearing_eV": section.smearing_eV,
        "spin": "ferromagnetic" if ferromagnetic else "antiferromagnetic",
        "spin_states": dict(with_usual_spins(section, host).spin_states),
    }


def _label(section: DftSection, settings: Mapping[str, Any]) -> str:
    hubbard = "u" if settings["hubbard_u_eV"] else ""
    label = f"{section.xc.lower()}{hubbard}{settings['cutoff_eV']:.0f}"
    return f"{label}-{settings['preset']}" if "preset" in settings else label

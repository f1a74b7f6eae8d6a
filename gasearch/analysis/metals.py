"""Energies of the working ion's metal at DFT levels, which voltages are measured against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GPAW_PBE_450: Mapping[str, float] = {"Na": -1.32195}
"""In eV per atom: GPAW, PBE, plane waves 450 eV; bcc Na, a = 4.2006 Å, 14 x 14 x 14 k-points."""
KNOWN = f"GPAW, PBE, 450 eV: {', '.join(GPAW_PBE_450)}"
"""For which levels and metals there is an energy, in words."""


def metal_energy(settings: Mapping[str, Any], element: str) -> float | None:
    """Return the energy of a metal in eV per atom at a DFT level, or None where it is not known.

    Parameters
    ----------
    settings
        Of the level. Its k set, U and smearing are the cathode's and say nothing about a metal.
    """
    own = (settings.get("code"), settings.get("xc"), settings.get("cutoff_eV"))
    return GPAW_PBE_450.get(element) if own == ("gpaw", "PBE", 450.0) else None

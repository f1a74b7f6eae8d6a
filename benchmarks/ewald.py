"""The Ewald matrix that the Coulomb landscapes stand on: that of gasearch."""

from __future__ import annotations

from gasearch.surrogate.electrostatics import COULOMB, ewald_matrix

__all__ = ["COULOMB", "ewald_matrix"]

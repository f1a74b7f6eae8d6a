"""Checks for authors of plug-ins: that a potential or an operator keeps its contract.

Each checker is imported when it is asked for, so that a check of operators needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gasearch.testing.operators import OperatorCheckError, check_operator
    from gasearch.testing.potentials import PotentialCheckError, check_potential
    from gasearch.testing.toy import exclusive_host, toy_host

_HOMES = {
    "OperatorCheckError": "gasearch.testing.operators",
    "PotentialCheckError": "gasearch.testing.potentials",
    "check_operator": "gasearch.testing.operators",
    "check_potential": "gasearch.testing.potentials",
    "exclusive_host": "gasearch.testing.toy",
    "toy_host": "gasearch.testing.toy",
}

__all__ = [
    "OperatorCheckError",
    "PotentialCheckError",
    "check_operator",
    "check_potential",
    "exclusive_host",
    "toy_host",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)

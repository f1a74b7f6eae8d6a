"""Ground states of mixed-valence battery cathodes: working-ion and charge order, searched together.

The names below are what scripts and plug-ins import. Each is loaded when it is asked for: `import
gasearch` alone brings no numpy, torch, pymatgen or potential.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing, which would be the only import

if TYPE_CHECKING:
    from gasearch.analysis.findings import Findings, read_run
    from gasearch.analysis.joint_hull import joint_hull
    from gasearch.analysis.voltage import hull_voltage
    from gasearch.crystal.decoration import Decoration
    from gasearch.crystal.host import Host
    from gasearch.crystal.io.builtin import builtin_host
    from gasearch.crystal.species import Species
    from gasearch.operators.ase_ga import AseGaOperator
    from gasearch.operators.lattice import LatticeOperator
    from gasearch.potentials.registry import load_potential
    from gasearch.relax.batched.relaxer import BatchRelaxer
    from gasearch.run.folder import RunFolder
    from gasearch.run.initialize import initialize
    from gasearch.search.session import Session

__version__ = "0.1.0"

_HOMES = {
    "AseGaOperator": "gasearch.operators.ase_ga",
    "BatchRelaxer": "gasearch.relax.batched.relaxer",
    "Decoration": "gasearch.crystal.decoration",
    "Findings": "gasearch.analysis.findings",
    "Host": "gasearch.crystal.host",
    "LatticeOperator": "gasearch.operators.lattice",
    "RunFolder": "gasearch.run.folder",
    "Session": "gasearch.search.session",
    "Species": "gasearch.crystal.species",
    "builtin_host": "gasearch.crystal.io.builtin",
    "hull_voltage": "gasearch.analysis.voltage",
    "initialize": "gasearch.run.initialize",
    "joint_hull": "gasearch.analysis.joint_hull",
    "load_potential": "gasearch.potentials.registry",
    "read_run": "gasearch.analysis.findings",
}

__all__ = [
    "AseGaOperator",
    "BatchRelaxer",
    "Decoration",
    "Findings",
    "Host",
    "LatticeOperator",
    "RunFolder",
    "Session",
    "Species",
    "__version__",
    "builtin_host",
    "hull_voltage",
    "initialize",
    "joint_hull",
    "load_potential",
    "read_run",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    from gasearch.errors import refuse_other_systems

    refuse_other_systems()
    return getattr(importlib.import_module(_HOMES[name]), name)

"""The DFT codes that gasearch knows, by name."""

from __future__ import annotations

from collections.abc import Mapping

from gasearch.dft.codes.abinit import ABINIT
from gasearch.dft.codes.contract import Code, Program
from gasearch.dft.codes.espresso import ESPRESSO
from gasearch.dft.codes.gpaw import GPAW
from gasearch.dft.codes.potential import POTENTIAL
from gasearch.dft.codes.vasp import VASP
from gasearch.errors import UsageError

CODES: Mapping[str, Code] = {code.name: code for code in (VASP, GPAW, ESPRESSO, ABINIT, POTENTIAL)}
"""In the order in which their outputs are looked for in a folder."""


def code_named(name: str) -> Code:
    """Return a code; an unknown name lists those there are."""
    if name not in CODES:
        raise UsageError(f"unknown code {name!r}: expected one of {', '.join(CODES)}.")
    return CODES[name]


def program_of(name: str) -> Program:
    """Return how gasearch runs a code."""
    program = code_named(name).program
    if program is None:
        raise UsageError(f"gasearch does not run {name}: export its inputs, collect its outputs.")
    return program


def is_run_here(name: str) -> bool:
    """Return whether gasearch runs a code; the names of others need not be known."""
    return name in CODES and CODES[name].program is not None

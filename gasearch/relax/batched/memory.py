"""How many edges fit into one evaluation: learned while running, and remembered.

Memory may run out on an accelerator or in the machine.
"""

from __future__ import annotations

import gc
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from ase import Atoms

from gasearch.potentials.contract import Potential

_GROWTH = 2.0
_DENSITY = 0.09
"""Atoms per Å^3 of a typical oxide."""
_CPU_ATOMS = 1024
"""On a core more at once gain nothing: the cost of a step is shared by enough structures."""
_FIRST_ATOMS, _MOST_ATOMS = 1024, 20_000
"""On an accelerator: where to start, and where none has any more to gain."""
_REACH_UNKNOWN = 6.0  # Å, where a potential does not say how far it sees
_ERRORS = (torch.OutOfMemoryError, MemoryError)


_ON_CPU = "can't allocate memory"
"""What torch says on the CPU, in a plain RuntimeError."""


@dataclass
class BatchLimit:
    """The largest batch, in edges of the neighbour graph.

    It starts small, doubles with each batch that fills it, and is halved for good when memory runs
    out. A file keeps what was learned; without one, or with one that cannot be read, it learns
    anew.

    Parameters
    ----------
    edges
        Where to start.
    most
        Where to stop growing. On the CPU a few structures are enough: larger batches gain nothing
        there and cost memory.
    file
        JSON; shared by all potentials and devices of a run.
    key
        What the limit belongs to: a potential on a device.
    """

    edges: float
    most: float
    file: Path | None = None
    key: str = ""
    _is_final: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        known = self._read().get(self.key)
        if isinstance(known, int | float) and known > 0:
            self.edges, self._is_final = float(known), True

    def passed(self, edges: float) -> None:
        """Learn that a batch of so many edges went well."""
        if not self._is_final and edges > self.edges / _GROWTH:
            self.edges = min(_GROWTH * self.edges, self.most)

    def failed(self, edges: float) -> None:
        """Learn that memory ran out with so many edges."""
        self.edges = min(self.edges, edges / 2)
        self._is_final = True
        self._write()

    def _read(self) -> dict[str, float]:
        if self.file is None:
            return {}
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self) -> None:
        if self.file is None:
            return
        document = json.dumps({**self._read(), self.key: self.edges}, indent=2, sort_keys=True)
        draft = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        draft.write_text(document + "\n", encoding="utf-8")
        draft.replace(self.file)


def default_limit(potential: Potential, memory: Path | None = None) -> BatchLimit:
    """Return where to start on the potential's device."""
    device = torch.device(potential.device)
    per_atom = _DENSITY * _sphere(potential.cutoff)
    if device.type == "cpu":
        edges = _CPU_ATOMS * per_atom
        return BatchLimit(edges, edges, memory, f"{potential.name} on cpu")
    key = f"{potential.name} on {torch.cuda.get_device_name(device)}"
    return BatchLimit(_FIRST_ATOMS * per_atom, _MOST_ATOMS * per_atom, memory, key)


def expected_edges(atoms: Atoms, cutoff: float) -> float:
    """Return how many edges a crystal has within a cutoff (Å), from its density."""
    return float(len(atoms) ** 2 / atoms.cell.volume * _sphere(cutoff))


def _sphere(cutoff: float) -> float:
    """Return the volume within a cutoff, in Å^3."""
    reach = cutoff if math.isfinite(cutoff) else _REACH_UNKNOWN
    return 4 / 3 * math.pi * reach**3


def is_out_of_memory(error: Exception) -> bool:
    """Return whether less at once may help against an error."""
    return isinstance(error, _ERRORS) or (isinstance(error, RuntimeError) and _ON_CPU in str(error))


def free_memory() -> None:
    """Give back what nothing refers to; the traceback of an error may still refer to much."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

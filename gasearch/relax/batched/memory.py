"""How many edges fit into one evaluation: learned while running, and remembered."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

_GROWTH = 2.0


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

"""Candidates that wait for a place in the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ase import Atoms

from gasearch.relax.settings import RelaxSettings

_PATIENCE = 64  # candidates that may overtake one


@dataclass(frozen=True, eq=False)
class Candidate:
    """A structure to relax.

    Parameters
    ----------
    number
        The caller's.
    edges
        About how many its neighbour graph has.
    turn
        How many candidates had been admitted when it came.
    """

    number: int
    atoms: Atoms
    settings: RelaxSettings
    edges: float
    turn: int


class Queue:
    """Hands out the most expensive candidate that fits, so that small ones fill the gaps.

    None waits for ever: one that was overtaken often is next, and the others wait for it.
    """

    def __init__(self) -> None:
        self._waiting: list[Candidate] = []
        self._admitted = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def edges(self) -> float:
        """Of all that wait."""
        return sum(one.edges for one in self._waiting)

    def add(self, number: int, atoms: Atoms, settings: RelaxSettings, edges: float) -> None:
        """Append a candidate."""
        self._waiting.append(Candidate(number, atoms, settings, edges, self._admitted))

    def put_back(self, taken: Sequence[Candidate]) -> None:
        """Let candidates that had places wait again, in front of the others."""
        self._waiting[:0] = taken

    def take(self, room: float) -> Candidate | None:
        """Return a candidate of at most so many edges, or None."""
        if not self._waiting:
            return None
        oldest = self._waiting[0]
        if self._admitted - oldest.turn >= _PATIENCE:
            return self._admit(oldest) if oldest.edges <= room else None
        fitting = [one for one in self._waiting if one.edges <= room]
        return self._admit(max(fitting, key=lambda one: one.edges)) if fitting else None

    def take_oldest(self) -> Candidate | None:
        """Return the candidate that came first, whatever its size."""
        return self._admit(self._waiting[0]) if self._waiting else None

    def _admit(self, chosen: Candidate) -> Candidate:
        self._waiting.remove(chosen)
        self._admitted += 1
        return chosen

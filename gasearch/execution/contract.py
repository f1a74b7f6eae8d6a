"""What the search asks of whoever runs relaxations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from ase import Atoms

from gasearch.errors import GasearchError
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings
from gasearch.store.records import Lease


class ExecutionError(GasearchError, RuntimeError):
    """Workers that cannot be started, whatever the candidate."""


@dataclass(frozen=True)
class PotentialSource:
    """What a worker needs to load the potential itself.

    Parameters
    ----------
    name
        As in run.toml.
    folder
        Where relative files are looked up.
    species
        Which slot of a foreign model stands for which species, such as {"Fe3+": "Ga"}.
    reader
        Who reads moments off relaxed structures, as in run.toml: "own" or "chgnet".
    device
        As torch writes it.
    limits
        File that remembers how much fits into a batch.
    """

    name: str
    folder: Path
    species: Mapping[str, str | int]
    device: str = "cpu"
    limits: Path | None = None
    reader: str = "own"


@dataclass(frozen=True, eq=False)
class Task:
    """One relaxation.

    Parameters
    ----------
    atoms
        Start structure, labels set.
    """

    lease: Lease
    atoms: Atoms
    settings: RelaxSettings


@dataclass(frozen=True, eq=False)
class Finished:
    """A relaxation that ended, well or not."""

    task: Task
    relaxed: Relaxed


@dataclass(frozen=True, eq=False)
class Slow:
    """A relaxation under way that took more than `long_calls` force calls."""

    task: Task


@dataclass(frozen=True, eq=False)
class Crashed:
    """A relaxation that took its worker down, or that was killed at its time limit, all alone.

    Parameters
    ----------
    n_calls
        Force calls that are known to have been made: `long_calls` + 1 once it was slow, else 0.
    """

    task: Task
    reason: str
    n_calls: int


@dataclass(frozen=True, eq=False)
class Missing:
    """A relaxation that did not come back before its lease was over, with others beside it."""

    task: Task
    reason: str


Happening: TypeAlias = Finished | Slow | Crashed | Missing


class Executor(Protocol):
    """Runs tasks, some at once; it never sees the database."""

    def submit(self, task: Task) -> None:
        """Take a task; it starts when a place is free."""
        ...

    def wait(self, timeout_s: float) -> Sequence[Happening]:
        """Return what happened since, waiting at most so long for the first of it."""
        ...

    def age_s(self, task: Task) -> float | None:
        """Return for how long a worker has had a task.

        None where none has it yet, or where the executor itself ends what takes too long.
        """
        ...

    def abandon(self, task: Task) -> bool:
        """Expect no more of a task that a worker has; return whether it has no other beside it.

        What comes of it is told of all the same, should it come.
        """
        ...

    def close(self) -> None:
        """Give up everything that is under way, at once."""
        ...

"""Relaxations of zero cost, for what is measured beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from gasearch.execution.contract import Executor, Finished, RelaxationTask, TaskEvent
from gasearch.relax.relaxed import Relaxed


def relaxed(atoms: Atoms, rng: np.random.Generator) -> Relaxed:
    """Return the start structure as if it were relaxed, with a random energy."""
    n = len(atoms)
    return Relaxed(
        atoms=atoms,
        energy=float(rng.normal()) - 100.0,
        forces=np.zeros((n, 3)),
        stress=np.zeros((3, 3)),
        fmax=0.0,
        smax=0.0,
        n_calls=1,
        converged=True,
        moments=None,
        bond_lengths=np.zeros(16),
        verdict="ok",
        reason="",
        audit="none",
        wall_s=0.0,
    )


class FreeExecutor(Executor):
    """An executor whose relaxations cost nothing."""

    def __init__(self) -> None:
        self._tasks: list[RelaxationTask] = []
        self._rng = np.random.default_rng(0)

    def submit(self, task: RelaxationTask) -> None:
        """Keep a task."""
        self._tasks.append(task)

    def wait(self, timeout_s: float) -> Sequence[TaskEvent]:  # noqa: ARG002
        """Return everything as relaxed."""
        tasks, self._tasks = self._tasks, []
        return [Finished(task, relaxed(task.atoms, self._rng)) for task in tasks]

    def close(self) -> None:
        """Nothing runs."""

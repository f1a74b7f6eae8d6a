"""A batch relaxer that also reports which relaxations start, and which take long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from ase import Atoms

from gasearch.potentials.contract import Potential
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.moment_reader import MomentReader
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

if TYPE_CHECKING:
    from gasearch.execution.contract import PotentialSource


class Stream:
    """Relaxations that share a batch, each with a number.

    Parameters
    ----------
    potential
        What they share.
    limits
        File that remembers how much fits into a batch.
    reader
        Reads moments off the relaxed structures; the potential's own count without one.
    on_start
        Called with the numbers of those whose first evaluation is next. Should the process die, one
        of those that have started and not ended is to blame.
    """

    def __init__(
        self,
        potential: Potential,
        limits: Path | None = None,
        on_start: Callable[[list[int]], None] = lambda numbers: None,  # noqa: ARG005
        reader: MomentReader | None = None,
    ) -> None:
        self._relaxer = BatchRelaxer(potential, reader=reader, memory=limits, observe=self._starts)
        self._device = torch.device(potential.device)
        self._on_start = on_start
        self._long_calls: dict[int, int] = {}
        self._started: set[int] = set()

    def __len__(self) -> int:
        """Return how many wait or are under way."""
        return len(self._relaxer)

    def submit(self, number: int, atoms: Atoms, settings: RelaxSettings) -> None:
        """Take a structure; it gets a place when one is free."""
        self._long_calls[number] = settings.long_calls
        self._relaxer.submit(number, atoms, settings)

    def step(self) -> tuple[list[int], list[tuple[int, Relaxed]]]:
        """Evaluate what has a place once; return which relaxations became slow, and which ended.

        Slow are those that took more than `long_calls` force calls now, by their numbers. Numbers
        and results of the others come in the order in which they ended.
        """
        ended = self._relaxer.step()
        if any(relaxed.verdict == "failed" for _, relaxed in ended):
            _refuse_broken(self._device)
        slow = self._slow(ended)
        for number, _ in ended:
            self._long_calls.pop(number, None)
            self._started.discard(number)
        return slow, ended

    def _slow(self, ended: Iterable[tuple[int, Relaxed]]) -> list[int]:
        """Return those that became slow, and do not watch these any more."""
        n_calls = self._relaxer.n_calls | {number: relaxed.n_calls for number, relaxed in ended}
        watched = self._long_calls
        slow = [n for n, calls in n_calls.items() if n in watched and calls > watched[n]]
        for number in slow:
            del watched[number]
        return slow

    def _starts(self, numbers: Iterable[int]) -> None:
        started = [number for number in numbers if number not in self._started]
        if started:
            self._started.update(started)
            self._on_start(started)


def _refuse_broken(device: torch.device) -> None:
    """Raise where an accelerator is of no use to this process any more.

    After an illegal access every later call fails, and every structure with it, guilty or not: such
    failures are no results.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def load_source(source: PotentialSource) -> tuple[Potential, MomentReader | None]:
    """Return the potential of a worker, which gets one thread, and what reads its results."""
    import torch

    from gasearch.allocator import keep_freed_memory
    from gasearch.potentials.registry import load_potential
    from gasearch.relax.calibration import with_hold

    torch.set_num_threads(1)
    if source.device == "cpu":
        keep_freed_memory()
    species = source.species or None
    potential = load_potential(source.name, source.folder, source.device, species)
    return with_hold(potential, source.calibration, source.reader, source.windows)

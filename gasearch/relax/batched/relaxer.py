"""The batch relaxer: structures come in as a stream and leave as they finish."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from gasearch.errors import GasearchError
from gasearch.potentials.contract import Batch, Evaluated, Potential, check_species
from gasearch.potentials.networks.network_potential import is_sane
from gasearch.relax.audit import reason_of, trouble
from gasearch.relax.batched.convergence import Judged, judge
from gasearch.relax.batched.evaluator import Evaluator, shares_evaluations
from gasearch.relax.batched.memory import (
    BatchLimit,
    default_limit,
    expected_edges,
    free_memory,
    is_out_of_memory,
)
from gasearch.relax.batched.neighbours import SkinList
from gasearch.relax.batched.optimizer import Minimizers
from gasearch.relax.batched.queue import Candidate, Queue
from gasearch.relax.batched.state import State, on_cpu, select
from gasearch.relax.geometry import check_handedness
from gasearch.relax.moment_reader import MomentReader
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.results import ResultBuilder, largest, with_uncertainty
from gasearch.relax.settings import RelaxSettings

_LEAST_AHEAD, _AHEAD = 8, 0.25
"""Candidates to take in besides those that have places: a few, and a share of the batch."""


class SenselessCellError(GasearchError, ValueError):
    """A cell that is flat or far too small, or positions that are no numbers."""

    def __init__(self, formula: str) -> None:
        super().__init__(formula)
        self.formula = formula

    def __str__(self) -> str:
        return (
            f"the cell of {self.formula} is flat or far too small for its atoms, or positions are "
            "not finite: no neighbours can be found in it."
        )


class BatchRelaxer:
    """Relaxes many structures at once; each is refilled from the stream when it is finished.

    For a structure the result does not depend on which others were in its batch: to the last bit
    on the CPU where `together` is false, and for pmmcs always; within rounding elsewhere.

    Parameters
    ----------
    potential
        What gives energies, forces and stresses; everything happens on its device.
    settings
        When to stop, for candidates that come without settings of their own.
    reader
        Reads moments off the relaxed structures; without one the potential's own count, judged by
        its `moment_ranges` where it has that attribute.
    limit
        The largest batch; by the device if None.
    memory
        File that remembers how much fits, such as `batch_limits.json` in the run folder.
    together
        Whether structures share evaluations; by the potential if None (`shares_evaluations`).
    observe
        Called before each evaluation with the numbers of all that have places.
    """

    def __init__(
        self,
        potential: Potential,
        settings: RelaxSettings | None = None,
        reader: MomentReader | None = None,
        *,
        limit: BatchLimit | None = None,
        memory: Path | None = None,
        together: bool | None = None,
        observe: Callable[[list[int]], None] = lambda numbers: None,  # noqa: ARG005
    ) -> None:
        self.potential = potential
        self.settings = settings or RelaxSettings()
        self.limit = limit or default_limit(potential, memory)
        self._device = torch.device(potential.device)
        shared = shares_evaluations(potential) if together is None else together
        self._evaluator = Evaluator(potential, self.limit, together=shared)
        self._observe = observe
        self._results = ResultBuilder(potential, reader)
        self._queue = Queue()
        self._failed: list[tuple[int, Relaxed]] = []
        self._placed: dict[int, Candidate] = {}
        self._n_placed = 0
        self._clock = time.perf_counter()
        self._clear()

    def _clear(self) -> None:
        """Leave all places empty."""
        self._state: State | None = None
        self._placed = {}
        self._minimizers = Minimizers(self._device)
        takes_edges = hasattr(self.potential, "evaluate_with_edges")
        has_list = takes_edges and math.isfinite(self.potential.cutoff)
        self._neighbours = SkinList(self.potential.cutoff, self._device) if has_list else None

    def __len__(self) -> int:
        """Return how many candidates wait or are being relaxed."""
        return len(self._queue) + len(self._placed) + len(self._failed)

    @property
    def wants_more(self) -> bool:
        """Whether a place is free, or may soon be: then is the time to `submit`."""
        load = self._queue.edges + sum(self._edges())
        return len(self._queue) < _LEAST_AHEAD or load < (1 + _AHEAD) * self.limit.edges

    @property
    def n_calls(self) -> dict[int, int]:
        """Evaluations so far of each candidate that is being relaxed."""
        if self._state is None:
            return {}
        return dict(zip(self._numbers(), self._state.n_calls.tolist(), strict=True))

    def relax(self, candidates: Iterable[tuple[int, Atoms]]) -> Iterator[tuple[int, Relaxed]]:
        """Yield each candidate's number with its relaxed structure, as they finish.

        Takes a few more from the stream than it has places for, to choose from.
        """
        stream = iter(candidates)
        is_open = True
        while is_open or len(self):
            while is_open and self.wants_more:
                candidate = next(stream, None)
                is_open = candidate is not None
                if candidate is not None:
                    self.submit(*candidate)
            yield from self.step()

    def submit(self, number: int, atoms: Atoms, settings: RelaxSettings | None = None) -> None:
        """Queue a candidate; one that cannot be relaxed comes back, failed, from the next step."""
        try:
            check_handedness(atoms)
            if not bool(is_sane(Batch.from_atoms([atoms])).all()):
                raise SenselessCellError(str(atoms.symbols))
            check_species(self.potential, atoms)
        except GasearchError as error:
            self._failed.append((number, Relaxed.failed(atoms, reason_of(error))))
            return
        edges = expected_edges(atoms, self.potential.cutoff)
        self._queue.add(number, atoms.copy(), settings or self.settings, edges)

    def step(self) -> list[tuple[int, Relaxed]]:
        """Evaluate all structures once, and return those that are finished.

        Where memory runs out for anything but the evaluation itself, all start again, half as many
        at once; what does not fit alone fails.
        """
        finished, self._failed = self._failed, []
        fault = ""
        try:
            for result in self._step():
                finished.append(result)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            fault = reason_of(error)
        if fault:  # here the traceback, which would keep what did not fit, is gone
            finished += self._start_again(fault)
        return finished

    def _step(self) -> Iterator[tuple[int, Relaxed]]:
        """Evaluate all structures once, and yield those that are finished."""
        self._clock = time.perf_counter() if self._state is None else self._clock
        self._admit()
        state = self._state
        if state is None:
            return
        self._observe(self._numbers())
        geometry = state.batch()
        bonds = None if self._neighbours is None else self._neighbours.bonds(geometry)
        found, faults = self._evaluator.evaluate(geometry, self._edges(), bonds)
        self._count(state)
        judged = judge(state, geometry, found)
        if bool(judged.ended.any()):
            yield from self._ended(state, geometry, found, judged, faults)
            keep, system = ~judged.ended, state.system
            self._minimizers.select(keep)
            if self._neighbours is not None:
                self._neighbours.select(keep, system)
            state, geometry = select(state, keep, system), select(geometry, keep, system)
            found = select(found, keep, system)
        self._state = self._minimizers.advance(state, geometry, found) if len(state) else None

    def _start_again(self, fault: str) -> list[tuple[int, Relaxed]]:
        """Relax what has places from the start, fewer at once; fail what is alone already."""
        size = sum(self._edges())
        taken = list(self._placed.values())
        self._clear()
        free_memory()
        self.limit.failed(size)
        if len(taken) == 1:
            return [(taken[0].number, Relaxed.failed(taken[0].atoms, fault))]
        self._queue.put_back(taken)
        return []

    def _admit(self) -> None:
        """Give free places to waiting candidates."""
        arrivals = []
        room = self.limit.edges - sum(self._edges())
        while len(self._queue):
            is_empty = not self._placed
            candidate = self._queue.take_oldest() if is_empty else self._queue.take(room)
            if candidate is None:
                break
            self._placed[self._n_placed] = candidate
            arrivals.append((self._n_placed, candidate.atoms, candidate.settings))
            self._n_placed += 1
            room -= candidate.edges
        if arrivals:
            newcomers = State.start(arrivals, self._device)
            self._minimizers.join(newcomers)
            if self._neighbours is not None:
                self._neighbours.join(newcomers.counts)
            self._state = newcomers if self._state is None else self._state.joined(newcomers)

    def _edges(self) -> list[float]:
        """Return about how many edges each structure has, in the order of the state."""
        return [candidate.edges for candidate in self._placed.values()]

    def _numbers(self) -> list[int]:
        """Return the callers' numbers of the structures, in the order of the state."""
        return [candidate.number for candidate in self._placed.values()]

    def _count(self, state: State) -> None:
        """Count a call, and share the time since the last one by size."""
        now = time.perf_counter()
        state.n_calls.add_(1)
        state.wall_s.add_(state.counts * ((now - self._clock) / len(state.system)))
        self._clock = now

    def _ended(
        self,
        state: State,
        geometry: Batch,
        found: Evaluated,
        judged: Judged,
        faults: dict[int, str],
    ) -> Iterator[tuple[int, Relaxed]]:
        """Yield the results of what is finished, which gives up its place."""
        rows, system = judged.ended.nonzero().squeeze(1).tolist(), state.system
        state = on_cpu(select(state, judged.ended, system))
        geometry = on_cpu(select(geometry, judged.ended, system))
        found = on_cpu(select(found, judged.ended, system))
        judged = on_cpu(select(judged, judged.ended, system))
        for k, (row, place) in enumerate(zip(rows, state.ids.tolist(), strict=True)):
            candidate = self._placed[place]
            try:
                relaxed = self._result(candidate, k, state, geometry, found, judged)
                relaxed = with_uncertainty(self.potential, relaxed)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                # The numbers of a structure with a fault are NaN: there is no result of it.
                reason = faults.get(row) or reason_of(error)
                n_calls, wall_s = int(state.n_calls[k]), float(state.wall_s[k])
                relaxed = Relaxed.failed(candidate.atoms, reason, n_calls, wall_s)
            del self._placed[place]
            yield candidate.number, relaxed

    def _result(
        self,
        candidate: Candidate,
        row: int,
        state: State,
        geometry: Batch,
        found: Evaluated,
        judged: Judged,
    ) -> Relaxed:
        """Return the result of one structure; everything on the CPU."""
        start, settings = candidate.atoms, candidate.settings
        final, mine = state.final_atoms(start, row, geometry), state.system == row
        forces, moments = _array(found.forces[mine]), found.moments
        is_broken = bool(judged.broken[row])
        return self._results.build(
            start,
            final,
            settings,
            energy=float(found.energies[row]),
            forces=forces,
            stress=_array(found.stresses[row]),
            moments=None if moments is None else _array(moments[mine]),
            n_calls=int(state.n_calls[row]),
            converged=bool(judged.converged[row]),
            trouble=trouble(start, final, largest(forces), settings) if is_broken else "",
            wall_s=float(state.wall_s[row]),
            penalty=0.0 if found.penalties is None else float(found.penalties[row]),
        )


def _array(tensor: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.detach().numpy().astype(np.float64)
    return array

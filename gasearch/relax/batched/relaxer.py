"""The batch relaxer: structures come in as a stream and leave as they finish."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from ase import Atoms

from gasearch.errors import GasearchError
from gasearch.potentials.contract import Batch, Potential, check_species
from gasearch.potentials.networks.network_potential import is_sane
from gasearch.relax.batched.chunks import Snapshot
from gasearch.relax.batched.convergence import Judged, judge
from gasearch.relax.batched.evaluator import Evaluator, Question, shares_evaluations
from gasearch.relax.batched.memory import BatchLimit
from gasearch.relax.batched.neighbours import SkinList
from gasearch.relax.batched.optimizer import Minimizers
from gasearch.relax.batched.out_of_memory import free_memory, is_out_of_memory
from gasearch.relax.batched.queue import Queue, Waiting
from gasearch.relax.batched.results import Concluder, Ending
from gasearch.relax.batched.state import State
from gasearch.relax.conclusion import LeftHandedCellError, MomentReader, told
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

_DENSITY = 0.09
"""Atoms per Å^3 of a typical oxide."""
_CPU_ATOMS = 1024
"""On a core more at once gain nothing: the cost of a step is shared by enough structures."""
_FIRST_ATOMS, _MOST_ATOMS = 1024, 20_000
"""On an accelerator: where to start, and where none has any more to gain."""
_REACH_UNKNOWN = 6.0  # Å, where a potential does not say how far it sees
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
    tell
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
        tell: Callable[[list[int]], None] = lambda numbers: None,  # noqa: ARG005
    ) -> None:
        self.potential = potential
        self.settings = settings or RelaxSettings()
        self.reader = reader
        self.limit = limit or default_limit(potential, memory)
        self._device = torch.device(potential.device)
        shared = shares_evaluations(potential) if together is None else together
        self._evaluator = Evaluator(potential, self.limit, together=shared)
        self._tell = tell
        self._concluder = Concluder(potential, reader)
        self._queue = Queue()
        self._failed: list[tuple[int, Relaxed]] = []
        self._state: State | None = None
        self._flying: dict[int, Waiting] = {}
        self._n_flown = 0
        self._minimizers = Minimizers(self._device)
        self._neighbours = _skin_list(potential, self._device)
        self._clock = time.perf_counter()

    def __len__(self) -> int:
        """Return how many candidates wait or are being relaxed."""
        return len(self._queue) + len(self._flying) + len(self._failed)

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
        numbers = [waiting.number for waiting in self._flying.values()]
        return dict(zip(numbers, self._state.n_calls.tolist(), strict=True))

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
            if atoms.cell.handedness != 1:
                raise LeftHandedCellError(str(atoms.symbols))
            if not bool(is_sane(Batch.from_atoms([atoms])).all()):
                raise SenselessCellError(str(atoms.symbols))
            check_species(self.potential, atoms)
        except GasearchError as error:
            self._failed.append((number, Relaxed.failed(atoms, told(error))))
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
            self._step(finished)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            fault = told(error)
        if fault:  # here the traceback, which would keep what did not fit, is gone
            self._start_again(finished, fault)
        return finished

    def _step(self, finished: list[tuple[int, Relaxed]]) -> None:
        """Evaluate all structures once, and append those that are finished."""
        self._clock = time.perf_counter() if self._state is None else self._clock
        self._admit()
        if self._state is None:
            return
        self._tell([waiting.number for waiting in self._flying.values()])
        geometry = self._state.batch()
        bonds = None if self._neighbours is None else self._neighbours.bonds(geometry)
        found, faults = self._evaluator.evaluate(Question(geometry, self._edges(), bonds))
        self._count(self._state)
        judged = judge(self._state, geometry, found)
        snapshot = Snapshot(self._state, geometry, found)
        if bool(judged.ended.any()):
            self._finish(snapshot, judged, faults, finished)
            snapshot = self._forget(snapshot, ~judged.ended)
        self._state = self._moved(snapshot) if len(snapshot.state) else None

    def _land(self) -> list[Waiting]:
        """Take all structures out of their places, and return them."""
        taken = list(self._flying.values())
        self._state, self._flying = None, {}
        self._minimizers = Minimizers(self._device)
        self._neighbours = _skin_list(self.potential, self._device)
        return taken

    def _start_again(self, finished: list[tuple[int, Relaxed]], fault: str) -> None:
        """Relax what has places from the start, fewer at once; fail what is alone already."""
        size = sum(self._edges())
        taken = self._land()
        free_memory()
        self.limit.failed(size)
        if len(taken) == 1:
            finished.append((taken[0].number, Relaxed.failed(taken[0].atoms, fault)))
        else:
            self._queue.put_back(taken)

    def _admit(self) -> None:
        """Give free places to waiting candidates."""
        arrivals = []
        room = self.limit.edges - sum(self._edges())
        while len(self._queue):
            is_empty = not self._flying
            waiting = self._queue.take_oldest() if is_empty else self._queue.take(room)
            if waiting is None:
                break
            self._flying[self._n_flown] = waiting
            arrivals.append((self._n_flown, waiting.atoms, waiting.settings))
            self._n_flown += 1
            room -= waiting.edges
        if arrivals:
            newcomers = State.start(arrivals, self._device)
            self._minimizers.join(newcomers)
            if self._neighbours is not None:
                self._neighbours.join(newcomers.counts)
            self._state = newcomers if self._state is None else self._state.joined(newcomers)

    def _edges(self) -> list[float]:
        """Return about how many edges each structure has, in the order of the state."""
        return [waiting.edges for waiting in self._flying.values()]

    def _count(self, state: State) -> None:
        """Count a call, and share the time since the last one by size."""
        now = time.perf_counter()
        state.n_calls.add_(1)
        state.wall_s.add_(state.counts * ((now - self._clock) / len(state.system)))
        self._clock = now

    def _finish(
        self,
        snapshot: Snapshot,
        judged: Judged,
        faults: dict[int, str],
        finished: list[tuple[int, Relaxed]],
    ) -> None:
        """Append the results of what is finished, which gives up its place."""
        rows = judged.ended.nonzero().squeeze(1).tolist()
        converged, broken = judged.converged.tolist(), judged.broken.tolist()
        ended = snapshot.select(judged.ended).on_cpu()
        for k, row in enumerate(rows):
            end = Ending(ended.only(k), converged[row], broken[row], faults.get(row, ""))
            place = int(ended.state.ids[k])
            waiting = self._flying[place]
            relaxed = self._concluder.conclude(waiting.atoms, waiting.settings, end)
            del self._flying[place]
            finished.append((waiting.number, relaxed))

    def _forget(self, snapshot: Snapshot, keep: torch.Tensor) -> Snapshot:
        """Return the structures that are not finished."""
        self._minimizers.select(keep)
        if self._neighbours is not None:
            self._neighbours.select(keep, snapshot.state.system)
        return snapshot.select(keep)

    def _moved(self, snapshot: Snapshot) -> State:
        """Return the structures where they are to be evaluated next."""
        return self._minimizers.advance(snapshot.state, snapshot.geometry, snapshot.found)


def _skin_list(potential: Potential, device: torch.device) -> SkinList | None:
    """Return a neighbour list for potentials that take one."""
    takes_edges = hasattr(potential, "evaluate_with_edges") and math.isfinite(potential.cutoff)
    return SkinList(potential.cutoff, device) if takes_edges else None


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

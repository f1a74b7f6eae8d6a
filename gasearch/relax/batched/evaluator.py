"""Evaluations in which one bad structure, or too little memory, costs the others nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from gasearch.potentials.asking import PotentialRaisedError, what_was_raised
from gasearch.potentials.calculator import BadResultError
from gasearch.potentials.contract import Batch, Evaluated, Potential
from gasearch.relax.audit import reason_of
from gasearch.relax.batched.memory import BatchLimit, free_memory, is_out_of_memory
from gasearch.relax.batched.neighbours import Bonds, edges_of

_STEADY = frozenset({"mace", "painn", "cpainn"})
"""Networks in single precision whose rounding, which depends on what shares an evaluation, moved
final structures by less than 1e-5 Å where it was measured; that of CHGNet, by 5e-4 Å."""


def shares_evaluations(potential: Potential) -> bool:
    """Return whether structures share evaluations of a potential unless a caller says otherwise.

    On a core they do where final structures are the same for all that: CHGNet takes 15 % longer for
    one at a time, MACE nearly twice as long.
    """
    network = getattr(potential, "network", None)
    if network is None or torch.device(potential.device).type != "cpu":
        return True
    return network.dtype == torch.float64 or network.architecture in _STEADY


class Evaluator:
    """Evaluates batches in parts that fit.

    Parameters
    ----------
    potential
        What gives energies, forces and stresses.
    limit
        The largest part, which it also teaches.
    together
        Whether structures share evaluations; otherwise each has its own, so that its numbers are
        the same to the last bit whatever else is in the batch.
    """

    def __init__(self, potential: Potential, limit: BatchLimit, *, together: bool = True) -> None:
        self.potential = potential
        self.limit = limit
        self.together = together

    def evaluate(
        self, batch: Batch, edges: list[float], bonds: Bonds | None = None
    ) -> tuple[Evaluated, dict[int, str]]:
        """Return results, and what went wrong by structure; their numbers are NaN.

        Parameters
        ----------
        batch
            B structures.
        edges
            How many edges each has, about.
        bonds
            All pairs within the cutoff, for a potential with `evaluate_with_edges`.
        """

        def ask(rows: slice) -> Evaluated:
            return _ask(self.potential, batch, bonds, rows)

        answers = [
            answer for rows in self._parts(edges) for answer in self._in_halves(ask, edges, rows)
        ]
        _, first = answers[0]
        if len(answers) == 1 and isinstance(first, Evaluated):
            return first.in_double(), {}
        results, faults = Evaluated.unknown(batch, penalties=True), dict[int, str]()
        has_moments = has_penalties = False
        for rows, found in answers:
            if isinstance(found, str):
                faults[rows.start] = found
                continue
            has_moments |= found.moments is not None
            has_penalties |= found.penalties is not None
            results.put(found, rows, batch.atoms_of(rows))
        return replace(
            results,
            moments=results.moments if has_moments else None,
            penalties=results.penalties if has_penalties else None,
        ), faults

    def _parts(self, edges: list[float]) -> Iterator[slice]:
        """Yield structures that fit into one evaluation together."""
        first, total = 0, 0.0
        for row, more in enumerate(edges):
            is_full = not self.together or total + more > self.limit.edges
            if row > first and is_full:
                yield slice(first, row)
                first, total = row, 0.0
            total += more
        if first < len(edges):
            yield slice(first, len(edges))

    def _in_halves(
        self, ask: Callable[[slice], Evaluated], edges: list[float], rows: slice
    ) -> Iterator[tuple[slice, Evaluated | str]]:
        """Yield results of some structures, or why there is none; of halves where that helps."""
        size = sum(edges[rows])
        found = _try(ask, rows)
        if isinstance(found, Evaluated):
            self.limit.passed(size)
            yield rows, found
            return
        if is_out_of_memory(found):
            free_memory()
            self.limit.failed(size)
        if rows.stop - rows.start == 1:
            yield rows, reason_of(found)
            return
        middle = (rows.start + rows.stop) // 2
        for half in (slice(rows.start, middle), slice(middle, rows.stop)):
            yield from self._in_halves(ask, edges, half)


def _try(ask: Callable[[slice], Evaluated], rows: slice) -> Evaluated | Exception:
    """Return the results of some structures, or what went wrong."""
    try:
        return ask(rows)
    except Exception as error:  # noqa: BLE001 -- one bad structure costs only itself
        # The frames of the traceback would keep the tensors that did not fit.
        return error.with_traceback(None)


def _ask(potential: Potential, batch: Batch, bonds: Bonds | None, rows: slice) -> Evaluated:
    """Return what a potential says about some of the structures."""
    part = batch.part(rows)
    if bonds is None:
        found = _ask_alone(potential, part)
    else:
        edges = edges_of(bonds, rows, batch.atoms_of(rows))
        found = potential.evaluate_with_edges(part, edges)  # type: ignore[attr-defined]
    _check_shapes(found, part, potential.name)
    return found


def _ask_alone(potential: Potential, batch: Batch) -> Evaluated:
    try:
        return potential.evaluate(batch)
    except SystemExit as error:  # it would take the worker along
        raise PotentialRaisedError(potential.name, what_was_raised(error)) from error


def _check_shapes(found: Evaluated, batch: Batch, name: str) -> None:
    n, size = len(batch.positions), len(batch)
    wanted = {"energies": (size,), "forces": (n, 3), "stresses": (size, 3, 3), "moments": (n,)}
    for what, shape in wanted.items():
        tensor = getattr(found, what)
        if tensor is not None and tuple(tensor.shape) != shape:
            raise BadResultError(name, f"{what} of shape {tuple(tensor.shape)}, expected {shape}")

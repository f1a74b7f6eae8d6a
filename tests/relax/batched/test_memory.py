"""Memory that runs out.

In an evaluation the batch is halved; in any other step all start again, fewer at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from olivine import assert_equal, balls, olivine

from gasearch.potentials.contract import Batch, Evaluated, Potential
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.batched import relaxer as module
from gasearch.relax.batched.memory import BatchLimit, expected_edges
from gasearch.relax.batched.neighbours import SkinList
from gasearch.relax.batched.optimizer import Minimizers
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.batched.state import State
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

SETTINGS = RelaxSettings(fmax=0.3, smax=0.03)
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")


STARTS = {10 + seed: olivine(0.5, seed) for seed in range(5)}


def relax(
    potential: Potential, limit: BatchLimit, starts: dict[int, Atoms] = STARTS
) -> dict[int, Relaxed]:
    found = list(BatchRelaxer(potential, SETTINGS, limit=limit).relax(iter(starts.items())))
    assert sorted(number for number, _ in found) == sorted(starts)
    return dict(found)


class Small(Pmmcs):
    """Runs out of memory with more than so many atoms at once."""

    def __init__(self, most: int, error: Exception = FULL) -> None:
        super().__init__()
        self.most = most
        self.error = error
        self.sizes: list[int] = []

    def evaluate(self, batch: Batch) -> Evaluated:
        self.sizes.append(len(batch))
        if len(batch.positions) > self.most:
            raise self.error
        return super().evaluate(batch)


SIX = {seed: olivine(0.5, seed) for seed in range(6)}


@pytest.fixture(scope="module")
def undisturbed() -> dict[int, Relaxed]:
    """The same structures where memory is no question."""
    return relax(Pmmcs(), BatchLimit(1e9, 1e9), SIX)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_batch_and_changes_nothing_else(
    error: Exception, tmp_path: Path, undisturbed: dict[int, Relaxed]
) -> None:
    size = expected_edges(SIX[0], 10.0)
    limit = BatchLimit(8 * size, 8 * size, tmp_path / "limits.json", "small")
    potential = Small(most=60, error=error)
    found = relax(potential, limit, SIX)
    assert potential.sizes[:2] == [6, 3]
    assert potential.sizes.count(6) == 1  # the limit is learned: it does not happen again
    assert max(potential.sizes[8:]) <= 2
    assert json.loads((tmp_path / "limits.json").read_text())["small"] == limit.edges < 3 * size
    for number, one in found.items():
        assert one.verdict == "ok"
        assert_equal(one, undisturbed[number])


def test_a_structure_whose_evaluation_does_not_fit_alone_fails_alone() -> None:
    starts = {0: olivine(0.5), 1: olivine(1.0, 1).repeat((1, 2, 1)), 2: olivine(0.75, 2)}
    found = relax(Small(most=40), BatchLimit(1e6, 1e6), starts)
    assert [found[k].verdict for k in range(3)] == ["ok", "failed", "ok"]
    assert found[1].reason.startswith("OutOfMemoryError: CUDA out of memory.")
    assert found[1].n_calls == 1


class Memory:
    """Holds so many structures; whoever is `limited` needs it for all that it works on."""

    def __init__(self, most: int, error: Exception = FULL) -> None:
        self.most = most
        self.error = error
        self.calls = 0
        self.failures = 0

    def limited(self, original: Callable[..., Any], size: Callable[..., int]) -> Any:
        def call(*args: Any) -> Any:
            self.calls += 1
            if size(*args) > self.most and self.calls > 1:
                self.failures += 1
                raise self.error
            return original(*args)

        return call


def of_state(_: Any, state: State, *__: Any) -> int:
    return len(state)


STEPS: dict[str, tuple[Any, str, Callable[..., int]]] = {
    "optimizer": (Minimizers, "advance", of_state),
    "neighbour list": (SkinList, "bonds", lambda _, batch: len(batch)),
    "deformation": (State, "batch", len),
    "convergence": (module, "judge", lambda state, *_: len(state)),
    "selection": (Minimizers, "select", lambda _, keep: len(keep)),
}


@pytest.mark.parametrize("step", STEPS)
def test_no_step_that_runs_out_of_memory_costs_a_structure(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    potential = balls() if step == "neighbour list" else Pmmcs()
    limit = BatchLimit(1e9, 1e9)
    expected = relax(potential, BatchLimit(1e9, 1e9))
    owner, method, size = STEPS[step]
    memory = Memory(most=2)
    monkeypatch.setattr(owner, method, memory.limited(getattr(owner, method), size))
    found = relax(potential, limit)
    assert 1 <= memory.failures <= 3, "what did not fit is not tried again"
    assert limit.edges < 1e6
    for number, one in found.items():
        assert one.verdict == expected[number].verdict != "failed"
        assert one.n_calls == expected[number].n_calls
        assert one.energy == pytest.approx(expected[number].energy, abs=1e-6)


@pytest.mark.parametrize(
    "error", [FULL, MemoryError("none"), RuntimeError("you tried: can't allocate memory: 9 bytes")]
)
def test_what_does_not_fit_alone_fails_alone(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Minimizers.advance

    def limited(self: Minimizers, state: State, *args: Any) -> State:
        if (torch.bincount(state.system[state.numbers == 11]) == 4).any():
            raise error
        return advance(self, state, *args)

    monkeypatch.setattr(Minimizers, "advance", limited)
    monkeypatch.setitem(STARTS, 12, olivine(1.0, 2))
    found = relax(Pmmcs(), BatchLimit(1e9, 1e9))
    assert {n: one.verdict for n, one in found.items()} == {
        **dict.fromkeys(STARTS, "ok"),
        12: "failed",
    }
    assert type(error).__name__ in found[12].reason
    np.testing.assert_array_equal(found[12].atoms.positions, STARTS[12].positions)


def test_a_reader_that_runs_out_of_memory_reads_when_there_is_some() -> None:
    class Reader:
        ranges: dict[Any, tuple[float, float]] = {}  # noqa: RUF012
        calls = 0

        quantity = "moment"

        def read(self, atoms: Atoms) -> np.ndarray:
            self.calls += 1
            if self.calls == 2:
                raise FULL
            return np.asarray(atoms.get_initial_magnetic_moments())

    reader = Reader()
    relaxer = BatchRelaxer(Pmmcs(), SETTINGS, reader)
    found = dict(relaxer.relax(iter(STARTS.items())))
    assert [one.verdict for one in found.values()] == ["ok"] * len(STARTS)
    assert reader.calls == len(STARTS) + 1


def test_other_errors_of_a_step_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Minimizers, "advance", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        relax(Pmmcs(), BatchLimit(1e9, 1e9))

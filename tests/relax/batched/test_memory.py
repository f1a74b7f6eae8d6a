"""Memory that runs out beside the evaluation: all start again, fewer at once, and end alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.contract import Potential
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.potentials.registry import load_potential
from gasearch.relax.batched import relaxer as module
from gasearch.relax.batched.memory import BatchLimit
from gasearch.relax.batched.neighbours import SkinList
from gasearch.relax.batched.optimizer import Minimizers
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.batched.state import State
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
SETTINGS = RelaxSettings(fmax=0.05)
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")


def olivine(seed: int, x: float = 0.5) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Decoration.random(HOST, HOST.composition_at(x), rng).to_atoms()
    atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    return atoms


STARTS = {10 + seed: olivine(seed) for seed in range(5)}


def relax(potential: Potential) -> tuple[dict[int, Relaxed], BatchLimit]:
    limit = BatchLimit(1e9, 1e9)
    relaxer = BatchRelaxer(potential, SETTINGS, limit=limit)
    found = list(relaxer.relax(iter(STARTS.items())))
    assert sorted(number for number, _ in found) == sorted(STARTS)
    return dict(found), limit


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
    "guards": (module, "judge", lambda state, *_: len(state)),
    "selection": (Minimizers, "select", lambda _, keep: len(keep)),
}


@pytest.mark.parametrize("step", STEPS)
def test_no_step_that_runs_out_of_memory_costs_a_structure(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "painn-nafepo4" if step == "neighbour list" else "pmmcs"
    expected, _ = relax(load_potential(name))
    owner, method, size = STEPS[step]
    memory = Memory(most=2)
    monkeypatch.setattr(owner, method, memory.limited(getattr(owner, method), size))
    found, limit = relax(load_potential(name))
    assert 1 <= memory.failures <= 3, "what did not fit is not tried again"
    assert limit.edges < 1e6
    for number, one in found.items():
        assert one.verdict == expected[number].verdict == "ok"
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
    monkeypatch.setitem(STARTS, 12, olivine(2, x=1.0))
    found, _ = relax(Pmmcs())
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
        relax(Pmmcs())

"""Who is relaxed when: the queue, the limit of the batch, and memory that runs out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.contract import Batch, Evaluated
from gasearch.potentials.networks.network import find_edges
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.batched.memory import BatchLimit, default_limit, expected_edges
from gasearch.relax.batched.queue import Queue
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))


def olivine(x: float = 0.5, seed: int = 0, rattle: float = 0.05) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Decoration.random(HOST, HOST.composition_at(x), rng).to_atoms()
    atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
    return atoms


def queue_of(*edges: float) -> Queue:
    queue = Queue()
    for number, size in enumerate(edges):
        queue.add(number, olivine(), RelaxSettings(), size)
    return queue


def taken(queue: Queue, room: float) -> list[int]:
    numbers = []
    while (one := queue.take(room)) is not None:
        numbers.append(one.number)
        room -= one.edges
    return numbers


def test_the_largest_that_fits_goes_first_and_equals_in_order() -> None:
    assert taken(queue_of(1, 3, 2, 3, 9), room=7) == [1, 3, 0]
    assert taken(queue_of(1, 1, 1), room=2) == [0, 1]
    assert taken(queue_of(), room=2) == []


def test_a_large_candidate_is_not_overtaken_for_ever() -> None:
    queue = queue_of(9.0)
    for number in range(1, 200):
        queue.add(number, olivine(), RelaxSettings(), 1.0)
        if queue.take(room=5.0) is None:
            break
    else:
        pytest.fail("small ones overtook it 200 times")
    assert taken(queue, room=9.5) == [0]


def test_a_limit_grows_with_batches_that_fill_it_up_to_the_most() -> None:
    limit = BatchLimit(100.0, 350.0)
    limit.passed(20.0)
    assert limit.edges == 100.0
    for expected in (200.0, 350.0, 350.0):
        limit.passed(limit.edges)
        assert limit.edges == expected


def test_a_limit_that_was_hit_is_halved_for_good_and_remembered(tmp_path: Path) -> None:
    file = tmp_path / "batch_limits.json"
    limit = BatchLimit(100.0, 1e6, file, "chgnet on cuda")
    limit.failed(100.0)
    limit.passed(50.0)
    assert limit.edges == 50.0
    other = BatchLimit(80.0, 1e6, file, "pmmcs on cpu")
    other.failed(60.0)
    assert json.loads(file.read_text()) == {"chgnet on cuda": 50.0, "pmmcs on cpu": 30.0}
    again = BatchLimit(100.0, 1e6, file, "chgnet on cuda")
    again.passed(50.0)
    assert again.edges == 50.0


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"key": "much"}', '{"key": -3}'])
def test_a_memory_that_cannot_be_read_is_no_obstacle(tmp_path: Path, content: str) -> None:
    file = tmp_path / "batch_limits.json"
    file.write_text(content)
    limit = BatchLimit(100.0, 1e6, file, "key")
    assert limit.edges == 100.0
    limit.failed(80.0)
    assert json.loads(file.read_text())["key"] == 40.0


def test_edges_are_expected_from_the_density() -> None:
    atoms = olivine().repeat((1, 2, 1))
    found = len(find_edges(Batch.from_atoms([atoms]), 6.0).i)
    assert expected_edges(atoms, 6.0) == pytest.approx(found, rel=0.1)
    assert 0 < expected_edges(atoms, float("inf")) < float("inf")


class Small(Pmmcs):
    """Runs out of memory with more than so many atoms at once."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        super().__init__()
        self.most = most
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")
        self.sizes: list[int] = []

    def evaluate(self, batch: Batch) -> Evaluated:
        self.sizes.append(len(batch))
        if len(batch.positions) > self.most:
            raise self.error
        return super().evaluate(batch)


def relax(potential: Pmmcs, starts: list[Atoms], limit: BatchLimit) -> dict[int, Relaxed]:
    return dict(BatchRelaxer(potential, limit=limit).relax(enumerate(starts)))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_batch_and_changes_nothing_else(
    error: Exception, tmp_path: Path
) -> None:
    starts = [olivine(0.5, seed) for seed in range(6)]
    size = expected_edges(starts[0], 10.0)
    limit = BatchLimit(8 * size, 8 * size, tmp_path / "limits.json", "small")
    potential = Small(most=60, error=error)
    found = relax(potential, starts, limit)
    expected = relax(Pmmcs(), starts, BatchLimit(8 * size, 8 * size))
    assert potential.sizes[:2] == [6, 3]
    assert potential.sizes.count(6) == 1  # the limit is learned: it does not happen again
    assert max(potential.sizes[10:]) <= 2
    assert json.loads((tmp_path / "limits.json").read_text())["small"] == limit.edges < 3 * size
    for number, one in found.items():
        assert one.verdict == "ok"
        assert one.n_calls == expected[number].n_calls
        assert one.energy == expected[number].energy
        np.testing.assert_array_equal(one.atoms.positions, expected[number].atoms.positions)


def test_a_structure_that_does_not_fit_alone_fails_alone() -> None:
    starts = [olivine(0.5), olivine(1.0, 1).repeat((1, 2, 1)), olivine(0.75, 2)]
    found = relax(Small(most=40), starts, BatchLimit(1e6, 1e6))
    assert [found[k].verdict for k in range(3)] == ["ok", "failed", "ok"]
    assert found[1].reason.startswith("OutOfMemoryError: CUDA out of memory.")
    assert found[1].n_calls == 1


def test_places_are_refilled_and_never_exceed_the_limit() -> None:
    starts = [olivine((0.5, 0.75)[k % 2], k % 6) for k in range(10)]
    most = 3.2 * expected_edges(olivine(0.75), 10.0)
    potential = Small(most=1000)
    found = relax(potential, starts, BatchLimit(most, most))
    assert len(found) == 10
    assert max(potential.sizes) == 3
    assert np.mean([size == 3 for size in potential.sizes]) > 0.6


def test_newcomers_step_as_in_a_fresh_run() -> None:
    starts = [olivine(0.5, seed) for seed in range(4)]
    one = 1.5 * expected_edges(starts[0], 10.0)
    two = 2.5 * expected_edges(starts[0], 10.0)
    alone, refilled = (relax(Pmmcs(), starts, BatchLimit(n, n)) for n in (one, two))
    for number, relaxed in alone.items():
        assert relaxed.energy == refilled[number].energy
        assert relaxed.n_calls == refilled[number].n_calls


def test_an_interrupt_stops_everything() -> None:
    with pytest.raises(KeyboardInterrupt):
        relax(Small(0, KeyboardInterrupt()), [olivine()], BatchLimit(1e6, 1e6))  # type: ignore[arg-type]


def test_the_limit_on_the_cpu_is_a_few_cells() -> None:
    limit = default_limit(Pmmcs())
    assert 4 <= limit.edges / expected_edges(olivine(1.0), Pmmcs.cutoff) <= 48
    assert limit.edges == limit.most


def test_the_time_is_shared_out() -> None:
    import time

    began = time.perf_counter()
    starts = [olivine(0.5), olivine(1.0, 1).repeat((1, 2, 1)), olivine(0.75, 2)]
    found = relax(Pmmcs(), starts, BatchLimit(1e6, 1e6))
    spent = sum(one.wall_s for one in found.values())
    assert 0.5 * (time.perf_counter() - began) < spent < time.perf_counter() - began

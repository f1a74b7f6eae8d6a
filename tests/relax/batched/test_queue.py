"""Who is relaxed when: the queue, and the limit of the batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from olivine import olivine

from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.network import find_edges
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.batched.memory import BatchLimit, default_limit, expected_edges
from gasearch.relax.batched.queue import Queue
from gasearch.relax.settings import RelaxSettings


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


def test_the_limit_on_the_cpu_is_a_few_cells() -> None:
    limit = default_limit(Pmmcs())
    assert 4 <= limit.edges / expected_edges(olivine(1.0), Pmmcs.cutoff) <= 48
    assert limit.edges == limit.most

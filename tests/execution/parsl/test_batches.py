"""Batches of an engine: how large they are, and who is to blame where they are lost."""

import pytest
from ase import Atoms

from gasearch.execution.contract import (
    Crashed,
    ExecutionError,
    ExecutorRequest,
    Finished,
    PotentialSource,
    RelaxationTask,
)
from gasearch.execution.parsl.batches import BatchExecutor
from gasearch.execution.parsl.worker import BatchResult
from gasearch.execution.shares import FairShares
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings
from gasearch.store.records import Lease


def task(number, n_crashes=0, attempt=1):
    lease = Lease(number, attempt, "search", n_crashes)
    return RelaxationTask(lease, Atoms("H", info={"number": number}), RelaxSettings())


class Bench:
    """A batch executor whose batches are kept, and come back as a test likes."""

    def __init__(self, tmp_path, n_places=1, batch_s=10.0, places=1):
        source = PotentialSource("pmmcs", tmp_path, {})
        self.log = tmp_path / "workers.log"
        request = ExecutorRequest(source, tmp_path, self.log, places, 600.0, lambda: None)
        self.sent = []
        self.is_open = True
        self.share = FairShares(n_places).join()
        self.executor = BatchExecutor(
            request, batch_s, self.share, self.take, lambda executor: None
        )

    def take(self, batch):
        if self.is_open:
            self.sent.append(batch)
        return self.is_open

    def submit(self, *numbers, **options):
        for number in numbers:
            self.executor.submit(task(number, **options))
        return self.executor.wait(0.0)

    def numbers(self):
        """Return what the batches that are out hold."""
        return [[one.task.lease.candidate for one in batch.attempts] for batch in self.sent]

    def end(self, batch, wall_s=1.0, unusable=""):
        self.sent.remove(batch)
        relaxed = [Relaxed.failed(one.task.atoms, "a test") for one in batch.attempts]
        self.executor.deliver(batch, BatchResult(relaxed, wall_s, unusable))
        return self.executor.wait(0.0)

    def lose(self, batch, blame="worker"):
        self.sent.remove(batch)
        self.executor.lose(batch, "its worker was lost", blame)
        return self.executor.wait(0.0)

    def run(self, poison, blame="worker"):
        """Let batches end until none is out, those with a poison by a crash; return the crashed."""
        crashed, done, n_lost = [], [], 0
        while self.sent:
            batch = self.sent[0]
            if poison & {one.task.lease.candidate for one in batch.attempts}:
                n_lost += 1
                events = self.lose(batch, blame)
            else:
                events = self.end(batch)
            crashed += [h.task.lease.candidate for h in events if isinstance(h, Crashed)]
            done += [h.task.lease.candidate for h in events if isinstance(h, Finished)]
        return crashed, sorted(done), n_lost


class TestSize:
    def test_a_batch_takes_about_as_long_as_it_should(self, tmp_path):
        bench = Bench(tmp_path, batch_s=12.0)
        bench.submit(*range(30))
        assert bench.numbers() == [[0]], "nothing is known of their times yet"
        bench.end(bench.sent[0], wall_s=2.0)
        assert bench.numbers() == [[1, 2, 3, 4, 5, 6]]
        bench.end(bench.sent[0], wall_s=6 * 12.0)
        assert bench.numbers() == [[7, 8]], "2 s and then 12 s each: about 5 s"

    def test_it_leaves_some_for_the_other_workers(self, tmp_path):
        bench = Bench(tmp_path, n_places=4, batch_s=100.0, places=50)
        bench.submit(*range(10))
        assert bench.numbers() == [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]

    def test_what_cannot_be_sent_waits(self, tmp_path):
        bench = Bench(tmp_path, n_places=2)
        bench.is_open = False
        bench.submit(0, 1)
        assert bench.executor.n_waiting == 2
        bench.is_open = True
        bench.executor.wait(0.0)
        assert bench.numbers() == [[0], [1]]


class TestLosses:
    def test_only_the_guilty_one_of_a_batch_has_crashed(self, tmp_path):
        bench = Bench(tmp_path, batch_s=100.0, places=8)
        bench.submit(*range(8))
        crashed, done, n_lost = bench.run({5})
        assert crashed == [5]
        assert done == [0, 1, 2, 3, 4, 6, 7]
        assert n_lost == 5, "all, all again, and then halves of 4, 2 and 1"
        assert bench.log.read_text().count("relaxations are repeated") == 5

    def test_two_guilty_ones_are_both_found(self, tmp_path):
        bench = Bench(tmp_path, n_places=3, batch_s=100.0, places=8)
        bench.submit(*range(16))
        crashed, done, _ = bench.run({3, 12})
        assert sorted(crashed) == [3, 12]
        assert done == [n for n in range(16) if n not in (3, 12)]

    def test_what_crashed_before_is_alone_from_the_start(self, tmp_path):
        bench = Bench(tmp_path, n_places=4, batch_s=100.0, places=8)
        bench.executor.submit(task(9, n_crashes=1))
        bench.submit(1, 2)
        assert bench.numbers() == [[9], [1], [2]]

    def test_nobody_is_to_blame_for_the_end_of_an_interchange(self, tmp_path):
        bench = Bench(tmp_path, batch_s=100.0, places=4)
        bench.submit(*range(4))
        for _ in range(5):
            assert bench.lose(bench.sent[0], blame="nobody") == []
            assert bench.numbers() == [[0, 1, 2, 3]]
        assert not bench.log.exists()

    def test_a_node_may_be_lost_twice_before_what_it_had_alone_is_to_blame(self, tmp_path):
        bench = Bench(tmp_path)
        bench.submit(0)
        crashed, _, n_lost = bench.run({0}, blame="manager")
        assert (crashed, n_lost) == ([0], 3)

    def test_a_potential_that_cannot_be_loaded_ends_the_search(self, tmp_path):
        bench = Bench(tmp_path)
        bench.submit(0)
        with pytest.raises(ExecutionError, match="cannot load the potential: no such file"):
            bench.end(bench.sent[0], unusable="no such file")


class TestOverdue:
    def test_what_waits_for_a_worker_has_no_age(self, tmp_path):
        bench = Bench(tmp_path)
        one, other = task(1), task(2)
        bench.executor.submit(one)
        bench.executor.submit(other)
        bench.executor.wait(0.0)
        assert bench.executor.age_s(one) is None, "sent, but no worker has it"
        bench.sent[0].began_s = 0.0
        assert bench.executor.age_s(one) > 0
        assert bench.executor.age_s(other) is None

    def test_what_was_abandoned_comes_again_in_halves_and_its_late_result_is_told(self, tmp_path):
        bench = Bench(tmp_path, n_places=4, batch_s=100.0, places=4)
        tasks = [task(n) for n in range(4)]
        for one in tasks:
            bench.executor.submit(one)
        bench.share.limit = lambda wanted: 1
        bench.executor.wait(0.0)
        (first,) = bench.sent
        del bench.share.limit
        assert [bench.executor.abandon(one) for one in tasks] == [False] * 4
        for n in range(4):
            bench.executor.submit(task(n, attempt=2))
        bench.executor.wait(0.0)
        assert bench.numbers()[1:] == [[0, 1], [2, 3]]
        late = bench.end(first)
        assert [(e.task.lease.candidate, e.task.lease.attempt) for e in late] == [
            (n, 1) for n in range(4)
        ]
        assert bench.numbers() == [[0, 1], [2, 3]]

    def test_what_was_abandoned_and_is_lost_then_is_not_told_of(self, tmp_path):
        bench = Bench(tmp_path)
        one = task(1)
        bench.executor.submit(one)
        bench.executor.wait(0.0)
        assert bench.executor.abandon(one) is True
        assert bench.lose(bench.sent[0]) == []
        assert bench.sent == []

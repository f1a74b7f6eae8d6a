"""Batches of an engine: how large they are, and who is to blame where they are lost."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ase import Atoms
from places import DATA, TESTS

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.execution.contract import (
    Crashed,
    ExecutionError,
    Finished,
    Order,
    PotentialSource,
    Task,
)
from gasearch.execution.parsl.batches import BatchExecutor, Returned
from gasearch.execution.parsl.worker import BatchResult, relax_batch
from gasearch.execution.shares import FairShares, divided
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings
from gasearch.run.folder import RunFolder
from gasearch.store.records import Lease


def task(number, n_crashes=0, attempt=1):
    lease = Lease(number, attempt, "search", n_crashes)
    return Task(lease, Atoms("H", info={"number": number}), RelaxSettings())


class Bench:
    """A batch executor whose batches are kept, and come back as a test likes."""

    def __init__(self, tmp_path, n_places=1, batch_s=10.0, places=1):
        source = PotentialSource("pmmcs", tmp_path, {})
        folder = RunFolder(tmp_path)
        self.log = tmp_path / "workers.log"
        order = Order(source, folder, self.log, 8, places, 600.0, lambda: None)
        self.sent = []
        self.is_open = True
        share = FairShares(n_places).join()
        self.executor = BatchExecutor(order, batch_s, share, self.take, lambda executor: None)

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
        return [[job.task.lease.candidate for job in batch.jobs] for batch in self.sent]

    def end(self, batch, wall_s=1.0, unusable=""):
        self.sent.remove(batch)
        relaxed = [Relaxed.failed(job.task.atoms, "a test") for job in batch.jobs]
        self.executor.deliver(Returned(batch, BatchResult(relaxed, wall_s, unusable)))
        return self.executor.wait(0.0)

    def lose(self, batch, blame="worker"):
        self.sent.remove(batch)
        self.executor.deliver(Returned(batch, None, "its worker was lost", blame))
        return self.executor.wait(0.0)

    def run(self, poison, blame="worker"):
        """Let batches end until none is out, those with a poison by a crash; return the crashed."""
        crashed, done, n_lost = [], [], 0
        while self.sent:
            batch = self.sent[0]
            if poison & {job.task.lease.candidate for job in batch.jobs}:
                n_lost += 1
                happenings = self.lose(batch, blame)
            else:
                happenings = self.end(batch)
            crashed += [h.task.lease.candidate for h in happenings if isinstance(h, Crashed)]
            done += [h.task.lease.candidate for h in happenings if isinstance(h, Finished)]
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
        bench.executor._share.limit = lambda wanted: 1
        bench.executor.wait(0.0)
        (first,) = bench.sent
        del bench.executor._share.limit
        assert [bench.executor.abandon(one) for one in tasks] == [False] * 4
        for n in range(4):
            bench.executor.submit(task(n, attempt=2))
        bench.executor.wait(0.0)
        assert bench.numbers()[1:] == [[0, 1], [2, 3]]
        late = bench.end(first)
        assert [(h.task.lease.candidate, h.task.lease.attempt) for h in late] == [
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


class TestShares:
    @pytest.mark.parametrize(
        ("n_places", "wanted", "expected"),
        [
            (8, [20], [8]),
            (8, [20, 20], [4, 4]),
            (8, [2, 20], [2, 6]),
            (7, [20, 20, 20], [3, 2, 2]),
            (9, [1, 0, 20, 20], [1, 0, 4, 4]),
            (4, [1, 1], [1, 1]),
        ],
    )
    def test_all_get_as_much_and_what_one_leaves_goes_to_the_others(
        self, n_places, wanted, expected
    ):
        assert sorted(divided(n_places, wanted)) == sorted(expected)
        assert sum(divided(n_places, wanted)) == min(n_places, sum(wanted))

    def test_a_second_search_takes_half_and_gives_it_back(self):
        shares = FairShares(8)
        first, second = shares.join(), shares.join()
        assert first.limit(20) == 8
        assert second.limit(20) == 4
        assert first.limit(20) == 4
        second.leave()
        assert first.limit(20) == 8

    def test_none_is_left_without(self):
        shares = FairShares(1)
        members = [shares.join() for _ in range(3)]
        assert [member.limit(5) for member in members] == [1, 1, 1]


HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
IMPORTED_FROM = [str(TESTS / "support"), str(TESTS / "execution" / "parsl")]
HANGING = """
import sys
sys.path[:0] = {folders!r}
from test_batches import crystals, source
from gasearch.execution.parsl import worker as batch_task
from gasearch.execution.parsl.worker import relax_batch
batch_task._LAST_RESORT_S = 0.0
print(len(relax_batch(source({name!r}), crystals(0.5, 1.0), 1, 600.0).relaxed), flush=True)
relax_batch(source({name!r}), crystals(0.75), 1, 1.0)
print("came back", flush=True)
"""


def source(name):
    return PotentialSource(f"./toy_potentials.py:{name}", DATA, {})


def crystals(*shares):
    """Return tasks of undistorted crystals, one for each x."""
    rng = np.random.default_rng(1)
    decorations = [Decoration.random(HOST, HOST.composition_at(x), rng) for x in shares]
    return [Task(Lease(n, 1), d.to_atoms(), RelaxSettings()) for n, d in enumerate(decorations)]


class TestWorker:
    """What a worker does with a batch; in a thread, where it does not watch its parent."""

    def relax(self, *arguments):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(relax_batch, *arguments).result()

    def test_results_come_in_the_order_of_the_tasks(self):
        tasks = crystals(0.25, 0.5, 0.75, 1.0)
        result = self.relax(source("LabelEnergy"), tasks, 3, 600.0)
        assert result.unusable == ""
        assert [len(relaxed.atoms) for relaxed in result.relaxed] == [
            len(task.atoms) for task in tasks
        ]
        alone = [self.relax(source("LabelEnergy"), [task], 1, 600.0) for task in tasks]
        assert [one.relaxed[0].energy for one in alone] == [r.energy for r in result.relaxed]

    def test_a_potential_that_cannot_be_loaded_is_told(self):
        assert "NotThere" in self.relax(source("NotThere"), crystals(0.5), 1, 600.0).unusable

    @pytest.mark.parametrize(("name", "code"), [("Hanging", 1), ("Frozen", -signal.SIGALRM)])
    def test_one_that_hangs_ends_its_worker(self, name, code):
        program = HANGING.format(folders=IMPORTED_FROM, name=name)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (code, "2\n"), done.stderr

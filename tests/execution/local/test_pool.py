"""Relaxations in worker processes that are really killed.

Most workers are forked from a process that has loaded all; those that say so are started anew.
"""

import itertools
import math
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from executors import assert_alike, collect, numbers, results
from places import TESTS
from tasks import POISON, source, task
from waited import wait_for

from gasearch.execution.contract import Crashed, ExecutionError, Finished, Slow
from gasearch.execution.local.pool import WorkerPool

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")


@pytest.fixture
def make_pool(tmp_path):
    """A function that makes pools, which are closed in the end."""
    pools = []

    def make(name="pmmcs", n_workers=1, wall_limit_s=600.0, places=4, device="cpu"):
        limits = tmp_path / "batch_limits.json"
        potential = source(name, device=device, limits=limits)
        pool = WorkerPool(potential, n_workers, wall_limit_s, tmp_path / "workers.log", places)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


@pytest.mark.usefixtures("forked_workers")
class TestPool:
    def test_a_batch_is_kept_full_and_its_results_are_those_of_each_alone(
        self, make_pool, alone, tmp_path, monkeypatch
    ):
        sizes = tmp_path / "sizes"
        monkeypatch.setenv("BATCH_SIZES", str(sizes))
        pool = make_pool("./batch_potentials.py:Watched", places=3)
        for number in range(9):
            pool.submit(task(number, long_calls=4))
        events = collect(pool, 9)
        assert_alike(results(events), alone)
        assert numbers(events, Slow) == list(range(9))
        steps = [line.split() for line in sizes.read_text().splitlines()]
        assert len({worker for worker, _ in steps}) == 1
        filled = [int(size) for _, size in steps]
        assert max(filled) == 3
        n_calls = sorted(relaxed.n_calls for relaxed in alone.values())
        assert filled.count(3) > 0.7 * (sum(filled) - sum(n_calls[-2:])) / 3

    def test_a_worker_that_is_killed_costs_only_time(self, make_pool, alone, tmp_path):
        pool = make_pool(places=3)
        for number in range(9):
            pool.submit(task(number, long_calls=4))
        killed = []

        def kill(events):
            n_slow = len(numbers(events, Slow))
            if len(killed) < 2 and n_slow > sum(killed[-1:]):
                os.kill(*pool.pids(), signal.SIGKILL)
                killed.append(n_slow)

        events = collect(pool, 9, kill)
        assert len(killed) == 2
        assert numbers(events, Crashed) == []
        assert_alike(results(events), alone)
        log = (tmp_path / "workers.log").read_text()
        assert log.count("ended by signal 9; ") == 2

    @pytest.mark.parametrize(
        ("potential", "wall_limit_s", "reason"),
        [
            ("./batch_potentials.py:Killer", 600.0, "ended by signal 6"),
            ("./toy_potentials.py:Hanging", 1.0, "no end within 1 s"),
        ],
    )
    def test_only_the_guilty_one_of_a_batch_has_crashed(
        self, make_pool, potential, wall_limit_s, reason
    ):
        pool = make_pool(potential, wall_limit_s=wall_limit_s)
        pool.submit(task(20, POISON))
        for number in range(5):
            pool.submit(task(number))
        events = collect(pool, 6)
        assert numbers(events, Finished) == list(range(5))
        (crashed,) = [h for h in events if isinstance(h, Crashed)]
        assert crashed.task.lease.candidate == 20
        assert reason in crashed.reason
        pool.submit(task(20, POISON, n_crashes=1))
        pool.submit(task(7))
        events = collect(pool, 2)
        assert (numbers(events, Crashed), numbers(events, Finished)) == ([20], [7])

    def test_the_guilty_one_of_many_is_found_by_halving(self, make_pool, alone, tmp_path):
        pool = make_pool("./batch_potentials.py:Killer", places=8)
        for number in range(7):
            pool.submit(task(number))
            if number == 4:
                pool.submit(task(20, POISON))
        events = collect(pool, 8)
        assert numbers(events, Crashed) == [20]
        assert_alike(results(events), {number: alone[number] for number in range(7)})
        log = (tmp_path / "workers.log").read_text()
        sizes = [int(n) for n in re.findall(r"ended by signal 6; (\d+) relaxations are", log)]
        assert sizes[1] > 4
        assert sizes[2] > 1, "halves, not one by one"
        assert len(sizes) <= 2 + math.log2(8)
        assert all(half <= math.ceil(n / 2) for n, half in itertools.pairwise(sizes[1:]))

    def test_more_than_a_pipe_holds_blocks_nobody(self, make_pool):
        pool = make_pool(places=3000)
        pool.submit(task(0))
        collect(pool, 1)
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGSTOP)
        tasks = [task(number) for number in range(9)]
        for number in range(1, 1500):
            pool.submit(tasks[number % 9])
        assert pool.wait(0.0) == []
        pool.close()
        wait_for(lambda: not psutil.pid_exists(pid))

    def test_workers_of_several_places_share_the_work(self, make_pool, tmp_path, monkeypatch):
        sizes = tmp_path / "sizes"
        monkeypatch.setenv("BATCH_SIZES", str(sizes))
        pool = make_pool("./batch_potentials.py:Watched", n_workers=2, places=2)
        for number in range(8):
            pool.submit(task(number))
        collect(pool, 8)
        steps = [line.split() for line in sizes.read_text().splitlines()]
        assert len({worker for worker, _ in steps}) == 2

    def test_a_potential_that_cannot_be_loaded_ends_the_search(self, make_pool):
        pool = make_pool("./batch_potentials.py:NotThere")
        pool.submit(task(0))
        with pytest.raises(ExecutionError, match=r"cannot load the potential.*NotThere"):
            collect(pool, 1)


class TestStart:
    """Workers that are started as in a search."""

    def test_a_worker_that_dies_at_its_start_is_replaced(self, make_pool, alone):
        pool = make_pool()
        pool.submit(task(0))
        os.kill(*pool.pids(), signal.SIGKILL)
        assert_alike(results(collect(pool, 1)), {0: alone[0]}, tolerance=0.0)

    def test_workers_that_never_start_end_the_search(self, make_pool, monkeypatch):
        monkeypatch.setattr(sys, "executable", "/bin/false")
        pool = make_pool()
        pool.submit(task(0))
        with pytest.raises(ExecutionError, match=r"does not start .*exit status 1"):
            collect(pool, 1)


PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, {support!r})
from tasks import POISON, source, task
from gasearch.execution.local.pool import WorkerPool
pool = WorkerPool(source("./batch_potentials.py:Holding"), 1, 600.0, Path({log!r}), 4)
pool.submit(task(1, POISON, long_calls=1))
while not pool.wait(1.0):
    pass
print(*pool.pids(), flush=True)
while True:
    pool.wait(1.0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker ends between two calls")
def test_a_worker_whose_native_code_hangs_does_not_outlive_its_parent(tmp_path):
    code = PARENT.format(support=str(TESTS / "support"), log=str(tmp_path / "log"))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.2)
    assert worker.is_running()
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    assert psutil.wait_procs([worker], timeout=20)[1] == []


@pytest.mark.gpu
@NO_GPU
class TestOnDevice:
    def test_minima_are_those_of_the_cpu(self, make_pool, alone):
        pool = make_pool(places=200, device="cuda")
        for number in range(9):
            pool.submit(task(number))
        for number, relaxed in results(collect(pool, 9)).items():
            assert relaxed.verdict == "ok"
            assert relaxed.energy == pytest.approx(alone[number].energy, abs=1e-3)

    def test_a_worker_that_is_killed_costs_only_time(self, make_pool):
        pool = make_pool(places=200, device="cuda")
        for number in range(40):
            pool.submit(task(number, long_calls=2))
        while not pool.wait(1.0):
            pass
        os.kill(*pool.pids(), signal.SIGKILL)
        events = collect(pool, 30)
        assert numbers(events, Crashed) == []

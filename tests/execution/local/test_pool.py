"""Where relaxations run: alone, in batches, in processes that are really killed."""

import itertools
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from places import DATA, TESTS

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.execution.contract import (
    Crashed,
    ExecutionError,
    Finished,
    PotentialSource,
    Slow,
    Task,
)
from gasearch.execution.devices import (
    Layout,
    NoDeviceError,
    choose_device,
    enough_in_flight,
    layout,
)
from gasearch.execution.in_process import InProcessExecutor
from gasearch.execution.local.pool import WorkerPool
from gasearch.execution.stream import Stream
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.relax.settings import RelaxSettings
from gasearch.store.records import Lease

POTENTIALS = DATA / "batch_potentials.py"
HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
POISON = 3 / 4
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")


def task(number, x=0.5, n_crashes=0, **settings):
    rng = np.random.default_rng(number)
    atoms = Decoration.random(HOST, HOST.composition_at(x), rng).to_atoms()
    atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
    lease = Lease(number, 1, "search", n_crashes)
    return Task(lease, atoms, RelaxSettings(**settings))


@pytest.fixture
def make_pool(tmp_path):
    """A function that makes pools, which are closed in the end."""
    pools = []

    def make(name="pmmcs", n_workers=1, wall_limit_s=600.0, places=4, device="cpu"):
        limits = tmp_path / "batch_limits.json"
        source = PotentialSource(name, POTENTIALS.parent, {}, device, limits)
        pool = WorkerPool(source, n_workers, wall_limit_s, tmp_path / "workers.log", places)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


def collect(executor, n_ended, meanwhile=lambda: None, limit_s=240.0):
    """Return what happened until so many relaxations ended."""
    happenings, end = [], time.monotonic() + limit_s
    while sum(not isinstance(h, Slow) for h in happenings) < n_ended:
        assert time.monotonic() < end, f"waited in vain; so far {happenings}"
        happenings += executor.wait(0.1)
        meanwhile()
    return happenings


def numbers(happenings, kind):
    return sorted(h.task.lease.candidate for h in happenings if isinstance(h, kind))


def results(happenings):
    return {h.task.lease.candidate: h.relaxed for h in happenings if isinstance(h, Finished)}


def workers():
    """Return the worker processes of this process."""
    children = psutil.Process().children()
    return [c for c in children if any("gasearch.execution.local.worker" in a for a in c.cmdline())]


def assert_alike(found, expected, tolerance=1e-9):
    """Assert equal results; within rounding, or to the bit."""
    assert found.keys() == expected.keys()
    for number, relaxed in expected.items():
        one = found[number]
        assert (one.verdict, one.n_calls) == (relaxed.verdict, relaxed.n_calls)
        assert abs(one.energy - relaxed.energy) <= tolerance
        assert np.abs(one.atoms.positions - relaxed.atoms.positions).max() <= tolerance


@pytest.fixture(scope="module")
def alone():
    """Results of candidates 0 to 8, each relaxed by itself."""
    executor = InProcessExecutor(Pmmcs())
    for number in range(9):
        executor.submit(task(number))
    return results(collect(executor, 9))


class TestLayout:
    @pytest.mark.parametrize(
        ("device", "workers", "in_flight", "alone", "expected"),
        [
            ("cpu", 4, 4, False, Layout("cpu", 4, 1)),
            ("cpu", 4, 10, False, Layout("cpu", 4, 3)),
            ("cpu", 1, 100, False, Layout("cpu", 1, 4)),
            ("cpu", 1, 100, True, Layout("cpu", 1, 1)),
            ("cpu", 0, 3, False, Layout("cpu", 0, 3)),
            ("cuda", 8, 300, False, Layout("cuda", 1, 300)),
            ("cuda:1", 8, 300, True, Layout("cuda:1", 1, 300)),
            ("cuda", 0, 300, False, Layout("cuda", 0, 300)),
        ],
    )
    def test_a_device_has_one_process_and_each_core_its_own(
        self, device, workers, in_flight, alone, expected
    ):
        assert layout(device, workers, in_flight, alone=alone) == expected

    def test_auto_keeps_each_worker_and_each_device_busy(self):
        assert [enough_in_flight("cpu", workers, 28) for workers in (0, 1, 6)] == [1, 1, 6]
        assert enough_in_flight("cuda", 1, 28) * 28 >= 8000
        assert enough_in_flight("cuda", 1, 100_000) == 16


class TestDevice:
    @pytest.fixture
    def see(self, monkeypatch):
        def see(n_devices):
            monkeypatch.setattr(torch.cuda, "is_available", lambda: n_devices > 0)
            monkeypatch.setattr(torch.cuda, "device_count", lambda: n_devices)

        return see

    @pytest.mark.parametrize(
        ("asked", "n_devices", "expected"),
        [
            ("auto", 0, "cpu"),
            ("auto", 2, "cuda"),
            ("cpu", 2, "cpu"),
            ("cuda", 1, "cuda"),
            ("cuda:1", 2, "cuda:1"),
        ],
    )
    def test_it_is_what_was_asked_for_or_what_is_there(self, see, asked, n_devices, expected):
        see(n_devices)
        assert choose_device(asked, "pmmcs", Path()) == expected

    def test_auto_leaves_a_device_that_the_potential_does_not_take(self, see):
        see(1)
        assert choose_device("auto", "./toy_potentials.py:LabelEnergy", POTENTIALS.parent) == "cpu"
        with pytest.raises(NoDeviceError, match="takes no device"):
            choose_device("cuda", "./toy_potentials.py:LabelEnergy", POTENTIALS.parent)

    @pytest.mark.parametrize(("asked", "n"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
    def test_one_that_is_not_there_is_refused_in_one_line(self, see, asked, n):
        see(n)
        with pytest.raises(NoDeviceError, match=f'execution.device = "{asked}": torch sees'):
            choose_device(asked, "pmmcs", Path())

    def test_the_cpu_needs_no_torch(self):
        code = (
            "import sys; from gasearch.execution.devices import choose_device; "
            "choose_device('cpu', 'pmmcs', None); assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestStream:
    def test_it_tells_who_starts_before_the_first_evaluation(self):
        told = []

        class Potential(Pmmcs):
            def evaluate(self, batch):
                assert len(told) >= len(batch)
                return super().evaluate(batch)

        stream = Stream(Potential(), tell_started=told.extend)
        for number in range(3):
            stream.submit(number, task(number).atoms, RelaxSettings())
        left_handed = task(9).atoms
        left_handed.cell[2] *= -1
        stream.submit(9, left_handed, RelaxSettings())
        while len(stream):
            stream.step()
        assert told == [0, 1, 2], "what cannot be relaxed never starts"

    def test_it_tells_of_each_slow_one_once_in_its_own_call(self):
        stream, step = Stream(Pmmcs()), 0
        slow, ended = {}, {}
        limits = {0: 5, 1: 12, 2: 290, 3: 1}
        for number, long_calls in limits.items():
            settings = RelaxSettings(long_calls=long_calls)
            stream.submit(number, task(number).atoms, settings)
        while len(stream):
            step += 1
            progress = stream.step()
            assert not slow.keys() & set(progress.slow)
            slow |= dict.fromkeys(progress.slow, step)
            ended |= dict(progress.ended)
        assert slow == {0: 6, 1: 13, 3: 2}
        assert all(ended[n].n_calls > limits[n] for n in slow)
        assert ended[2].n_calls <= 290


class TestInProcess:
    def test_minima_are_those_of_the_reference(self, alone):
        for number in (0, 1):
            expected = ReferenceRelaxer(Pmmcs()).relax_one(task(number).atoms)
            assert alone[number].verdict == expected.verdict == "ok"
            assert alone[number].energy == pytest.approx(expected.energy, abs=3e-3)

    def test_places_change_nothing_but_the_order(self, alone):
        executor = InProcessExecutor(Pmmcs(), places=3)
        for number in range(5):
            executor.submit(task(number))
        assert_alike(results(collect(executor, 5)), {n: alone[n] for n in range(5)})
        assert executor.wait(1.0) == []

    def test_it_tells_of_a_slow_one_before_its_end(self):
        executor = InProcessExecutor(Pmmcs())
        executor.submit(task(0, long_calls=3))
        kinds = [type(h) for h in collect(executor, 1)]
        assert kinds == [Slow, Finished]

    def test_waiting_ends_in_time(self):
        executor = InProcessExecutor(Pmmcs())
        executor.submit(task(0))
        assert executor.wait(0.0) == []
        assert numbers(collect(executor, 1), Finished) == [0]


class TestPool:
    def test_a_batch_is_kept_full_and_its_results_are_those_of_each_alone(
        self, make_pool, alone, tmp_path, monkeypatch
    ):
        sizes = tmp_path / "sizes"
        monkeypatch.setenv("BATCH_SIZES", str(sizes))
        pool = make_pool("./batch_potentials.py:Watched", places=3)
        for number in range(9):
            pool.submit(task(number, long_calls=4))
        happenings = collect(pool, 9)
        assert_alike(results(happenings), alone)
        assert numbers(happenings, Slow) == list(range(9))
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

        def kill():
            for worker in workers():
                if len(killed) < 2 and worker.pid not in killed and is_slow():
                    worker.kill()
                    killed.append(worker.pid)

        def is_slow():
            under_way = [job for worker in pool._workers for job in worker.jobs.values()]
            return any(job.is_slow for job in under_way)

        happenings = collect(pool, 9, kill)
        assert len(killed) == 2
        assert numbers(happenings, Crashed) == []
        assert_alike(results(happenings), alone)
        log = (tmp_path / "workers.log").read_text()
        assert log.count("ended by signal 9; ") == 2

    @pytest.mark.parametrize(
        ("potential", "wall_limit_s", "reason"),
        [
            ("./batch_potentials.py:Killer", 600.0, "ended by signal 6"),
            ("./toy_potentials.py:Hanging", 3.0, "no end within 3 s"),
        ],
    )
    def test_only_the_guilty_one_of_a_batch_has_crashed(
        self, make_pool, potential, wall_limit_s, reason
    ):
        pool = make_pool(potential, wall_limit_s=wall_limit_s)
        pool.submit(task(20, POISON))
        for number in range(5):
            pool.submit(task(number))
        happenings = collect(pool, 6)
        assert numbers(happenings, Finished) == list(range(5))
        (crashed,) = [h for h in happenings if isinstance(h, Crashed)]
        assert crashed.task.lease.candidate == 20
        assert reason in crashed.reason
        pool.submit(task(20, POISON, n_crashes=1))
        pool.submit(task(7))
        happenings = collect(pool, 2)
        assert (numbers(happenings, Crashed), numbers(happenings, Finished)) == ([20], [7])

    def test_the_guilty_one_of_many_is_found_by_halving(self, make_pool, alone, tmp_path):
        pool = make_pool("./batch_potentials.py:Killer", places=8)
        for number in range(7):
            pool.submit(task(number))
            if number == 4:
                pool.submit(task(20, POISON))
        happenings = collect(pool, 8)
        assert numbers(happenings, Crashed) == [20]
        assert_alike(results(happenings), {number: alone[number] for number in range(7)})
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
        (worker,) = workers()
        worker.suspend()
        for number in range(1, 1500):
            pool.submit(task(number % 9))
        assert pool.wait(0.0) == []
        pool.close()
        assert workers() == []

    def test_workers_of_several_places_share_the_work(self, make_pool, tmp_path, monkeypatch):
        sizes = tmp_path / "sizes"
        monkeypatch.setenv("BATCH_SIZES", str(sizes))
        pool = make_pool("./batch_potentials.py:Watched", n_workers=2, places=2)
        for number in range(8):
            pool.submit(task(number))
        collect(pool, 8)
        steps = [line.split() for line in sizes.read_text().splitlines()]
        assert len({worker for worker, _ in steps}) == 2

    def test_a_worker_that_dies_at_its_start_is_replaced(self, make_pool, alone):
        pool = make_pool()
        pool.submit(task(0))
        os.kill(pool._workers[0].pid, signal.SIGKILL)
        assert_alike(results(collect(pool, 1)), {0: alone[0]}, tolerance=0.0)

    def test_workers_that_never_start_end_the_search(self, make_pool, monkeypatch):
        monkeypatch.setattr(sys, "executable", "/bin/false")
        pool = make_pool()
        pool.submit(task(0))
        with pytest.raises(ExecutionError, match=r"does not start .*exit status 1"):
            collect(pool, 1)

    def test_a_potential_that_cannot_be_loaded_ends_the_search(self, make_pool):
        pool = make_pool("./batch_potentials.py:NotThere")
        pool.submit(task(0))
        with pytest.raises(ExecutionError, match=r"cannot load the potential.*NotThere"):
            collect(pool, 1)


IMPORTED_FROM = [str(TESTS / "support"), str(TESTS / "execution" / "local")]
PARENT = """
import sys
from pathlib import Path
sys.path[:0] = {folders!r}
from test_pool import POISON, PotentialSource, POTENTIALS, WorkerPool, task, workers
source = PotentialSource("./batch_potentials.py:Holding", POTENTIALS.parent, {{}})
pool = WorkerPool(source, 1, 600.0, Path({log!r}), 4)
pool.submit(task(1, POISON, long_calls=1))
while not pool.wait(1.0):
    pass
print(workers()[0].pid, flush=True)
while True:
    pool.wait(1.0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker ends between two calls")
def test_a_worker_whose_native_code_hangs_does_not_outlive_its_parent(tmp_path):
    code = PARENT.format(folders=IMPORTED_FROM, log=str(tmp_path / "log"))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = psutil.Process(int(parent.stdout.readline()))
    time.sleep(1.0)
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
        (worker,) = workers()
        worker.kill()
        happenings = collect(pool, 30)
        assert numbers(happenings, Crashed) == []

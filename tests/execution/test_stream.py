"""Relaxations in this process: one by one, in batches, and what is reported of them."""

import pytest
from executors import assert_alike, collect, numbers, results
from tasks import task

from gasearch.execution.contract import Finished, Slow
from gasearch.execution.in_process import InProcessExecutor
from gasearch.execution.stream import Stream
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.relax.settings import RelaxSettings


class TestStream:
    def test_it_reports_who_starts_before_the_first_evaluation(self):
        started = []

        class Potential(Pmmcs):
            def evaluate(self, batch):
                assert len(started) >= len(batch)
                return super().evaluate(batch)

        stream = Stream(Potential(), on_start=started.extend)
        for number in range(3):
            stream.submit(number, task(number).atoms, RelaxSettings())
        left_handed = task(9).atoms
        left_handed.cell[2] *= -1
        stream.submit(9, left_handed, RelaxSettings())
        while len(stream):
            stream.step()
        assert started == [0, 1, 2], "what cannot be relaxed never starts"

    def test_it_reports_each_slow_one_once_in_its_own_call(self):
        stream, n_steps = Stream(Pmmcs()), 0
        slow, ended = {}, {}
        limits = {0: 5, 1: 12, 2: 290, 3: 1}
        for number, long_calls in limits.items():
            settings = RelaxSettings(long_calls=long_calls)
            stream.submit(number, task(number).atoms, settings)
        while len(stream):
            n_steps += 1
            slow_now, ended_now = stream.step()
            assert not slow.keys() & set(slow_now)
            slow |= dict.fromkeys(slow_now, n_steps)
            ended |= dict(ended_now)
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

    def test_it_reports_a_slow_one_before_its_end(self):
        executor = InProcessExecutor(Pmmcs())
        executor.submit(task(0, long_calls=3))
        kinds = [type(event) for event in collect(executor, 1)]
        assert kinds == [Slow, Finished]

    def test_waiting_ends_in_time(self):
        executor = InProcessExecutor(Pmmcs())
        executor.submit(task(0))
        assert executor.wait(0.0) == []
        assert numbers(collect(executor, 1), Finished) == [0]

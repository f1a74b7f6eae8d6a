"""Leases that are over: what waits keeps its own, what is missing is relaxed anew, once counted."""

import threading
import time

import numpy as np
import pytest
from searching import relaxed

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.io.hosts import host_to_json
from gasearch.execution.contract import Crashed, Finished, Missing
from gasearch.relax.settings import RelaxSection
from gasearch.run.execution_section import ExecutionSection
from gasearch.search.dispatcher import Dispatcher, DispatchSettings
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import LevelRecord, Proposal, RunRecord

LEASE_S = 0.5
HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))


class Workers:
    """An executor of which a test says who has what, for how long, and what comes back."""

    def __init__(self):
        self.tasks, self.ages, self.coming, self.is_alone = [], {}, [], False

    def submit(self, task):
        self.tasks.append(task)

    def wait(self, timeout_s):
        coming, self.coming = self.coming, []
        if not coming:
            time.sleep(0.05)
        return coming

    def age_s(self, task):
        return self.ages.get(id(task))

    def abandon(self, task):
        return self.is_alone

    def close(self):
        self.tasks.clear()

    def returns(self, task, energy=-1.0):
        self.coming.append(Finished(task, relaxed(task.atoms, energy=energy)))


@pytest.fixture
def store(tmp_path):
    run = RunRecord(host_to_json(HOST), HOST.atoms, {}, {}, 1, 4, {})
    level = LevelRecord("made-up", "made-up", "", (0.0, 0.0), ranks_only=False)
    with PopulationStore.create(tmp_path / "search.db", run, level) as store:
        yield store


@pytest.fixture
def workers():
    return Workers()


@pytest.fixture
def dispatcher(store, workers):
    execution = ExecutionSection(lease_s=LEASE_S, max_crashes=2)
    settings = DispatchSettings(1, RelaxSection(rattle=0.0), execution)
    dispatcher = Dispatcher(HOST, store, workers, settings, threading.Event())
    decoration = Decoration.random(HOST, HOST.composition_at(0.5), np.random.default_rng(1))
    dispatcher.hand_out([Proposal.of(1, decoration, "random")])
    return dispatcher


def kinds(store):
    return [event.kind for event in store.events(candidate=1)]


def test_what_waits_for_a_worker_keeps_its_lease_and_counts_when_it_comes(
    dispatcher, store, workers
):
    (task,) = workers.tasks
    threading.Timer(3 * LEASE_S, workers.returns, [task]).start()
    outcomes = dispatcher.record(dispatcher.collect())
    assert [outcome.candidate for outcome in outcomes] == [1]
    assert kinds(store).count("leased") >= 3
    assert store.extras() == []
    assert dispatcher.n_busy == 0


def test_what_a_worker_does_not_bring_back_is_handed_out_again(dispatcher, store, workers):
    (task,) = workers.tasks
    workers.ages[id(task)] = 60.0
    (missing,) = dispatcher.collect()
    assert isinstance(missing, Missing)
    assert missing.reason == "no result within 0.5 s"
    assert list(dispatcher.record([missing])) == []
    dispatcher.hand_out()
    _, again = workers.tasks
    assert (again.lease.attempt, again.lease.n_crashes) == (2, 0)

    workers.returns(task, energy=-7.0)
    assert list(dispatcher.record(dispatcher.collect())) == []
    workers.returns(again, energy=-8.0)
    (outcome,) = dispatcher.record(dispatcher.collect())
    assert outcome.energy == -8.0
    assert [(late.attempt, late.energy) for late in store.extras()] == [(1, -7.0)]
    assert len(store.outcomes()) == 1


def test_what_was_alone_with_its_worker_has_crashed_and_fails_in_the_end(
    dispatcher, store, workers
):
    workers.is_alone = True
    for attempt in (1, 2):
        workers.ages[id(workers.tasks[-1])] = 60.0
        (crashed,) = dispatcher.collect()
        assert isinstance(crashed, Crashed)
        outcomes = dispatcher.record([crashed])
        assert [o.verdict for o in outcomes] == (["failed"] if attempt == 2 else [])
        dispatcher.hand_out()
    assert "2 attempts failed; the last: no result" in store.evaluation(1).reason
    assert dispatcher.n_busy == 0


def test_giving_up_takes_the_renewed_lease_back(dispatcher, store, workers):
    end = time.monotonic() + 30
    while kinds(store).count("leased") < 2:
        assert time.monotonic() < end
        workers.coming = []
        dispatcher._overdue()
        time.sleep(0.05)
    dispatcher.give_up()
    assert [queued.candidate for queued in store.queued()] == [1]
    assert store.counts().in_flight == 0

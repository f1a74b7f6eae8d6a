"""How a search proceeds, from its database: rates over the time that it ran, leases, attempts."""

import pytest
from sqlalchemy import update

from gasearch.store.activity import activity
from gasearch.store.population_store import PopulationStore
from gasearch.store.schema import evaluation, event
from gasearch.testing.store import LEVEL, example_run, propose_and_lease, record

NOW = 1_000_000.0


@pytest.fixture
def store(tmp_path):
    """A database whose record may be falsified, to move what happened in time."""
    with PopulationStore.create(tmp_path / "search.db", example_run(), LEVEL) as store:
        store.write(drop_triggers)
        yield store


def drop_triggers(transaction):
    connection = transaction.connection
    names = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    for (name,) in list(connection.exec_driver_sql(names)):
        connection.exec_driver_sql(f"DROP TRIGGER {name}")


def say(store, kind):
    store.batch().event(kind).commit()


def shift(store, kind, time_s, candidate=None):
    """Let the newest event of a kind have happened at another time."""
    found = store.events(kind=kind, candidate=candidate)[-1]
    change = update(event).where(event.c.id == found.number).values(time=time_s)
    store.write(lambda transaction: transaction.connection.execute(change))


def finish(store, number, time_s):
    change = update(evaluation).where(evaluation.c.candidate == number).values(finished=time_s)
    store.write(lambda transaction: transaction.connection.execute(change))


def start(store, time_s):
    say(store, "started")
    shift(store, "started", time_s)


def end(store, time_s):
    say(store, "ended")
    shift(store, "ended", time_s)


class TestThroughput:
    def test_there_is_none_before_the_first_start(self, store):
        found = activity(store, False, NOW)
        assert (found.last_hour_per_h, found.overall_per_h) == (None, None)

    def test_pauses_do_not_count(self, store):
        start(store, NOW - 10_800)
        leases = propose_and_lease(store, 3)
        for lease in leases:
            record(store, [lease])
            finish(store, lease.candidate, NOW - 9000)
        end(store, NOW - 9000)
        found = activity(store, False, NOW)
        assert found.last_hour_per_h is None
        assert found.overall_per_h == pytest.approx(3 / 0.5)

    def test_the_last_hour_is_that_of_a_run_that_goes_on(self, store):
        start(store, NOW - 7200)
        first, second = propose_and_lease(store, 2)
        record(store, [first])
        record(store, [second])
        finish(store, 1, NOW - 5000)
        finish(store, 2, NOW - 10)
        found = activity(store, True, NOW)
        assert found.last_hour_per_h == pytest.approx(1.0)
        assert found.overall_per_h == pytest.approx(1.0)

    def test_a_killed_run_lasted_until_its_last_sign(self, store):
        start(store, NOW - 7200)
        (lease,) = propose_and_lease(store, 1)
        record(store, [lease])
        finish(store, 1, NOW - 5400)
        shift(store, "recorded", NOW - 5400)
        start(store, NOW - 1800)
        found = activity(store, True, NOW)
        assert found.overall_per_h == pytest.approx(1 / (0.5 + 0.5))
        assert found.last_hour_per_h == 0.0


class TestLeases:
    def test_the_oldest_of_those_that_are_out_is_named(self, store):
        propose_and_lease(store, 3)
        for number, ago in ((1, 30.0), (2, 500.0), (3, 90.0)):
            shift(store, "leased", NOW - ago, number)
        found = activity(store, True, NOW).oldest_lease
        assert (found.candidate, found.age_s) == (2, pytest.approx(500.0))

    def test_what_ended_is_not_among_them(self, store):
        first, second = propose_and_lease(store, 2)
        record(store, [first])
        shift(store, "leased", NOW - 40.0, second.candidate)
        assert activity(store, True, NOW).oldest_lease.candidate == second.candidate
        record(store, [second])
        assert activity(store, True, NOW).oldest_lease is None

    def test_a_lease_of_the_second_attempt_is_as_old_as_that_attempt(self, store):
        (lease,) = propose_and_lease(store, 1)
        shift(store, "leased", NOW - 900.0, 1)
        store.batch().requeue(lease, "its worker died", crashed=True).lease([1], 10.0).commit()
        shift(store, "leased", NOW - 60.0, 1)
        found = activity(store, True, NOW)
        assert found.oldest_lease.age_s == pytest.approx(60.0)
        assert (found.attempts, found.crashes) == (1, 1)

    def test_late_results_are_counted_apart(self, store):
        (lease,) = propose_and_lease(store, 1)
        batch = store.batch()
        batch.requeue(lease, "overdue")
        (second,) = (batch.lease([1], 10.0), batch.commit().leases)[1]
        record(store, [lease])
        record(store, [lease])  # it may come twice
        assert activity(store, True, NOW).late_results == 1
        record(store, [second])
        found = activity(store, True, NOW)
        assert (found.late_results, found.attempts, found.crashes) == (1, 1, 0)


def test_a_server_tells_the_same_as_a_file(place):
    with PopulationStore.create(place, example_run(), LEVEL) as store:
        say(store, "started")
        first, second = propose_and_lease(store, 2)
        record(store, [first])
        store.batch().requeue(second, "overdue").commit()
        record(store, [second])
        store.batch().lease([2], 100.0).commit()
        found = activity(store, True)
    assert found.overall_per_h > 0
    assert found.oldest_lease.candidate == 2
    assert 0 <= found.oldest_lease.age_s < 60
    assert not found.oldest_lease.is_overdue
    assert (found.attempts, found.crashes, found.late_results) == (1, 0, 1)

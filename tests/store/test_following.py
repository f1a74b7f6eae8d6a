"""What a reader sees that looks again and again: all of the database, once, in small pieces."""

import pytest
from sqlalchemy import delete

from gasearch.store.population_store import PopulationStore
from gasearch.store.records import FIRST_OUTSIDE
from gasearch.store.schema import event
from gasearch.store.sql.events import ADDED
from gasearch.store.sql.following import Follower, lease_starts
from gasearch.testing.store import (
    LEVEL,
    example_proposal,
    example_relaxed,
    example_run,
    fill,
    propose_and_lease,
    record,
)


@pytest.fixture
def store(place):
    with PopulationStore.create(place, example_run(), LEVEL) as store:
        yield store


def caught_up(follower, known):
    """Read all that is new, and put it into what is known."""
    found = []
    while True:
        step = follower.step()
        found.append(step)
        if step.is_anew:
            known.clear()
        if step.outside_anew:
            for number in [number for number in known if number >= FIRST_OUTSIDE]:
                del known[number]
        known |= {line.id: line for line in step.lines}
        if step.is_all:
            return found


def as_stored(store):
    """Return what the other questions say of all candidates that have a result."""
    return {
        row.candidate: (row.composition, row.x, row.verdict, row.reason, row.purpose, row.n_calls)
        for row in store.evaluations(verdict=None)
    }


def as_followed(known):
    found = {}
    for line in known.values():
        one = line.counted
        if one is not None:
            found[line.id] = (
                line.composition, line.x, one.verdict, one.reason, one.purpose, one.n_calls,
            )  # fmt: skip
    return found


def test_small_pieces_make_the_whole_and_then_only_what_changed(store):
    leases = propose_and_lease(store, 7)
    record(store, leases[:3])
    follower, known = Follower(store.read, chunk=2), {}
    steps = caught_up(follower, known)
    assert max(len(step.lines) for step in steps) == 2
    assert sorted(known) == list(range(1, 8))
    assert as_followed(known) == as_stored(store)
    assert sum(one.state == "relaxing" for line in known.values() for one in line.evaluations) == 4
    (step,) = caught_up(follower, known)
    assert not step.lines

    store.batch().record(leases[3], example_relaxed(9, verdict="broken", reason="fused")).commit()
    store.batch().event("started").commit()
    steps = caught_up(follower, known)
    assert {line.id for step in steps for line in step.lines} == {4}
    assert [mark.kind for step in steps for mark in step.marks] == ["started"]
    assert known[4].counted.verdict == "broken"
    assert as_followed(known) == as_stored(store)


def test_every_state_of_a_search_is_read_as_other_questions_have_it(store):
    fill(store, 12)
    follower, known = Follower(store.read, chunk=5), {}
    caught_up(follower, known)
    assert as_followed(known) == as_stored(store)
    fill(store, 9)
    caught_up(follower, known)
    assert len(known) == store.n_candidates
    assert as_followed(known) == as_stored(store)


def test_the_marks_of_a_long_record_are_found_with_the_time_before_them(store):
    store.batch().event("started").commit()
    propose_and_lease(store, 30)
    store.batch().event("ended", data={"ending": "budget"}).commit()
    marks = [m for step in caught_up(Follower(store.read, chunk=1), {}) for m in step.marks]
    assert [mark.kind for mark in marks] == ["started", "ended"]
    times = {one.number: one.time_s for one in store.events()}
    assert [(m.time_s, m.before_s) for m in marks] == [
        (times[m.number], times[m.number - 1]) for m in marks
    ]


def test_a_candidate_from_elsewhere_is_seen_when_it_comes(store):
    propose_and_lease(store, 2)
    follower, known = Follower(store.read), {}
    caught_up(follower, known)
    store.write(_bring)
    caught_up(follower, known)
    assert sorted(known) == [1, 2, FIRST_OUTSIDE]
    propose_and_lease(store, 1, fingerprint="else")  # the search finds it by itself, and adopts it
    caught_up(follower, known)
    assert sorted(known) == [1, 2, 3]


def _bring(transaction):
    """Add a candidate as the result of a DFT job does whose order has moved."""
    became = example_proposal(None, fingerprint="else", origin="dft")
    (data,) = transaction.add_candidates([FIRST_OUTSIDE], [became])
    transaction.add_event(ADDED, None, {**data, "candidate": FIRST_OUTSIDE})


def test_an_older_database_in_its_place_is_read_from_its_beginning(store):
    leases = propose_and_lease(store, 3)
    follower, known = Follower(store.read), {}
    caught_up(follower, known)
    n_before = store.n_events
    record(store, leases)
    caught_up(follower, known)
    change = delete(event).where(event.c.id > n_before)
    store.write(_without_triggers)
    store.write(lambda transaction: transaction.connection.execute(change))
    assert follower.step().is_anew


def _without_triggers(transaction):
    connection = transaction.connection
    if connection.dialect.name != "sqlite":
        pytest.skip("the record of a server cannot be cut here")
    names = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    for (name,) in list(connection.exec_driver_sql(names)):
        connection.exec_driver_sql(f"DROP TRIGGER {name}")


def test_a_lease_began_when_it_was_last_handed_out(store):
    leases = propose_and_lease(store, 2)
    first = {one.candidate: one.time_s for one in store.events(kind="leased")}
    store.batch().requeue(leases[0], "its worker is gone").commit()
    store.batch().lease([leases[0].candidate]).commit()
    found = store.read(lambda connection: lease_starts(connection, [1, 2]))
    assert found[2] == first[2]
    assert found[1] > first[1]

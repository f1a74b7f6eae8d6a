"""What a proposal may know: at once, or with a lag that makes the search independent of timing."""

import numpy as np
import pytest

from gasearch.search.visibility import Immediate, Lagged
from gasearch.store.records import Outcome


def outcome(candidate, result, n_calls=10):
    return Outcome(result, candidate, "NaFePO4", -1.0, "ok", n_calls)


def released(visibility, number, known=None):
    return [o.candidate for o in visibility.release(number, known)]


def test_immediate_results_are_visible_once_and_in_the_order_of_commit():
    visibility = Immediate()
    for result, candidate in enumerate((3, 1, 2), start=1):
        visibility.add(outcome(candidate, result))
    assert visibility.is_ready(4)
    assert released(visibility, 4) == [3, 1, 2]
    assert released(visibility, 5) == []


def test_a_replayed_proposal_sees_what_it_had_seen_and_no_more():
    visibility = Immediate()
    for n in (1, 2, 3):
        visibility.add(outcome(n, n))
    assert released(visibility, 4, known=2) == [1, 2]
    assert released(visibility, 5, known=3) == [3]


def test_lagged_proposals_wait_for_the_outcomes_that_they_use():
    visibility = Lagged(slots=2, long_calls=100)
    assert all(visibility.is_ready(n) for n in (1, 2, 3, 4))
    assert not visibility.is_ready(5)
    visibility.add(outcome(2, 1))
    assert not visibility.is_ready(5)
    visibility.add(outcome(1, 2))
    assert visibility.is_ready(5)
    assert released(visibility, 5) == [1]
    assert visibility.is_ready(6)
    assert released(visibility, 6) == [2]


def test_a_long_relaxation_is_not_waited_for_until_its_own_lag_is_over():
    visibility = Lagged(slots=1, long_calls=100)
    visibility.mark_long(1)
    for n in range(2, 17):
        visibility.add(outcome(n, n))
    assert all(visibility.is_ready(n) for n in range(1, 17))
    assert [released(visibility, n) for n in range(1, 17)] == [
        [],
        [],
        [],
        *[[n] for n in range(2, 15)],
    ]
    assert not visibility.is_ready(17)
    visibility.add(outcome(1, 17, n_calls=101))
    assert visibility.is_ready(17)
    assert released(visibility, 17) == [1, 15]


def visible_sets(slots, finish_order, n_calls, marked_early):
    """Simulate a search whose relaxations end in some order; return what each proposal saw."""
    visibility = Lagged(slots=slots, long_calls=100)
    seen, in_flight, number, result = [], [], 1, 0
    order = {candidate: place for place, candidate in enumerate(finish_order)}
    while number <= len(n_calls):
        while number <= len(n_calls) and len(in_flight) < slots and visibility.is_ready(number):
            seen.append(released(visibility, number))
            in_flight.append(number)
            number += 1
        long = [c for c in in_flight if n_calls[c - 1] > 100]
        if marked_early:
            for candidate in long:
                visibility.mark_long(candidate)
        if not in_flight:
            break
        ended = min(in_flight, key=order.__getitem__)
        in_flight.remove(ended)
        result += 1
        visibility.add(outcome(ended, result, n_calls[ended - 1]))
    return seen


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_what_is_seen_does_not_depend_on_which_relaxation_ends_first(slots):
    rng = np.random.default_rng(slots)
    n_calls = rng.choice([20, 90, 101, 300], size=60, p=[0.6, 0.2, 0.1, 0.1]).tolist()
    reference = visible_sets(slots, range(1, 61), n_calls, marked_early=True)
    assert len(reference) == 60
    for trial in range(20):
        order = (rng.permutation(60) + 1).tolist()
        assert visible_sets(slots, order, n_calls, marked_early=bool(trial % 2)) == reference

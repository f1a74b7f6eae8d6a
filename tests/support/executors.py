"""What executors bring, and whether it is what was expected."""

import time

import numpy as np

from gasearch.execution.contract import Finished, Slow


def collect(executor, n_ended, meanwhile=lambda events: None, limit_s=240.0):
    """Return what happened until so many relaxations ended."""
    events, end = [], time.monotonic() + limit_s
    while sum(not isinstance(event, Slow) for event in events) < n_ended:
        assert time.monotonic() < end, f"waited in vain; so far {events}"
        events += executor.wait(0.1)
        meanwhile(events)
    return events


def numbers(events, kind):
    """Return the candidates of all events of a kind."""
    return sorted(event.task.lease.candidate for event in events if isinstance(event, kind))


def results(events):
    """Return what was relaxed, by candidate."""
    return {e.task.lease.candidate: e.relaxed for e in events if isinstance(e, Finished)}


def assert_alike(found, expected, tolerance=1e-9):
    """Assert equal results; within rounding, or to the bit."""
    assert found.keys() == expected.keys()
    for number, relaxed in expected.items():
        one = found[number]
        assert (one.verdict, one.n_calls) == (relaxed.verdict, relaxed.n_calls)
        assert abs(one.energy - relaxed.energy) <= tolerance
        assert np.abs(one.atoms.positions - relaxed.atoms.positions).max() <= tolerance

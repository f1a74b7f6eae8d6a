"""What the record says, followed event by event."""

import json
from types import SimpleNamespace

import pytest

from gasearch.store.checks.events import Replay
from gasearch.testing.store import create, fill


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    with create(tmp_path_factory.mktemp("store") / "search.db") as store:
        fill(store, 4)
        return [
            SimpleNamespace(
                id=event.number,
                kind=event.kind,
                candidate=event.candidate,
                time=event.time_s,
                data=json.dumps(dict(event.data)),
            )
            for event in store.events()
        ]


def faults_of(events):
    replay = Replay()
    for event in events:
        replay.apply(event)
    return replay.faults


def test_a_whole_record_has_no_faults(events):
    assert faults_of(events) == []


@pytest.mark.parametrize("shift", [-1, 1])
def test_results_are_numbered_without_gaps_and_repetitions(events, shift):
    recorded = [e for e in events if e.kind == "recorded" and json.loads(e.data)["result"] == 3]
    (third,) = recorded
    wrong = json.dumps(json.loads(third.data) | {"result": 3 + shift})
    changed = [SimpleNamespace(**{**vars(e), "data": wrong}) if e is third else e for e in events]
    assert f"candidate {third.candidate} has result {3 + shift}, not 3" in faults_of(changed)

"""What a population database accepts, refuses and gives back."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from gasearch.relax.audit import Verdict
from gasearch.relax.relaxed import Relaxed
from gasearch.store.errors import (
    DatabaseExistsError,
    DuplicateCandidateError,
    IllegalTransitionError,
    InvalidRecordError,
    UnknownCandidateError,
    WriteFailedError,
)
from gasearch.store.location import Place
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import FIRST_OUTSIDE, Lease
from gasearch.store.schema import structure
from gasearch.store.sql.transaction import Transaction
from gasearch.testing.store import LEVEL, create, example_run
from gasearch.testing.store import example_atoms as crystal
from gasearch.testing.store import example_proposal as proposal
from gasearch.testing.store import example_relaxed as relaxed

RUN = example_run()


@pytest.fixture
def store(place: Place) -> Iterator[PopulationStore]:
    with create(place) as store:
        yield store


def propose(store: PopulationStore, n: int, **changes: object) -> None:
    batch = store.batch()
    first = store.n_candidates + 1
    batch.propose(proposal(k, **changes) for k in range(first, first + n))
    batch.commit()


def lease(store: PopulationStore, *candidates: int) -> tuple[Lease, ...]:
    return store.batch().lease(candidates).commit().leases


def record(store: PopulationStore, number: int, purpose: str = "search", **changes: object) -> None:
    (granted,) = store.batch().lease([number]).commit().leases
    assert granted.purpose == purpose
    assert not store.batch().record(granted, relaxed(number, **changes)).commit().refused


def test_the_run_and_its_level_come_back_as_they_went_in(store: PopulationStore) -> None:
    run = store.run
    assert run.host_atoms == RUN.host_atoms
    for name in ("host", "settings", "operational", "seed", "n_formula_units", "versions"):
        assert getattr(run, name) == getattr(RUN, name)
    assert store.level == LEVEL


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "search.db"
    path.write_bytes(b"precious")
    with pytest.raises(DatabaseExistsError, match="exists already"):
        PopulationStore.create(path, RUN, LEVEL)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecordError, match="JSON"):
        PopulationStore.create(
            tmp_path / "search.db", dataclasses.replace(RUN, settings={"a": math.nan}), LEVEL
        )
    assert list(tmp_path.iterdir()) == []


def test_proposals_come_back_equal_and_in_order(store: PopulationStore) -> None:
    first = proposal(1, orbit_size=2**60, x=1 / 3, n_rejected=4)
    second = proposal(2, parents=(1, 1), operator="crossover", generation=3)
    store.batch().propose([first]).propose([second]).commit()
    assert store.proposals() == [first, second]
    assert store.proposals(after=1) == [second]
    assert store.proposal(2) == second
    assert store.n_candidates == 2
    assert store.counts().duplicates == 4


def test_a_proposal_keeps_its_budget_and_how_it_was_chosen(store: PopulationStore) -> None:
    details = {"rates": {"swap": 0.1 + 0.2}, "predicted_eV_per_fu": -1 / 3, "pool": [1, None]}
    sent = [proposal(1, budget=60, details=details), proposal(2, budget=90)]
    store.batch().propose(sent).commit()
    assert store.proposals() == sent
    assert [p.budget for p in store.proposals()] == [60, 90]
    assert store.proposal(1).details == details
    assert store.proposal(2).details == {}
    first, second = store.events(kind="proposed")
    assert first.data["budget"] == 60
    assert json.loads(first.data["details"]) == details
    assert second.data["details"] is None


def test_proposals_are_compared_by_their_budget_and_not_by_their_details() -> None:
    assert proposal(1, budget=60) != proposal(1, budget=61)
    assert proposal(1, details={"a": 0.1}) == proposal(1, details={"a": 0.2})
    assert hash(proposal(1, details={"a": 1})) == hash(proposal(1))


def test_a_lineage_is_a_candidate_with_all_that_it_descends_from(store: PopulationStore) -> None:
    parents = {1: (), 2: (), 3: (1,), 4: (2, 2), 5: (3, 4), 6: (5, 1), 7: (4,)}
    store.batch().propose(proposal(k, parents=of) for k, of in parents.items()).propose(
        [proposal(None, origin="seed.cif", fingerprint="seed", parents=(7,))]
    ).commit()
    assert [key for key, _ in store.lineage(6)] == [1, 2, 3, 4, 5, 6]
    assert [found.parents for _, found in store.lineage(6)] == [parents[k] for k in range(1, 7)]
    assert [key for key, _ in store.lineage(7)] == [2, 4, 7]
    assert [key for key, _ in store.lineage(FIRST_OUTSIDE)] == [2, 4, 7, FIRST_OUTSIDE]
    assert store.lineage(1) == [(1, store.proposal(1))]
    with pytest.raises(UnknownCandidateError):
        store.lineage(8)


def test_the_newest_event_is_the_last_of_its_kind(store: PopulationStore) -> None:
    assert store.newest_event("surrogate") is None
    for number in (1, 2):
        store.batch().event("surrogate", None, {"candidate": number}).event(
            "other", None, {"candidate": -number}
        ).commit()
    newest = store.newest_event("surrogate")
    assert newest is not None
    assert newest.data == {"candidate": 2}
    assert newest == store.events(kind="surrogate")[-1]


def test_a_niche_counts_by_its_search_relaxations_what_is_valid(store: PopulationStore) -> None:
    propose(store, 6, composition="Na2Fe4")
    propose(store, 1, composition="Na4Fe4", x=1.0)
    verdicts = {1: "ok", 2: "order_lost", 3: "failed", 4: "ok", 5: "broken"}
    for number, verdict in verdicts.items():
        record(store, number, verdict=verdict)
    store.batch().queue_tight([4]).commit()
    record(store, 4, purpose="tight", verdict="order_lost")
    half, full = store.by_composition()
    assert (half.candidates, half.relaxed, half.failed, half.valid) == (6, 4, 1, 2)
    assert half.not_valid == ((2, "order_lost"), (3, "failed"), (5, "broken"))
    assert (full.candidates, full.valid, full.not_valid) == (1, 0, ())


def test_a_candidate_can_be_proposed_and_leased_in_one_commit(store: PopulationStore) -> None:
    assert store.batch().propose([proposal(1), proposal(2)]).lease([2, 1]).commit().leases == (
        Lease(2, 1, "search", 0),
        Lease(1, 1, "search", 0),
    )
    assert store.counts().in_flight == 2
    assert store.queued() == []


def test_a_relaxed_structure_comes_back_bit_by_bit(store: PopulationStore) -> None:
    propose(store, 1)
    record(store, 1)
    sent, got = relaxed(1), store.relaxed(1)
    assert got.atoms == sent.atoms
    assert np.array_equal(got.atoms.cell, sent.atoms.cell)
    for name in ("initial_charges", "initial_magmoms"):
        assert np.array_equal(got.atoms.arrays[name], sent.atoms.arrays[name])
    for field in dataclasses.fields(Relaxed):
        if field.name != "atoms":
            assert np.array_equal(getattr(got, field.name), getattr(sent, field.name)), field.name


def test_a_failed_relaxation_comes_back_with_its_start_structure(store: PopulationStore) -> None:
    propose(store, 1)
    record(store, 1, verdict="failed", reason="the worker was killed three times")
    got = store.relaxed(1)
    assert got.atoms == crystal(1)
    assert math.isnan(got.energy)
    assert np.isnan(got.forces).all()
    assert got.forces.shape == (7, 3)
    assert got.reason == "the worker was killed three times"
    assert store.counts().failed == 1
    (outcome,) = store.outcomes()
    assert math.isnan(outcome.energy)
    assert outcome.verdict == "failed"


def test_results_are_numbered_in_the_order_of_commit(store: PopulationStore) -> None:
    propose(store, 3)
    leases = lease(store, 1, 2, 3)
    committed = (
        store.batch()
        .record(leases[2], relaxed(3))
        .record(leases[0], relaxed(1, verdict="order_lost"))
        .commit()
    )
    assert [(o.result, o.candidate) for o in committed.outcomes] == [(1, 3), (2, 1)]
    assert store.batch().record(leases[1], relaxed(2)).commit().outcomes[0].result == 3
    assert [o.candidate for o in store.outcomes()] == [3, 1, 2]
    assert [o.candidate for o in store.outcomes(after=2)] == [2]
    assert store.outcomes()[:2] == list(committed.outcomes)


def test_a_late_result_is_kept_and_never_counted(store: PopulationStore) -> None:
    propose(store, 1)
    (old,) = lease(store, 1)
    store.batch().requeue(old, "no sign of life").commit()
    committed = store.batch().record(old, relaxed(1)).commit()
    assert (committed.refused, committed.late) == ((old,), (old,))  # nobody has it
    (new,) = lease(store, 1)
    assert new.attempt == 2
    committed = store.batch().record(old, relaxed(1)).requeue(old, "crashed", crashed=True).commit()
    assert (committed.refused, committed.late) == ((old, old), ())  # the same once more
    committed = (
        store.batch()
        .record(new, relaxed(2))
        .record(new, relaxed(2))
        .record(new, relaxed(3))
        .commit()
    )
    assert (committed.refused, committed.late) == ((new, new), (new,))  # it is done
    assert store.batch().record(new, relaxed(2)).record(new, relaxed(3)).commit().late == ()
    assert [o.energy for o in committed.outcomes] == [-12.0]
    assert store.relaxed(1).energy == -12.0
    kinds = [event.kind for event in store.events(candidate=1)]
    assert kinds == [
        "proposed",
        "leased",
        "requeued",
        "late_result",
        "leased",
        "repeated_result",
        "late_requeue",
        "recorded",
        "repeated_result",
        "late_result",
        "repeated_result",
        "repeated_result",
    ]
    kept = store.extras()
    assert [(e.id, e.candidate, e.attempt, e.energy) for e in kept] == [
        (1, 1, 1, -11.0),
        (2, 1, 2, -13.0),
    ]
    assert store.extras(candidate=2) == []
    same = store.extra_relaxed(2)
    assert same.atoms == relaxed(3).atoms
    assert np.array_equal(same.forces, relaxed(3).forces)
    counts = store.counts()
    assert (counts.relaxed, counts.extra, counts.n_calls) == (1, 2, 30)
    assert [o.candidate for o in store.outcomes()] == [1]
    assert [row.energy for row in store.evaluations(None)] == [-12.0]
    with pytest.raises(UnknownCandidateError, match="late result"):
        store.extra_relaxed(3)


def test_a_failure_that_comes_late_is_kept_too(store: PopulationStore) -> None:
    propose(store, 1)
    (old,) = lease(store, 1)
    store.batch().record(old, relaxed(1, verdict="failed", reason="given up")).commit()
    for _ in range(2):
        store.batch().record(old, relaxed(1)).record(
            old, relaxed(2, verdict="failed", reason="out of memory")
        ).commit()
    assert [(e.verdict, e.reason) for e in store.extras()] == [
        ("ok", ""),
        ("failed", "out of memory"),
    ]
    assert math.isnan(store.extra_relaxed(2).energy)
    assert store.counts().failed == 1
    assert store.by_composition()[0].best is None


def test_reasons_may_be_any_bytes_that_a_program_leaves(store: PopulationStore) -> None:
    propose(store, 1)
    (granted,) = lease(store, 1)
    (granted,) = (
        store.batch()
        .requeue(granted, "it said \0 and \udc80", crashed=True)
        .lease([1])
        .commit()
        .leases
    )
    store.batch().record(
        granted, relaxed(1, verdict="failed", reason="it said \0 and \udc80, Å")
    ).commit()
    assert store.evaluation(1).reason == "it said \\0 and \\udc80, Å"
    assert store.events(kind="requeued")[0].data["reason"] == "it said \0 and \udc80"


def test_only_reported_crashes_are_counted(store: PopulationStore) -> None:
    propose(store, 2)
    first, second = lease(store, 1, 2)
    store.batch().requeue(first, "killed by the system", crashed=True).requeue(
        second, "its machine went away"
    ).commit()
    lease(store, 1, 2)
    assert store.requeue_stale() == [1, 2]
    assert store.requeue_stale() == []
    assert [(q.candidate, q.n_crashes) for q in store.queued()] == [(1, 1), (2, 0)]
    assert [granted.n_crashes for granted in lease(store, 1, 2)] == [1, 0]


@pytest.mark.parametrize("state", ["relaxing", "relaxed", "failed"])
def test_only_a_queued_candidate_can_be_leased(store: PopulationStore, state: str) -> None:
    propose(store, 1)
    if state == "relaxing":
        lease(store, 1)
    else:
        record(store, 1, verdict="ok" if state == "relaxed" else "failed")
    with pytest.raises(IllegalTransitionError, match=f"is {state}"):
        lease(store, 1)


def test_an_illegal_transition_rolls_the_whole_batch_back(store: PopulationStore) -> None:
    propose(store, 2)
    n_events = len(store.events())
    with pytest.raises(IllegalTransitionError):
        store.batch().lease([1]).set_operational({"budget": 1}).lease([1]).commit()
    assert store.counts().queued == 2
    assert store.run.operational["budget"] == 500
    assert len(store.events()) == n_events


def test_unknown_candidates_are_named(store: PopulationStore) -> None:
    for ask in (partial(lease, store), store.relaxed, store.proposal, store.evaluation):
        with pytest.raises(UnknownCandidateError, match="candidate 7"):
            ask(7)


def test_a_known_crystal_is_refused(store: PopulationStore) -> None:
    propose(store, 1)
    with pytest.raises(DuplicateCandidateError, match="same crystal as candidate 1"):
        store.batch().propose([proposal(2, fingerprint="fp1")]).commit()
    with pytest.raises(DuplicateCandidateError, match="same batch"):
        store.batch().propose([proposal(2), proposal(3, fingerprint="fp2")]).commit()
    assert store.n_candidates == 1


def test_a_proposal_that_breaks_the_record_is_refused(store: PopulationStore) -> None:
    propose(store, 1)
    for bad, problem in (
        (proposal(3), "next number is 2"),
        (proposal(2, known=1), "used result 1 of 0"),
        (proposal(2, x=math.nan), "finite"),
        (proposal(2, parents=(2,)), "parent 2 is not in the database"),
        (proposal(None), "another origin"),
        (proposal(2, details={"predicted_eV_per_fu": math.nan}), r"details of candidate 2.*JSON"),
        (proposal(2, budget=-1), r"candidate 2.*its budget is -1"),
    ):
        with pytest.raises(InvalidRecordError, match=problem):
            store.batch().propose([bad]).commit()
    assert store.counts().candidates == 1


def test_a_result_that_is_not_a_number_is_refused(store: PopulationStore) -> None:
    propose(store, 1)
    (granted,) = lease(store, 1)
    batch = store.batch().event("before")
    bad: tuple[tuple[dict[str, Any], str], ...] = (
        ({"energy": math.nan}, "energy is nan"),
        ({"fmax": math.inf}, "fmax is inf"),
        ({"forces": np.full((7, 3), np.nan)}, "forces holds a NaN"),
        ({"forces": np.zeros((12, 3))}, "forces has shape"),
        ({"stress": np.full((3, 3), np.nan)}, "stress holds a NaN"),
        ({"moments": np.full(7, np.inf)}, "moments holds"),
        ({"wall_s": math.nan}, "wall_s is nan"),
    )
    for changes, problem in bad:
        with pytest.raises(InvalidRecordError, match=problem):
            batch.record(granted, relaxed(1, **changes))
    batch.commit()  # the rest of the batch is sound
    assert store.counts().in_flight == 1
    assert store.outcomes() == []
    assert len(store.events(kind="before")) == 1


def test_float32_results_are_stored_as_float64(store: PopulationStore) -> None:
    propose(store, 1)
    forces = relaxed(1).forces.astype(np.float32)
    record(store, 1, forces=forces, energy=np.float32(-1.5))
    assert store.relaxed(1).forces.dtype == np.float64
    assert np.array_equal(store.relaxed(1).forces, forces)


def test_candidates_from_elsewhere_stay_out_of_the_numbered_stream(store: PopulationStore) -> None:
    seed = proposal(None, fingerprint="seed", origin="seed.cif")
    (key,) = store.batch().propose([proposal(1), seed]).commit().outside
    assert key == FIRST_OUTSIDE
    assert store.batch().propose([proposal(2, parents=(key, 1))]).propose(
        [dataclasses.replace(seed, fingerprint="dft", origin="dft", parents=(2,))]
    ).commit().outside == (FIRST_OUTSIDE + 1,)
    assert store.n_candidates == 2
    assert [p.number for p in store.proposals()] == [1, 2]
    assert [number for number, _ in store.outside()] == [FIRST_OUTSIDE, FIRST_OUTSIDE + 1]
    assert store.proposal(key) == seed
    assert store.counts().candidates == 4
    record(store, key)
    assert store.outcomes()[0].candidate == key


def test_the_lowest_ok_evaluation_counts(store: PopulationStore) -> None:
    propose(store, 3)
    record(store, 1, energy=-1.0)
    record(store, 2, energy=-2.0)
    record(store, 3, energy=-3.0)
    store.batch().queue_tight([1, 2, 3]).commit()
    assert [(q.candidate, q.purpose) for q in store.queued()] == [
        (1, "tight"),
        (2, "tight"),
        (3, "tight"),
    ]
    record(store, 1, "tight", energy=-1.5)  # lower
    record(store, 2, "tight", energy=-1.5)  # higher
    record(store, 3, "tight", energy=-9.0, verdict="unconverged")  # lower, but not ok
    assert [(e.candidate, e.energy, e.purpose) for e in store.evaluations()] == [
        (3, -3.0, "search"),
        (2, -2.0, "search"),
        (1, -1.5, "tight"),
    ]
    assert [e.energy for e in store.evaluations(tight=False)] == [-3.0, -2.0, -1.0]
    assert store.relaxed(1).energy == -1.5
    assert store.relaxed(1, "search").energy == -1.0
    assert store.evaluation(1).result is None
    assert len(store.outcomes()) == 3


@pytest.mark.parametrize("verdict", ["order_lost", "broken"])
def test_a_tight_relaxation_that_lost_the_order_takes_the_first_ones_ok_away(
    store: PopulationStore, verdict: Verdict
) -> None:
    propose(store, 2)
    record(store, 1, energy=-3.0)
    record(store, 2, energy=-2.0)
    store.batch().queue_tight([1]).commit()
    record(store, 1, "tight", energy=-9.0, verdict=verdict)
    assert [e.candidate for e in store.evaluations()] == [2]
    assert [(e.candidate, e.verdict, e.purpose) for e in store.evaluations(None)] == [
        (1, verdict, "tight"),
        (2, "ok", "search"),
    ]
    assert [row.best for row in store.by_composition()] == [2]
    assert [e.candidate for e in store.evaluations(tight=False)] == [1, 2], "the search goes on"
    assert [outcome.verdict for outcome in store.outcomes()] == ["ok", "ok"]


def test_a_database_of_an_earlier_version_is_corrected_when_it_is_opened(
    store: PopulationStore,
) -> None:
    propose(store, 1)
    record(store, 1, energy=-3.0)
    store.batch().queue_tight([1]).commit()
    record(store, 1, "tight", energy=-9.0, verdict="order_lost")

    def as_it_was(transaction: Transaction) -> None:
        for number, counts in ((2, None), (1, 1)):
            change = update(structure).where(structure.c.id == number).values(counts_for=counts)
            transaction.connection.execute(change)

    store.write(as_it_was)
    assert [e.candidate for e in store.evaluations()] == [1]
    with PopulationStore.open(store.place) as again:
        assert again.evaluations() == []
        assert again.evaluation(1).verdict == "order_lost"


def test_a_tight_relaxation_replaces_one_that_is_not_ok(store: PopulationStore) -> None:
    propose(store, 1)
    record(store, 1, energy=-5.0, verdict="unconverged")
    (committed,) = [store.batch().queue_tight([1]).commit()]
    record(store, 1, "tight", energy=-4.0)
    assert [(e.energy, e.verdict) for e in store.evaluations(None)] == [(-4.0, "ok")]
    assert committed.outcomes == ()


def test_a_tight_result_does_not_steer(store: PopulationStore) -> None:
    propose(store, 1)
    record(store, 1)
    (granted,) = store.batch().queue_tight([1]).lease([1]).commit().leases
    assert granted.purpose == "tight"
    committed = store.batch().record(granted, relaxed(1, energy=-20.0)).commit()
    assert committed.outcomes == ()
    assert [(o.result, o.energy, o.purpose) for o in committed.tight] == [(0, -20.0, "tight")]
    assert store.counts().relaxed == 1


@pytest.mark.parametrize("state", ["queued", "failed", "tight"])
def test_only_a_relaxed_candidate_gets_a_tight_relaxation(
    store: PopulationStore, state: str
) -> None:
    propose(store, 1)
    batch = store.batch()
    if state == "failed":
        record(store, 1, verdict="failed")
    if state == "tight":
        record(store, 1)
        batch.queue_tight([1])
    batch.queue_tight([1])
    with pytest.raises(IllegalTransitionError):
        batch.commit()


def test_evaluations_are_chosen_and_sorted(store: PopulationStore) -> None:
    store.batch().propose(
        [
            proposal(1, x=1.0, composition="Na2"),
            proposal(2, x=0.0, composition="Na0"),
            proposal(3, x=2 / 3, composition="Na4/3"),
            proposal(4, x=2 / 3, composition="Na4/3"),
            proposal(5, x=2 / 3, composition="Na4/3"),
            proposal(6, x=2 / 3, composition="Na4/3"),
        ]
    ).commit()
    for number, energy in ((1, -1.0), (2, -2.0), (3, -3.0), (4, -4.0)):
        record(store, number, energy=energy)
    record(store, 5, verdict="failed", reason="no")
    assert [e.candidate for e in store.evaluations()] == [2, 4, 3, 1]
    assert [e.candidate for e in store.evaluations(None)] == [2, 4, 3, 5, 1]
    assert [e.candidate for e in store.evaluations(x=0.6666667)] == [4, 3]
    assert [e.candidate for e in store.evaluations(composition="Na4/3", limit=1)] == [4]
    assert [e.candidate for e in store.evaluations("failed")] == [5]
    niches = {row.composition: row for row in store.by_composition()}
    assert list(niches) == ["Na0", "Na4/3", "Na2"]
    row = niches["Na4/3"]
    assert (row.candidates, row.relaxed, row.failed, row.best) == (4, 2, 1, 4)
    assert row.best_energy == -4.0
    counts = store.counts()
    assert (counts.candidates, counts.relaxed, counts.failed, counts.queued) == (6, 4, 1, 1)
    assert counts.by_verdict == {"ok": 4, "failed": 1}
    assert counts.n_calls == 150


def test_the_queue_is_oldest_first(store: PopulationStore) -> None:
    propose(store, 4)
    leases = lease(store, 1, 2)
    store.batch().requeue(leases[0], "again").commit()
    assert [q.candidate for q in store.queued()] == [1, 3, 4]
    assert [q.candidate for q in store.queued(limit=2)] == [1, 3]


def test_overdue_leases_are_listed(store: PopulationStore) -> None:
    propose(store, 2)
    first, _ = store.batch().lease([1], lease_s=-1).lease([2], lease_s=1000).commit().leases
    assert store.overdue() == [first]


def test_leases_go_by_the_clock_of_the_database(
    store: PopulationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1e9)
    propose(store, 2)
    store.batch().lease([1, 2], lease_s=1000).commit()
    monkeypatch.setattr(time, "time", lambda: now + 1e9)
    assert store.overdue() == []
    assert all(abs(event.time_s - now) < 3600 for event in store.events())


def test_operational_settings_change_and_the_change_is_an_event(store: PopulationStore) -> None:
    store.batch().set_operational({"budget": 900, "report": True}).commit()
    assert store.run.operational == {"budget": 900, "device": "cpu", "report": True}
    assert store.run.settings == RUN.settings
    (event,) = store.events(kind="operational")
    assert event.data == {"budget": 900, "report": True}


def test_events_of_the_search_are_kept_in_order(store: PopulationStore) -> None:
    propose(store, 1)
    store.batch().event("stagnation", None, {"generations": 3}).event("exhausted", 1).commit()
    events = store.events()
    assert [event.number for event in events] == [1, 2, 3, 4]
    assert [event.kind for event in events] == ["created", "proposed", "stagnation", "exhausted"]
    assert store.events(after=3)[0].candidate == 1
    with pytest.raises(InvalidRecordError, match="store itself"):
        store.batch().event("recorded")


def test_an_event_of_an_unknown_candidate_is_refused(store: PopulationStore) -> None:
    with pytest.raises(InvalidRecordError, match=r"(?i)foreign key"):
        store.batch().event("exhausted", 99).commit()
    assert [event.kind for event in store.events()] == ["created"]


def test_a_batch_is_committed_once(store: PopulationStore) -> None:
    batch = store.batch()
    batch.propose([proposal(1)])
    batch.commit()
    with pytest.raises(InvalidRecordError, match="already"):
        batch.commit()
    assert store.batch().commit().leases == ()


def test_large_batches_are_taken_whole(store: PopulationStore) -> None:
    propose(store, 1100)
    assert len(lease(store, *range(1, 1101))) == 1100
    assert store.requeue_stale() == list(range(1, 1101))


def test_a_reader_cannot_write(store: PopulationStore) -> None:
    with PopulationStore.open(store.place, read_only=True) as reader:
        with pytest.raises(WriteFailedError, match="opened for reading only"):
            reader.batch().propose([proposal(1)]).commit()
        assert reader.n_candidates == 0


def test_the_store_imports_no_heavy_package() -> None:
    heavy = ("torch", "pymatgen", "mace", "chgnet", "schnetpack", "alembic", "ase_ga", "matplotlib")
    code = "import sys, gasearch.store.population_store; "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "error",
    [
        IllegalTransitionError(3, "search", "relaxed", "relaxing"),
        InvalidRecordError("candidate 3", "no"),
        UnknownCandidateError(3, "result"),
        DatabaseExistsError(Path("a.db"), "exists", "go away"),
    ],
)
def test_errors_survive_pickling(error: Exception) -> None:
    assert str(pickle.loads(pickle.dumps(error))) == str(error)

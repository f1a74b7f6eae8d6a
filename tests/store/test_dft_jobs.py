"""DFT and promotions in a population database, in a file and on a server alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sqlalchemy import select

from gasearch.store.checks.check import check_store
from gasearch.store.dft_jobs import (
    DftRecord,
    add_level,
    dft_levels,
    dft_relaxed,
    dft_rows,
    jobs,
    promoted_without_job,
    put_job,
    record,
)
from gasearch.store.location import Place
from gasearch.store.population_store import PopulationStore
from gasearch.store.promotions import NewPromotion, add_promotions, promotions
from gasearch.store.records import FIRST_OUTSIDE, Proposal
from gasearch.store.schema import candidate
from gasearch.testing.store import create, example_proposal, example_relaxed, fill

LEVEL = "gpaw-1"


@pytest.fixture
def store(place: Place) -> Iterator[PopulationStore]:
    with create(place) as store:
        fill(store, 3)
        yield store


def candidate_of(store: PopulationStore, fingerprint: str) -> int | None:
    query = select(candidate.c.id).where(candidate.c.fingerprint == fingerprint)
    return store.read(lambda connection: connection.execute(query).scalar_one_or_none())


def compute(store: PopulationStore, number: int, became: Proposal | None, energy: float) -> None:
    folder = f"dft/{number}-{LEVEL}"
    put_job(store, number, LEVEL, "gpaw", folder, "prepared")
    put_job(store, number, LEVEL, "gpaw", folder, "running")
    moved = "moved" if became else "delocalised"
    relaxed = example_relaxed(number, energy=energy, stress=np.full((3, 3), np.nan))
    record(store, DftRecord(folder, moved, "", became, relaxed, {"energy_eV": energy}))


def test_levels_jobs_and_results_are_kept(store: PopulationStore) -> None:
    assert add_level(store, LEVEL, "gpaw", {"U": 5.3}) == 2
    assert add_level(store, LEVEL, "gpaw", {"U": 5.3}) == 2
    assert add_level(store, "vasp-1", "vasp", {"U": 5.3}) == 3
    assert [(level.id, level.name) for level in dft_levels(store)] == [(2, LEVEL), (3, "vasp-1")]
    compute(store, 1, store.proposal(2), -50.0)
    compute(store, 2, None, -51.0)
    (row,) = dft_rows(store, LEVEL)
    assert (row.candidate, row.energy) == (2, -50.0)
    assert dft_relaxed(store, 2, LEVEL).energy == -50.0
    assert [(job.id, job.charge_order, job.found) for job in jobs(store)] == [
        (1, "moved", 2),
        (2, "delocalised", None),
    ]
    assert store.counts().n_calls == 90
    assert check_store(store.place) == []


def test_a_lower_result_takes_the_place_of_an_older_one(store: PopulationStore) -> None:
    add_level(store, LEVEL, "gpaw", {})
    for number, energy in ((1, -50.0), (2, -49.0), (3, -52.0)):
        compute(store, number, store.proposal(1), energy)
    assert [row.energy for row in dft_rows(store, LEVEL)] == [-52.0]
    assert check_store(store.place) == []


def test_what_dft_found_first_gets_its_number_from_the_search(store: PopulationStore) -> None:
    add_level(store, LEVEL, "gpaw", {})
    found = example_proposal(None, fingerprint="fp5", origin="dft", parents=(1,))
    compute(store, 1, found, -50.0)
    assert candidate_of(store, "fp5") == FIRST_OUTSIDE
    store.batch().propose([example_proposal(5, fingerprint="fp5", parents=(2, 3))]).commit()
    assert candidate_of(store, "fp5") == 5
    assert store.outside() == []
    assert [row.candidate for row in dft_rows(store, LEVEL)] == [5]
    assert jobs(store)[0].found == 5
    assert store.proposal(5).parents == (2, 3)
    assert check_store(store.place) == []


def test_promotions_are_kept_once_and_wait_for_a_job(store: PopulationStore) -> None:
    chosen = [NewPromotion(2, "lowest", "1 of x"), NewPromotion(1, "highest", "2 of x")]
    assert add_promotions(store, chosen) == 2
    assert add_promotions(store, [*chosen, NewPromotion(1, "lowest", "1 of x")]) == 1
    assert [(one.candidate, one.rule) for one in promotions(store)] == [
        (2, "lowest"),
        (1, "highest"),
        (1, "lowest"),
    ]
    assert promoted_without_job(store) == [2, 1]
    add_level(store, LEVEL, "gpaw", {})
    put_job(store, 2, LEVEL, "gpaw", "dft/2", "prepared")
    assert promoted_without_job(store) == [1]
    assert check_store(store.place) == []

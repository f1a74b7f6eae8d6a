"""What is worth a DFT job: by shares, from energies that are known."""

import math
from collections import Counter

import pytest

from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.learning.choice import choose
from gasearch.learning.expected.predictions import Expectations, Expected
from gasearch.learning.settings import ChoiceSection

HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))


def every(heights=None, sigma=math.nan, known=(), force_sigma=math.nan):
    """Return all sixteen decorations, as if relaxed; heights by fingerprint, in meV/f.u."""
    rows, number = [], 0
    for composition in HOST.compositions:
        for n, fingerprint in enumerate(HOST.fingerprints(composition)):
            number += 1
            above = (heights or {}).get(fingerprint, 10.0 * n) / 1000
            has_job = fingerprint in known
            rows.append(
                Expected(
                    "round-1/1x1x1", number, "1x1x1", fingerprint, composition.formula,
                    composition.x, 4, above, above, sigma, 0.0 if has_job else None,
                    has_job, force_sigma, above, above,
                )
            )  # fmt: skip
    rows.sort(key=lambda row: (row.x, row.expected_eV))
    return Expectations(tuple(rows), {}, {"round-1/1x1x1": HOST})


LOWEST = ChoiceSection(lowest=1.0, uncertain=0.0, different=0.0)


def test_the_first_jobs_are_the_ends_and_the_lowest_at_each_x():
    chosen = choose(every(), LOWEST, 7, ())
    assert [round(one.row.x, 3) for one in chosen[:5]] == [0, 1, 0.25, 0.5, 0.75]
    assert all(one.row.above_hull_per_fu == 0 for one in chosen[:5])
    assert [one.row.above_hull_per_fu for one in chosen[5:]] == [0.01, 0.01]
    assert chosen[5].reason == "no. 2 from below at x = 0.25, 10.0 meV/f.u. above the hull"


def test_nothing_is_computed_twice_in_one_geometry():
    expected = every(known=[row.fingerprint for row in every().candidates])
    assert choose(expected, ChoiceSection(), 8, ()) == []


def test_a_new_geometry_is_computed_again_only_on_the_hull():
    keys = {row.key for row in every().candidates}
    chosen = choose(every(), ChoiceSection(), 16, keys)
    assert {one.row.x for one in chosen} == {0, 0.25, 0.5, 0.75, 1}
    assert len(chosen) == 5


def test_the_uncertain_are_near_the_hull():
    heights = {row.fingerprint: 300.0 for row in every().candidates[::2]}
    expected = every(heights, sigma=0.02)
    settings = ChoiceSection(lowest=0.0, uncertain=1.0, different=0.0)
    chosen = choose(expected, settings, 6, ())
    assert {one.rule for one in chosen} == {"uncertain"}
    assert all(one.row.above_hull_per_fu <= 0.1 for one in chosen)


def test_a_share_that_cannot_be_filled_goes_to_the_lowest():
    chosen = choose(every(), ChoiceSection(lowest=0.5, uncertain=0.5, different=0.0), 8, ())
    assert Counter(one.rule for one in chosen) == {"lowest": 8}


def test_the_most_different_come_from_where_nothing_is_known():
    known = [row.fingerprint for row in every().candidates if row.x != 0.5]
    settings = ChoiceSection(lowest=0.0, uncertain=0.0, different=1.0)
    chosen = choose(every(known=known), settings, 4, ())
    assert {one.row.x for one in chosen} == {0.5}
    assert chosen[0].reason == "the first at x = 0.5"
    distances = [float(one.reason.split()[0]) for one in chosen[1:]]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] > 0


@pytest.mark.parametrize("jobs", [1, 3, 5, 16, 40])
def test_jobs_are_as_many_as_asked_for_or_all_there_are(jobs):
    chosen = choose(every(sigma=0.01), ChoiceSection(), jobs, ())
    assert len({one.row.key for one in chosen}) == len(chosen) == min(jobs, 16)


def test_the_uncertainty_of_forces_counts_where_a_model_has_it():
    settings = ChoiceSection(lowest=0.0, uncertain=1.0, different=0.0)
    chosen = choose(every(sigma=0.02, force_sigma=0.3), settings, 3, ())
    assert [one.rule for one in chosen] == ["uncertain"] * 3
    assert chosen[0].reason == "+- 0.30 eV/Å, 0.0 meV/f.u. above the hull"

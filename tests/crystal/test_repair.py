"""Repair: always valid, as few changes as can be, the least reluctant sites first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.repair import nearest_composition, repair
from gasearch.testing import toy_host

HOSTS = [toy_host(), toy_host(mixed=True), toy_host(mixed=True, supercell=(2, 1, 1))]


def any_digits(host, rng):
    return rng.integers(host.n_species).astype(np.uint8)


@settings(max_examples=150, deadline=None)
@given(host=st.sampled_from(HOSTS), seed=st.integers(0, 2**32), place=st.integers(0, 99))
def test_any_occupation_becomes_valid_at_the_composition_asked_for(host, seed, place):
    rng = np.random.default_rng(seed)
    composition = host.compositions[place % len(host.compositions)]
    occupation = any_digits(host, rng)
    before = occupation.copy()
    repaired = repair(host, occupation, composition, rng)
    assert repaired.composition == composition
    assert host.charge_of(repaired.occupation) == 0
    assert np.array_equal(occupation, before)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), place=st.integers(0, 99))
def test_no_valid_decoration_is_nearer(seed, place):
    host = HOSTS[2]
    rng = np.random.default_rng(seed)
    composition = host.compositions[place % len(host.compositions)]
    occupation = any_digits(host, rng)
    repaired = repair(host, occupation, composition, rng)
    every = np.array([d for d in np.ndindex(*host.n_species) if host.charge_of(np.array(d)) == 0])
    valid = np.array([d for d in every if host.composition_of(d) == composition])
    nearest = (valid != occupation).sum(axis=1).min()
    assert np.count_nonzero(repaired.occupation != occupation) == nearest


@pytest.mark.parametrize("host", HOSTS)
def test_a_valid_occupation_stays_as_it_is(host):
    rng = np.random.default_rng(1)
    for composition in host.compositions:
        decoration = Decoration.random(host, composition, rng)
        assert repair(host, decoration.occupation, composition, rng) == decoration


def test_the_least_reluctant_sites_change():
    host = toy_host()
    empty = np.array([1] * 4 + [1] * 4, dtype=np.uint8)  # FeF3
    reluctance = np.array([3.0, 1.0, 2.0, np.inf, 0.3, 0.1, np.inf, 0.2])
    rng = np.random.default_rng(0)
    repaired = repair(host, empty, host.composition_at("1/2"), rng, reluctance)
    assert np.flatnonzero(repaired.occupation != empty).tolist() == [1, 2, 5, 7]


def test_among_equally_near_counts_the_cheapest_is_taken():
    host = toy_host(mixed=True)  # 4 Na sites, then Fe2+ Fe3+ Mn2+ Mn3+ as 0 1 2 3
    occupation = np.array([0, 0, 0, 1, 0, 0, 2, 2], dtype=np.uint8)  # one vacancy not paid for
    for cheap, digit in ((5, 1), (6, 3)):
        reluctance = np.ones(8)
        reluctance[cheap] = 0.0
        repaired = repair(
            host, occupation, host.composition_at("3/4"), np.random.default_rng(0), reluctance
        )
        assert np.flatnonzero(repaired.occupation != occupation).tolist() == [cheap]
        assert repaired.occupation[cheap] == digit


def test_the_nearest_composition_goes_by_the_working_ions():
    host, rng = toy_host(), np.random.default_rng(0)
    low, high = host.compositions[1], host.compositions[3]
    one_ion = np.array([0, 1, 1, 1, 0, 0, 0, 1], dtype=np.uint8)  # with the charges of three
    assert nearest_composition(host, one_ion, [low, high], rng) == low
    between = Decoration.random(host, host.compositions[2], rng).occupation
    drawn = [nearest_composition(host, between, [low, high], rng) for _ in range(50)]
    assert 10 < drawn.count(low) < 40

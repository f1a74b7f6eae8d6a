"""Thinning keeps the lowest of everything, leaves nobody uncounted, and knows no chance."""

import numpy as np
import pytest

from gasearch.serve.thinning import thinned


@pytest.fixture
def crowd():
    rng = np.random.default_rng(4)
    group = rng.integers(13, size=50_000)
    energy = -30.0 + 0.1 * group + rng.gamma(2.0, 0.05, size=50_000)
    energy[123] = 900.0  # it exploded
    return group, energy


def test_all_are_counted_and_few_are_shown(crowd):
    found = thinned(*crowd, 2000)
    assert 500 < len(found.place) <= 2000
    assert found.stands_for.sum() == 50_000
    assert (np.diff(found.place) > 0).all()
    assert found.stands_for.max() > 100


def test_the_lowest_of_each_group_and_an_outlier_are_shown(crowd):
    group, energy = crowd
    found = thinned(group, energy, 2000)
    for one in range(13):
        own = np.flatnonzero(group == one)
        assert own[np.argmin(energy[own])] in found.place
    place = found.place.tolist().index(123)
    assert found.stands_for[place] == 1


def test_where_points_stand_alone_they_are_all_shown(crowd):
    group, energy = crowd
    alone = np.array([0.0, 0.5, 1.0, 1.5, 2.0]) + energy.min() - 3.0
    group, energy = np.r_[group, [7] * 5], np.r_[energy, alone]
    found = thinned(group, energy, 2000)
    assert set(range(50_000, 50_005)) <= set(found.place.tolist())


def test_the_same_points_in_another_order_are_thinned_alike(crowd):
    group, energy = crowd
    shuffle = np.random.default_rng(0).permutation(len(energy))
    first, second = thinned(group, energy), thinned(group[shuffle], energy[shuffle])
    assert set(first.place.tolist()) == set(shuffle[second.place].tolist())


@pytest.mark.parametrize("n", [0, 1, 2000])
def test_few_are_left_as_they_are(n):
    found = thinned(np.zeros(n, dtype=int), np.linspace(0, 1, n), 2000)
    assert found.place.tolist() == list(range(n))
    assert (found.stands_for == 1).all()


def test_equal_energies_are_one_point_with_its_number():
    found = thinned(np.zeros(3000, dtype=int), np.full(3000, -1.5), 2000)
    assert (found.place.tolist(), found.stands_for.tolist()) == ([0], [3000])

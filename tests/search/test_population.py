"""Niches, ranks and the choice of parents."""

from collections import Counter

import numpy as np

from gasearch.crystal.decoration import Decoration
from gasearch.search.population import Member, Population


def members(host, x, energies, first=1):
    rng = np.random.default_rng(0)
    composition = host.composition_at(x)
    return [
        Member(energy, number, Decoration.random(host, composition, rng))
        for number, energy in enumerate(energies, start=first)
    ]


def test_a_member_is_told_its_rank_in_its_niche_and_whether_it_has_a_place(small):
    population = Population(3)
    ranks = [population.add(member) for member in members(small, 0.5, [3.0, 4.0, 2.0, 2.5, 9.0])]
    assert ranks == [0, 1, 0, 1, None]
    assert population.minimum(small.composition_at(0.5)).energy == 2.0


def test_niches_do_not_compete(small):
    population = Population(5)
    for member in [*members(small, 0.5, [-100.0]), *members(small, 0.75, [50.0], first=2)]:
        assert population.add(member) == 0
    assert population.minimum(small.composition_at(0.75)).energy == 50.0


def test_the_state_does_not_depend_on_the_order_of_results(small):
    made = members(small, 0.5, [3.0, 1.0, 1.0, 2.0, 0.5, 7.0])
    chosen = []
    for order in (made, made[::-1]):
        population = Population(3)
        for member in order:
            population.add(member)
        rng = np.random.default_rng(5)
        composition = small.composition_at(0.5)
        chosen.append([population.parents(2, [composition], rng) for _ in range(50)])
    assert chosen[0] == chosen[1]
    assert {m.number for pair in chosen[0] for m in pair} == {2, 3, 5}


def test_lower_energies_are_drawn_more_often(small):
    population = Population(10)
    for member in members(small, 0.5, np.arange(10.0)):
        population.add(member)
    rng = np.random.default_rng(1)
    composition = small.composition_at(0.5)
    drawn = Counter(population.parents(1, [composition], rng)[0].number for _ in range(20_000))
    shares = np.array([drawn[n] for n in range(1, 11)]) / 20_000
    expected = 0.85 ** np.arange(10)
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.01)


def test_two_parents_differ_and_mostly_share_a_niche(small):
    population = Population(10)
    for member in [*members(small, 0.5, np.arange(5.0)), *members(small, 0.75, np.arange(5.0), 10)]:
        population.add(member)
    rng = np.random.default_rng(2)
    pairs = [population.parents(2, population.compositions(), rng) for _ in range(2000)]
    assert all(a.number != b.number for a, b in pairs)
    same = sum(a.decoration.composition == b.decoration.composition for a, b in pairs) / 2000
    assert 0.8 < same < 0.95  # 3/4, and half of the rest by chance


def test_there_are_no_parents_in_an_empty_niche_and_no_pair_of_one(small):
    population = Population(10)
    rng = np.random.default_rng(3)
    assert population.parents(1, list(small.compositions), rng) is None
    population.add(members(small, 0.5, [1.0])[0])
    assert population.parents(2, list(small.compositions), rng) is None
    assert population.parents(1, [small.composition_at(0.75)], rng) is None

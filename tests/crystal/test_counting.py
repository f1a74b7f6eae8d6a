import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasearch.crystal import counting
from gasearch.crystal.counting import (
    BurnsideCounter,
    CountedSublattice,
    enumerate_digits,
    fillings,
    n_raw,
)

NA = ((1, 1), (0, 0))  # working ions, charge
FE = ((0, 2), (0, 3))
MIXED = ((0, 2, 1, 0), (0, 3, 1, 0), (0, 2, 0, 1), (0, 3, 0, 1))  # ..., Fe, Mn


def brute_fillings(sublattices):
    """Species counts with what they add up to, from every single decoration."""
    parts = [range(len(s.weights)) for s in sublattices for _ in range(s.n_sites)]
    bounds = list(itertools.accumulate((s.n_sites for s in sublattices), initial=0))
    found = Counter()
    for digits in itertools.product(*parts):
        own = [digits[a:b] for a, b in itertools.pairwise(bounds)]
        counts = tuple(
            tuple(d.count(n) for n in range(len(s.weights)))
            for d, s in zip(own, sublattices, strict=True)
        )
        weights = [s.weights[n] for d, s in zip(own, sublattices, strict=True) for n in d]
        found[tuple(map(sum, zip(*weights, strict=True))), counts] += 1
    return found


weight = st.tuples(st.integers(0, 1), st.integers(-2, 3))
sublattice = st.builds(
    CountedSublattice, st.integers(1, 3), st.lists(weight, min_size=1, max_size=3).map(tuple)
)


@settings(max_examples=40, deadline=None)
@given(sublattices=st.lists(sublattice, min_size=1, max_size=3), charge=st.integers(-4, 6))
def test_fillings_are_all_species_counts_with_the_conserved_charge(sublattices, charge):
    found = fillings(sublattices, (charge,))
    expected = {
        (totals[0], counts): number
        for (totals, counts), number in brute_fillings(sublattices).items()
        if totals[1] == charge
    }
    listed = [(first, filling) for first, chosen in found.items() for filling in chosen]
    assert len(listed) == len(set(listed))
    assert {key: n_raw(key[1]) for key in listed} == expected
    assert list(found) == sorted(found)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_burnside_agrees_with_the_orbits_of_all_decorations(data):
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    sublattices = [
        CountedSublattice(n, data.draw(st.lists(weight, min_size=2, max_size=3).map(tuple)))
        for n in sizes
    ]
    permutations = data.draw(groups(sizes))
    counter = BurnsideCounter(sublattices, permutations)
    orbits = Counter()
    for digits in itertools.product(
        *[range(len(s.weights)) for s in sublattices for _ in range(s.n_sites)]
    ):
        if digits == min(tuple(digits[i] for i in p) for p in permutations):
            species = zip(np.repeat(range(len(sizes)), sizes), digits, strict=True)
            weights = [sublattices[s].weights[d] for s, d in species]
            orbits[tuple(map(sum, zip(*weights, strict=True)))] += 1
    assert {totals: counter(totals) for totals in orbits} == dict(orbits)


@st.composite
def groups(draw, sizes):
    """A group that permutes the sites of each sublattice among themselves."""
    generators = [
        np.concatenate([
            start + np.array(draw(st.permutations(range(n))))
            for start, n in zip(np.cumsum([0, *sizes]), sizes, strict=False)
        ])
        for _ in range(2)
    ]  # fmt: skip
    known = [tuple(range(sum(sizes)))]
    for p in known:  # grows while it is read
        for g in generators:
            product = tuple(g[list(p)].tolist())
            if product not in known:
                known.append(product)
    return np.array(known)


def test_totals_that_no_decoration_has_count_nothing():
    counter = BurnsideCounter([CountedSublattice(4, NA)], np.arange(4)[None])
    assert [counter((n, n)) for n in range(-1, 6)] == [0, 1, 4, 6, 4, 1, 0]
    assert counter((1, 2)) == 0


def test_groups_of_more_than_256_operations_do_not_overflow():
    permutations = np.array(list(itertools.permutations(range(6))))  # 720
    counter = BurnsideCounter([CountedSublattice(6, ((0,), (1,)))], permutations)
    assert [counter((n,)) for n in range(7)] == [1] * 7
    counter = BurnsideCounter([CountedSublattice(6, ((0,), (0,)))], permutations)
    assert counter((0,)) == 7  # both species weigh the same: all counts fall together


def test_counts_beyond_64_bits_are_exact():
    n_sites = 90
    turns = np.array([np.roll(np.arange(n_sites), k) for k in range(n_sites)])
    counter = BurnsideCounter([CountedSublattice(n_sites, ((0,), (1,)))], turns)
    assert counter((45,)) > 2**70
    assert (
        sum(counter((n,)) for n in range(n_sites + 1))
        == sum(2 ** np.gcd(k, n_sites).item() for k in range(n_sites)) // n_sites
    )


@pytest.mark.parametrize(
    "filling", [((2, 3),), ((1, 2, 2), (3, 1)), ((4, 0), (0, 2)), ((0, 0, 3),)]
)
def test_enumeration_yields_every_arrangement_once(filling):
    chunks = list(enumerate_digits(filling, chunk=17))
    rows = [tuple(row) for chunk in chunks for row in chunk.tolist()]
    assert len(set(rows)) == len(rows) == n_raw(filling)
    start = 0
    for counts in filling:
        for row in rows:
            part = row[start : start + sum(counts)]
            assert tuple(part.count(n) for n in range(len(counts))) == counts
        start += sum(counts)


def test_enumeration_of_a_large_block_goes_by_halves(monkeypatch):
    monkeypatch.setattr(counting, "_LARGE_BLOCK", 20)
    filling = ((3, 2, 2), (2, 2))
    rows = {row.tobytes() for chunk in enumerate_digits(filling) for row in chunk}
    monkeypatch.undo()
    assert rows == {row.tobytes() for chunk in enumerate_digits(filling) for row in chunk}
    assert len(rows) == n_raw(filling)


def test_enumeration_comes_in_chunks_of_the_size_asked_for():
    sizes = [len(chunk) for chunk in enumerate_digits(((4, 4), (4, 4)), chunk=1000)]
    assert sum(sizes) == 4900
    assert sizes == [1000] * 4 + [900]


def test_mixed_redox_at_24_formula_units_has_as_many_compositions_as_sites():
    rng = np.random.default_rng(0)
    permutations = np.array([
        np.concatenate([rng.permutation(24), 24 + rng.permutation(24)]) for _ in range(48)
    ])  # fmt: skip
    sublattices = [
        CountedSublattice(24, tuple((*w, 0, 0) for w in NA)),
        CountedSublattice(24, MIXED),
    ]
    found = fillings(sublattices, (72, 12, 12))
    BurnsideCounter(sublattices, permutations)
    assert len(found) == 25

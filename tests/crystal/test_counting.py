import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasearch.crystal import counting
from gasearch.crystal.counting import (
    CountedSublattice,
    cycle_type,
    enumerate_digits,
    fillings,
    n_fixed,
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


@settings(max_examples=60, deadline=None)
@given(
    permutation=st.permutations(range(6)),
    counts=st.sampled_from([(6,), (3, 3), (2, 4), (2, 2, 2), (1, 2, 3), (4, 0, 2), (1, 1, 2, 2)]),
)
def test_what_a_permutation_leaves_alone_is_counted_by_its_cycles(permutation, counts):
    rows = np.concatenate(list(enumerate_digits((counts,))))
    alone = np.count_nonzero(np.all(rows[:, permutation] == rows, axis=1))
    assert n_fixed(cycle_type(np.array(permutation), 0, 6), counts) == alone


def test_counts_of_another_number_of_sites_leave_nothing_alone():
    assert n_fixed(((1, 4),), (2, 3)) == 0


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
    sublattices = [
        CountedSublattice(24, tuple((*w, 0, 0) for w in NA)),
        CountedSublattice(24, MIXED),
    ]
    assert len(fillings(sublattices, (72, 12, 12))) == 25

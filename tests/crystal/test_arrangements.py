import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasearch.crystal import exclusions
from gasearch.crystal.arrangements import Arrangements
from gasearch.crystal.counting import cycles
from gasearch.crystal.exclusions import ExclusiveSites, TooManyArrangementsError

TWO = (True, False)
NONE = np.zeros((0, 2), dtype=np.int64)


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


@st.composite
def crowded(draw):
    """Sublattices with sites that exclude each other, and a group that keeps the exclusions."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    fills = [draw(st.sampled_from([TWO, (True, True, False), (False, True), (True, True)]))
             for _ in sizes]  # fmt: skip
    group = draw(groups(sizes))
    n = sum(sizes)
    chosen = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=3))
    images = {tuple(sorted((int(g[a]), int(g[b])))) for a, b in chosen if a != b for g in group}
    pairs = np.array(sorted(images), dtype=np.int64).reshape(-1, 2)
    return sizes, fills, pairs, group


def brute(sizes, fills, pairs, group):
    """Raw and distinct numbers by filling, from every single arrangement."""
    owner = [n for n, size in enumerate(sizes) for _ in range(size)]
    raw, distinct = Counter(), Counter()
    for digits in itertools.product(*[range(len(fills[n])) for n in owner]):
        filled = [fills[n][d] for n, d in zip(owner, digits, strict=True)]
        if any(filled[a] and filled[b] for a, b in pairs.tolist()):
            continue
        own = [[d for n, d in zip(owner, digits, strict=True) if n == k] for k in range(len(sizes))]
        filling = tuple(
            tuple(part.count(d) for d in range(len(f))) for part, f in zip(own, fills, strict=True)
        )
        raw[filling] += 1
        distinct[filling] += digits == min(tuple(digits[i] for i in g) for g in group)
    return raw, distinct


def all_fillings(sizes, fills):
    parts = [
        [c for c in itertools.product(range(size + 1), repeat=len(f)) if sum(c) == size]
        for size, f in zip(sizes, fills, strict=True)
    ]
    return list(itertools.product(*parts))


@settings(max_examples=80, deadline=None)
@given(case=crowded())
def test_counts_and_lists_agree_with_every_single_arrangement(case):
    sizes, fills, pairs, group = case
    arrangements = Arrangements(sizes, fills, pairs)
    classes = arrangements.classes(group)
    raw, distinct = brute(*case)
    for filling in all_fillings(sizes, fills):
        assert arrangements.n_raw(filling) == raw[filling]
        assert arrangements.n_distinct([filling], classes) == distinct[filling]
        rows = [tuple(row) for chunk in arrangements.listed(filling) for row in chunk.tolist()]
        assert len(set(rows)) == len(rows) == raw[filling]


@settings(max_examples=30, deadline=None)
@given(case=crowded(), seed=st.integers(0, 99))
def test_what_is_drawn_is_legal_and_has_the_counts_asked_for(case, seed):
    sizes, fills, pairs, _ = case
    arrangements, rng = Arrangements(sizes, fills, pairs), np.random.default_rng(seed)
    for filling in all_fillings(sizes, fills):
        if not arrangements.n_raw(filling):
            continue
        listed = {row.tobytes() for chunk in arrangements.listed(filling) for row in chunk}
        assert arrangements.random(filling, rng).tobytes() in listed


def test_every_arrangement_is_drawn_as_often():
    ring = np.array([(n, (n + 1) % 8) for n in range(8)])
    arrangements = Arrangements([8], [TWO], ring)
    filling, rng = ((3, 5),), np.random.default_rng(3)
    n = arrangements.n_raw(filling)
    assert n == 16  # n / (n - k) * C(n - k, k)
    seen = Counter(arrangements.random(filling, rng).tobytes() for _ in range(200 * n))
    assert len(seen) == n
    assert sum((k - 200) ** 2 / 200 for k in seen.values()) < 37.7  # chi squared, 15, p = 0.001


def test_a_ring_has_as_many_arrangements_as_lucas_says():
    ring = np.array([(n, (n + 1) % 30) for n in range(30)])
    exclusive = ExclusiveSites((30,), (TWO,), ring)
    assert sum(exclusive.n([(k, 30 - k)]) for k in range(31)) == 1_860_498


def test_hard_squares_on_a_torus_are_those_of_the_transfer_matrix():
    n = 6
    grid = np.arange(n * n).reshape(n, n)
    pairs = [np.stack([grid, np.roll(grid, 1, axis)], axis=-1).reshape(-1, 2) for axis in (0, 1)]
    exclusive = ExclusiveSites((n * n,), (TWO,), np.concatenate(pairs))
    rows = [r for r in itertools.product((0, 1), repeat=n) if not any(map(min, r, r[1:] + r[:1]))]
    transfer = np.array([[int(not any(map(min, a, b))) for b in rows] for a in rows])
    expected = np.trace(np.linalg.matrix_power(transfer, n))
    assert sum(exclusive.n([(k, n * n - k)]) for k in range(n * n + 1)) == expected


def test_groups_of_more_than_256_operations_do_not_overflow():
    permutations = np.array(list(itertools.permutations(range(6))))  # 720
    arrangements = Arrangements([6], [TWO], NONE)
    classes = arrangements.classes(permutations)
    assert [arrangements.n_distinct([((n, 6 - n),)], classes) for n in range(7)] == [1] * 7


def test_counts_beyond_64_bits_are_exact():
    n_sites = 90
    turns = np.array([np.roll(np.arange(n_sites), k) for k in range(n_sites)])
    arrangements = Arrangements([n_sites], [TWO], NONE)
    classes = arrangements.classes(turns)
    counts = [arrangements.n_distinct([((n, n_sites - n),)], classes) for n in range(n_sites + 1)]
    assert counts[45] > 2**70
    assert sum(counts) == sum(2 ** np.gcd(k, n_sites).item() for k in range(n_sites)) // n_sites


def test_cycles_of_a_permutation():
    assert cycles([1, 0, 2, 4, 5, 3]) == [(0, 1), (2,), (3, 4, 5)]


@pytest.fixture
def too_big(monkeypatch):
    """A ring of 12 sites that may not be counted."""
    monkeypatch.setattr(exclusions, "MAX_BITS", 1000)
    ring = np.array([(n, (n + 1) % 12) for n in range(12)])
    return Arrangements([12], [TWO], ring)


def test_what_cannot_be_counted_has_a_lower_bound(too_big, monkeypatch):
    bounds = [too_big.n_raw(((n, 12 - n),)) for n in range(8)]
    assert not too_big.are_counted
    classes = too_big.classes(np.arange(12)[None])
    assert too_big.n_distinct([((3, 9),)], classes) == bounds[3]
    with pytest.raises(TooManyArrangementsError, match="legal arrangements of 12 sites"):
        next(too_big.listed(((3, 9),)))
    monkeypatch.undo()
    ring = np.array([(n, (n + 1) % 12) for n in range(12)])
    exact = Arrangements([12], [TWO], ring)
    assert bounds[:2] == [1, 12]
    for n, bound in enumerate(bounds):
        assert bound <= exact.n_raw(((n, 12 - n),))
        assert (bound > 0) == (n <= 6)


def test_what_cannot_be_counted_is_drawn_legally_up_to_the_densest(too_big):
    for seed in range(20):
        row = too_big.random(((6, 6),), np.random.default_rng(seed))
        assert (row == 0).sum() == 6
        assert not np.any((row == 0) & (np.roll(row, 1) == 0))


def test_more_species_need_more_room_for_their_counts():
    """What limits a diagram is the size of its numbers, not the number of its states."""
    grid = np.arange(64).reshape(8, 8)
    pairs = [np.stack([grid, np.roll(grid, 1, axis)], axis=-1).reshape(-1, 2) for axis in (0, 1)]
    joined = np.concatenate(pairs)
    assert Arrangements([64], [TWO], joined).are_counted
    assert not Arrangements([64], [(True, True, True, True, False)], joined).are_counted

"""How many decorations of independent sublattices there are, and which.

It knows sites as digits and integer weights only; chemistry and geometry live in `host`.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LARGE_BLOCK = 300_000

Digits = NDArray[np.uint8]
Quantities = tuple[int, ...]  # conserved: the number of working ions, the charge, elements
CycleType = tuple[tuple[int, int], ...]  # (length of a cycle, number of such cycles)
Filling = tuple[tuple[int, ...], ...]  # per sublattice, how many sites each species holds


@dataclass(frozen=True)
class CountedSublattice:
    """A sublattice as the counting sees it.

    Parameters
    ----------
    n_sites
        Number of sites.
    weights
        One tuple per species: its contribution to each conserved quantity, in a common order.
    """

    n_sites: int
    weights: tuple[Quantities, ...]


def fillings(
    sublattices: Sequence[CountedSublattice], conserved: Sequence[int]
) -> dict[int, tuple[Filling, ...]]:
    """Return every choice of species counts that is allowed, by its first quantity.

    Parameters
    ----------
    conserved
        What the quantities after the first must add up to.
    """
    choices = [_choices(sublattices, n, conserved) for n in range(len(sublattices))]
    partial: list[tuple[Quantities, Filling]] = [((0,) * (1 + len(conserved)), ())]
    for choice in choices[:-1]:
        partial = [
            (tuple(map(operator.add, sums, added)), (*filling, counts))
            for sums, filling in partial
            for added, counts in choice
        ]
    last: dict[Quantities, list[tuple[int, tuple[int, ...]]]] = {}
    for (first, *rest), counts in choices[-1]:
        last.setdefault(tuple(rest), []).append((first, counts))
    result: dict[int, list[Filling]] = {}
    for (first, *rest), filling in partial:
        for more, counts in last.get(tuple(map(operator.sub, conserved, rest)), ()):
            result.setdefault(first + more, []).append((*filling, counts))
    return {first: tuple(chosen) for first, chosen in sorted(result.items())}


def _choices(
    sublattices: Sequence[CountedSublattice], place: int, conserved: Sequence[int]
) -> list[tuple[Quantities, tuple[int, ...]]]:
    """Return (quantities, species counts) of one sublattice.

    What it alone contributes to must come out right at once, or the choices are too many.
    """
    own = sublattices[place]
    others = [w for n, s in enumerate(sublattices) if n != place for w in s.weights]
    targets: list[int | None] = [None] * (1 + len(conserved))
    for q, total in enumerate(conserved, start=1):
        if not any(weights[q] for weights in others):
            targets[q] = total
    return [
        (_sum_of(own.weights, counts), counts)
        for counts in _species_counts(own.n_sites, own.weights, targets)
    ]


def _species_counts(
    n_sites: int, weights: Sequence[Quantities], targets: Sequence[int | None]
) -> Iterator[tuple[int, ...]]:
    """Yield how many sites each species may hold, such that the targets are met."""
    reachable = all(
        target is None or n_sites * min(own) <= target <= n_sites * max(own)
        for target, own in zip(targets, zip(*weights, strict=True), strict=True)
    )
    if not reachable:
        return
    first, *rest = weights
    if not rest:
        yield (n_sites,)
        return
    for number in range(n_sites + 1):
        left = [t if t is None else t - number * w for t, w in zip(targets, first, strict=True)]
        for others in _species_counts(n_sites - number, rest, left):
            yield (number, *others)


def _sum_of(weights: Sequence[Quantities], counts: Sequence[int]) -> Quantities:
    """Return the quantities that so many sites of each species have together."""
    return tuple(sum(map(operator.mul, counts, own)) for own in zip(*weights, strict=True))


def n_raw(filling: Filling) -> int:
    """Return the number of decorations, symmetry not counted, that have these species counts."""
    return math.prod(
        math.factorial(sum(counts)) // math.prod(math.factorial(n) for n in counts)
        for counts in filling
    )


@functools.lru_cache(maxsize=100_000)
def n_fixed(cycles: CycleType, counts: tuple[int, ...]) -> int:
    """Return how many arrangements of some species a permutation leaves alone.

    All sites of a cycle hold the same species.

    Parameters
    ----------
    cycles
        Of the permutation, on one sublattice.
    counts
        How many sites each species holds.
    """
    if sum(counts) != sum(length * n for length, n in cycles):
        return 0
    wanted = sorted(n for n in counts if n)
    if len(wanted) <= 1:
        return 1
    first, *rest = wanted
    total = 0
    for taken in _cycles_that_fill(cycles, first):
        ways = math.prod(math.comb(n, k) for (_, n), k in zip(cycles, taken, strict=True))
        left = tuple((length, n - k) for (length, n), k in zip(cycles, taken, strict=True) if n > k)
        total += ways * n_fixed(left, tuple(rest))
    return total


def _cycles_that_fill(cycles: CycleType, n_sites: int) -> Iterator[tuple[int, ...]]:
    """Yield how many cycles of each length hold a species that fills so many sites."""
    if not cycles:
        if not n_sites:
            yield ()
        return
    (length, number), *rest = cycles
    if not rest:
        if n_sites % length == 0 and n_sites // length <= number:
            yield (n_sites // length,)
        return
    for taken in range(min(number, n_sites // length) + 1):
        for others in _cycles_that_fill(tuple(rest), n_sites - taken * length):
            yield (taken, *others)


def enumerate_digits(filling: Filling, chunk: int = 20_000) -> Iterator[Digits]:
    """Yield all decorations with these species counts as arrays (n <= chunk, n_sites)."""
    for place, counts in enumerate(filling):
        if n_raw((counts,)) > _LARGE_BLOCK:  # its halves need only the root of its memory
            for halves in _halves(counts):
                split = (*filling[:place], *halves, *filling[place + 1 :])
                yield from enumerate_digits(split, chunk)
            return
    blocks = [_arrangements(counts) for counts in filling]
    sizes = [len(block) for block in blocks]
    total = math.prod(sizes)
    for start in range(0, total, chunk):
        places = np.unravel_index(np.arange(start, min(start + chunk, total)), sizes)
        parts = [block[place] for block, place in zip(blocks, places, strict=True)]
        yield np.concatenate(parts, axis=1)


def _halves(counts: Sequence[int]) -> Iterator[Filling]:
    """Yield the ways to divide species counts between two halves of the sites."""
    for first in itertools.product(*[range(n + 1) for n in counts]):
        if sum(first) == sum(counts) // 2:
            yield first, tuple(map(operator.sub, counts, first))


def _arrangements(counts: Sequence[int]) -> Digits:
    """Return (n, n_sites): all arrangements of a multiset of digits, in lexicographic order."""

    @functools.cache
    def arranged(left: tuple[int, ...]) -> Digits:
        result = np.zeros((n_raw((left,)), sum(left)), dtype=np.uint8)
        end = 0
        for digit, number in enumerate(left):
            if number:
                rest = arranged((*left[:digit], number - 1, *left[digit + 1 :]))
                start, end = end, end + len(rest)
                result[start:end, 0] = digit
                result[start:end, 1:] = rest
        return result

    return arranged(tuple(counts))


def cycle_type(permutation: NDArray[np.int64], start: int, end: int) -> CycleType:
    """Return ((length, number of such cycles), ...) of a permutation on sites start to end."""
    lengths = Counter(map(len, cycles((permutation[start:end] - start).tolist())))
    return tuple(sorted(lengths.items()))


def cycles(permutation: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the cycles of a permutation, each from its smallest number on."""
    seen: set[int] = set()
    found = []
    for first in range(len(permutation)):
        cycle, site = [], first
        while site not in seen:
            seen.add(site)
            cycle.append(site)
            site = permutation[site]
        if cycle:
            found.append(tuple(cycle))
    return found

"""How many decorations there are, and which: raw counts, distinct counts (Burnside), enumeration.

It knows sites as digits and integer weights only; chemistry and geometry live in `gasearch.host`.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Digits = NDArray[np.uint8]


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
    weights: tuple[tuple[int, ...], ...]


Filling = tuple[tuple[int, ...], ...]  # per sublattice, how many sites each species holds


def fillings(
    sublattices: Sequence[CountedSublattice], conserved: Sequence[int]
) -> dict[int, tuple[Filling, ...]]:
    """Return every choice of species counts that is allowed, by its first quantity.

    Parameters
    ----------
    conserved
        What the quantities after the first must add up to.
    """
    partial: list[tuple[tuple[int, ...], Filling]] = [((0,) * (1 + len(conserved)), ())]
    for sublattice in sublattices[:-1]:
        partial = [
            (tuple(map(operator.add, sums, added)), (*filling, counts))
            for sums, filling in partial
            for counts, added in _all_counts(sublattice)
        ]
    last: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
    for counts, (first, *rest) in _all_counts(sublattices[-1]):
        last.setdefault(tuple(rest), []).append((first, counts))
    result: dict[int, list[Filling]] = {}
    for (first, *rest), filling in partial:
        for more, counts in last.get(tuple(map(operator.sub, conserved, rest)), ()):
            result.setdefault(first + more, []).append((*filling, counts))
    return {first: tuple(chosen) for first, chosen in sorted(result.items())}


def _all_counts(
    sublattice: CountedSublattice,
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return (species counts, what they contribute to the quantities) of one sublattice."""
    quantities = list(zip(*sublattice.weights, strict=True))
    return [
        (counts, tuple(sum(map(operator.mul, counts, weights)) for weights in quantities))
        for counts in _compositions(sublattice.n_sites, len(sublattice.weights))
    ]


def n_raw(filling: Filling) -> int:
    """Return the number of decorations, symmetry not counted, that have these species counts."""
    return math.prod(
        math.factorial(sum(counts)) // math.prod(math.factorial(n) for n in counts)
        for counts in filling
    )


class BurnsideCounter:
    """Distinct decorations under a permutation group, by Burnside's lemma.

    Each operation contributes the decorations that it leaves alone: per cycle of length L the
    factor sum over species z^(L * weights). The polynomial in all conserved quantities is packed
    into one Python integer (Kronecker substitution), which multiplies fast and cannot overflow.
    """

    def __init__(
        self, sublattices: Sequence[CountedSublattice], permutations: NDArray[np.int64]
    ) -> None:
        """Take the permutations (n_operations, n_sites) of all sublattices' sites, in order."""
        self._n_operations = len(permutations)
        self._offsets = [
            tuple(min(w[q] for w in s.weights) for q in range(len(s.weights[0])))
            for s in sublattices
        ]
        self._shift = [
            sum(s.n_sites * o[q] for s, o in zip(sublattices, self._offsets, strict=True))
            for q in range(len(self._offsets[0]))
        ]
        spans = [
            1
            + sum(
                s.n_sites * (max(w[q] for w in s.weights) - o[q])
                for s, o in zip(sublattices, self._offsets, strict=True)
            )
            for q in range(len(self._shift))
        ]
        self._strides = [math.prod(spans[:q]) for q in range(len(spans))]
        self._spans = spans
        # No coefficient exceeds the number of operations times that of all decorations.
        n_decorations: int = math.prod(len(s.weights) ** s.n_sites for s in sublattices)
        self._bits = int(len(permutations) * n_decorations).bit_length()
        self._polynomials = self._sum_over_group(sublattices, permutations)

    def __call__(self, totals: Sequence[int]) -> int:
        """Return the number of distinct decorations whose conserved quantities are `totals`."""
        powers = [t - s for t, s in zip(totals, self._shift, strict=True)]
        if any(not 0 <= p < span for p, span in zip(powers, self._spans, strict=True)):
            return 0
        place = sum(p * stride for p, stride in zip(powers, self._strides, strict=True))
        fixed = (self._polynomials >> (place * self._bits)) & ((1 << self._bits) - 1)
        return fixed // self._n_operations

    def _sum_over_group(
        self, sublattices: Sequence[CountedSublattice], permutations: NDArray[np.int64]
    ) -> int:
        bounds = np.cumsum([0, *(s.n_sites for s in sublattices)])
        types = Counter(
            tuple(_cycle_type(p[a:b] - a) for a, b in itertools.pairwise(bounds))
            for p in permutations
        )
        total = 0
        for cycle_types, multiplicity in sorted(types.items()):
            product = multiplicity
            for sublattice, offset, cycles in zip(
                sublattices, self._offsets, cycle_types, strict=True
            ):
                for length, number in cycles:
                    product *= self._factor(sublattice, offset, length) ** number
            total += product
        return total

    def _factor(self, sublattice: CountedSublattice, offset: Sequence[int], length: int) -> int:
        return sum(
            1
            << self._bits
            * sum(
                length * (w - o) * stride
                for w, o, stride in zip(weights, offset, self._strides, strict=True)
            )
            for weights in sublattice.weights
        )


def enumerate_digits(filling: Filling, chunk: int = 200_000) -> Iterator[Digits]:
    """Yield all decorations with these species counts as arrays (n <= about chunk, n_sites)."""
    blocks = [_arrangements(counts) for counts in filling]
    if not blocks:
        return
    rest = blocks[-1]
    step = max(1, chunk // len(rest))
    heads = itertools.product(*[range(len(b)) for b in blocks[:-1]])
    while indices := list(itertools.islice(heads, step)):
        columns = np.array(indices, dtype=np.int64).reshape(len(indices), len(blocks) - 1)
        parts = [np.repeat(b[columns[:, n]], len(rest), axis=0) for n, b in enumerate(blocks[:-1])]
        yield np.concatenate([*parts, np.tile(rest, (len(indices), 1))], axis=1)


def _arrangements(counts: Sequence[int]) -> Digits:
    """Return (n, n_sites): all arrangements of a multiset of digits, in lexicographic order."""
    n_sites = sum(counts)
    result = np.zeros((1, n_sites), dtype=np.uint8)
    for digit, number in reversed(list(enumerate(counts))):
        if digit == 0:
            break
        free = n_sites - sum(counts[digit + 1 :])
        choices = np.array(list(itertools.combinations(range(free), number)), dtype=np.int64)
        grown = np.repeat(result, len(choices), axis=0)
        empty = np.argsort(grown != 0, axis=1, kind="stable")  # free sites first, in order
        picked = np.tile(choices.reshape(len(choices), number), (len(result), 1))
        rows = np.arange(len(grown))[:, None]
        grown[rows, empty[rows, picked]] = digit
        result = grown
    return result


def _cycle_type(permutation: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Return ((length, number of such cycles), ...) of one permutation."""
    seen = np.zeros(len(permutation), dtype=bool)
    lengths: Counter[int] = Counter()
    for start in range(len(permutation)):
        length, site = 0, start
        while not seen[site]:
            seen[site] = True
            site = int(permutation[site])
            length += 1
        if length:
            lengths[length] += 1
    return tuple(sorted(lengths.items()))


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield all tuples of `parts` non-negative integers that add up to `total`."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)

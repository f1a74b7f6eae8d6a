"""How many decorations there are, and which: raw counts, distinct counts (Burnside), enumeration.

It knows sites as digits and integer weights only; chemistry and geometry live in `host`.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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


class BurnsideCounter:
    """Distinct decorations under a permutation group, by Burnside's lemma.

    Each operation contributes the decorations that it leaves alone. The sublattices that carry the
    first quantity are kept apart from the others, since their product is needed at few places.
    """

    def __init__(
        self, sublattices: Sequence[CountedSublattice], permutations: NDArray[np.int64]
    ) -> None:
        """Take the permutations (n_operations, n_sites) of all sublattices' sites, in order."""
        self._n_operations = len(permutations)
        bounds = list(itertools.accumulate((s.n_sites for s in sublattices), initial=0))
        first = [n for n, s in enumerate(sublattices) if any(w[0] for w in s.weights)]
        groups = [first, [n for n in range(len(sublattices)) if n not in first]]
        size = len(sublattices[0].weights[0])
        self._first, self._rest = (
            FixedDecorations([sublattices[n] for n in group], size) for group in groups
        )
        types = Counter(
            tuple(tuple(_cycle_type(p, bounds[n], bounds[n + 1]) for n in g) for g in groups)
            for p in permutations
        )
        self._terms = [
            (number, self._first.packed(own), self._rest.packed(others))
            for (own, others), number in sorted(types.items())
        ]

    def __call__(self, totals: Sequence[int]) -> int:
        """Return the number of distinct decorations whose conserved quantities are `totals`."""
        fixed = 0
        for sums in self._first.sums:
            left = tuple(map(operator.sub, totals, sums))
            for number, first, rest in self._terms:
                fixed += (
                    number
                    * self._first.coefficient(first, sums)
                    * self._rest.coefficient(rest, left)
                )
        return fixed // self._n_operations


class FixedDecorations:
    """How many decorations of some sublattices an operation leaves alone.

    Per cycle of length L of the operation the factor is the sum over species of
    z^(L * weights). The polynomial in all quantities is packed into one Python integer (Kronecker
    substitution), which multiplies fast and cannot overflow.
    """

    def __init__(self, sublattices: Sequence[CountedSublattice], size: int) -> None:
        """Take sublattices whose weights have `size` quantities; none at all is fine."""
        self._sublattices = sublattices
        quantities = [list(zip(*s.weights, strict=True)) for s in sublattices]
        self._lowest = [tuple(map(min, own)) for own in quantities]
        self._shift = [
            sum(s.n_sites * low[q] for s, low in zip(sublattices, self._lowest, strict=True))
            for q in range(size)
        ]
        self._spans = [
            1
            + sum(
                s.n_sites * (max(own[q]) - min(own[q]))
                for s, own in zip(sublattices, quantities, strict=True)
            )
            for q in range(size)
        ]
        self._strides = [math.prod(self._spans[:q]) for q in range(size)]
        n_decorations: int = math.prod(len(s.weights) ** s.n_sites for s in sublattices)
        self._bits = n_decorations.bit_length()

    @functools.cached_property
    def sums(self) -> tuple[Quantities, ...]:
        """All quantities that decorations of these sublattices have."""
        sums = {(0,) * len(self._spans)}
        for s in self._sublattices:
            counts = _species_counts(s.n_sites, s.weights, [None] * len(self._spans))
            own = {_sum_of(s.weights, count) for count in counts}
            sums = {tuple(map(operator.add, a, b)) for a in sums for b in own}
        return tuple(sorted(sums))

    def packed(self, cycle_types: Sequence[CycleType]) -> int:
        """Return the polynomial of an operation with these cycles, one tuple per sublattice."""
        result = 1
        for s, low, cycles in zip(self._sublattices, self._lowest, cycle_types, strict=True):
            places = [self._place(map(operator.sub, w, low)) for w in s.weights]
            for length, number in cycles:
                factor = sum(1 << self._bits * length * place for place in places)
                result *= factor**number
        return result

    def coefficient(self, packed: int, totals: Quantities) -> int:
        """Return how many decorations with these quantities a packed polynomial counts."""
        powers = list(map(operator.sub, totals, self._shift))
        if any(not 0 <= p < span for p, span in zip(powers, self._spans, strict=True)):
            return 0
        return (packed >> self._bits * self._place(powers)) & ((1 << self._bits) - 1)

    def _place(self, powers: Iterable[int]) -> int:
        return sum(map(operator.mul, powers, self._strides))


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


def _cycle_type(permutation: NDArray[np.int64], start: int, end: int) -> CycleType:
    """Return ((length, number of such cycles), ...) of a permutation on sites start to end."""
    targets = permutation[start:end].tolist()
    seen: set[int] = set()
    lengths: Counter[int] = Counter()
    for first in range(start, end):
        length, site = 0, first
        while site not in seen:
            seen.add(site)
            site = targets[site - start]
            length += 1
        if length:
            lengths[length] += 1
    return tuple(sorted(lengths.items()))

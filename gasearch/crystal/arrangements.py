"""The arrangements of species on sublattices: counted, drawn, and listed, exclusions included.

Sublattices whose sites exclude each other make one block; any other sublattice is a block of its
own, and blocks are independent. Chemistry and geometry live in `gasearch.crystal.host`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.counting import (
    CycleType,
    Digits,
    Filling,
    cycle_type,
    enumerate_digits,
    n_fixed,
    n_raw,
)
from gasearch.crystal.exclusions import ExclusiveSites, TooManyArrangementsError

Integers = NDArray[np.int64]
_CHUNK = 20_000


@dataclass(frozen=True, eq=False)
class Block:
    """Sublattices that exclude each other's sites.

    Parameters
    ----------
    places
        Numbers of the sublattices.
    sites
        (n,) their sites, in the order of the sublattices.
    exclusive
        What they may hold together, in numbers of its own.
    """

    places: tuple[int, ...]
    sites: Integers
    exclusive: ExclusiveSites

    def counts(self, filling: Filling) -> Filling:
        """Return the part of a filling that is its own."""
        return tuple(filling[n] for n in self.places)


class Arrangements:
    """All legal arrangements on some sublattices.

    Parameters
    ----------
    fills
        Per sublattice and species, whether the species fills a site.
    exclusions
        (n, 2) sites that exclude each other; sites are numbered through the sublattices.
    """

    def __init__(
        self, sizes: Sequence[int], fills: Sequence[Sequence[bool]], exclusions: Integers
    ) -> None:
        self._bounds = list(itertools.accumulate(sizes, initial=0))
        self._sizes = tuple(sizes)
        self.blocks = tuple(
            self._block(places, fills, exclusions) for places in self._coupled(exclusions)
        )
        held = {n for block in self.blocks for n in block.places}
        self._free = [n for n in range(len(sizes)) if n not in held]

    def _coupled(self, exclusions: Integers) -> list[tuple[int, ...]]:
        """Return the sublattices that exclude sites of each other, in groups."""
        owner = np.repeat(np.arange(len(self._sizes)), self._sizes)
        groups: list[set[int]] = []
        for one, other in np.unique(owner[exclusions], axis=0).tolist():
            joined = {one, other}.union(*(g for g in groups if g & {one, other}))
            groups = [g for g in groups if not g & joined] + [joined]
        return [tuple(sorted(group)) for group in groups]

    def _block(
        self, places: tuple[int, ...], fills: Sequence[Sequence[bool]], exclusions: Integers
    ) -> Block:
        parts = [np.arange(self._bounds[n], self._bounds[n + 1]) for n in places]
        sites = np.concatenate(parts)
        inside = exclusions[np.isin(exclusions[:, 0], sites)]
        exclusive = ExclusiveSites(
            tuple(self._sizes[n] for n in places),
            tuple(tuple(fills[n]) for n in places),
            np.searchsorted(sites, inside),
        )
        return Block(places, sites, exclusive)

    @property
    def are_counted(self) -> bool:
        """Whether numbers are exact; else there are at least so many."""
        return all(block.exclusive.diagram is not None for block in self.blocks)

    def n_raw(self, filling: Filling) -> int:
        """Return the number of arrangements, symmetry not counted, with these species counts."""
        number = n_raw(tuple(filling[n] for n in self._free))
        for block in self.blocks:
            number *= block.exclusive.n(block.counts(filling)) if number else 0
        return number

    def random(self, filling: Filling, rng: np.random.Generator) -> Digits:
        """Return (n_sites,) an arrangement, each as likely where they can be counted."""
        parts = [np.repeat(np.arange(len(c), dtype=np.uint8), c) for c in filling]
        for n in self._free:
            parts[n] = rng.permutation(parts[n])
        result = np.concatenate(parts)
        for block in self.blocks:
            result[block.sites] = block.exclusive.sample(block.counts(filling), rng)
        return result

    def listed(self, filling: Filling) -> Iterator[Digits]:
        """Yield all of them as arrays (n, n_sites), in a fixed order."""
        if not self.blocks:
            yield from enumerate_digits(filling)
            return
        order = [self._sites(self._free), *(block.sites for block in self.blocks)]
        place = np.argsort(np.concatenate(order))
        free = tuple(filling[n] for n in self._free)
        for parts in self._combined(filling, list(self.blocks)):
            step = max(1, _CHUNK // len(parts))
            nothing = np.zeros((1, 0), dtype=np.uint8)
            for rows in enumerate_digits(free, step) if free else [nothing]:
                first = np.repeat(rows, len(parts), axis=0)
                yield np.hstack([first, np.tile(parts, (len(rows), 1))])[:, place]

    def _combined(self, filling: Filling, blocks: Sequence[Block]) -> Iterator[Digits]:
        """Yield the arrangements of some blocks, side by side."""
        first, *rest = blocks
        if first.exclusive.diagram is None:
            raise TooManyArrangementsError(len(first.sites))
        for rows in first.exclusive.diagram.arrangements(first.counts(filling)):
            if not rest:
                yield rows
                continue
            for others in self._combined(filling, rest):
                for row in rows:
                    yield np.hstack([np.tile(row, (len(others), 1)), others])

    def _sites(self, places: Iterable[int]) -> Integers:
        parts = [np.arange(self._bounds[n], self._bounds[n + 1]) for n in places]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])

    def n_distinct(self, chosen: Sequence[Filling], orbits: SymmetryClasses) -> int:
        """Return the number of distinct arrangements under symmetry, by Burnside's lemma.

        Each operation contributes the arrangements that it leaves alone. Where they cannot be
        counted: the raw number over that of the operations, which is less.

        Parameters
        ----------
        chosen
            All fillings of a composition.
        """
        if not self.are_counted:
            return max(1, sum(map(self.n_raw, chosen)) // orbits.n_operations)
        fixed = sum(
            number * self._n_fixed(filling, types, moved)
            for (types, moved), number in orbits.classes
            for filling in chosen
        )
        return fixed // orbits.n_operations

    def _n_fixed(
        self, filling: Filling, types: Sequence[CycleType], moved: Sequence[tuple[int, ...]]
    ) -> int:
        number = 1
        for n, own in zip(self._free, types, strict=True):
            number *= n_fixed(own, filling[n]) if number else 0
        for block, permutation in zip(self.blocks, moved, strict=True):
            number *= block.exclusive.n_fixed(permutation, block.counts(filling)) if number else 0
        return number

    def classes(self, permutations: Integers) -> SymmetryClasses:
        """Return the permutations (n_operations, n_sites) by what they leave alone."""
        found: Counter[tuple[tuple[CycleType, ...], tuple[tuple[int, ...], ...]]] = Counter()
        for p in permutations:
            types = tuple(cycle_type(p, self._bounds[n], self._bounds[n + 1]) for n in self._free)
            moved = tuple(tuple(np.searchsorted(b.sites, p[b.sites]).tolist()) for b in self.blocks)
            found[types, moved] += 1
        return SymmetryClasses(len(permutations), tuple(sorted(found.items())))


@dataclass(frozen=True, eq=False)
class SymmetryClasses:
    """Operations that leave equally many arrangements alone.

    Parameters
    ----------
    classes
        Cycles on each free sublattice, permutation of each block, and how many operations.
    """

    n_operations: int
    classes: tuple[tuple[tuple[tuple[CycleType, ...], tuple[tuple[int, ...], ...]], int], ...]

"""Sites that exclude each other: how many legal arrangements there are, and which.

All legal arrangements are the paths of one decision diagram, which goes through the sites in an
order that keeps few of them open. Counts, even samples and complete lists follow from it. It knows
sites as digits; which sites exclude each other is the business of `gasearch.crystal.host`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.counting import cycles
from gasearch.errors import GasearchError

Digits = NDArray[np.uint8]
Integers = NDArray[np.int64]
Counts = Sequence[Sequence[int]]  # per sublattice, how many sites each species holds

MAX_BITS = 2_000_000_000
"""Of all numbers of a diagram: 250 MB and some seconds. Layers of some 60 sites of two species stay
well below; each further species costs a factor of the number of sites."""
_CHUNK = 20_000


class TooManyArrangementsError(GasearchError, RuntimeError):
    """Sites that exclude each other in too intricate a way for exact counts."""

    def __init__(self, n_sites: int) -> None:
        super().__init__(n_sites)
        self.n_sites = n_sites

    def __str__(self) -> str:
        return (
            f"the legal arrangements of {self.n_sites} sites that exclude each other are too many "
            "to be counted: choose a smaller supercell where exact counts are needed."
        )


@dataclass(frozen=True, eq=False)
class ExclusiveSites:
    """Sublattices some of whose sites cannot both be filled.

    Parameters
    ----------
    sizes
        Number of sites of each sublattice; sites are numbered through, in this order.
    fills
        Per sublattice and species, whether the species fills a site; a vacancy does not.
    pairs
        (n, 2) sites that exclude each other.
    """

    sizes: tuple[int, ...]
    fills: tuple[tuple[bool, ...], ...]
    pairs: Integers

    @functools.cached_property
    def owner(self) -> list[int]:
        """The sublattice of each site."""
        return [n for n, size in enumerate(self.sizes) for _ in range(size)]

    @functools.cached_property
    def diagram(self) -> Diagram | None:
        """The diagram of all legal arrangements; None where it is too big."""
        diagram = self._diagram([(n,) for n in range(sum(self.sizes))])
        try:
            diagram.build()
        except TooManyArrangementsError:
            return None
        return diagram

    def n(self, counts: Counts) -> int:
        """Return the number of legal arrangements with so many sites of each species.

        Where they cannot be counted, a number that there are at least, and at least 1 where one is
        found.
        """
        if self.diagram is not None:
            return self.diagram.n(counts)
        return self.at_least(counts) or int(self._is_possible(self._n_filled(counts)))

    def sample(self, counts: Counts, rng: np.random.Generator) -> Digits:
        """Return (n_sites,) a legal arrangement; each as likely where they can be counted."""
        if self.diagram is not None:
            return self.diagram.sample(counts, rng)
        found = self._packed(self._n_filled(counts), rng.random(sum(self.sizes)))
        if found is None:
            raise TooManyArrangementsError(sum(self.sizes))
        return self._of_species(found, counts, rng)

    def n_fixed(self, permutation: Sequence[int], counts: Counts) -> int:
        """Return how many legal arrangements with some species counts a permutation leaves alone.

        Parameters
        ----------
        permutation
            (n_sites,) where it takes each site.
        """
        diagram, total = self._fixed(tuple(permutation))
        return diagram.coefficient(total, counts)

    @functools.cache  # noqa: B019 -- one number per operation of a host, which lives as long
    def _fixed(self, permutation: tuple[int, ...]) -> tuple[Diagram, int]:
        diagram = self._diagram(cycles(permutation))
        return diagram, diagram.total()

    def at_least(self, counts: Counts) -> int:
        """Return a number of arrangements that there are in any case, found without the diagram.

        Each filled site takes itself and its neighbours away from those that come after it.
        """
        n_sites = sum(self.sizes)
        widest = 1 + int(np.bincount(self.pairs.ravel(), minlength=1).max(initial=0))
        filled = [n for own, f in zip(counts, self.fills, strict=True)
                  for n, fills in zip(own, f, strict=True) if fills]  # fmt: skip
        product, left = 1, n_sites
        for _ in range(sum(filled)):
            product *= max(0, left)
            left -= widest
        return product // math.prod(math.factorial(n) for n in filled)

    def _n_filled(self, counts: Counts) -> tuple[int, ...]:
        """Return how many sites of each sublattice are filled."""
        return tuple(
            sum(n for n, fills in zip(own, f, strict=True) if fills)
            for own, f in zip(counts, self.fills, strict=True)
        )

    @functools.cache  # noqa: B019
    def _is_possible(self, n_filled: tuple[int, ...]) -> bool:
        if len(self.sizes) == 1:  # what is legal stays so when an atom is taken out
            return n_filled[0] <= self._densest
        return self._packed(n_filled, np.zeros(sum(self.sizes))) is not None

    @functools.cached_property
    def _densest(self) -> int:
        """The largest number of sites that can be filled together."""
        found = self._packed(None, np.ones(sum(self.sizes)))
        return 0 if found is None else int(found.sum())

    def _packed(
        self, n_filled: Sequence[int] | None, weights: NDArray[np.float64]
    ) -> NDArray[np.bool_] | None:
        """Return (n_sites,) which sites to fill so that the sum of their weights is largest.

        By integer programming; None where it cannot be done.

        Parameters
        ----------
        n_filled
            How many sites of each sublattice; None: as many as the weights make of it.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        n_sites, n_pairs = sum(self.sizes), len(self.pairs)
        rows = np.repeat(np.arange(n_pairs), 2)
        table = csr_array((np.ones(2 * n_pairs), (rows, self.pairs.ravel())), (n_pairs, n_sites))
        rules = [LinearConstraint(table, -np.inf, 1)]
        if n_filled is not None:
            own = np.equal.outer(np.arange(len(self.sizes)), np.array(self.owner)).astype(float)
            rules.append(LinearConstraint(own, n_filled, n_filled))
        found = milp(
            -weights,
            constraints=rules,
            integrality=np.ones(n_sites, dtype=int),
            bounds=Bounds(0, 1),
        )
        return None if found.x is None else np.asarray(found.x > 0.5)

    def _of_species(
        self, filled: NDArray[np.bool_], counts: Counts, rng: np.random.Generator
    ) -> Digits:
        """Return (n_sites,) digits: species drawn for filled and for empty sites."""
        result, owner = np.zeros(len(filled), dtype=np.uint8), np.array(self.owner)
        for place, (own, fills) in enumerate(zip(counts, self.fills, strict=True)):
            for is_filled in (True, False):
                digits = [d for d, f in enumerate(fills) if f == is_filled for _ in range(own[d])]
                result[(owner == place) & (filled == is_filled)] = rng.permutation(digits)
        return result

    def _diagram(self, groups: Sequence[Sequence[int]]) -> Diagram:
        """Return the diagram in which the sites of each group hold the same species."""
        group_of = {site: n for n, group in enumerate(groups) for site in group}
        neighbours: list[set[int]] = [set() for _ in groups]
        for one, other in self.pairs.tolist():
            neighbours[group_of[one]].add(group_of[other])
            neighbours[group_of[other]].add(group_of[one])
        order = _order(neighbours)
        place = {group: n for n, group in enumerate(order)}
        return Diagram(
            tuple(tuple(groups[n]) for n in order),
            tuple(self.owner[groups[n][0]] for n in order),
            tuple(frozenset(place[m] for m in neighbours[n]) for n in order),
            self.fills,
            self.sizes,
        )


def _order(neighbours: Sequence[set[int]]) -> list[int]:
    """Return all groups in an order that keeps few open: decided, with neighbours undecided."""
    order: list[int] = []
    left = dict.fromkeys(range(len(neighbours)))
    undecided = [len(own - {n}) for n, own in enumerate(neighbours)]
    while left:
        best = min(left, key=lambda n: (_opened(n, neighbours, left, undecided), n))
        del left[best]
        order.append(best)
        for near in neighbours[best] - {best}:
            undecided[near] -= 1
    return order


def _opened(
    group: int,
    neighbours: Sequence[set[int]],
    left: Mapping[int, None],
    undecided: Sequence[int],
) -> tuple[int, bool]:
    """Return by how many the open groups grow, and whether it begins elsewhere."""
    own = neighbours[group] - {group}
    opened = int(undecided[group] > 0)
    closed = sum(near not in left and undecided[near] == 1 for near in own)
    return opened - closed, all(near in left for near in own)


@dataclass(frozen=True, eq=False)
class Diagram:
    """Every legal arrangement as a path: at each group of sites, vacant or filled.

    Parameters
    ----------
    groups
        Sites that hold the same species, in the order of the decisions.
    owner
        The sublattice of each group.
    neighbours
        Groups that exclude a group, itself included where its own sites exclude each other.
    fills, sizes
        As in `ExclusiveSites`.
    """

    groups: tuple[tuple[int, ...], ...]
    owner: tuple[int, ...]
    neighbours: tuple[frozenset[int], ...]
    fills: tuple[tuple[bool, ...], ...]
    sizes: tuple[int, ...]

    def build(self) -> None:
        """Make it; `TooManyArrangementsError` where it has more than `MAX_BITS`."""
        _ = self._layers

    def n(self, counts: Counts) -> int:
        """Return the number of legal arrangements with so many sites of each species."""
        return self.coefficient(self._layers[0][0], counts)

    def coefficient(self, total: int, counts: Counts) -> int:
        """Return what a packed polynomial counts for so many sites of each species."""
        if any(sum(own) != size for own, size in zip(counts, self.sizes, strict=True)):
            return 0
        return (total >> self._bits * self._place(counts)) & ((1 << self._bits) - 1)

    def total(self) -> int:
        """Return the polynomial of all arrangements without keeping the diagram."""
        states = self._states()
        ways = dict.fromkeys(states[-1], 1)
        for layer in reversed(range(len(self.groups))):
            ways = {s: self._value(layer, s, ways) for s in states[layer]}
        return ways[0]

    def sample(self, counts: Counts, rng: np.random.Generator) -> Digits:
        """Return (n_sites,) digits of one of these arrangements, each as likely."""
        result = np.zeros(sum(self.sizes), dtype=np.uint8)
        state, left = 0, [list(own) for own in counts]
        for layer, group in enumerate(self.groups):
            fitting = list(self._fitting(layer, state, left))
            total = sum(ways for *_, ways in fitting)
            if not total:
                raise TooManyArrangementsError(len(result))
            shares = np.array([ways / total for *_, ways in fitting])
            digit, state, _ = fitting[int(rng.choice(len(fitting), p=shares / shares.sum()))]
            left[self.owner[layer]][digit] -= len(group)
            result[list(group)] = digit
        return result

    def arrangements(self, counts: Counts) -> Iterator[Digits]:
        """Yield all of them as arrays (n <= 20,000, n_sites), in a fixed order."""
        if self.n(counts):
            start = np.zeros((1, sum(self.sizes)), dtype=np.uint8)
            place = np.array([self._place(counts)])
            yield from self._completed(0, start, np.zeros(1, dtype=np.int64), place)

    def _completed(
        self, layer: int, rows: Digits, states: Integers, left: Integers
    ) -> Iterator[Digits]:
        """Yield the completions of partial arrangements (n, n_sites), in pieces.

        Parameters
        ----------
        states, left
            (n,) the open sites of each, and the species counts that are left, as packed exponents.
        """
        if layer == len(self.groups):
            yield rows
            return
        if len(rows) > _CHUNK:
            for part in np.array_split(np.arange(len(rows)), 1 + len(rows) // _CHUNK):
                yield from self._completed(layer, rows[part], states[part], left[part])
            return
        pairs, member = np.unique(np.stack([states, left]), axis=1, return_inverse=True)
        grown = [
            (member.ravel() == n, digit, child, place)
            for n, (state, have) in enumerate(pairs.T.tolist())
            for digit, child, place in self._open_ways(layer, state, have)
        ]
        parts, new_states, new_left = [], [], []
        for mask, digit, child, place in grown:
            own = rows[mask]
            own[:, list(self.groups[layer])] = digit
            parts.append(own)
            new_states.append(np.full(len(own), child))
            new_left.append(np.full(len(own), place))
        joined = np.concatenate(parts), np.concatenate(new_states), np.concatenate(new_left)
        yield from self._completed(layer + 1, *joined)

    def _open_ways(self, layer: int, state: int, left: int) -> Iterator[tuple[int, int, int]]:
        """Yield (digit, next state, packed counts left) of the choices that can be completed."""
        counts = self._unpacked(left)
        for digit, child, ways in self._fitting(layer, state, counts):
            if ways:
                taken = len(self.groups[layer]) * self._strides[self.owner[layer]][digit]
                yield digit, child, left - taken

    def _fitting(
        self, layer: int, state: int, left: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, int, int]]:
        """Yield (digit, next state, ways to go on) for a group; `left` are the counts to place."""
        owner, size = self.owner[layer], len(self.groups[layer])
        here = self._place(left)
        for digit, fills in enumerate(self.fills[owner]):
            child = self._child(layer, state, fills)
            if child is not None and left[owner][digit] >= size:
                taken = size * self._strides[owner][digit]
                yield digit, child, self._ways(layer + 1, child, here - taken)

    def _child(self, layer: int, state: int, fills: bool) -> int | None:
        """Return the next state; None where a neighbour is filled already."""
        blocked, kept, own = self._masks[layer]
        if not fills:
            return state & kept
        return None if own is None or state & blocked else (state & kept) | own

    @functools.cached_property
    def _masks(self) -> list[tuple[int, int, int | None]]:
        """Per group: bits of its neighbours, bits that stay open after it, and its own bit.

        The own bit is 0 where nothing undecided asks for it, None where the group cannot be filled.
        """
        last = [max([n for n in own if n != place], default=-1)
                for place, own in enumerate(self.neighbours)]  # fmt: skip
        masks = []
        for layer, own in enumerate(self.neighbours):
            blocked = sum(1 << n for n in own if n < layer)
            kept = sum(1 << n for n in range(layer) if last[n] > layer)
            bit = None if layer in own else (1 << layer if last[layer] > layer else 0)
            masks.append((blocked, kept, bit))
        return masks

    @functools.cached_property
    def _layers(self) -> list[dict[int, int]]:
        """Per layer and state, the ways in which it goes on: a packed polynomial in the counts."""
        states = self._states()
        ways = [dict.fromkeys(states[-1], 1)]
        for layer in reversed(range(len(self.groups))):
            ways.append({s: self._value(layer, s, ways[-1]) for s in states[layer]})
        return ways[::-1]

    def _states(self) -> list[list[int]]:
        """Return the states of each layer; refuse more than `MAX_BITS`."""
        states: list[list[int]] = [[0]]
        n_states, bits_of_one = 1, self._bits * self._width
        for layer in range(len(self.groups)):
            children = (
                self._child(layer, state, fills) for state in states[-1] for fills in (False, True)
            )
            states.append(list(dict.fromkeys(child for child in children if child is not None)))
            n_states += len(states[-1])
            if n_states * bits_of_one > MAX_BITS:
                raise TooManyArrangementsError(sum(self.sizes))
        return states

    def _value(self, layer: int, state: int, following: Mapping[int, int]) -> int:
        owner, size = self.owner[layer], len(self.groups[layer])
        value = 0
        for digit, fills in enumerate(self.fills[owner]):
            child = self._child(layer, state, fills)
            if child is not None:
                value += following[child] << self._bits * size * self._strides[owner][digit]
        return value

    @functools.cached_property
    def _bits(self) -> int:
        """Width of a coefficient: no count is larger than the number of all arrangements."""
        own = zip(self.sizes, self.fills, strict=True)
        return 1 + sum(size * (len(fills) - 1).bit_length() for size, fills in own)

    @property
    def _width(self) -> int:
        """Number of coefficients of a polynomial."""
        own = zip(self.sizes, self.fills, strict=True)
        return math.prod((size + 1) ** (len(fills) - 1) for size, fills in own)

    @functools.cached_property
    def _strides(self) -> list[list[int]]:
        """Exponent of each species; that of a sublattice's last one follows from the others."""
        strides, step = [], 1
        for size, fills in zip(self.sizes, self.fills, strict=True):
            own = []
            for _ in fills[:-1]:
                own.append(step)
                step *= size + 1
            strides.append([*own, 0])
        return strides

    def _place(self, counts: Counts) -> int:
        return sum(
            n * stride
            for own, strides in zip(counts, self._strides, strict=True)
            for n, stride in zip(own, strides, strict=True)
        )

    def _unpacked(self, place: int) -> list[list[int]]:
        """Return species counts of packed exponents; of the last species: as many as sites."""
        counts = []
        for size, fills in zip(self.sizes, self.fills, strict=True):
            own = []
            for _ in fills[:-1]:
                place, n = divmod(place, size + 1)
                own.append(n)
            counts.append([*own, size])
        return counts

    def _ways(self, layer: int, state: int, place: int) -> int:
        if place < 0:
            return 0
        return (self._layers[layer][state] >> self._bits * place) & ((1 << self._bits) - 1)

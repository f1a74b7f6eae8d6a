"""Children of two parents: a slab of one crystal set into the other, or site by site.

Both keep the composition of one parent; the pieces are repaired by `gasearch.crystal.repair`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.repair import nearest_composition, repair
from gasearch.errors import UsageError
from gasearch_operators.sites import Digits, site_tables

_TRIES = 8  # cuts that give back a parent are drawn again this often


@dataclass(frozen=True)
class CutAndSplice:
    """Set a slab of the second parent, moved by a random operation of the host, into the first.

    The slab lies between two parallel lattice planes, so that it is whole in the periodic crystal;
    planes of a wide spacing are preferred. Where the pieces do not add up, sites near the cuts
    change first. The child has the composition of the parent whose number of working ions the
    pieces come nearest to, or, with `between`, that of the pieces themselves.

    Parameters
    ----------
    min_share
        Thinnest slab, as a share of the period across the planes; the thickest leaves as much.
    between
        Whether compositions between those of the parents are allowed.
    """

    min_share: float = 0.25
    between: bool = False
    n_parents: ClassVar[int] = 2
    default_weight: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.min_share <= 0.5:
            raise UsageError(f"min_share = {self.min_share}: expected a share, 0 < share <= 0.5.")

    @property
    def changes_x(self) -> bool:
        """Whether the child may have a composition that no parent has."""
        return self.between

    def __call__(
        self, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration | None:
        """Return the child, or None where the parents are too alike to give anything new."""
        first, second = parents
        host = first.host
        for _ in range(_TRIES):
            other = moved(second, rng)
            inside, from_cut = self._cut(host, rng)
            pieces = np.where(inside, other, first.occupation)
            reluctance = from_cut + 1e-3 * rng.random(host.n_sites)
            child = _repaired(parents, pieces, self.between, reluctance, rng)
            if _is_new(child, first.occupation, other):
                return child
        return None

    def _cut(
        self, host: Host, rng: np.random.Generator
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return (n_sites,) whether a site is in the slab, and its distance to a cut, in Å."""
        planes = _planes(host)
        chosen = int(np.searchsorted(planes.bounds, rng.random()))
        width = rng.uniform(self.min_share, 1 - self.min_share)
        phase = (planes.phases[chosen] + rng.random()) % 1.0
        to_cut = np.minimum(np.minimum(phase, 1 - phase), np.abs(phase - width))
        return phase < width, to_cut * planes.spacings[chosen]


@dataclass(frozen=True)
class UniformCrossover:
    """Take each site from either parent, with a share of its own for each sublattice.

    A sublattice comes whole from one parent, or whole from the other, or site by site from both,
    so that a working-ion order may meet another charge order. The second parent is first moved by
    the operation of the host that makes the parents most alike; what both share changes last.

    Parameters
    ----------
    align
        False: the second parent is moved by a random operation instead.
    between
        Whether compositions between those of the parents are allowed.
    """

    align: bool = True
    between: bool = False
    n_parents: ClassVar[int] = 2
    default_weight: ClassVar[float] = 1.0

    @property
    def changes_x(self) -> bool:
        """Whether the child may have a composition that no parent has."""
        return self.between

    def __call__(
        self, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration | None:
        """Return the child, or None where the parents are too alike to give anything new."""
        first, second = parents
        host = first.host
        for attempt in range(_TRIES):
            align = self.align and attempt < _TRIES // 2
            other = aligned(first, second, rng) if align else moved(second, rng)
            chance = _shares(len(host.sublattices), rng)[site_tables(host).sublattices]
            pieces = np.where(rng.random(host.n_sites) < chance, other, first.occupation)
            reluctance = rng.random(host.n_sites) + (other == first.occupation)
            child = _repaired(parents, pieces, self.between, reluctance, rng)
            if _is_new(child, first.occupation, other):
                return child
        return None


def moved(parent: Decoration, rng: np.random.Generator) -> Digits:
    """Return the occupation of a parent under a random operation of its host."""
    permutations = parent.host.permutations
    occupation = np.empty_like(parent.occupation)
    occupation[permutations[rng.integers(len(permutations))]] = parent.occupation
    return occupation


def aligned(first: Decoration, second: Decoration, rng: np.random.Generator) -> Digits:
    """Return the image of the second occupation that agrees with the first on most sites."""
    permutations = first.host.permutations
    alike = np.count_nonzero(first.occupation[permutations] == second.occupation, axis=1)
    occupation = np.empty_like(second.occupation)
    occupation[permutations[rng.choice(np.flatnonzero(alike == alike.max()))]] = second.occupation
    return occupation


def _shares(n_sublattices: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (n_sublattices,) chances that a site is the second parent's; not all 0, not all 1."""
    shares = rng.integers(3, size=n_sublattices) / 2
    return np.full(n_sublattices, 0.5) if shares.sum() in (0, n_sublattices) else shares


@dataclass(frozen=True, eq=False)
class _Planes:
    """Families of lattice planes of a supercell, the indices being 0 and ±1.

    Parameters
    ----------
    spacings
        (n,) in Å.
    bounds
        (n,) cumulative chances, proportional to the spacings.
    phases
        (n, n_sites) place of each site between two planes, from 0 to 1.
    """

    spacings: NDArray[np.float64]
    bounds: NDArray[np.float64]
    phases: NDArray[np.float64]


@functools.lru_cache(maxsize=16)
def _planes(host: Host) -> _Planes:
    indices = np.array([h for h in itertools.product((-1, 0, 1), repeat=3) if h > (0, 0, 0)])
    spacings = 1 / np.linalg.norm(indices @ host.atoms.cell.reciprocal().array, axis=1)
    bounds = np.cumsum(spacings / spacings.sum())
    bounds[-1] = 1.0
    return _Planes(spacings, bounds, indices @ host.atoms.get_scaled_positions()[host.sites].T)


def _repaired(
    parents: Sequence[Decoration],
    pieces: Digits,
    between: bool,
    reluctance: NDArray[np.float64],
    rng: np.random.Generator,
) -> Decoration:
    """Return the decoration nearest to the pieces, at a composition of the parents or between."""
    host = parents[0].host
    low, high = sorted(parent.composition for parent in parents)
    allowed = [c for c in host.compositions if low <= c <= high and (between or c in (low, high))]
    return repair(host, pieces, nearest_composition(host, pieces, allowed, rng), rng, reluctance)


def _is_new(child: Decoration, *known: Digits) -> bool:
    return not any(np.array_equal(child.occupation, occupation) for occupation in known)

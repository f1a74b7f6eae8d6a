"""A decoration as numbers that its energy may depend on, invariant under the host's symmetry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gasearch.crystal.host import Composition, Host
from gasearch.run.sections import Group, ScreeningSection
from gasearch.search.surrogate.clusters import SiteBasis, Surroundings, cluster_orbits
from gasearch.search.surrogate.coulomb import coulomb_energy
from gasearch.seeding import named_rng

_CHUNK = 256  # decorations at once: their products stay in the cache
_SAMPLE = 128  # decorations of each composition that set mean and scale
_MOST_PER_GROUP = 200
_MOST_TRIPLETS = 4_000  # of sites
_LEAST_SPREAD = 1e-6


class Features:
    """From decorations to features: cluster correlations, surroundings and the Coulomb energy.

    Each feature has mean 0 at every composition and standard deviation 1 over all, as a fixed
    random sample has it: what the composition alone decides is no feature. Features that never
    vary are left out.

    Parameters
    ----------
    compositions
        Those that the features are scaled for.
    """

    def __init__(
        self,
        host: Host,
        compositions: tuple[Composition, ...],
        settings: ScreeningSection | None = None,
    ) -> None:
        self._host = host
        self.settings = settings or ScreeningSection()
        self._compositions = compositions
        self._basis = SiteBasis(host)
        self._parts = self._made_parts()
        means, spread = self._measured()
        self._kept_of = {group: _varying(found) for group, found in spread.items()}
        self.groups: tuple[Group, ...] = tuple(
            group for group, chosen in self._kept_of.items() for _ in chosen
        )
        self._means = np.concatenate(
            [means[group][:, chosen] for group, chosen in self._kept_of.items()], axis=1
        )
        self._scale = np.concatenate(
            [1 / spread[group][chosen] for group, chosen in self._kept_of.items()]
        )
        self._row_of = {c: row for row, c in enumerate(compositions)}

    def __len__(self) -> int:
        return len(self.groups)

    def __call__(
        self, occupations: NDArray[np.uint8], composition: Composition
    ) -> NDArray[np.float64]:
        """Return (n, n_features) of occupations (n, n_sites) at one composition."""
        raw = np.empty((len(occupations), len(self)))
        for start in range(0, len(occupations), _CHUNK):
            part = slice(start, start + _CHUNK)
            found = self._raw(occupations[part])
            raw[part] = np.concatenate(
                [found[group][chosen] for group, chosen in self._kept_of.items()]
            ).T
        raw -= self._means[self._row_of[composition]]
        raw *= self._scale
        return raw

    def _made_parts(self) -> dict[Group, Callable[[NDArray[np.uint8]], NDArray[np.floating]]]:
        """Return what computes each group, as (n_columns, n) of occupations (n, n_sites)."""
        host, basis, settings = self._host, self._basis, self.settings
        points = cluster_orbits(host, basis, 1, 0.0)
        pairs = cluster_orbits(host, basis, 2, settings.pair_reach)
        reach = _affordable(host, settings.triplet_reach)
        triplets = cluster_orbits(host, basis, 3, reach)
        surroundings, coulomb = Surroundings(host), coulomb_energy(host)
        parts: dict[Group, Callable[[NDArray[np.uint8]], NDArray[np.floating]]] = {
            "points": lambda o: points.correlations(basis(o)),
            "pairs": lambda o: pairs.correlations(basis(o)),
            "triplets": lambda o: triplets.correlations(basis(o)),
            "surroundings": surroundings,
            "coulomb": lambda o: coulomb(o)[None],
        }
        return {group: parts[group] for group in settings.features}

    def _raw(self, occupations: NDArray[np.uint8]) -> dict[Group, NDArray[np.floating]]:
        return {group: part(occupations) for group, part in self._parts.items()}

    def _measured(
        self,
    ) -> tuple[dict[Group, NDArray[np.float64]], dict[Group, NDArray[np.float64]]]:
        """Return means (n_compositions, n_columns) and spreads (n_columns,) by group."""
        means: dict[Group, list[NDArray[np.float64]]] = {group: [] for group in self._parts}
        squares: dict[Group, list[NDArray[np.float64]]] = {group: [] for group in self._parts}
        for composition in self._compositions:
            rng = named_rng(0, f"features {composition.formula}")
            sample = [self._host.random_occupation(composition, rng) for _ in range(_SAMPLE)]
            for group, values in self._raw(np.array(sample)).items():
                exact = values.astype(np.float64)
                means[group].append(exact.mean(axis=1))
                squares[group].append(exact.var(axis=1))
        mean = {group: np.array(rows) for group, rows in means.items()}
        spread = {group: np.sqrt(np.mean(rows, axis=0)) for group, rows in squares.items()}
        return mean, spread


def _varying(spread: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the columns that vary; those that vary most where they are many."""
    varying = np.flatnonzero(spread > _LEAST_SPREAD)
    if len(varying) > _MOST_PER_GROUP:
        order = np.argsort(-spread[varying], kind="stable")[:_MOST_PER_GROUP]
        varying = np.sort(varying[order])
    return varying


def _affordable(host: Host, reach: float) -> float:
    """Return the reach of triplets, in Å, shortened until they are no more than affordable."""
    near = host.distances.copy()
    while reach > 0:
        graph = ((near <= reach) & (near > 0)).astype(np.float64)
        n_triplets = float(np.einsum("ij,ij->", graph @ graph, graph)) / 6
        if n_triplets <= _MOST_TRIPLETS:
            return reach
        reach -= 0.25
    return 0.0

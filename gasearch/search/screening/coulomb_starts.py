"""Decorations to begin with: those of lowest Coulomb energy on the undistorted host.

A good start and a bad filter: among relaxed energies the ground state can be anywhere in this
order.
"""

from __future__ import annotations

import numpy as np

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition
from gasearch.search.history import SearchHistory
from gasearch.search.screening.enumerated import EnumeratedCompositions
from gasearch.search.screening.exchanges import descend
from gasearch.search.surrogate.coulomb import coulomb_energy

_STEPS, _NEIGHBOURS, _KEPT, _ATTEMPTS = 100, 1_000, 10, 3


class CoulombStarts:
    """Finds decorations of low Coulomb energy that were not proposed yet."""

    def __init__(self, history: SearchHistory, enumerated: EnumeratedCompositions) -> None:
        self._history = history
        self._enumerated = enumerated

    def lowest_unseen(
        self, composition: Composition, rng: np.random.Generator
    ) -> Decoration | None:
        """Return the lowest of an enumerated composition, else what a descent finds, or None."""
        host = self._history.host
        if composition in self._enumerated:
            listed = self._enumerated[composition]
            energies = np.where(listed.is_open, listed.coulomb, np.inf)
            return Decoration(host, listed.occupations[int(energies.argmin())])
        energy = coulomb_energy(host)
        for _ in range(_ATTEMPTS):
            start = host.random_occupation(composition, rng)
            path = descend(
                host, energy, start, rng, steps=_STEPS, neighbours=_NEIGHBOURS, kept=_KEPT
            )
            for occupation in [row for step in reversed(path) for row in step]:
                decoration = Decoration(host, occupation)
                if decoration.fingerprint not in self._history.seen:
                    return decoration
        return None

"""What tells the crystals that a model was trained on from others of the same species.

Elements and oxidation states do not: maricite is NaFePO4 as olivine is. What surrounds the atoms
does. No torch here, for `gasearch init` asks too.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]
Counts = dict[tuple[str, str], Array]

RADII = np.arange(2.5, 6.01, 0.5)
"""Å, in a crystal that is scaled to `_VOLUME`."""
USUAL = 0.1
"""Largest distance of a crystal that counts as one of the kind that was trained on.

Against 207 frames of `data/nafepo4-pbeu`: those of a decoration that was left out reach 0.04, and
olivine that is strained by 5 % or rattled by 0.15 Å 0.03; maricite has 0.26 (0.24 without sodium),
olivine with Na and Fe exchanged 0.22.
"""
_VOLUME = 18.0  # Å^3 per atom of the most abundant element
_SMEARING = 0.35  # Å
_ROUNDED = 3


@dataclass(frozen=True, eq=False)
class Surroundings:
    """How many neighbours of each element the atoms of training frames have within some radii.

    Crystals are compared at one density, and by neighbours that do not come and go with working
    ions, so that strain and vacancies count for little.

    Parameters
    ----------
    ranges
        (2, n_radii) fewest and most neighbours, as means over the atoms of an element, by both
        elements: ("Na", "O") for the oxygen around sodium.
    """

    ranges: Mapping[tuple[str, str], Array]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Surroundings):
            return NotImplemented
        return self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(tuple(self.ranges))

    @classmethod
    def from_frames(cls, frames: Sequence[Atoms]) -> Surroundings:
        """Return what surrounds the atoms of training frames."""
        fixed = _fixed_elements(frames)
        found: dict[tuple[str, str], list[Array]] = {}
        for atoms in frames:
            for pair, counts in _counts(atoms, fixed).items():
                found.setdefault(pair, []).append(counts)
        return cls({
            pair: np.round([np.min(rows, axis=0), np.max(rows, axis=0)], _ROUNDED)
            for pair, rows in sorted(found.items())
        })  # fmt: skip

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Surroundings:
        """Return what `to_json` wrote; nothing where a model does not say."""
        pairs = {pair: tuple(pair.split("-")) for pair in document}
        return cls({
            (elements[0], elements[1]): np.array(document[pair], dtype=np.float64)
            for pair, elements in pairs.items()
        })  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON writes it: by "Na-O", the fewest and the most."""
        return {f"{one}-{other}": rows.tolist() for (one, other), rows in self.ranges.items()}

    def distance(self, atoms: Atoms) -> float:
        """Return how far the surroundings of a crystal lie outside of what was seen, in neighbours.

        The root mean square over pairs of elements and radii, each over the root of their usual
        number. 0 inside, and where nothing is known; see `USUAL`.
        """
        if not self.ranges:
            return 0.0
        found = _counts(atoms, {other for _, other in self.ranges})
        squares = [
            np.mean(_outside(counts, *self.ranges[pair]) ** 2)
            for pair, counts in found.items()
            if pair in self.ranges
        ]
        return float(np.sqrt(np.mean(squares))) if squares else 0.0


def _outside(counts: Array, low: Array, high: Array) -> Array:
    """Return how far counts (n_radii,) lie outside, over the root of what is usual."""
    beyond = np.maximum(0.0, np.maximum(counts - high, low - counts))
    return np.asarray(beyond / np.sqrt(np.maximum(1.0, (low + high) / 2)))


def _fixed_elements(frames: Sequence[Atoms]) -> set[str]:
    """Return the elements whose share, relative to the most abundant, is the same in all frames."""
    counts = [Counter(list(atoms.symbols)) for atoms in frames]
    total = Counter[str]()
    for one in counts:
        total.update(one)
    ((most, _),) = total.most_common(1)
    return {
        element
        for element in total
        if len({round(one[element] / max(1, one[most]), 6) for one in counts}) == 1
    }


def _counts(atoms: Atoms, fixed: set[str]) -> Counts:
    """Return the smeared number (n_radii,) of neighbours by element of the centre and their own."""
    scaled: Atoms = atoms.copy()
    symbols = np.array(scaled.get_chemical_symbols())
    present = Counter(symbol for symbol in symbols.tolist() if symbol in fixed)
    if not present:
        return {}
    n_most = max(present.values())
    size = (_VOLUME * n_most / scaled.cell.volume) ** (1 / 3)
    scaled.set_cell(scaled.cell.array * size, scale_atoms=True)
    i, j, d = neighbor_list("ijd", scaled, RADII[-1] + 4 * _SMEARING)
    within = ndtr((RADII[:, None] - d) / _SMEARING)
    here = sorted(set(symbols.tolist()))
    return {
        (one, other): within[:, (symbols[i] == one) & (symbols[j] == other)].sum(axis=1)
        / np.count_nonzero(symbols == one)
        for one, other in itertools.product(here, sorted(present))
    }

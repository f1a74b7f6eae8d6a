"""Points thinned where they stand close, so that a figure of 100,000 shows what one of 2,000 can.

Each composition is cut into strips of energy, narrow near its lowest candidate and wider above, and
the lowest candidate of each strip is shown, with the number of those that it stands for. So nothing
is left out by chance, an outlier stays in sight, and the same results give the same figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 2_000
_SCALE = 0.02  # eV per formula unit: up to there strips are about equally wide
_FEWEST = 20  # strips of one composition


@dataclass(frozen=True, eq=False)
class Thinned:
    """The points to be shown.

    Parameters
    ----------
    place
        (m,) of the shown points among all, in ascending order.
    stands_for
        (m,) how many points each stands for, itself included.
    """

    place: NDArray[np.int64]
    stands_for: NDArray[np.int64]


def thinned(
    group: NDArray[np.int64],
    energy: NDArray[np.float64],
    most: int = MOST,
    scale: float = _SCALE,
) -> Thinned:
    """Return about `most` points at the most: of each strip of each group the lowest.

    Parameters
    ----------
    group
        (n,) that a point belongs to, such as its composition.
    energy
        (n,) in eV per formula unit.
    scale
        Width of energy, in eV per formula unit, above which strips become wider.
    """
    n = len(energy)
    if n <= most:
        return Thinned(np.arange(n), np.ones(n, dtype=np.int64))
    _, own = np.unique(group, return_inverse=True)
    lowest = np.full(own.max() + 1, np.inf)
    np.minimum.at(lowest, own, energy)
    depth = np.log1p((energy - lowest[own]) / scale)
    n_strips = max(_FEWEST, most // len(lowest))
    strip = np.minimum((depth / (depth.max() or 1.0) * n_strips).astype(np.int64), n_strips - 1)
    ranking = np.lexsort((energy, strip, own))
    key = (own * n_strips + strip)[ranking]
    _, first, counts = np.unique(key, return_index=True, return_counts=True)
    place = ranking[first]
    sorting = np.argsort(place)
    return Thinned(place[sorting], counts[sorting])

"""Which compositions the rest of the budget covers to the last decoration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gasearch.crystal.host import Composition
from gasearch.search.history import SearchHistory


def covered(
    history: SearchHistory, among: Sequence[Composition], remaining: int
) -> dict[Composition, int]:
    """Return the compositions that can be relaxed completely, with what is open of each.

    Each composition has an equal share of what remains; what a small one does not need goes to the
    larger ones, in ascending order of size.

    Parameters
    ----------
    remaining
        Candidates that may still be proposed.
    """
    counted = [(history.open_up_to(c, remaining), c) for c in among]
    few = sorted((n_open, c) for n_open, c in counted if n_open is not None)
    found: dict[Composition, int] = {}
    left, waiting = remaining, len(among)
    for n_open, composition in few:
        if n_open * waiting > left:
            break
        found[composition] = n_open
        left -= n_open
        waiting -= 1
    return found


def is_their_turn(n_open: int, remaining: int, rng: np.random.Generator) -> bool:
    """Return whether the next candidate belongs to the covered compositions.

    Drawn with probability `n_open / remaining`, it is certain once they need all that remains.
    """
    return bool(n_open > rng.random() * remaining)

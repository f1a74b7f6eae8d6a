"""How several searches share workers: equal parts, and what one leaves goes to the others."""

from __future__ import annotations

import threading
from collections.abc import Sequence


class FairShares:
    """Places of an engine, divided among the searches that want them.

    Parameters
    ----------
    n_places
        In all.
    """

    def __init__(self, n_places: int) -> None:
        self.n_places = n_places
        self.wanted: dict[Share, int] = {}
        self.lock = threading.Lock()

    def join(self) -> Share:
        """Return the share of one more search."""
        share = Share(self)
        with self.lock:
            self.wanted[share] = 0
        return share


class Share:
    """What one search has of them."""

    def __init__(self, all_shares: FairShares) -> None:
        self._all = all_shares

    def limit(self, wanted: int) -> int:
        """Note how many places are wanted; return how many may be held, 1 at the least.

        More than are wanted, where nobody else wants them.
        """
        with self._all.lock:
            if self not in self._all.wanted:
                return 0
            self._all.wanted[self] = wanted
            parts = divided(self._all.n_places, [*self._all.wanted.values()])
            own = parts[[*self._all.wanted].index(self)]
            return max(1, own, self._all.n_places - (sum(parts) - own))

    def leave(self) -> None:
        """Give it to the others; nothing may be held any more."""
        with self._all.lock:
            self._all.wanted.pop(self, None)


def divided(n_places: int, wanted: Sequence[int]) -> list[int]:
    """Return how many of the places each gets: none more than it wants, all as equal as can be."""
    parts = [0] * len(wanted)
    left = n_places
    while left > 0:
        short = [n for n, part in enumerate(parts) if part < wanted[n]]
        if not short:
            break
        each = max(1, left // len(short))
        for n in short[:left]:
            more = min(each, wanted[n] - parts[n], left)
            parts[n] += more
            left -= more
    return parts

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
        self._n_places = n_places
        self._wanted: dict[Share, int] = {}
        self._lock = threading.Lock()

    def join(self) -> Share:
        """Return the share of one more search."""
        share = Share(self)
        with self._lock:
            self._wanted[share] = 0
        return share

    def leave(self, share: Share) -> None:
        """Give a share to the others."""
        with self._lock:
            self._wanted.pop(share, None)

    def limit(self, share: Share, wanted: int) -> int:
        """Note how many places a search wants; return how many it may hold."""
        with self._lock:
            if share not in self._wanted:
                return 0
            self._wanted[share] = wanted
            parts = dict(
                zip(self._wanted, divided(self._n_places, [*self._wanted.values()]), strict=True)
            )
            others = sum(part for other, part in parts.items() if other is not share)
            return max(1, parts[share], self._n_places - others)


class Share:
    """What one search has of them."""

    def __init__(self, shares: FairShares) -> None:
        self._shares = shares

    def limit(self, wanted: int) -> int:
        """Note how many places are wanted; return how many may be held, 1 at the least.

        More than are wanted, where nobody else wants them.
        """
        return self._shares.limit(self, wanted)

    def leave(self) -> None:
        """Give it to the others, for good."""
        self._shares.leave(self)


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

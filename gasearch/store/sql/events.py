"""What the events of the record are called, each kind once, and the chain of their hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CREATED, PROPOSED, QUEUED, LEASED = "created", "proposed", "queued", "leased"
RECORDED, REQUEUED, OPERATIONAL = "recorded", "requeued", "operational"
LATE_RESULT, REPEATED_RESULT, LATE_REQUEUE = "late_result", "repeated_result", "late_requeue"
PROMOTED = "promoted"
DFT_LEVEL, DFT_JOB, DFT_RECORDED = "dft_level", "dft_job", "dft_recorded"
RELEASE_LEVEL, RELEASED = "release_level", "released"
"""The level of a potential without its hold, and what became of a candidate there."""
ADDED = "added"
"""A candidate that came from elsewhere, and that nobody asked the search to relax."""
ADOPTED = "adopted"
"""Such a candidate that the search proposed in the end, and that has its number since then."""
SEALED = "sealed"
"""At an upgrade: what the rows of results stated, whose own events do not say it."""

KINDS = frozenset(
    (
        *(CREATED, PROPOSED, QUEUED, LEASED, RECORDED, REQUEUED, OPERATIONAL),
        *(LATE_RESULT, REPEATED_RESULT, LATE_REQUEUE, PROMOTED),
        *(DFT_LEVEL, DFT_JOB, DFT_RECORDED, RELEASE_LEVEL, RELEASED),
        *(ADDED, ADOPTED, SEALED),
    )
)
"""Those that the store writes itself, with the change that they record."""

STARTED, ENDED = "started", "ended"
"""A driver begins and ends to work on the search."""
SURROGATE = "surrogate"
"""What the newest fit of the surrogate is worth."""
REFINED = "refined"
"""What became of the neighbours of the candidates on the hull."""


def chained(previous: str, event: Mapping[str, Any]) -> str:
    """Return the sha256 of an event and of all before it, whose own is `previous`."""
    values = [event[name] for name in ("id", "time", "kind", "candidate", "data")]
    text = previous + json.dumps(values, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

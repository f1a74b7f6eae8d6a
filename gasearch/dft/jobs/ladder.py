"""What is tried, one after another, where a calculation does not converge. No rung moves the level.

1. the settings as they are;
2. slower mixing, and twice the iterations;
3. the same, begun with broad occupations and then continued with those of the level;
4. the same as 2, from a geometry that was relaxed with surrogate elements, Ga in place of Fe3+.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RUNGS = ("as set", "mixing", "smearing", "surrogate")


def rungs(job: Mapping[str, Any]) -> list[str]:
    """Return the rungs that a job can climb; without an oxidised site there is no surrogate."""
    return [name for name in RUNGS if name != "surrogate" or job["surrogates"]]


def on_rung(job: Mapping[str, Any], rung: int, attempt: int) -> dict[str, Any]:
    """Return the input of a job for one rung of its ladder."""
    name = rungs(job)[rung]
    changed = {**job, "rung": name, "attempt": attempt}
    if name != "as set":
        beta, history, weight = job["mixer"]
        changed |= {"mixer": [beta / 2, history, 2 * weight], "max_scf": 2 * job["max_scf"]}
    return changed


def next_rung(job: Mapping[str, Any], rung: int) -> int | None:
    """Return the rung above, or None at the top."""
    return rung + 1 if rung + 1 < len(rungs(job)) else None

"""What `gasearch release` shows, and the report of it: lines, a table, and JSON."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable
from typing import Any

from rich.table import Table

from gasearch.dft.release import Release, Releases
from gasearch.display.tables import make_table, milli
from gasearch.relax.audit import IN_WORDS

RELEASE_COLUMNS = ("id", "x", "held by\n(meV)", "change\n(meV/f.u.)", "calls", "became")


def outcome(row: Release) -> str:
    """Return what became of a candidate, in a few words."""
    if row.order == "moved":
        where = f"candidate {row.became_id}" if row.became_id else "an order not searched yet"
        return f"slid to {where} ({row.became})"
    if row.order == "delocalised":
        return f"no order left: {row.reason}"
    if row.verdict != "ok":
        return f"{IN_WORDS[row.verdict][0]}: {row.reason}"
    return "kept its order"


def progress_line(row: Release) -> str:
    """Return the line that is printed when a candidate was released."""
    return f"candidate {row.id} at x = {row.x:.4g}: {outcome(row)}"


def release_table(rows: Iterable[Release]) -> Table:
    """Return what was released."""
    return make_table(RELEASE_COLUMNS, (release_cells(row) for row in rows), texts=("became",))


def release_cells(row: Release) -> tuple[str, ...]:
    """Return the cells of a candidate: what held it, by how much it fell, what it became."""
    change = milli(row.energy_change_eV_per_fu)
    return (
        str(row.id),
        f"{row.x:.4g}",
        milli(row.penalty_eV),
        change,
        str(row.n_calls),
        outcome(row),
    )


def summary_line(found: Releases) -> str:
    """Return how many stayed, in one sentence."""
    kept = f"{found.n_kept} of {len(found.rows)} keep their order without the hold"
    if not found.n_kept:
        return kept
    return f"{kept} and are minima of the potential itself"


def release_notes(found: Releases, folder: str) -> list[str]:
    """Return what to look at next.

    Parameters
    ----------
    folder
        As it is typed in a shell.
    """
    if not found.n_kept:
        return ["note: none is left for a hull without the hold"]
    level = shlex.quote(found.level)
    return [f"note: the hull of those that stayed: gasearch hull {folder} --level {level}"]


def release_document(found: Releases) -> dict[str, Any]:
    """Return what was released as `gasearch release --json` prints it."""
    return {
        "level": found.level,
        "released_from": found.released_from,
        "released": [dataclasses.asdict(row) for row in found.rows],
    }

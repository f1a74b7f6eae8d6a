"""Results that came after their lease was over: kept for the record, and counted nowhere.

They have a table of their own, so that no query of the search, of its hull or of ASE meets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from gasearch.store.records import Lease
from gasearch.store.schema import SEARCH_LEVEL, extra, structure


def is_stored(connection: Connection, evaluation: int, columns: Mapping[str, Any]) -> bool:
    """Return whether an evaluation has ended in just this structure with these results."""
    query = select(structure.c.sha256).where(structure.c.id == evaluation)
    return bool(connection.execute(query).scalar_one_or_none() == columns["sha256"])


def keep(
    connection: Connection,
    lease: Lease,
    row: Mapping[str, Any],
    columns: Mapping[str, Any],
    time_s: float,
) -> int | None:
    """Store a late result and return its key; None where the same one was stored before.

    Parameters
    ----------
    row
        Columns of an evaluation.
    columns
        Columns of its structure, hashes included.
    time_s
        When it came.
    """
    head = {
        "candidate": lease.candidate,
        "level": SEARCH_LEVEL,
        "purpose": lease.purpose,
        "attempt": lease.attempt,
    }
    identity = head | {"verdict": row["verdict"], "sha256": columns["sha256"]}
    same = [extra.c[name] == value for name, value in identity.items()]
    if connection.execute(select(extra.c.id).where(*same)).first() is not None:
        return None
    added = connection.execute(insert(extra).values(**head, **row, **columns, finished=time_s))
    return int(added.inserted_primary_key[0]) if added.inserted_primary_key else None

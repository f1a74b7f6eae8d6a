"""When the search proposes what DFT had found before: a candidate from elsewhere gets its number.

The search knows nothing of candidates that DFT added, so that its path does not depend on them.
Once it proposes the same decoration, the numbered candidate takes over all that the other one had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, update

from gasearch.store.records import FIRST_OUTSIDE, Proposal
from gasearch.store.schema import candidate, dft_job, evaluation, parent, promotion, structure
from gasearch.store.sql.ase_rows import SHOWN, AseRows
from gasearch.store.sql.blobs import Columns
from gasearch.store.sql.evaluation_state import chunks


def give_way(
    connection: Connection, keys: Sequence[int], proposals: Sequence[Proposal]
) -> dict[int, int]:
    """Free the fingerprints of candidates that DFT added and that are proposed now.

    Returns the new keys by the old ones; the caller inserts the new candidates, then calls
    `take_over`, in this transaction.
    """
    wanted = {
        proposal.fingerprint: key
        for key, proposal in zip(keys, proposals, strict=True)
        if key < FIRST_OUTSIDE
    }
    searched = select(evaluation.c.candidate).where(evaluation.c.purpose != "dft")
    moved: dict[int, int] = {}
    for chunk in chunks(sorted(wanted)):
        query = (
            select(candidate.c.id, candidate.c.fingerprint)
            .where(candidate.c.fingerprint.in_(chunk), candidate.c.id >= FIRST_OUTSIDE)
            .where(candidate.c.origin == "dft", candidate.c.id.not_in(searched))
            .order_by(candidate.c.id)
        )
        moved |= {row.id: wanted[row.fingerprint] for row in connection.execute(query)}
    for old in moved:
        freed = update(candidate).where(candidate.c.id == old).values(fingerprint=f"adopted {old}")
        connection.execute(freed)
    return moved


def take_over(connection: Connection, moved: Mapping[int, int]) -> None:
    """Give all that the old candidates had to the new ones, and remove the old ones."""
    for old, new in moved.items():
        _rename(connection, old, new)
    _show_anew(connection, moved)


def _rename(connection: Connection, old: int, new: int) -> None:
    connection.execute(delete(parent).where(parent.c.child == old))
    columns: list[Any] = [
        evaluation.c.candidate,
        promotion.c.candidate,
        parent.c.parent,
        dft_job.c.candidate,
        dft_job.c.found,
    ]
    for column in columns:
        change = update(column.table).where(column == old).values({column.name: new})
        connection.execute(change)
    connection.execute(delete(candidate).where(candidate.c.id == old))


def _show_anew(connection: Connection, moved: Mapping[int, int]) -> None:
    """Write what ASE would show of structures whose candidate has another key now."""
    for new in moved.values():
        ase_rows = AseRows(connection, [new])
        query = select(evaluation.c.id, *(evaluation.c[name] for name in SHOWN))
        for row in connection.execute(query.where(evaluation.c.candidate == new)).all():
            columns: Columns = dict(ase_rows.columns(new, row._asdict()))
            change = update(structure).where(structure.c.id == row.id).values(**columns)
            connection.execute(change)

"""New candidates: their keys, what is refused, and their rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from gasearch.store.errors import DuplicateCandidateError, InvalidRecordError
from gasearch.store.records import FIRST_OUTSIDE, JsonValue, Proposal, Purpose
from gasearch.store.schema import RUN, SEARCH_LEVEL, candidate
from gasearch.store.sql.blobs import digest, plain_columns
from gasearch.store.sql.evaluation_state import chunks


def new_keys(connection: Connection, proposals: Sequence[Proposal]) -> list[int]:
    """Return the key of each proposal: its number, or the next one outside of the stream."""
    column = candidate.c.id
    inside = select(func.max(column)).where(column < FIRST_OUTSIDE)
    number = connection.execute(inside).scalar_one() or 0
    last = connection.execute(select(func.max(column))).scalar_one() or 0
    outside = max(FIRST_OUTSIDE - 1, last)
    keys = []
    for proposal in proposals:
        if proposal.number is None:
            outside += 1
            keys.append(outside)
            continue
        number += 1
        keys.append(number)
        if proposal.number != number:
            problem = f"the next number is {number}: candidates are numbered without gaps"
            raise InvalidRecordError(f"candidate {proposal.number}", problem)
    return keys


def validate(
    connection: Connection, keys: Sequence[int], proposals: Sequence[Proposal], n_results: int
) -> None:
    """Raise `InvalidRecordError` for what breaks the record; `n_results` are committed."""
    _refuse_known(connection, proposals)
    present = _present(connection, {old for proposal in proposals for old in proposal.parents})
    for key, proposal in zip(keys, proposals, strict=True):
        what = f"candidate {key}"
        if not 0 <= proposal.known <= n_results:
            problem = f"it used result {proposal.known} of {n_results}"
            raise InvalidRecordError(what, problem)
        if proposal.budget < 0:
            raise InvalidRecordError(what, f"its budget is {proposal.budget}, expected 0 or more")
        if not math.isfinite(proposal.x):
            raise InvalidRecordError(what, f"x is {proposal.x}, expected a finite number")
        if proposal.number is None and proposal.origin == "search":
            raise InvalidRecordError(what, "a candidate without a number needs another origin")
        for old in proposal.parents:
            if old not in present:
                raise InvalidRecordError(what, f"its parent {old} is not in the database yet")
        present.add(key)


def candidate_row(key: int, proposal: Proposal) -> dict[str, Any]:
    """Return the columns of a candidate."""
    own = {"id": key, "run": RUN, "occupation_sha256": digest(proposal.occupation)}
    return own | plain_columns(proposal, f"candidate {key}")


def event_data(row: Mapping[str, Any], parents: Sequence[int]) -> dict[str, JsonValue]:
    """Return what the event of a new candidate says: all of it but the decoration's bytes."""
    left_out = ("id", "run", "occupation")
    return {name: row[name] for name in row if name not in left_out} | {"parents": list(parents)}


def parent_rows(key: int, proposal: Proposal) -> list[dict[str, int]]:
    """Return the rows that link a candidate to its parents."""
    return [
        {"child": key, "position": position, "parent": old}
        for position, old in enumerate(proposal.parents)
    ]


def queued_evaluation(key: int, purpose: Purpose) -> dict[str, Any]:
    """Return the row of an evaluation that nobody has begun."""
    return {
        "candidate": key,
        "level": SEARCH_LEVEL,
        "purpose": purpose,
        "state": "queued",
        "attempt": 0,
        "n_crashes": 0,
    }


def _refuse_known(connection: Connection, proposals: Sequence[Proposal]) -> None:
    known: dict[str, str] = {}
    for chunk in chunks([proposal.fingerprint for proposal in proposals]):
        query = (
            select(candidate.c.fingerprint, candidate.c.id)
            .where(candidate.c.run == RUN, candidate.c.fingerprint.in_(chunk))
            .order_by(candidate.c.id)
        )
        known |= {row.fingerprint: f"candidate {row.id}" for row in connection.execute(query)}
    for proposal in proposals:
        if proposal.fingerprint in known:
            problem = f"it is the same crystal as {known[proposal.fingerprint]}"
            raise DuplicateCandidateError(f"candidate {proposal.number}", problem)
        known[proposal.fingerprint] = f"candidate {proposal.number} of the same batch"


def _present(connection: Connection, candidates: set[int]) -> set[int]:
    """Return those of the candidates that the database has."""
    queries = (
        select(candidate.c.id).where(candidate.c.id.in_(chunk)).order_by(candidate.c.id)
        for chunk in chunks(sorted(candidates))
    )
    return {key for query in queries for key in connection.scalars(query)}

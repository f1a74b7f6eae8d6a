"""DFT in the population database: levels, jobs, and evaluations of purpose "dft".

They stand beside those of the search: none of them counts for a candidate there, none is shown by
the views for ASE, and none steers a search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Row, func, insert, select, update

from gasearch.relax.relaxed import Relaxed
from gasearch.store.errors import UnknownCandidateError
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import EvaluationRow, JsonValue, Proposal, from_columns
from gasearch.store.schema import candidate, dft_job, level, promotion
from gasearch.store.sql import blobs
from gasearch.store.sql.blobs import to_json
from gasearch.store.sql.candidate_rows import new_keys
from gasearch.store.sql.events import ADDED, DFT_JOB, DFT_LEVEL, DFT_RECORDED
from gasearch.store.sql.other_levels import (
    LevelRow,
    level_key,
    other_levels,
    put_evaluation,
    put_level,
    relaxed_at,
    rows_at,
)
from gasearch.store.sql.transaction import Transaction


@dataclass(frozen=True)
class DftJobRow:
    """A job as the database knows it; its folder's status file knows more.

    Parameters
    ----------
    folder
        Relative to the run folder.
    evaluation
        That it led to; None where there is none.
    found
        The candidate that came out.
    charge_order
        "kept", "moved" or "delocalised"; None until it is collected.
    """

    id: int
    candidate: int
    level: str
    code: str
    folder: str
    state: str
    created: float
    changed: float
    evaluation: int | None
    found: int | None
    charge_order: str | None
    reason: str


@dataclass(frozen=True, eq=False)
class DftRecord:
    """What a collected job brings into the database.

    Parameters
    ----------
    became
        The decoration that came out; None where there is none.
    relaxed
        Its structure with results; the stress is not kept.
    data
        What else is known of it, for the record of events.
    """

    folder: str
    charge_order: str
    reason: str
    became: Proposal | None
    relaxed: Relaxed
    data: Mapping[str, JsonValue]


def dft_levels(store: PopulationStore) -> list[LevelRow]:
    """Return the DFT levels of a run, oldest first."""
    return [row for row in other_levels(store) if row.released_from is None]


def add_level(store: PopulationStore, name: str, code: str, settings: Mapping[str, Any]) -> int:
    """Return the key of a level, which is added unless it is there."""
    text = to_json(dict(settings), f"the settings of level {name}")
    return store.write(lambda transaction: put_level(transaction, DFT_LEVEL, name, code, text))


def jobs(store: PopulationStore) -> list[DftJobRow]:
    """Return the jobs of a run, oldest first."""
    query = select(dft_job, level.c.name).join(level, level.c.id == dft_job.c.level)
    return store.read(
        lambda connection: [
            _job_row(row) for row in connection.execute(query.order_by(dft_job.c.id))
        ]
    )


def put_job(
    store: PopulationStore,
    number: int,
    level_name: str,
    code: str,
    folder: str,
    state: str,
    reason: str = "",
) -> None:
    """Add a job, or change where it stands."""

    def work(transaction: Transaction) -> None:
        connection = transaction.connection
        key = level_key(connection, level_name)
        if key is None:
            raise UnknownCandidateError(number, f"level {level_name!r}")
        row = {"state": state, "reason": reason, "changed": transaction.time_s}
        known = connection.execute(select(dft_job).where(dft_job.c.folder == folder)).one_or_none()
        if known is not None and (known.state, known.reason) == (state, reason):
            return
        if known is None:
            new = {"candidate": number, "level": key, "code": code, "folder": folder}
            connection.execute(insert(dft_job).values(**new, **row, created=transaction.time_s))
        else:
            connection.execute(update(dft_job).where(dft_job.c.id == known.id).values(**row))
        data = {"folder": folder, "level": level_name, "state": state, "reason": reason}
        data["code"] = code if known is None else known.code
        transaction.add_event(DFT_JOB, number, data)

    store.write(work)


def promoted_without_job(store: PopulationStore) -> list[int]:
    """Return promoted candidates that have no job yet, in the order of their promotion."""
    query = (
        select(promotion.c.candidate)
        .where(promotion.c.candidate.not_in(select(dft_job.c.candidate)))
        .group_by(promotion.c.candidate)
        .order_by(func.min(promotion.c.id))
    )
    return store.read(lambda connection: list(connection.execute(query).scalars()))


def record(store: PopulationStore, found: DftRecord) -> tuple[int | None, int | None]:
    """File a result under the order that came out; return the candidate and the evaluation.

    A candidate that is not there yet is added outside of the numbered stream, without anything
    being asked of the search; see `gasearch.store.sql.adoption`. One that has an
    evaluation at this level keeps the lower of the two. All in one transaction.
    """

    def work(transaction: Transaction) -> tuple[int | None, int | None]:
        connection = transaction.connection
        job = connection.execute(select(dft_job).where(dft_job.c.folder == found.folder)).one()
        number, key = None, None
        if found.became is not None:
            number = _candidate(transaction, found.became)
            what = f"the DFT result of candidate {number}"
            columns = _columns(found.relaxed, what)
            key = put_evaluation(transaction, DFT_RECORDED, (number, job.level), *columns)
        row = {
            "state": "collected",
            "charge_order": found.charge_order,
            "reason": found.reason,
            "found": number,
            "evaluation": key,
            "changed": transaction.time_s,
        }
        connection.execute(update(dft_job).where(dft_job.c.id == job.id).values(**row))
        data = {name: row[name] for name in row if name != "changed"} | {"folder": found.folder}
        transaction.add_event(DFT_JOB, job.candidate, data | {"data": dict(found.data)})
        return number, key

    return store.write(work)


def dft_rows(store: PopulationStore, level_name: str) -> list[EvaluationRow]:
    """Return the evaluations at a DFT level, by x, then energy, then candidate."""
    return rows_at(store, level_name)


def dft_relaxed(store: PopulationStore, number: int, level_name: str) -> Relaxed:
    """Return the structure of a candidate at a DFT level, with forces and moments; NaN stress."""
    return relaxed_at(store, number, level_name)


def _candidate(transaction: Transaction, became: Proposal) -> int:
    """Return the candidate of a decoration, which is added unless it is there."""
    connection = transaction.connection
    query = select(candidate.c.id).where(candidate.c.fingerprint == became.fingerprint)
    known = connection.execute(query).scalar_one_or_none()
    if known is not None:
        return int(known)
    (key,) = new_keys(connection, [became])
    (data,) = transaction.add_candidates([key], [became])
    transaction.add_event(ADDED, None, {**data, "candidate": key})
    return key


def _columns(found: Relaxed, what: str) -> tuple[blobs.Columns, blobs.Columns]:
    """Return the columns of a result without its stress, and without forces that it lacks."""
    has_forces = bool(np.isfinite(found.forces).all())
    plain = replace(found, smax=0.0, stress=np.zeros((3, 3)))
    if not has_forces:
        plain = replace(plain, fmax=0.0, forces=np.zeros_like(found.forces))
    row, columns = blobs.result_columns(plain, what)
    row["smax"] = columns["stress"] = None
    if not has_forces:
        row["fmax"] = columns["forces"] = None
    return row, columns


def _job_row(row: Row[Any]) -> DftJobRow:
    return from_columns(DftJobRow, row._asdict(), level=row.name, reason=row.reason or "")

"""DFT in the population database: levels, jobs, and evaluations of purpose "dft".

They stand beside those of the search: none of them counts for a candidate there, none is shown by
the views for ASE, and none steers a search.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, func, insert, select, update

from gasearch.relax.relaxed import Relaxed
from gasearch.store.errors import UnknownCandidateError
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import EvaluationRow, JsonValue, Proposal, from_columns
from gasearch.store.schema import (
    SEARCH_LEVEL,
    candidate,
    dft_job,
    evaluation,
    level,
    promotion,
    structure,
)
from gasearch.store.sql import blobs
from gasearch.store.sql.ase_rows import AseRows
from gasearch.store.sql.blobs import to_json
from gasearch.store.sql.candidate_rows import (
    new_keys,
)
from gasearch.store.sql.events import ADDED, DFT_JOB, DFT_LEVEL, DFT_RECORDED
from gasearch.store.sql.queries import evaluation_rows, relaxed_rows
from gasearch.store.sql.transaction import Transaction

_DFT = "dft"


@dataclass(frozen=True)
class DftLevelRow:
    """A level of theory of a DFT code.

    Parameters
    ----------
    settings
        All that its energies depend on.
    """

    id: int
    name: str
    code: str
    settings: Mapping[str, Any]


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


def dft_levels(store: PopulationStore) -> list[DftLevelRow]:
    """Return the DFT levels of a run, oldest first."""
    query = select(level).where(level.c.id != SEARCH_LEVEL).order_by(level.c.id)
    return store.read(lambda connection: [_level_row(row) for row in connection.execute(query)])


def add_level(store: PopulationStore, name: str, code: str, settings: Mapping[str, Any]) -> int:
    """Return the key of a level, which is added unless it is there."""

    def work(transaction: Transaction) -> int:
        known = _level_key(transaction.connection, name)
        if known is not None:
            return known
        text = to_json(dict(settings), f"the settings of level {name}")
        row = {"name": name, "potential": code, "weights_hash": "", "probe_energies": "[]"}
        added = insert(level).values(**row, ranks_only=False, settings=text)
        key = transaction.connection.execute(added).inserted_primary_key
        transaction.add_event(DFT_LEVEL, None, {"name": name, "code": code, "settings": text})
        return int(key[0]) if key else 0

    return store.write(work)


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
        key = _level_key(connection, level_name)
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
            key = _evaluate(transaction, number, job.level, found)
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
    query = (
        evaluation_rows()
        .join(level, level.c.id == evaluation.c.level)
        .where(level.c.name == level_name, evaluation.c.purpose == _DFT)
        .order_by(candidate.c.x, evaluation.c.energy, candidate.c.id)
    )
    return store.read(
        lambda connection: [
            from_columns(EvaluationRow, row._asdict()) for row in connection.execute(query)
        ]
    )


def dft_relaxed(store: PopulationStore, number: int, level_name: str) -> Relaxed:
    """Return the structure of a candidate at a DFT level, with forces and moments; NaN stress."""
    query = (
        relaxed_rows()
        .join(level, level.c.id == evaluation.c.level)
        .where(level.c.name == level_name, evaluation.c.purpose == _DFT)
        .where(evaluation.c.candidate == number)
    )
    row = store.read(lambda connection: connection.execute(query).one_or_none())
    if row is None:
        raise UnknownCandidateError(number, f"structure at level {level_name}")
    return blobs.relaxed(row._asdict(), f"candidate {number} at level {level_name}")


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


def _evaluate(transaction: Transaction, number: int, key: int, found: DftRecord) -> int:
    """Write an evaluation, unless there is a lower one; return the one that is there then."""
    connection = transaction.connection
    what = f"the DFT result of candidate {number}"
    row, columns = _columns(found.relaxed, what)
    known = connection.execute(
        select(evaluation).where(
            evaluation.c.candidate == number,
            evaluation.c.level == key,
            evaluation.c.purpose == _DFT,
        )
    ).one_or_none()
    if known is not None and not _replaces(row, known):
        return int(known.id)
    state = {"state": "relaxed", "finished": transaction.time_s}
    if known is None:
        head = {"candidate": number, "level": key, "purpose": _DFT, "attempt": 1, "n_crashes": 0}
        added = connection.execute(insert(evaluation).values(**head, **row, **state))
        own = int(added.inserted_primary_key[0]) if added.inserted_primary_key else 0
    else:
        own = int(known.id)
        connection.execute(update(evaluation).where(evaluation.c.id == own).values(**row, **state))
    shown = AseRows(connection, [number]).columns(number, row | {"purpose": _DFT, "level": key})
    body = columns | {"sha256": blobs.hashes(columns), "counts_for": None, **shown}
    if known is None:
        connection.execute(insert(structure).values(id=own, **body))
    else:
        connection.execute(update(structure).where(structure.c.id == own).values(**body))
    data = {name: row[name] for name in ("verdict", "energy", "n_calls")}
    data["sha256"] = blobs.stated(row | body)
    transaction.add_event(DFT_RECORDED, None, data | {"level": key, "candidate": number})
    return own


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


def _replaces(row: Mapping[str, Any], known: Row[Any]) -> bool:
    """Return whether a result is to take the place of an older one of the same candidate."""
    new, old = (row["verdict"] != "ok", row["energy"]), (known.verdict != "ok", known.energy)
    return bool(new < old)


def _level_key(connection: Connection, name: str) -> int | None:
    return connection.execute(select(level.c.id).where(level.c.name == name)).scalar_one_or_none()


def _level_row(row: Row[Any]) -> DftLevelRow:
    return DftLevelRow(row.id, row.name, row.potential, json.loads(row.settings or "{}"))


def _job_row(row: Row[Any]) -> DftJobRow:
    return from_columns(DftJobRow, row._asdict(), level=row.name, reason=row.reason or "")

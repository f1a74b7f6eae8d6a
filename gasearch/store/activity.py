"""How a search proceeds, read from its database: throughput, leases, what does not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from gasearch.store.population_store import PopulationStore
from gasearch.store.schema import evaluation, event, extra, structure
from gasearch.store.sql.events import ENDED, LEASED, STARTED
from gasearch.store.sql.following import Mark, marks
from gasearch.store.storage import now_s as clock_s

_HOUR_S = 3600.0


@dataclass(frozen=True)
class OldestLease:
    """The relaxation that is under way for longest.

    Parameters
    ----------
    age_s
        Since it was handed out.
    is_overdue
        Whether its time is over, so that it is handed out again.
    """

    candidate: int
    age_s: float
    is_overdue: bool


@dataclass(frozen=True)
class Activity:
    """How a search proceeds.

    Parameters
    ----------
    last_hour_per_h
        Relaxations per hour that the search ran, of the last hour; None where it did not run then.
    overall_per_h
        The same of all its time; None before it was started.
    oldest_lease
        None where nothing is under way.
    attempts
        Leases of evaluations that had been handed out before.
    crashes
        Workers that were lost with a single candidate.
    late_results
        Results of leases that had been taken back: kept, and never counted.
    """

    last_hour_per_h: float | None
    overall_per_h: float | None
    oldest_lease: OldestLease | None
    attempts: int
    crashes: int
    late_results: int


def activity(store: PopulationStore, is_running: bool, now_s: float | None = None) -> Activity:
    """Return how a search proceeds.

    Parameters
    ----------
    is_running
        Whether a driver has it now: the time since its last start then counts.
    now_s
        Seconds since 1970; now, by the clock of the database, if None.
    """

    def work(connection: Connection) -> Activity:
        return _activity(connection, is_running, clock_s(connection) if now_s is None else now_s)

    return store.read(work)


def not_ok(store: PopulationStore) -> list[tuple[int, str, str]]:
    """Return the candidates that do not count, with verdict and reason, in order.

    Those whose evaluation that would count for them is not ok.
    """
    query = (
        select(evaluation.c.candidate, evaluation.c.verdict, evaluation.c.reason)
        .join(structure, structure.c.id == evaluation.c.id)
        .where(structure.c.counts_for == evaluation.c.candidate, evaluation.c.verdict != "ok")
        .order_by(evaluation.c.candidate)
    )
    return store.read(
        lambda connection: [(n, str(v), r or "") for n, v, r in connection.execute(query)]
    )


def _activity(connection: Connection, is_running: bool, now_s: float) -> Activity:
    ran = spans(marks(connection, (STARTED, ENDED)), _last_sign_s(connection, is_running, now_s))
    attempts, crashes = connection.execute(
        select(
            func.coalesce(func.sum(evaluation.c.attempt - 1), 0),
            func.coalesce(func.sum(evaluation.c.n_crashes), 0),
        ).where(evaluation.c.attempt > 0)
    ).one()
    late = select(func.count()).select_from(extra)
    lately = now_s - _HOUR_S
    return Activity(
        last_hour_per_h=per_hour(_n_finished(connection, lately, now_s), ran, lately, now_s),
        overall_per_h=per_hour(_n_finished(connection, 0.0, now_s), ran, 0.0, now_s),
        oldest_lease=_oldest_lease(connection, now_s),
        attempts=int(attempts),
        crashes=int(crashes),
        late_results=connection.execute(late).scalar_one(),
    )


def _last_sign_s(connection: Connection, is_running: bool, now_s: float) -> float:
    if is_running:
        return now_s
    return connection.execute(select(func.max(event.c.time))).scalar_one() or now_s


def spans(found: Sequence[Mark], last_s: float) -> list[tuple[float, float]]:
    """Return when drivers ran, as (start, end); of one that was killed, until its last sign.

    Parameters
    ----------
    found
        Starts and ends of drivers, in their order.
    last_s
        The last sign of a driver without an end; now, for one that runs.
    """
    ran = []
    for place, mark in enumerate(found):
        if mark.kind == ENDED:
            continue
        following = found[place + 1] if place + 1 < len(found) else None
        if following is None:
            end_s = last_s
        else:
            end_s = following.time_s if following.kind == ENDED else following.before_s
        ran.append((mark.time_s, end_s))
    return ran


def per_hour(
    number: int, ran: Sequence[tuple[float, float]], after_s: float, until_s: float
) -> float | None:
    """Return what ended per hour of running, within a stretch of time; None if it did not run."""
    ran_s = sum(max(0.0, min(end, until_s) - max(start, after_s)) for start, end in ran)
    return _HOUR_S * number / ran_s if ran_s > 0 else None


def _n_finished(connection: Connection, after_s: float, until_s: float) -> int:
    query = select(func.count()).where(
        evaluation.c.purpose != "dft",
        evaluation.c.finished > after_s,
        evaluation.c.finished <= until_s,
    )
    return int(connection.execute(query).scalar_one())


def _oldest_lease(connection: Connection, now_s: float) -> OldestLease | None:
    begun = func.max(event.c.time).label("begun")
    query = (
        select(evaluation.c.candidate, evaluation.c.lease_ends, begun)
        .join(event, event.c.candidate == evaluation.c.candidate)
        .where(evaluation.c.state == "relaxing", event.c.kind == LEASED)
        .group_by(evaluation.c.id, evaluation.c.candidate, evaluation.c.lease_ends)
        .order_by(begun, evaluation.c.id)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return OldestLease(row.candidate, max(0.0, now_s - row.begun), bool(row.lease_ends <= now_s))

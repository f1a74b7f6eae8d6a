"""How a search proceeds, read from its database: throughput, leases, and what was tried again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from gasearch.store.population_store import PopulationStore
from gasearch.store.schema import evaluation, event, extra
from gasearch.store.sql.events import ENDED, LEASED, STARTED
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


def _activity(connection: Connection, is_running: bool, now_s: float) -> Activity:
    spans = _spans(connection, now_s if is_running else None)
    attempts, crashes = connection.execute(
        select(
            func.coalesce(func.sum(evaluation.c.attempt - 1), 0),
            func.coalesce(func.sum(evaluation.c.n_crashes), 0),
        ).where(evaluation.c.attempt > 0)
    ).one()
    late = select(func.count()).select_from(extra)
    return Activity(
        last_hour_per_h=_rate(connection, spans, now_s - _HOUR_S, now_s),
        overall_per_h=_rate(connection, spans, 0.0, now_s),
        oldest_lease=_oldest_lease(connection, now_s),
        attempts=int(attempts),
        crashes=int(crashes),
        late_results=connection.execute(late).scalar_one(),
    )


def _spans(connection: Connection, running_until_s: float | None) -> list[tuple[float, float]]:
    """Return when drivers ran, as (start, end); of one that was killed, until its last sign."""
    columns = (event.c.id, event.c.time, event.c.kind)
    query = select(*columns).where(event.c.kind.in_((STARTED, ENDED))).order_by(event.c.id)
    rows = list(connection.execute(query))
    spans = []
    for place, row in enumerate(rows):
        if row.kind == ENDED:
            continue
        following = rows[place + 1] if place + 1 < len(rows) else None
        if following is None and running_until_s is not None:
            last = running_until_s
        elif following is None:
            last = connection.execute(select(func.max(event.c.time))).scalar_one()
        elif following.kind == ENDED:
            last = following.time
        else:
            before = select(event.c.time).where(event.c.id == following.id - 1)
            last = connection.execute(before).scalar_one()
        spans.append((float(row.time), float(last)))
    return spans


def _rate(
    connection: Connection, spans: Sequence[tuple[float, float]], after_s: float, until_s: float
) -> float | None:
    """Return relaxations per hour of running, within a stretch of time."""
    ran_s = sum(max(0.0, min(end, until_s) - max(start, after_s)) for start, end in spans)
    if ran_s <= 0:
        return None
    query = select(func.count()).where(
        evaluation.c.purpose != "dft",
        evaluation.c.finished > after_s,
        evaluation.c.finished <= until_s,
    )
    return _HOUR_S * connection.execute(query).scalar_one() / ran_s


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

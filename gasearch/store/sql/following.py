"""What changed in a population database since one last looked, in transactions of milliseconds.

A reader of SQLite's rollback journal keeps a commit waiting for as long as it reads. So whoever
looks again and again at a search that runs reads little at a time, and nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, select

from gasearch.store.records import FIRST_OUTSIDE
from gasearch.store.schema import SEARCH_LEVEL, candidate, evaluation, event, structure
from gasearch.store.sql.events import ADDED, ADOPTED, ENDED, LEASED, REFINED, STARTED, SURROGATE

CHUNK = 500
"""Candidates of one transaction."""
MARKED = (STARTED, ENDED, SURROGATE, REFINED)


class EvaluationLine(NamedTuple):
    """A relaxation at the level of the search, as far as it has come.

    Parameters
    ----------
    energy
        Of the whole cell, in eV; None where there is none.
    finished, lease_ends
        Seconds since 1970, or None.
    result
        Its number among the results of the search; None for a tight relaxation.
    """

    id: int
    purpose: str
    state: str
    verdict: str | None
    energy: float | None
    penalty: float | None
    n_calls: int | None
    reason: str | None
    attempt: int
    n_crashes: int
    lease_ends: float | None
    finished: float | None
    result: int | None


class CandidateLine(NamedTuple):
    """A candidate with its relaxations, without decoration and structures.

    Parameters
    ----------
    counts
        Key of the evaluation that counts for it; None where none does.
    """

    id: int
    x: float
    composition: str
    operator: str
    generation: int
    n_rejected: int
    counts: int | None
    evaluations: tuple[EvaluationLine, ...]

    @property
    def counted(self) -> EvaluationLine | None:
        """The evaluation that counts for it."""
        return next((one for one in self.evaluations if one.id == self.counts), None)


class Mark(NamedTuple):
    """An event that is no candidate's: a driver starts or ends, or says what it found.

    Parameters
    ----------
    before_s
        Time of the event before it.
    """

    number: int
    time_s: float
    kind: str
    before_s: float


@dataclass(frozen=True)
class Step:
    """What one transaction found.

    Parameters
    ----------
    lines
        Candidates that are new or changed, as they are now.
    kinds
        Of the events that are new.
    is_all
        Whether there was nothing more to be read.
    is_anew
        Whether what was found before does not count any more: the database is another one.
    outside_anew
        Whether that is so of candidates from elsewhere, whose keys change: all are in `lines`.
    """

    lines: Sequence[CandidateLine] = ()
    marks: Sequence[Mark] = ()
    kinds: frozenset[str] = frozenset()
    is_all: bool = False
    is_anew: bool = False
    outside_anew: bool = False


@dataclass(frozen=True)
class _Read:
    """The same, as the rows that one transaction read."""

    rows: Sequence[Any] = ()
    marks: Sequence[Mark] = ()
    kinds: frozenset[str] = frozenset()
    is_all: bool = False
    is_anew: bool = False
    outside_anew: bool = False


class Follower:
    """Reads a population database once from end to end, and then what changes in it.

    Parameters
    ----------
    read
        Returns `work(connection)` on one snapshot, as `PopulationStore.read` does.
    chunk
        Candidates of one transaction.
    """

    def __init__(
        self, read: Callable[[Callable[[Connection], _Read]], _Read], chunk: int = CHUNK
    ) -> None:
        self._read = read
        self._chunk = chunk
        self._restart()

    def _restart(self) -> None:
        self._candidate = 0  # the last one that was read from the beginning
        self._marked = 0  # the last event that was looked at for marks
        self._event: int | None = None  # the last one whose change is known
        self._event_s = 0.0
        self._is_loaded = False

    @property
    def last_event_s(self) -> float:
        """When the newest event happened that was seen, in seconds since 1970."""
        return self._event_s

    def step(self) -> Step:
        """Return what is new, as far as one short transaction reads."""
        found = self._read(self._look)
        if found.is_anew:
            self._restart()
        return Step(
            _grouped(found.rows), found.marks, found.kinds, found.is_all, found.is_anew,
            found.outside_anew,
        )  # fmt: skip

    def _look(self, connection: Connection) -> _Read:
        newest = connection.execute(select(func.max(event.c.id))).scalar_one() or 0
        if self._event is None:
            self._event = newest
        if newest < self._event:
            return _Read(is_anew=True)
        if not self._is_loaded:
            return self._from_beginning(connection)
        return self._changes(connection)

    def _from_beginning(self, connection: Connection) -> _Read:
        """Read the next candidates; after the last one, the marks among the events."""
        until = (
            select(candidate.c.id)
            .where(candidate.c.id > self._candidate)
            .order_by(candidate.c.id)
            .limit(self._chunk)
        )
        keys = list(connection.execute(until).scalars())
        if keys:
            inside = candidate.c.id.between(keys[0], keys[-1])
            self._candidate = keys[-1]
            return _Read(_rows(connection, inside))
        last = min(self._marked + 10 * self._chunk, self._event or 0)
        inside_events = event.c.id.between(self._marked + 1, last)
        found = marks(connection, MARKED, inside_events)
        self._marked = last
        self._is_loaded = last == self._event
        if self._is_loaded:
            self._event_s = _time(connection, last)
        return _Read(marks=found)

    def _changes(self, connection: Connection) -> _Read:
        columns = event.c.id, event.c.time, event.c.kind, event.c.candidate
        query = select(*columns).where(event.c.id > self._event).order_by(event.c.id)
        rows = connection.execute(query.limit(self._chunk)).all()
        if not rows:
            return _Read(is_all=True)
        kinds = frozenset(row.kind for row in rows)
        numbers = [row.id for row in rows if row.kind in MARKED]
        changed = sorted({row.candidate for row in rows if row.candidate is not None})
        has_moved = not kinds.isdisjoint((ADDED, ADOPTED))
        chosen: ColumnElement[bool] = candidate.c.id.in_(changed)
        if has_moved:
            chosen = chosen | (candidate.c.id >= FIRST_OUTSIDE)
        found = _rows(connection, chosen) if changed or has_moved else ()
        marked = marks(connection, MARKED, event.c.id.in_(numbers)) if numbers else ()
        self._event, self._event_s = rows[-1].id, rows[-1].time
        return _Read(found, marked, kinds, outside_anew=has_moved)


_COLUMNS = (
    candidate.c.id.label("number"),
    *(candidate.c[name] for name in CandidateLine._fields[1:6]),
    structure.c.id.label("counts"),
    *(evaluation.c[name] for name in EvaluationLine._fields),
)
_SPLIT = len(CandidateLine._fields) - 1


def _rows(connection: Connection, chosen: ColumnElement[bool]) -> Sequence[Any]:
    own = (evaluation.c.candidate == candidate.c.id) & (evaluation.c.level == SEARCH_LEVEL)
    query = (
        select(*_COLUMNS)
        .select_from(candidate)
        .outerjoin(evaluation, own)
        .outerjoin(structure, structure.c.counts_for == candidate.c.id)
        .where(chosen)
        .order_by(candidate.c.id)
    )
    return connection.execute(query).all()


def _grouped(rows: Sequence[Any]) -> list[CandidateLine]:
    """Return the candidates of rows, which are one for each of their relaxations."""
    found: dict[int, CandidateLine] = {}
    for row in rows:
        evaluations = () if row[_SPLIT] is None else (EvaluationLine(*row[_SPLIT:]),)
        known = found.get(row[0])
        if known is None:
            found[row[0]] = CandidateLine(*(*row[:_SPLIT], evaluations))
        else:
            every = sorted((*known.evaluations, *evaluations))
            found[row[0]] = known._replace(evaluations=tuple(every))
    return list(found.values())


def marks(
    connection: Connection, kinds: Sequence[str] = MARKED, *chosen: ColumnElement[bool]
) -> list[Mark]:
    """Return the events of some kinds, in their order; of all of them, or of those chosen."""
    columns = event.c.id, event.c.time, event.c.kind
    query = select(*columns).where(event.c.kind.in_(kinds), *chosen).order_by(event.c.id)
    rows = connection.execute(query).all()
    return [Mark(row.id, row.time, row.kind, _time(connection, row.id - 1)) for row in rows]


def lease_starts(connection: Connection, numbers: Sequence[int]) -> dict[int, float]:
    """Return when candidates were last handed out, in seconds since 1970."""
    query = (
        select(event.c.candidate, func.max(event.c.time))
        .where(event.c.candidate.in_(numbers), event.c.kind == LEASED)
        .group_by(event.c.candidate)
    )
    return {int(number): float(time_s) for number, time_s in connection.execute(query)}


def _time(connection: Connection, number: int) -> float:
    query = select(event.c.time).where(event.c.id == number)
    return float(connection.execute(query).scalar_one_or_none() or 0.0)

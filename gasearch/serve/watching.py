"""Runs that are looked at while they go on: seldom, shortly, and only when somebody asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from gasearch.analysis.findings import Findings
from gasearch.analysis.joint_hull import cell_name
from gasearch.errors import GasearchError
from gasearch.execution.engine_file import EngineRecord, read_engine_file
from gasearch.run.folder import NoRunError, RunFolder
from gasearch.serve.rows import Rows
from gasearch.serve.view import View
from gasearch.store.activity import spans
from gasearch.store.dft_jobs import DftJobRow, dft_rows, jobs
from gasearch.store.population_store import PopulationStore
from gasearch.store.promotions import PromotionRow, promotions
from gasearch.store.records import BUDGET, EvaluationRow, RunRecord
from gasearch.store.sql.events import (
    ADOPTED,
    DFT_JOB,
    DFT_LEVEL,
    DFT_RECORDED,
    ENDED,
    OPERATIONAL,
    PROMOTED,
    STARTED,
)
from gasearch.store.sql.following import Follower, Mark, Step, lease_starts
from gasearch.store.storage import now_s

EVERY_S = 2.0
_SHOW_EVERY_S = 1.0  # while a long database is read from its beginning
_MOST_PAUSE_S = 0.1
_DFT_KINDS = frozenset((ADOPTED, PROMOTED, DFT_LEVEL, DFT_JOB, DFT_RECORDED))


@dataclass(frozen=True)
class LeaseLine:
    """A relaxation under way.

    Parameters
    ----------
    age_s
        Since it was handed out; None where that is not known.
    """

    candidate: int
    x: float
    operator: str
    purpose: str
    attempt: int
    n_crashes: int
    age_s: float | None
    is_overdue: bool


@dataclass(frozen=True)
class DftState:
    """What was promoted, and what DFT made of it.

    Parameters
    ----------
    results
        By level of theory and candidate.
    """

    promoted: Sequence[PromotionRow] = ()
    jobs: Sequence[DftJobRow] = ()
    results: dict[tuple[str, int], EvaluationRow] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Moment:
    """What is known of a run, at one moment.

    Parameters
    ----------
    version
        Another number whenever `view` or `dft` is another one.
    view
        None before anything was read.
    budget
        Candidates at the most; None where it is not known.
    ran
        When drivers ran, as (start, end) in seconds since 1970.
    is_whole
        Whether the database was read to its end.
    looked_s
        When it was looked at, in seconds since 1970; 0 before.
    trouble
        Why it cannot be read now, or "".
    """

    version: int = 0
    view: View | None = None
    budget: int | None = None
    driver: str | None = None
    ending: str | None = None
    engine: EngineRecord | None = None
    ran: Sequence[tuple[float, float]] = ()
    leases: Sequence[LeaseLine] = ()
    dft: DftState = DftState()
    n_read: int = 0
    is_whole: bool = False
    looked_s: float = 0.0
    trouble: str = ""


class LiveRun:
    """A run folder that is looked at again and again, by one thread; others read `moment`.

    Parameters
    ----------
    folder
        It may be a run that was not started yet.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.name = str(folder.path)
        self.moment = Moment()
        self.findings: Findings | None = None
        self.record: RunRecord | None = None
        self.longest_read_s = 0.0
        self._store: PopulationStore | None = None
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        """Begin anew, as a database that was replaced is read."""
        self._rows = Rows()
        self._marks: list[Mark] = []
        self._begun: dict[tuple[int, int], float] = {}
        self._is_whole = False

    @property
    def cell(self) -> str:
        """The supercell, such as "1x2x1"."""
        return cell_name(self.findings.host) if self.findings else ""

    @contextmanager
    def store(self) -> Iterator[PopulationStore]:
        """Give the open database to this thread alone, for a short question."""
        with self._lock:
            if self._store is None:
                raise NoRunError(self.moment.trouble or f"{self.name} was not read yet.")
            yield self._store

    def look(self, stop: threading.Event) -> None:
        """Read what is new, a little at a time; what is wrong becomes the trouble of the moment."""
        try:
            self._open()
            self._read_all(stop)
        except GasearchError as error:
            self._say(str(error))
        except Exception as error:  # noqa: BLE001 -- the page goes on, and says what happened
            self._say(f"it cannot be read now: {type(error).__name__}: {error}")

    def _say(self, trouble: str) -> None:
        self.moment = replace(self.moment, trouble=trouble, looked_s=time.time())

    def close(self) -> None:
        """Close its database."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _open(self) -> None:
        if self._store is not None:
            return
        store = self.folder.open_store()
        with self._lock:
            self._store = store
            self.findings = Findings(store)
            self.record = self.findings.run
            self._follower = Follower(store.read)
        self._forget()

    def _read_all(self, stop: threading.Event) -> None:
        kinds: set[str] = set()
        shown_s, has_changed = time.monotonic(), not self._is_whole
        while not stop.is_set():
            began_s = time.monotonic()
            step = self._step()
            took_s = time.monotonic() - began_s
            if step.is_all:
                break
            has_changed = True
            kinds |= step.kinds
            if time.monotonic() - shown_s > _SHOW_EVERY_S:
                self._show(kinds, has_changed=True)
                shown_s = time.monotonic()
            stop.wait(min(took_s, _MOST_PAUSE_S))  # as long a pause: others want to write
        self._is_whole = True
        self._show(kinds, has_changed=has_changed)

    def _step(self) -> Step:
        with self.store():
            step = self._follower.step()
        if step.is_anew:
            self._forget()
        self._rows.take(step)
        self._marks += step.marks
        return step

    def _show(self, kinds: set[str], *, has_changed: bool) -> None:
        """Make a moment of what was read."""
        before, findings = self.moment, self.findings
        if findings is None:
            return
        marks = [one for one in self._marks if one.kind in (STARTED, ENDED)]
        driver = self.folder.driver()
        last_s = time.time() if driver else self._follower.last_event_s or time.time()
        view, version = before.view, before.version
        if has_changed or view is None:
            view, version = View(self._rows.table(), findings.host), version + 1
        with self.store() as store:
            is_asked = before.version == 0 or not kinds.isdisjoint((STARTED, OPERATIONAL))
            budget = _budget(store) if is_asked else before.budget
            is_dft = before.version == 0 or not kinds.isdisjoint(_DFT_KINDS)
            dft = _dft_state(store) if is_dft else before.dft
            ending = _ending(store, marks, is_running=driver is not None)
            leases = self._leases(store, view)
        self.moment = Moment(
            version=version,
            view=view,
            budget=budget,
            driver=driver,
            ending=ending,
            engine=read_engine_file(self.folder.path),
            ran=spans(marks, last_s),
            leases=leases,
            dft=dft,
            n_read=len(self._rows),
            is_whole=self._is_whole,
            looked_s=time.time(),
        )

    def _leases(self, store: PopulationStore, view: View) -> list[LeaseLine]:
        under_way = [
            (line, one)
            for line in view.table.open.values()
            for one in line.evaluations
            if one.state == "relaxing"
        ]
        keys = {(line.id, one.attempt) for line, one in under_way}
        unknown = sorted(number for number, attempt in keys - self._begun.keys())
        clock_s = store.read(now_s) if under_way else 0.0
        if unknown:
            starts = store.read(lambda connection: lease_starts(connection, unknown))
            self._begun |= {key: starts[key[0]] for key in keys if key[0] in starts}
        self._begun = {key: value for key, value in self._begun.items() if key in keys}
        lines = []
        for line, one in under_way:
            begun_s = self._begun.get((line.id, one.attempt))
            lines.append(
                LeaseLine(
                    line.id,
                    line.x,
                    line.operator,
                    one.purpose,
                    one.attempt,
                    one.n_crashes,
                    None if begun_s is None else max(0.0, clock_s - begun_s),
                    one.lease_ends is not None and one.lease_ends <= clock_s,
                )
            )
        return sorted(lines, key=lambda one: (-(one.age_s or 0.0), one.candidate))


def _budget(store: PopulationStore) -> int | None:
    found = store.run.operational.get(BUDGET)
    return found if isinstance(found, int) else None


def _ending(store: PopulationStore, marks: Sequence[Mark], *, is_running: bool) -> str | None:
    """Return why the last driver ended; None if one runs, or was killed."""
    if is_running or not marks or marks[-1].kind != ENDED:
        return None
    (event,) = store.events(after=marks[-1].number - 1, limit=1)
    return str(event.data["ending"])


def _dft_state(store: PopulationStore) -> DftState:
    found = jobs(store)
    levels = dict.fromkeys(job.level for job in found)
    results = {(level, row.candidate): row for level in levels for row in dft_rows(store, level)}
    return DftState(promotions(store), found, results)


class Watcher:
    """A thread that looks at runs when it is asked to, however many ask.

    Parameters
    ----------
    every_s
        How long what was seen stays good: more often it does not look.
    """

    def __init__(self, runs: Sequence[LiveRun], every_s: float = EVERY_S) -> None:
        self.runs = tuple(runs)
        self.every_s = every_s
        self._asked, self._stop = threading.Event(), threading.Event()
        self._looked = threading.Condition()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin to read all runs, from their beginning."""
        self.ask()
        self._thread.start()

    def ask(self) -> None:
        """Have the runs looked at again, unless they were a moment ago."""
        self._asked.set()

    def close(self) -> None:
        """End the thread, and close all databases."""
        self._stop.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join()
        for run in self.runs:
            run.close()

    def wait_until(self, is_true: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until a look has made something true."""
        with self._looked:
            return self._looked.wait_for(is_true, timeout_s)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._asked.wait()
            self._asked.clear()
            for run in self.runs:
                if self._stop.is_set():
                    return
                run.look(self._stop)
                with self._looked:
                    self._looked.notify_all()
            self._stop.wait(self.every_s)

"""`gasearch run`: searches from their first line to the tables at their end.

Several searches run in one process, on the workers of one engine. Each has a thread, and all else
of its own: database, lock, budget, candidates in flight. One that fails stops no other. The main
thread waits, and receives the signals.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from gasearch.analysis.findings import Findings
from gasearch.cli.common import on_stop_signals
from gasearch.display.progress import watch_searches
from gasearch.display.reasons import cause_lines, causes
from gasearch.display.status import composition_table
from gasearch.display.tables import notes, ranked_table
from gasearch.display.terminal import report_error
from gasearch.errors import GasearchError, UsageError
from gasearch.execution.contract import Engine
from gasearch.execution.engines import end_orphans, open_engine
from gasearch.run.folder import RunFolder
from gasearch.search.resume import changed_keys
from gasearch.search.search import Ending
from gasearch.search.session import Session
from gasearch.search.surrogate.fitting import one_thread
from gasearch.store.activity import not_ok
from gasearch.store.errors import SearchRunningError
from gasearch.store.records import Outcome
from gasearch.store.sqlite.locking_probe import (
    NETWORK_FILE_SYSTEMS,
    LockingProbe,
    file_system,
    probe,
)

_LOWEST = 2  # candidates of each composition in the table at the end
_POLL_S = 0.2
_HOW_TO_GO_ON = {
    "budget": "to go on, raise search.budget in {file} (now {budget})",
    "stagnation": "to go on, raise search.stagnation in {file} (now {stagnation}), or set it to 0",
    "exhausted": "every distinct decoration was searched; there is nothing to go on with",
}


class UnreliableLocksError(UsageError):
    """A run folder on a file system that does not keep two drivers apart."""

    def __init__(self, probe: LockingProbe) -> None:
        super().__init__(probe)
        self.probe = probe

    def __str__(self) -> str:
        return str(self.probe)


class NotOneEngineError(UsageError):
    """Run folders that ask for different engines."""

    def __init__(self, key: str, first: tuple[Path, object], other: tuple[Path, object]) -> None:
        super().__init__(key, first, other)
        self.key = key
        self.first = first
        self.other = other

    def __str__(self) -> str:
        (one, here), (two, there) = self.first, self.other
        return (
            f"execution.{self.key} is {here!r} in {one} and {there!r} in {two}: searches of one "
            "command share one engine, so make their [execution] alike, or start them one by one."
        )


@dataclass(frozen=True)
class SoFar:
    """What a run has done before this start."""

    n_done: int
    ending: str | None
    is_idle: bool
    operational: Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A search that may be started, or that has ended already.

    Parameters
    ----------
    so_far
        None where it was not started yet.
    """

    folder: RunFolder
    session: Session
    so_far: SoFar | None

    @property
    def is_finished(self) -> bool:
        """Whether it ended, with nothing changed since that could let it go on."""
        if self.so_far is None:
            return False
        now = self.session.settings.operational()
        same = not changed_keys(self.so_far.operational, now)
        return self.so_far.ending in _HOW_TO_GO_ON and self.so_far.is_idle and same

    @property
    def n_done(self) -> int:
        """Candidates that have their result."""
        return self.so_far.n_done if self.so_far else 0

    @property
    def budget(self) -> int:
        """Candidates at the most."""
        return self.session.settings.search.budget


@dataclass
class _Running:
    """A search under way in a thread, and what became of it."""

    prepared: Prepared
    observe: Callable[[Sequence[Outcome]], None]
    ending: Ending | None = None
    error: BaseException | None = None

    def drive(self, engine: Engine, stop: threading.Event) -> None:
        try:
            self.ending = self.prepared.session.run(self.observe, stop, engine)
        except BaseException as error:  # noqa: BLE001 -- reported by the main thread
            self.error = error


def run_searches(folders: Sequence[RunFolder], out: Console, err: Console) -> None:
    """Start or resume searches, or say that there is nothing to do; wait until all have ended."""
    if len(folders) == 1:
        _run_one(folders[0], out, err)
    else:
        _run_many(folders, out, err)


def _run_one(folder: RunFolder, out: Console, err: Console) -> None:
    prepared = prepare(folder)
    if _announce(prepared, out, err):
        progress = [(prepared.n_done, prepared.budget, "")]
        with _stopping() as stop, watch_searches(out, progress) as (observe,):
            ending = prepared.session.run(observe, stop)
        _print_end(prepared, ending, out, err)


def _run_many(folders: Sequence[RunFolder], out: Console, err: Console) -> None:
    _refuse_repeated(folders)
    failed: list[RunFolder] = []
    ready: list[Prepared] = []
    for folder in folders:
        with _reporting(folder, failed, err):
            ready.append(prepare(folder))
    _refuse_different_engines(ready)
    waiting: list[Prepared] = []
    for prepared in ready:
        with _reporting(prepared.folder, failed, err):
            if _announce(prepared, out, err):
                waiting.append(prepared)
    for one in _run_all(waiting, out) if waiting else []:
        with _reporting(one.prepared.folder, failed, err):
            if one.error is not None:
                raise one.error
            if one.ending is not None:
                out.print(f"\n{one.prepared.folder.path}:")
                _print_end(one.prepared, one.ending, out, err)
    if failed:
        names = " ".join(folder.quoted for folder in failed)
        raise GasearchError(
            f"{len(failed)} of {len(folders)} searches failed: remove the cause and resume them "
            f"with: gasearch run {names}"
        )


@contextmanager
def _reporting(folder: RunFolder, failed: list[RunFolder], err: Console) -> Iterator[None]:
    """Print the line of an error, led by the folder that it is about, and go on."""
    try:
        yield
    except GasearchError as error:
        failed.append(folder)
        report_error(GasearchError(f"{folder.path}: {error}"), err)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 -- the other searches go on
        failed.append(folder)
        err.print(f"gasearch: {folder.path}: the search ended by an unexpected error:")
        report_error(error, err)


def _run_all(searches: Sequence[Prepared], out: Console) -> list[_Running]:
    """Drive each search in a thread until it ends; Ctrl-C ends all of them cleanly."""
    first = searches[0]
    progress = [(p.n_done, p.budget, str(p.folder.path)) for p in searches]
    with _stopping() as stop, watch_searches(out, progress) as observers, one_thread():
        running = [_Running(p, watch) for p, watch in zip(searches, observers, strict=True)]
        for prepared in searches[1:]:
            end_orphans(prepared.folder.path, prepared.session.settings.execution)
        engine = open_engine(first.session.settings.execution, first.folder.path)
        try:
            threads = [
                threading.Thread(target=one.drive, args=(engine, stop), daemon=True)
                for one in running
            ]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(_POLL_S)
        finally:
            engine.close()
    return running


def _refuse_repeated(folders: Sequence[RunFolder]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        path = folder.path.resolve()
        if path in seen:
            raise UsageError(f"{folder.path} is named twice: a search has one driver at a time.")
        seen.add(path)


def _refuse_different_engines(ready: Sequence[Prepared]) -> None:
    for other in ready[1:]:
        first = ready[0].session.settings.execution
        theirs = other.session.settings.execution
        for key in type(first).model_fields:
            mine, found = getattr(first, key), getattr(theirs, key)
            if mine != found:
                here, there = ready[0].folder.path, other.folder.path
                raise NotOneEngineError(key, (here, mine), (there, found))


def prepare(folder: RunFolder) -> Prepared:
    """Return a search after refusing what cannot be started."""
    driver, place = folder.driver(), folder.place
    if driver is not None and place is not None:
        raise SearchRunningError(place, driver)
    refuse_unreliable_locks(folder)
    session = Session(folder)
    return Prepared(folder, session, _so_far(folder, session))


def refuse_unreliable_locks(folder: RunFolder) -> None:
    """Try the locks of a network file system, and refuse one that does not keep drivers apart."""
    is_file = isinstance(folder.place, Path)
    if is_file and folder.path.is_dir() and file_system(folder.path) in NETWORK_FILE_SYSTEMS:
        found = probe(folder.path)
        if not found.is_reliable:
            raise UnreliableLocksError(found)


def _so_far(folder: RunFolder, session: Session) -> SoFar | None:
    """Return what the database says, after an older one was upgraded; None without a database."""
    if not folder.is_started:
        return None
    with folder.open_store(read_only=False) as store:
        session.refuse_changes(store.run, store.level)
        counts, findings = store.counts(), Findings(store)
        is_idle = not counts.in_flight and not counts.queued
        n_done = counts.relaxed + counts.failed
        return SoFar(n_done, findings.ending(), is_idle, store.run.operational)


def _announce(prepared: Prepared, out: Console, err: Console) -> bool:
    """Print what is about to begin; where nothing is, what was found, and return False."""
    folder, session = prepared.folder, prepared.session
    if prepared.is_finished and prepared.so_far is not None:
        out.print(f"nothing to do in {folder.path}: it is done ({prepared.so_far.ending})")
        _print_findings(prepared, out, err)
        return False
    is_new = prepared.so_far is None
    seeds = session.seeds if is_new else ()  # those that cannot be used, before all else
    verb = "searching" if is_new else "resuming"
    out.print(f"{verb} {folder.path}: {prepared.n_done} of {prepared.budget} candidates")
    for seed in seeds:
        out.print(seed.line(session.host))
    for warning in session.warnings():
        err.print(f"gasearch: {warning}")
    return True


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Let SIGINT and SIGTERM end searches cleanly; a second one ends them at once."""
    stop = threading.Event()

    def act() -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        with suppress(OSError):
            os.write(2, b"\nstopping; a second signal stops at once\n")

    with on_stop_signals(act):
        yield stop


def _print_end(prepared: Prepared, ending: Ending, out: Console, err: Console) -> None:
    """Print how a search ended, and what it found if it was not stopped."""
    if ending != "stopped":
        out.print(f"done ({ending}): {prepared.folder.place}")
        _print_findings(prepared, out, err)
        return
    so_far = _so_far(prepared.folder, prepared.session)
    out.print(
        f"stopped cleanly with {so_far.n_done if so_far else 0} of {prepared.budget} candidates "
        f"relaxed; nothing is lost. Resume with: gasearch run {prepared.folder.quoted}"
    )


def _print_findings(prepared: Prepared, out: Console, err: Console) -> None:
    """Print how far the search came, its best candidates, and how to go on."""
    with prepared.folder.open_store() as store:
        findings = Findings(store)
        status, lowest = findings.status(), findings.lowest(_LOWEST)
        advice = [*cause_lines(causes(not_ok(store))), *notes(findings)]
    out.print()
    out.print(composition_table(status.by_composition))
    out.print(f"\nthe {_LOWEST} lowest of each composition:\n")
    out.print(ranked_table(lowest))
    out.print()
    for note in advice:
        err.print(note)
    if status.ending in _HOW_TO_GO_ON:
        search = prepared.session.settings.search
        how = _HOW_TO_GO_ON[status.ending].format(
            file=prepared.folder.run_file, budget=search.budget, stagnation=search.stagnation
        )
        out.print(f"{status.counts.candidates} candidates; {how}")

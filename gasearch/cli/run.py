"""`gasearch run`: what surrounds a search, from the first line to the tables at its end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from gasearch.analysis.findings import Findings
from gasearch.display import search_tables as console
from gasearch.display.progress import watch
from gasearch.errors import UsageError
from gasearch.run.folder import RunFolder
from gasearch.search.resume import changed_keys
from gasearch.search.search import Ending
from gasearch.search.session import Session
from gasearch.store.errors import SearchRunningError
from gasearch.store.sqlite.locking_probe import (
    NETWORK_FILE_SYSTEMS,
    LockingProbe,
    file_system,
    probe,
)

_LOWEST = 2  # candidates of each composition in the table at the end
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


def run_search(folder: RunFolder, out: Console, err: Console) -> None:
    """Start a search, resume it, or say that there is nothing to do."""
    prepared = prepare(folder)
    if not announce(prepared, out, err):
        print_findings(prepared, out, err)
        return
    with stopping() as stop, watch(out, prepared.n_done, prepared.budget) as observe:
        ending = prepared.session.run(observe, stop)
    print_end(prepared, ending, out, err)


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


def announce(prepared: Prepared, out: Console, err: Console) -> bool:
    """Print what is about to begin; return whether there is anything to do."""
    folder, session = prepared.folder, prepared.session
    if prepared.is_finished and prepared.so_far is not None:
        out.print(f"nothing to do in {folder.path}: it is done ({prepared.so_far.ending})")
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


def print_end(prepared: Prepared, ending: Ending, out: Console, err: Console) -> None:
    """Print how a search ended, and what it found if it was not stopped."""
    if ending == "stopped":
        _print_how_to_resume(prepared, out)
    else:
        out.print(f"done ({ending}): {prepared.folder.place}")
        print_findings(prepared, out, err)


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


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """Let SIGINT and SIGTERM end the search cleanly; a second one ends it at once."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        with suppress(OSError):
            os.write(2, b"\nstopping; a second signal stops at once\n")

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_how_to_resume(prepared: Prepared, out: Console) -> None:
    so_far = _so_far(prepared.folder, prepared.session)
    out.print(
        f"stopped cleanly with {so_far.n_done if so_far else 0} of {prepared.budget} candidates "
        f"relaxed; nothing is lost. Resume with: gasearch run {prepared.folder.quoted}"
    )


def print_findings(prepared: Prepared, out: Console, err: Console) -> None:
    """Print how far the search came, its best candidates, and how to go on."""
    with prepared.folder.open_store() as store:
        findings = Findings(store)
        status, lowest = findings.status(), findings.lowest(_LOWEST)
        notes = [*console.failure_lines(findings), *console.notes(findings)]
    out.print()
    out.print(console.composition_table(status.by_composition))
    out.print(f"\nthe {_LOWEST} lowest of each composition:\n")
    out.print(console.ranked_table(lowest))
    out.print()
    for note in notes:
        err.print(note)
    if status.ending in _HOW_TO_GO_ON:
        search = prepared.session.settings.search
        how = _HOW_TO_GO_ON[status.ending].format(
            file=prepared.folder.run_file, budget=search.budget, stagnation=search.stagnation
        )
        out.print(f"{status.counts.candidates} candidates; {how}")

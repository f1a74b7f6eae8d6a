"""`gasearch run`: what surrounds a search, from the first line to the tables at its end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from rich.console import Console

from gasearch import console
from gasearch.inspection import Findings
from gasearch.progress import watch
from gasearch.run_folder import RunFolder
from gasearch.session import Session
from gasearch.store.errors import SearchRunningError
from gasearch.store.lock import driver_of

_LOWEST = 2  # candidates of each composition in the table at the end
_HOW_TO_GO_ON = {
    "budget": "to go on, raise search.budget in {file} (now {budget})",
    "stagnation": "to go on, raise search.stagnation in {file} (now {stagnation}), or set it to 0",
    "exhausted": "every distinct decoration was searched; there is nothing to go on with",
}


@dataclass(frozen=True)
class _SoFar:
    """What a run has done before this start."""

    n_done: int
    ending: str | None
    is_idle: bool
    operational: Mapping[str, Any]


def run_search(folder: RunFolder, out: Console, err: Console) -> None:
    """Start a search, resume it, or say that there is nothing to do."""
    driver = driver_of(folder.database)
    if driver is not None:
        raise SearchRunningError(folder.database, driver)
    session = Session(folder)
    so_far = _so_far(folder, session)
    if so_far is not None and _is_finished(so_far, session):
        out.print(f"nothing to do in {folder.path}: it is done ({so_far.ending})")
        print_findings(folder, session, out, err)
        return
    seeds = session.seeds if so_far is None else ()  # those that cannot be used, before all else
    n_done = so_far.n_done if so_far else 0
    verb = "resuming" if so_far else "searching"
    out.print(f"{verb} {folder.path}: {n_done} of {session.settings.search.budget} candidates")
    for seed in seeds:
        out.print(seed.line(session.host))
    for warning in session.warnings():
        err.print(f"gasearch: {warning}")
    with stopping() as stop, watch(out, n_done, session.settings.search.budget) as observe:
        ending = session.run(observe, stop)
    if ending == "stopped":
        _print_how_to_resume(folder, session, out)
    else:
        out.print(f"done ({ending}): {folder.database}")
        print_findings(folder, session, out, err)


def _so_far(folder: RunFolder, session: Session) -> _SoFar | None:
    """Return what the database says, after an older one was upgraded; None without a database."""
    if not folder.database.exists():
        return None
    with folder.open_store(read_only=False) as store:
        session.refuse_changes(store.run)
        counts, findings = store.counts(), Findings(store)
        is_idle = not counts.in_flight and not counts.queued
        n_done = counts.relaxed + counts.failed
        return _SoFar(n_done, findings.ending(), is_idle, store.run.operational)


def _is_finished(so_far: _SoFar, session: Session) -> bool:
    """Return whether the search ended, with nothing changed since that could let it go on."""
    same = so_far.operational == session.settings.operational()
    return so_far.ending in _HOW_TO_GO_ON and so_far.is_idle and same


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


def _print_how_to_resume(folder: RunFolder, session: Session, out: Console) -> None:
    so_far = _so_far(folder, session)
    out.print(
        f"stopped cleanly with {so_far.n_done if so_far else 0} of "
        f"{session.settings.search.budget} candidates relaxed; nothing is lost. "
        f"Resume with: gasearch run {folder.quoted}"
    )


def print_findings(folder: RunFolder, session: Session, out: Console, err: Console) -> None:
    """Print how far the search came, its best candidates, and how to go on."""
    with folder.open_store() as store:
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
        search = session.settings.search
        how = _HOW_TO_GO_ON[status.ending].format(
            file=folder.run_file, budget=search.budget, stagnation=search.stagnation
        )
        out.print(f"{status.counts.candidates} candidates; {how}")

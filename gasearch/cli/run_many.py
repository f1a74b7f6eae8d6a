"""`gasearch run A B C`: several searches in one process, on the workers of one engine.

Each search has a thread, and all else of its own: database, lock, budget, candidates in flight. One
that fails stops no other. Signals are heard by the main thread, which waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gasearch.cli.run import Prepared, announce, prepare, print_end, print_findings, stopping
from gasearch.display.progress import watch_several
from gasearch.display.telling import tell
from gasearch.errors import GasearchError, UsageError
from gasearch.execution.contract import Engine
from gasearch.execution.engines import end_orphans, open_engine
from gasearch.run.folder import RunFolder
from gasearch.search.search import Ending
from gasearch.search.surrogate.fitting import one_thread
from gasearch.store.records import Outcome

_POLL_S = 0.2


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


@dataclass
class _Running:
    """A search under way, and what became of it."""

    prepared: Prepared
    observe: Callable[[Sequence[Outcome]], None]
    ending: Ending | None = None
    error: BaseException | None = None


def run_searches(folders: Sequence[RunFolder], out: Console, err: Console) -> None:
    """Start or resume several searches, and wait until all of them have ended."""
    _refuse_repeated(folders)
    failed: list[RunFolder] = []
    ready: list[Prepared] = []
    for folder in folders:
        try:
            ready.append(prepare(folder))
        except GasearchError as error:
            _tell(folder, error, failed, err)
    _refuse_different_engines(ready)
    waiting = []
    for prepared in ready:
        try:
            if announce(prepared, out, err):
                waiting.append(prepared)
            else:
                print_findings(prepared, out, err)
        except GasearchError as error:
            _tell(prepared.folder, error, failed, err)
    for one in _run_all(waiting, out) if waiting else []:
        if one.error is not None:
            _tell(one.prepared.folder, one.error, failed, err)
        elif one.ending is not None:
            out.print(f"\n{one.prepared.folder.path}:")
            print_end(one.prepared, one.ending, out, err)
    if failed:
        names = " ".join(folder.quoted for folder in failed)
        raise GasearchError(
            f"{len(failed)} of {len(folders)} searches failed: mend the cause and resume them "
            f"with: gasearch run {names}"
        )


def _run_all(searches: Sequence[Prepared], out: Console) -> list[_Running]:
    """Drive each search in a thread until it ends; Ctrl-C ends all of them cleanly."""
    first = searches[0]
    progress = [(str(p.folder.path), p.n_done, p.budget) for p in searches]
    with stopping() as stop, watch_several(out, progress) as observers, one_thread():
        running = [_Running(p, watch) for p, watch in zip(searches, observers, strict=True)]
        for prepared in searches[1:]:
            end_orphans(prepared.folder.path, prepared.session.settings.execution)
        engine = open_engine(first.session.settings.execution, first.folder.path)
        try:
            threads = [
                threading.Thread(target=_drive, args=(one, engine, stop), daemon=True)
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


def _drive(one: _Running, engine: Engine, stop: threading.Event) -> None:
    try:
        one.ending = one.prepared.session.run(one.observe, stop, engine)
    except BaseException as error:  # noqa: BLE001 -- told by the main thread; the others go on
        one.error = error


def _refuse_repeated(folders: Sequence[RunFolder]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        path = folder.path.resolve()
        if path in seen:
            raise UsageError(f"{folder.path} is named twice: a search has one driver at a time.")
        seen.add(path)


def _refuse_different_engines(ready: Sequence[Prepared]) -> None:
    if not ready:
        return
    first = ready[0].session.settings.execution
    for other in ready[1:]:
        theirs = other.session.settings.execution
        for key in type(first).model_fields:
            mine, found = getattr(first, key), getattr(theirs, key)
            if mine != found:
                here, there = ready[0].folder.path, other.folder.path
                raise NotOneEngineError(key, (here, mine), (there, found))


def _tell(folder: RunFolder, error: BaseException, failed: list[RunFolder], err: Console) -> None:
    """Print the line of an error, led by the folder that it is about."""
    failed.append(folder)
    if isinstance(error, GasearchError):
        tell(GasearchError(f"{folder.path}: {error}"), err)
    else:
        err.print(f"gasearch: {folder.path}: the search ended by an error that nobody expected:")
        tell(error, err)

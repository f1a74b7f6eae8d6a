"""engine.json in a run folder: which processes and jobs the driver of a search has started.

Read by `gasearch status`, and by the next driver, which ends what a dead one left behind.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gasearch import processes

if TYPE_CHECKING:
    from gasearch.execution.contract import Workers

NAME = "engine.json"
_FORMAT = 1


@dataclass(frozen=True)
class EngineRecord:
    """What a driver has started, and how many workers it has.

    Parameters
    ----------
    driver
        The process of the driver: host, pid and start time (`gasearch.processes.identity`).
    processes
        What it started on its own machine, each with its role ("interchange", "block", "manager",
        "worker") and a part of its command line beside its identity.
    jobs
        Identifiers of the scheduler.
    workers
        As `gasearch.execution.contract.Workers`.
    updated
        Seconds since 1970.
    """

    engine: str
    provider: str
    driver: Mapping[str, Any]
    processes: Sequence[Mapping[str, Any]] = ()
    jobs: Sequence[str] = ()
    workers: Mapping[str, Any] = field(default_factory=dict)
    updated: float = 0.0

    @property
    def is_current(self) -> bool:
        """Whether its driver runs; one on another machine counts as running."""
        return processes.is_alive(self.driver)


def read_engine_file(folder: Path) -> EngineRecord | None:
    """Return what the last driver of a run folder wrote; None where it ended cleanly."""
    try:
        document = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if document.pop("format") != _FORMAT:
            return None
        return EngineRecord(**document)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_engine_file(folder: Path, record: EngineRecord) -> None:
    """Put a record in place of the last one; a full disk is no reason to end a search."""
    document = {"format": _FORMAT} | asdict(record) | {"updated": time.time()}
    new = folder / f".{NAME}.{os.getpid()}"
    with suppress(OSError):
        new.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        new.replace(folder / NAME)


def remove_engine_file(folder: Path) -> None:
    """Remove it at a clean end."""
    with suppress(OSError):
        (folder / NAME).unlink(missing_ok=True)


class EngineFiles:
    """The engine.json of all run folders whose searches share an engine.

    Parameters
    ----------
    refresh_s
        How old what is written may be, though nothing changed.
    """

    def __init__(self, engine: str, provider: str, refresh_s: float = math.inf) -> None:
        self._names = engine, provider
        self._refresh_s = refresh_s
        self._folders: set[Path] = set()
        self._written: tuple[EngineRecord | None, float] = None, 0.0

    def add(self, folder: Path) -> None:
        """Write into this folder too, from now on."""
        self._folders = {*self._folders, folder}
        self._written = None, 0.0

    def write(
        self, started: Sequence[Mapping[str, Any]], jobs: Sequence[str], workers: Workers
    ) -> None:
        """Write what runs, where something changed."""
        record = EngineRecord(
            *self._names, processes.identity(), tuple(started), tuple(jobs), asdict(workers)
        )
        last, written_s = self._written
        if record != last or time.monotonic() - written_s > self._refresh_s:
            for folder in self._folders:
                write_engine_file(folder, record)
            self._written = record, time.monotonic()

    def remove(self) -> None:
        """Remove them at a clean end."""
        for folder in self._folders:
            remove_engine_file(folder)


def process_record(role: str, pid: int, mark: str) -> dict[str, Any]:
    """Return what identifies a process of this machine.

    Parameters
    ----------
    mark
        Part of its command line, so that no other process is ever taken for it.
    """
    return {"role": role, "mark": mark, **processes.identity(pid)}

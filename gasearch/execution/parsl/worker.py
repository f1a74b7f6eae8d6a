"""What a worker of Parsl does: a batch of structures in, their relaxations out.

The potential is loaded once per process and kept. A worker knows nothing of the search.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ase import Atoms

from gasearch.execution.contract import PotentialSource
from gasearch.execution.parsl.guard import RELAXING
from gasearch.processes import WATCH_EVERY_S, end_with_parent
from gasearch.relax.audit import reason_of
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

if TYPE_CHECKING:
    from gasearch.execution.stream import Stream

Structure: TypeAlias = tuple[Atoms, RelaxSettings]

_WAITING = "waiting"
LAST_RESORT_S = 60.0
"""Added to twice the wall limit, after which a signal ends a process whose threads all hang."""


@dataclass(frozen=True)
class BatchResult:
    """What came of a batch.

    Parameters
    ----------
    relaxed
        In the order of the structures.
    wall_s
        Time that their relaxations took, without the loading of the potential.
    unusable
        Why the potential cannot be loaded; "" where it was.
    """

    relaxed: Sequence[Relaxed]
    wall_s: float
    unusable: str = ""


@dataclass
class _Worker:
    """The state of this process."""

    streams: dict[str, Stream] = field(default_factory=dict)
    left_s: float | None = None
    is_watched: bool = False


_worker = _Worker()


def relax_batch(
    source: PotentialSource, structures: Sequence[Structure], places: int, wall_limit_s: float
) -> BatchResult:
    """Relax structures, at most `places` of them together, and return all results.

    Parameters
    ----------
    wall_limit_s
        Where no relaxation ends for so long, the process ends itself; time during which it was
        stopped does not count.
    """
    _watch()
    _call_it(RELAXING)
    try:
        try:
            stream = _stream(source)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the search reports it
            return BatchResult((), 0.0, reason_of(error))
        return _relax(stream, structures, places, wall_limit_s)
    except Exception:
        _worker.streams.clear()
        if source.device != "cpu":
            os._exit(70)  # an accelerator may be of no use to this process any more
        raise
    finally:
        _allow(None)
        _call_it(_WAITING)


def _relax(
    stream: Stream, structures: Sequence[Structure], places: int, wall_limit_s: float
) -> BatchResult:
    began_s = time.monotonic()
    waiting = deque(enumerate(structures))
    results: dict[int, Relaxed] = {}
    _allow(wall_limit_s)
    while len(results) < len(structures):
        while waiting and len(stream) < places:
            number, (atoms, settings) = waiting.popleft()
            stream.submit(number, atoms, settings)
        _, ended = stream.step()
        if ended:
            results |= dict(ended)
            _allow(wall_limit_s)
    relaxed = [results[number] for number in range(len(structures))]
    return BatchResult(relaxed, time.monotonic() - began_s)


def _stream(source: PotentialSource) -> Stream:
    key = repr(source)
    if key not in _worker.streams:
        from gasearch.execution.stream import Stream, load_source

        potential, reader = load_source(source)
        _worker.streams[key] = Stream(potential, source.limits, reader=reader)
    return _worker.streams[key]


def _watch() -> None:
    """End this process when its manager died, or when a relaxation takes too long."""
    if not _worker.is_watched and threading.current_thread() is threading.main_thread():
        _worker.is_watched = True
        end_with_parent(_is_overdue)


def _is_overdue() -> bool:
    if _worker.left_s is None:
        return False
    _worker.left_s -= WATCH_EVERY_S
    return _worker.left_s <= 0


def _allow(seconds: float | None) -> None:
    """Set how long this process may go on without a result; None for as long as it likes.

    Native code may keep the watching thread from running: then a signal ends the process, later.
    """
    _worker.left_s = seconds
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds + LAST_RESORT_S if seconds else 0.0)


def _call_it(name: str) -> None:
    """Name this process, so that its guard knows whether it has a batch."""
    if threading.current_thread() is threading.main_thread():
        with suppress(OSError):
            Path("/proc/self/comm").write_text(name, encoding="utf-8")

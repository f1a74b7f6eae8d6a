"""Parsl as an engine: batches of relaxations on the nodes of a cluster, or on this machine."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Literal

from gasearch.errors import GasearchError
from gasearch.execution.contract import ExecutionError, Executor, ExecutorRequest, Workers
from gasearch.execution.engine_file import EngineFiles
from gasearch.execution.parsl.batches import BatchExecutor, TaskBatch
from gasearch.execution.parsl.providers import first_line, make_setup, require_parsl
from gasearch.execution.parsl.running import NoWorkersError, ParslEndedError, RunningParsl
from gasearch.execution.parsl.worker import BatchResult, relax_batch
from gasearch.execution.shares import FairShares
from gasearch.run.execution_section import ExecutionSection

_TICK_S = 0.5
_LOOK_EVERY_S = 1.0  # for processes, to be written into engine.json
_WRITE_EVERY_S = 5.0
_QUEUED = 2  # batches for each worker: one under way, one that waits at hand
_MOST_STARTS = 5  # in a row, each of which lasts less than _SHORT_S
_SHORT_S = 60.0


class ParslEngine:
    """Workers of Parsl, shared by one search or several.

    Whatever of Parsl dies is started anew; the batches that it had are sent again.

    Parameters
    ----------
    section
        [execution] of the run.toml.
    folder
        Its files go into `parsl/` there.
    """

    def __init__(self, section: ExecutionSection, folder: Path) -> None:
        require_parsl()
        self._section = section
        self._folder = folder
        self._shares = FairShares(_QUEUED * section.most_workers)
        self._lock = threading.RLock()
        self._out: list[TaskBatch] = []
        self._executors: list[BatchExecutor] = []
        self._files = EngineFiles("parsl", section.provider, _WRITE_EVERY_S)
        self._longest_s = 0.0
        self._n_workers = self._n_begun = 0
        self._n_ended = 0
        self._note = ""
        self._failure: ExecutionError | None = None
        self._next_look_s = 0.0
        self._parsl: RunningParsl | None = self._start()
        self._began_s = time.monotonic()
        self._closing = threading.Event()
        self._monitor = threading.Thread(target=self._watch, name="gasearch-parsl", daemon=True)
        self._monitor.start()

    def _start(self) -> RunningParsl:
        """Start Parsl for the first time, or raise one line that says why it does not start."""
        try:
            return self._new_parsl()
        except GasearchError:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {first_line(error)}"
            raise ExecutionError(f"Parsl does not start: {problem}") from error

    def _new_parsl(self) -> RunningParsl:
        setup = make_setup(self._section, self._folder)
        return RunningParsl(setup, self._folder / "parsl", self._section.poll_s)

    def executor(self, request: ExecutorRequest) -> Executor:
        """Return the executor of one search."""
        executor = BatchExecutor(
            request, self._section.batch_s, self._shares.join(), self._send, self._forget
        )
        self._files.add(request.folder)
        with self._lock:
            self._executors.append(executor)
            if self._failure is not None:
                executor.fail(self._failure)
        self._write()
        return executor

    def workers(self) -> Workers:
        """Return what the interchange answered a moment ago."""
        with self._lock:
            begun = [batch for batch in self._out if batch.began_s is not None]
            under_way = sum(len(batch.attempts) for batch in begun)
            in_all = sum(len(batch.attempts) for batch in self._out)
            waiting = sum(executor.n_waiting for executor in self._executors)
            running, note = self._parsl, self._note
        return Workers(
            "parsl",
            self._section.provider,
            connected=self._n_workers,
            busy=min(self._n_workers, self._n_begun),
            most=self._section.most_workers,
            waiting=waiting + in_all - under_way,
            under_way=under_way,
            note=(running.note if running is not None else "") or note,
        )

    def close(self) -> None:
        """End all workers, at once; long programs go on."""
        self._closing.set()
        self._monitor.join()
        with self._lock:
            running, self._parsl = self._parsl, None
            self._out.clear()
        left = [] if running is None else running.close()
        if left:
            self._files.write([], left, self.workers())
        else:
            self._files.remove()

    def _send(self, batch: TaskBatch) -> bool:
        request = batch.owner.request
        tasks = [attempt.task for attempt in batch.attempts]
        structures = [(task.atoms, task.settings) for task in tasks]
        with self._lock:
            if self._parsl is None:
                return False
            self._out.append(batch)
            try:
                future = self._parsl.submit(
                    relax_batch, request.source, structures, request.places, request.wall_limit_s
                )
            except Exception as error:  # noqa: BLE001 -- the monitor sees to what is broken
                self._note = f"{type(error).__name__}: {error}"
                self._out.remove(batch)
                return False
        future.add_done_callback(lambda done: self._came_back(batch, done))
        return True

    def _came_back(self, batch: TaskBatch, done: Future[BatchResult]) -> None:
        with self._lock:
            if batch not in self._out:
                return
            self._out.remove(batch)
            if batch.began_s is not None:
                self._longest_s = max(self._longest_s, time.monotonic() - batch.began_s)
        error = done.exception()
        if error is None:
            batch.owner.deliver(batch, done.result())
        else:
            batch.owner.lose(batch, *_loss_in_words(error))

    def _forget(self, executor: BatchExecutor) -> None:
        with self._lock:
            self._out = [batch for batch in self._out if batch.owner is not executor]
            self._executors = [other for other in self._executors if other is not executor]

    def _watch(self) -> None:
        """Look after Parsl until the engine is closed."""
        while not self._closing.wait(_TICK_S):
            running = self._parsl
            try:
                if running is None:
                    running = self._begin_again()
                n_workers, n_begun = running.poll(self._longest_s)
            except ParslEndedError as error:
                self._end_parsl(str(error))
                continue
            except NoWorkersError as error:
                self._fail(str(error))
                return
            except Exception as error:  # noqa: BLE001 -- of a scheduler's command, or of Parsl
                self._note = f"{type(error).__name__}: {error}"
                if self._parsl is None:
                    self._end_parsl(f"it does not start: {self._note}")
            else:
                self._note_begun(n_workers, n_begun)
            if time.monotonic() >= self._next_look_s:
                self._write()
                self._next_look_s = time.monotonic() + _LOOK_EVERY_S

    def _begin_again(self) -> RunningParsl:
        running = self._new_parsl()
        with self._lock:
            self._parsl, self._began_s = running, time.monotonic()
        return running

    def _end_parsl(self, reason: str) -> None:
        """Close what is broken; what it had is sent again, and nobody is to blame."""
        with self._lock:
            running, self._parsl = self._parsl, None
            lost, self._out = self._out, []
            self._n_workers = self._n_begun = 0
        is_short = time.monotonic() - self._began_s < _SHORT_S
        self._n_ended = self._n_ended + 1 if is_short else 1
        for batch in lost:
            batch.owner.lose(batch, reason, "nobody")
        if running is not None:
            running.close()
        if self._n_ended == _MOST_STARTS:
            self._fail(f"Parsl ended {_MOST_STARTS} times in a row: {reason}")

    def _fail(self, reason: str) -> None:
        """End all searches."""
        with self._lock:
            self._failure = ExecutionError(reason)
            executors = list(self._executors)
        self._closing.set()
        for executor in executors:
            executor.fail(self._failure)

    def _note_begun(self, n_workers: int, n_begun: int) -> None:
        """Note which batches workers have: the interchange hands them out in their order."""
        with self._lock:
            self._n_workers, self._n_begun = n_workers, n_begun
            for batch in self._out[:n_begun]:
                if batch.began_s is None:
                    batch.began_s = time.monotonic()

    def _write(self) -> None:
        """Write engine.json where something changed, and now and then."""
        with self._lock:
            running = self._parsl
        if running is not None:
            with suppress(OSError, ValueError):
                self._files.write(running.processes(), running.jobs, self.workers())


def _loss_in_words(error: BaseException) -> tuple[str, Literal["nobody", "manager", "worker"]]:
    """Return why a batch was lost, and who may be to blame."""
    from parsl.executors.errors import BadStateException
    from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

    if isinstance(error, WorkerLost):
        return f"its worker on {error.hostname} was lost", "worker"
    if isinstance(error, ManagerLost):
        return f"all workers of a node were lost ({error.hostname})", "manager"
    is_of_parsl = isinstance(error, BadStateException)
    return f"{type(error).__name__}: {error}", "nobody" if is_of_parsl else "worker"

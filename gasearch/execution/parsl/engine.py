"""Parsl as an engine: batches of relaxations on the nodes of a cluster, or on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from gasearch import processes
from gasearch.errors import GasearchError
from gasearch.execution.contract import (
    ExecutionError,
    Executor,
    JobHandle,
    JobRequest,
    Order,
    Workers,
)
from gasearch.execution.engine_file import EngineRecord, remove_engine_file, write_engine_file
from gasearch.execution.local.jobs import LocalJob, start_local_job
from gasearch.execution.parsl.batches import Batch, BatchExecutor, Blame, Returned
from gasearch.execution.parsl.jobs import SchedulerJob, submit_scheduler_job
from gasearch.execution.parsl.providers import make_site, require_parsl
from gasearch.execution.parsl.site import NoWorkersError, RunningSite, Seen, SiteLostError
from gasearch.execution.parsl.worker import BatchResult, relax_batch
from gasearch.execution.shares import FairShares
from gasearch.run.execution_section import ExecutionSection
from gasearch.run.folder import RunFolder

_TICK_S = 0.5
_LOOK_EVERY_S = 1.0  # for processes, to be written into engine.json
_WRITE_EVERY_S = 5.0
_QUEUED = 2  # batches for each worker: one under way, one that waits at hand
_MOST_LIVES = 5  # that end within _SHORT_S each, in a row
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

    def __init__(self, section: ExecutionSection, folder: RunFolder) -> None:
        require_parsl()
        self._section = section
        self._folder = folder
        self._shares = FairShares(_QUEUED * section.most_workers)
        self._lock = threading.RLock()
        self._out: list[Batch] = []
        self._executors: list[BatchExecutor] = []
        self._folders: dict[str, RunFolder] = {}
        self._longest_s = 0.0
        self._seen = Seen()
        self._lives_ended = 0
        self._note = ""
        self._failure: ExecutionError | None = None
        self._written: tuple[EngineRecord, float] | None = None
        self._next_look_s = 0.0
        self._site: RunningSite | None = self._first_site()
        self._began_s = time.monotonic()
        self._closing = threading.Event()
        self._monitor = threading.Thread(target=self._watch, name="gasearch-parsl", daemon=True)
        self._monitor.start()

    def _first_site(self) -> RunningSite:
        """Return the first life, or tell in one line why there is none."""
        try:
            return self._new_site()
        except GasearchError:
            raise
        except Exception as error:
            told = str(error).strip().splitlines() or [""]
            problem = f"Parsl does not start: {type(error).__name__}: {told[0]}"
            raise ExecutionError(problem) from error

    def _new_site(self) -> RunningSite:
        parsl_folder = self._folder.path / "parsl"
        site = make_site(self._section, self._folder)
        return RunningSite(site, parsl_folder, self._section.poll_s)

    def executor(self, order: Order) -> Executor:
        """Return the executor of one search."""
        executor = BatchExecutor(
            order, self._section.batch_s, self._shares.join(), self._send, self._forget
        )
        with self._lock:
            self._executors.append(executor)
            self._folders[str(order.folder.path)] = order.folder
            if self._failure is not None:
                executor.deliver(self._failure)
        self._write()
        return executor

    def submit_job(self, request: JobRequest) -> JobHandle:
        """Submit a program to the scheduler, or start it where there is none."""
        if self._section.provider == "local":
            return start_local_job(request)
        return submit_scheduler_job(self._section, self._folder, request)

    def find_job(self, record: Mapping[str, Any]) -> JobHandle | None:
        """Return a job of this machine, or of the scheduler."""
        if record.get("kind") == "process":
            return LocalJob(record)
        if record.get("kind") == "scheduler":
            return SchedulerJob(self._section, self._folder, record)
        return None

    def workers(self) -> Workers:
        """Return what the interchange told a moment ago."""
        with self._lock:
            begun = [batch for batch in self._out if batch.began_s is not None]
            under_way = sum(len(batch.jobs) for batch in begun)
            in_all = sum(len(batch.jobs) for batch in self._out)
            waiting = sum(executor.n_waiting for executor in self._executors)
            seen, site, note = self._seen, self._site, self._note
        return Workers(
            "parsl",
            self._section.provider,
            connected=seen.workers,
            busy=min(seen.workers, seen.tasks),
            most=self._section.most_workers,
            waiting=waiting + in_all - under_way,
            under_way=under_way,
            note=(site.note if site is not None else "") or note,
        )

    def close(self) -> None:
        """End all workers, at once; jobs that were submitted by `submit_job` go on."""
        self._closing.set()
        self._monitor.join()
        with self._lock:
            site, self._site = self._site, None
            self._out.clear()
        left = [] if site is None else site.close()
        for folder in self._folders.values():
            if left:
                write_engine_file(folder.path, self._record([], left))
            else:
                remove_engine_file(folder.path)

    def _send(self, batch: Batch) -> bool:
        order = batch.owner.order
        tasks = [job.task for job in batch.jobs]
        with self._lock:
            if self._site is None:
                return False
            self._out.append(batch)
            try:
                future = self._site.submit(
                    relax_batch, order.source, tasks, order.places, order.wall_limit_s
                )
            except Exception as error:  # noqa: BLE001 -- the monitor sees to what is broken
                self._note = f"{type(error).__name__}: {error}"
                self._out.remove(batch)
                return False
        future.add_done_callback(lambda done: self._come_back(batch, done))
        return True

    def _come_back(self, batch: Batch, done: Future[BatchResult]) -> None:
        with self._lock:
            if batch not in self._out:
                return
            self._out.remove(batch)
            if batch.began_s is not None:
                self._longest_s = max(self._longest_s, time.monotonic() - batch.began_s)
        error = done.exception()
        if error is None:
            batch.owner.deliver(Returned(batch, done.result()))
        else:
            batch.owner.deliver(Returned(batch, None, _in_words(error), _blame(error)))

    def _forget(self, executor: BatchExecutor) -> None:
        with self._lock:
            self._out = [batch for batch in self._out if batch.owner is not executor]
            self._executors = [other for other in self._executors if other is not executor]

    def _watch(self) -> None:
        """Look after the site until the engine is closed."""
        while not self._closing.wait(_TICK_S):
            site = self._site
            try:
                if site is None:
                    site = self._begin_again()
                seen = site.poll(self._longest_s)
            except SiteLostError as error:
                self._end_life(str(error))
                continue
            except NoWorkersError as error:
                self._fail(str(error))
                return
            except Exception as error:  # noqa: BLE001 -- of a scheduler's command, or of Parsl
                self._note = f"{type(error).__name__}: {error}"
                if self._site is None:
                    self._end_life(f"it does not start: {self._note}")
            else:
                self._note_begun(seen)
            if time.monotonic() >= self._next_look_s:
                self._write()
                self._next_look_s = time.monotonic() + _LOOK_EVERY_S

    def _begin_again(self) -> RunningSite:
        site = self._new_site()
        with self._lock:
            self._site, self._began_s = site, time.monotonic()
        return site

    def _end_life(self, reason: str) -> None:
        """Close a site that is broken; what it had is sent again, and nobody is to blame."""
        with self._lock:
            site, self._site = self._site, None
            lost, self._out = self._out, []
            self._seen = Seen()
        is_short = time.monotonic() - self._began_s < _SHORT_S
        self._lives_ended = self._lives_ended + 1 if is_short else 1
        for batch in lost:
            batch.owner.deliver(Returned(batch, None, reason))
        if site is not None:
            site.close()
        if self._lives_ended == _MOST_LIVES:
            self._fail(f"Parsl ended {_MOST_LIVES} times in a row: {reason}")

    def _fail(self, reason: str) -> None:
        """End all searches."""
        with self._lock:
            self._failure = ExecutionError(reason)
            executors = list(self._executors)
        self._closing.set()
        for executor in executors:
            executor.deliver(self._failure)

    def _note_begun(self, seen: Seen) -> None:
        """Note which batches workers have: the interchange hands them out in their order."""
        with self._lock:
            self._seen = seen
            for batch in self._out[: seen.tasks]:
                if batch.began_s is None:
                    batch.began_s = time.monotonic()

    def _record(self, started: list[Mapping[str, Any]], jobs: list[str]) -> EngineRecord:
        return EngineRecord(
            "parsl",
            self._section.provider,
            processes.identity(),
            tuple(started),
            tuple(jobs),
            workers=asdict(self.workers()),
        )

    def _write(self) -> None:
        """Write engine.json where something changed, and now and then."""
        with self._lock:
            site, folders = self._site, list(self._folders.values())
        if site is None:
            return
        with suppress(OSError, ValueError):
            record = self._record(site.processes(), site.jobs)
            last, written_s = self._written or (None, 0.0)
            if record != last or time.monotonic() - written_s > _WRITE_EVERY_S:
                for folder in folders:
                    write_engine_file(folder.path, record)
                self._written = record, time.monotonic()


def _blame(error: BaseException) -> Blame:
    from parsl.executors.errors import BadStateException
    from parsl.executors.high_throughput.errors import ManagerLost

    if isinstance(error, BadStateException):
        return "nobody"
    return "manager" if isinstance(error, ManagerLost) else "worker"


def _in_words(error: BaseException) -> str:
    from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

    if isinstance(error, WorkerLost):
        return f"its worker on {error.hostname} was lost"
    if isinstance(error, ManagerLost):
        return f"all workers of a node were lost ({error.hostname})"
    return f"{type(error).__name__}: {error}"

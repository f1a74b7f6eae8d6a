"""The engine of one machine: relaxations in this process, or in workers of each search."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gasearch import processes
from gasearch.execution.contract import Executor, JobHandle, JobRequest, Order, Workers
from gasearch.execution.engine_file import (
    EngineRecord,
    on_this_machine,
    remove_engine_file,
    write_engine_file,
)
from gasearch.execution.local.jobs import LocalJob, start_local_job
from gasearch.execution.local.pool import WorkerPool
from gasearch.execution.shares import FairShares, Share
from gasearch.run.execution_section import ExecutionSection
from gasearch.run.folder import RunFolder

_WRITE_EVERY_S = 2.0
_WORKER = "gasearch.execution.local.worker"


class LocalEngine:
    """Pools of worker processes, one for each search.

    Parameters
    ----------
    section
        [execution] of the run.toml; its `workers` are shared by all searches.
    """

    def __init__(self, section: ExecutionSection) -> None:
        self._section = section
        self._n_workers = section.workers if section.device == "cpu" else max(1, section.workers)
        self._shares = FairShares(self._n_workers)
        self._pools: list[WorkerPool] = []
        self._folders: list[RunFolder] = []
        self._written: EngineRecord | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._writer = threading.Thread(target=self._write_always, daemon=True)
        self._writer.start()

    def executor(self, order: Order) -> Executor:
        """Return the executor of one search."""
        with self._lock:
            self._folders.append(order.folder)
        executor = self._pool(order) if self._section.workers else order.in_process()
        self._write()
        return executor

    def _pool(self, order: Order) -> WorkerPool:
        share: int | Share = self._shares.join()
        if order.source.device != "cpu":
            share = 1  # an accelerator belongs to one process of each search
        pool = WorkerPool(order.source, share, order.wall_limit_s, order.log, order.places)
        with self._lock:
            self._pools.append(pool)
        return pool

    def submit_job(self, request: JobRequest) -> JobHandle:
        """Start a program on this machine, in a session of its own."""
        return start_local_job(request)

    def find_job(self, record: Mapping[str, Any]) -> JobHandle | None:
        """Return a job that was started on this machine."""
        return LocalJob(record) if record.get("kind") == "process" else None

    def workers(self) -> Workers:
        """Return what the pools have."""
        with self._lock:
            counts = [pool.count() for pool in self._pools]
        return Workers(
            "local",
            "local",
            connected=sum(count.ready for count in counts),
            busy=sum(count.busy for count in counts),
            most=self._section.workers,
            waiting=sum(count.waiting for count in counts),
            under_way=sum(count.under_way for count in counts),
        )

    def close(self) -> None:
        """Kill all workers, and forget that they were."""
        self._closing.set()
        self._writer.join()
        for pool in self._pools:
            pool.close()
        for folder in self._folders:
            remove_engine_file(folder.path)

    def _write_always(self) -> None:
        while not self._closing.wait(_WRITE_EVERY_S):
            self._write()

    def _write(self) -> None:
        """Write engine.json where something changed."""
        with self._lock:
            pids = [pid for pool in self._pools for pid in pool.pids()]
            folders = list(self._folders)
        record = EngineRecord(
            "local",
            "local",
            processes.identity(),
            tuple(on_this_machine("worker", pid, _WORKER) for pid in pids),
            workers=asdict(self.workers()),
        )
        if record != self._written:
            for folder in folders:
                write_engine_file(folder.path, record)
            self._written = record

"""The engine of one machine: relaxations in this process, or in workers of each search."""

from __future__ import annotations

import threading

from gasearch.execution.contract import Executor, ExecutorRequest, Workers
from gasearch.execution.engine_file import EngineFiles, process_record
from gasearch.execution.local.pool import WorkerPool
from gasearch.execution.shares import FairShares, Share
from gasearch.run.execution_section import ExecutionSection

_WORKER = "gasearch.execution.local.worker"


class LocalEngine:
    """Pools of worker processes, one for each search.

    Parameters
    ----------
    section
        [execution] of the run.toml; its `workers` are shared by all searches.
    write_every_s
        How often engine.json is written where something changed.
    """

    def __init__(self, section: ExecutionSection, write_every_s: float = 2.0) -> None:
        self._section = section
        self._write_every_s = write_every_s
        self._n_workers = section.workers if section.device == "cpu" else max(1, section.workers)
        self._shares = FairShares(self._n_workers)
        self._pools: list[WorkerPool] = []
        self._files = EngineFiles("local", "local")
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._writer = threading.Thread(target=self._write_always, daemon=True)
        self._writer.start()

    def executor(self, request: ExecutorRequest) -> Executor:
        """Return the executor of one search."""
        self._files.add(request.folder)
        executor = self._pool(request) if self._section.workers else request.in_process()
        self._write()
        return executor

    def _pool(self, request: ExecutorRequest) -> WorkerPool:
        share: int | Share = self._shares.join()
        if request.source.device != "cpu":
            share = 1  # an accelerator belongs to one process of each search
        pool = WorkerPool(request.source, share, request.wall_limit_s, request.log, request.places)
        with self._lock:
            self._pools.append(pool)
        return pool

    def workers(self) -> Workers:
        """Return what the pools have."""
        with self._lock:
            counts = [pool.count() for pool in self._pools]
        return Workers(
            "local",
            "local",
            connected=sum(count.connected for count in counts),
            busy=sum(count.busy for count in counts),
            most=self._section.workers,
            waiting=sum(count.waiting for count in counts),
            under_way=sum(count.under_way for count in counts),
        )

    def close(self) -> None:
        """Kill all workers, and remove engine.json."""
        self._closing.set()
        self._writer.join()
        for pool in self._pools:
            pool.close()
        self._files.remove()

    def _write_always(self) -> None:
        while not self._closing.wait(self._write_every_s):
            self._write()

    def _write(self) -> None:
        """Write engine.json where something changed."""
        with self._lock:
            pids = [pid for pool in self._pools for pid in pool.pids()]
        started = [process_record("worker", pid, _WORKER) for pid in pids]
        self._files.write(started, [], self.workers())

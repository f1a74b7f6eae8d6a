"""Parsl while it runs: its interchange, and the blocks of workers that a scheduler gave it."""

from __future__ import annotations

import functools
import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from gasearch import processes
from gasearch.execution.contract import ExecutionError
from gasearch.execution.engine_file import process_record
from gasearch.execution.parsl.providers import ParslSetup, first_line
from gasearch.processes import command_line, descendants, end_processes, is_the_same
from gasearch.run.execution_section import walltime_in_s

_KEPT_FOLDERS = 5
_ANSWER_S = 60.0  # an interchange that says nothing for so long is of no use any more
_SEND_MS = 2000  # sending to an interchange that died would wait for ever
_STRATEGY_S = 5.0
_LONGEST_PAUSE_S = 300.0
_MOST_FAILED = 5  # blocks in a row, before any worker was ever there
_RESERVE_S = 30.0  # of a block's walltime
_CANCEL_TRIALS = 5


class ParslEndedError(ExecutionError):
    """Parsl does not work any more, and has to be started again."""


class NoWorkersError(ExecutionError):
    """Blocks that never bring a worker."""


class Walltimes:
    """How long blocks have lived, and which will end before another batch would.

    Parameters
    ----------
    limit
        Of a block, as hours, minutes and seconds; anything else is no limit.
    """

    def __init__(self, limit: str) -> None:
        has_limit = re.fullmatch(r"\d+:\d\d:\d\d", limit) is not None
        self._limit_s = walltime_in_s(limit) - _RESERVE_S if has_limit else math.inf
        self._began_s: dict[str, float] = {}

    def began(self, block: str, now_s: float) -> None:
        """Note that a block runs; only the first call counts."""
        self._began_s.setdefault(block, now_s)

    def too_short(self, blocks: Iterable[str], batch_s: float, now_s: float) -> set[str]:
        """Return those of the blocks that have less time left than a batch may take."""
        last_s = self._limit_s - batch_s
        return {block for block in blocks if now_s - self._began_s.get(block, now_s) > last_s}


class RunningParsl:
    """An executor of Parsl that was started.

    Its retries, its strategy's thread and its data flow kernel are left out: batches are
    repeated by the search, under leases, and the caller polls.

    Parameters
    ----------
    folder
        Where each start gets a numbered folder, for logs and scripts.
    poll_s
        How often the scheduler is asked.
    """

    def __init__(self, setup: ParslSetup, folder: Path, poll_s: float) -> None:
        from parsl.jobs.strategy import Strategy

        self._setup = setup
        self._executor = setup.executor
        self._provider: Any = setup.executor.provider
        self._poll_s = poll_s
        self._strategy = Strategy(strategy=setup.strategy, max_idletime=setup.max_idle_s)
        self._strategy.add_executors([self._executor])
        self._next_poll_s = self._next_strategy_s = 0.0
        self._managers: set[str] = set()
        self._walltimes = Walltimes(str(getattr(self._provider, "walltime", None) or ""))
        self._held: set[str] = set()
        self._failed: set[str] = set()
        self._n_failed = 0
        self._was_connected = False
        self._processes: list[Mapping[str, Any]] = []
        self.note = ""
        self._start(folder)

    def _start(self, folder: Path) -> None:
        import zmq
        from parsl.dataflow.rundirs import make_rundir

        _log_to(folder / "driver.log")
        run_dir = Path(make_rundir(str(folder.resolve())))
        for old in sorted(folder.glob("[0-9][0-9][0-9]"))[:-_KEPT_FOLDERS]:
            shutil.rmtree(old, ignore_errors=True)
        executor = self._executor
        executor.run_id, executor.run_dir, executor.log_config = str(uuid4()), str(run_dir), None
        if hasattr(self._provider, "script_dir"):
            self._provider.script_dir = str(run_dir / "submit_scripts")
            (run_dir / "submit_scripts").mkdir(exist_ok=True)
        try:
            executor.start()
        except BaseException:
            self.close()
            raise
        executor.outgoing_q.zmq_socket.setsockopt(zmq.SNDTIMEO, _SEND_MS)
        client: Any = executor.command_client
        client.run = functools.partial(client.run, timeout_s=_ANSWER_S)

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Send a batch; the caller takes care that no two threads do so at once."""
        future: Future[Any] = self._executor.submit(work, {}, *arguments)
        return future

    def poll(self, longest_batch_s: float) -> tuple[int, int]:
        """Ask for more blocks, or fewer; return how many workers there are, and batches they have.

        Workers are those of all managers that are connected. Raises `ParslEndedError` where
        Parsl has to be started again.
        """
        managers = self._ask_interchange()
        now_s = time.monotonic()
        names = {str(manager["manager"]) for manager in managers}
        if self._managers - names or now_s >= self._next_poll_s:
            self._ask_scheduler()
            self._next_poll_s = now_s + self._poll_s
        self._managers = names
        if managers:
            self._was_connected, self._n_failed, self.note = True, 0, ""
        if now_s >= self._next_strategy_s:
            self._strategy.strategize([self._executor])
            self._count_failures()
            pause_s = min(_STRATEGY_S, self._poll_s) * 2 ** min(self._n_failed, 10)
            self._next_strategy_s = now_s + min(pause_s, _LONGEST_PAUSE_S)
        self._spare_short_blocks(managers, longest_batch_s)
        n_workers = sum(int(manager["worker_count"]) for manager in managers)
        return n_workers, sum(int(manager["tasks"]) for manager in managers)

    def _ask_interchange(self) -> list[dict[str, Any]]:
        process = self._executor.interchange_proc
        if process is None or process.poll() is not None:
            raise ParslEndedError("Parsl's interchange ended")
        if self._executor.bad_state_is_set:
            raise ParslEndedError(f"Parsl gave up: {self._executor.executor_exception}")
        listener = self._executor._result_queue_thread
        if listener is None or not listener.is_alive():
            raise ParslEndedError("Parsl does not listen any more")
        from parsl.executors.high_throughput.errors import (
            CommandClientBadError,
            CommandClientTimeoutError,
        )

        try:
            return list(self._executor.connected_managers())
        except (CommandClientTimeoutError, CommandClientBadError) as error:
            raise ParslEndedError("Parsl's interchange does not answer") from error

    def _ask_scheduler(self) -> None:
        self._executor._last_poll_time = 0.0  # it would wait for its provider's own interval
        try:
            self._executor.poll_facade()
        except Exception as error:  # noqa: BLE001 -- whatever a scheduler's command may do
            self.note = f"the scheduler does not answer: {first_line(error)}"
        for block, status in self._executor.status_facade.items():
            if status.state.name == "RUNNING":
                self._walltimes.began(block, time.monotonic())

    def _count_failures(self) -> None:
        """Note the blocks that failed without a worker; where there are only such, give up."""
        status = self._executor.status_facade
        bad = {block for block, s in status.items() if s.state.name in ("FAILED", "MISSING")}
        for block in bad - self._failed:
            self._n_failed += 1
            self.note = f"a block failed: {first_line(status[block].message or 'no reason given')}"
        self._failed |= bad
        if self._n_failed >= _MOST_FAILED and not self._was_connected:
            raise NoWorkersError(
                f"{self._n_failed} blocks ended and none brought a worker: {self.note}; see "
                f"{self._executor.run_dir}."
            )

    def _spare_short_blocks(self, managers: list[dict[str, Any]], longest_batch_s: float) -> None:
        """Send nothing to blocks that would end before a batch does, and end them once idle."""
        now_s = time.monotonic()
        blocks = {str(manager["block_id"]) for manager in managers}
        busy = {str(manager["block_id"]) for manager in managers if manager["tasks"]}
        for block in blocks:
            self._walltimes.began(block, now_s)
        for block in self._walltimes.too_short(blocks, longest_batch_s, now_s):
            if block not in self._held:
                self._executor._hold_block(block)
                self._held.add(block)
            elif block not in busy:
                job = self._executor.blocks_to_job_id.get(block)
                with suppress(Exception):  # it ends by itself soon
                    self._provider.cancel([job])

    @property
    def jobs(self) -> list[str]:
        """The jobs that the scheduler may still have; none where blocks are processes."""
        if self._setup.is_local:
            return []
        return [job for job, _ in self._live_blocks()]

    def _live_blocks(self) -> list[tuple[str, str]]:
        from parsl.jobs.states import TERMINAL_STATES

        status = self._executor.status_facade
        ended = {block for block, s in status.items() if s.state in TERMINAL_STATES}
        pairs = list(self._executor.blocks_to_job_id.items())
        return [(job, block) for block, job in pairs if block not in ended]

    def processes(self) -> list[Mapping[str, Any]]:
        """Return what was started on this machine and still runs, with its role."""
        roots = []
        if self._executor.interchange_proc is not None:
            roots.append(self._executor.interchange_proc.pid)
        if self._setup.is_local:
            roots += [int(job) for job in list(self._executor.blocks_to_job_id.values())]
        roots = [pid for pid in roots if processes.started(pid) is not None]
        found = {p["pid"]: p for p in self._processes if processes.is_alive(p)}
        for pid in (*roots, *descendants(*roots)):
            line = command_line(pid)
            if line:
                found[pid] = process_record(_role(pid, line), pid, line[:60])
        self._processes = [p for p in found.values() if p["started"]]
        return list(self._processes)

    def close(self) -> list[str]:
        """End everything; return the jobs that the scheduler would not cancel."""
        self.processes()
        left = self._cancel()
        with suppress(Exception):
            self._executor.shutdown(timeout=3.0)
        end_processes(self._processes)
        end_processes([p for p in self.processes() if is_the_same(p)])
        _log_to(None)
        return left

    def _cancel(self) -> list[str]:
        jobs = [job for job, _ in self._live_blocks()]
        for trial in range(_CANCEL_TRIALS):
            if not jobs:
                break
            time.sleep(0.2 * trial)
            with suppress(Exception):
                cancelled = self._provider.cancel(jobs)
                jobs = [job for job, done in zip(jobs, cancelled, strict=True) if not done]
        return [] if self._setup.is_local else jobs


def _role(pid: int, line: str) -> str:
    """Return what a process of Parsl is, by its command line."""
    if "gasearch.execution.parsl.guard" in line:
        return "guard"
    if "interchange" in line:
        return "interchange"
    if "multiprocessing.resource_tracker" in line:
        return "helper"
    if "multiprocessing" in line:
        with suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
            return "worker" if name in ("relaxing", "waiting") else "helper"
    return "manager" if "process_worker_pool" in line and "bash" not in line else "block"


def _log_to(path: Path | None) -> None:
    """Write warnings of Parsl into a file, and nowhere else; into none any more if None."""
    logger = logging.getLogger("parsl")
    for old in [h for h in logger.handlers if isinstance(h, logging.FileHandler)]:
        logger.removeHandler(old)
        old.close()
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False

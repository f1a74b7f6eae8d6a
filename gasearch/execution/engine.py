"""What runs relaxations and long programs for one search or several: the engine, and its makers.

An engine is disposable: the database is the truth, and whatever an engine loses is proposed again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from gasearch.execution.contract import Executor, PotentialSource
from gasearch.execution.settings import ExecutionSection
from gasearch.run_folder import RunFolder

JobState = Literal["waiting", "running", "ended", "lost"]


@dataclass(frozen=True)
class Order:
    """What one search wants of an engine.

    Parameters
    ----------
    source
        The potential, which each worker loads once and keeps.
    folder
        Of the run; `engine.json` is written there.
    log
        File that warnings and tracebacks of workers are appended to.
    in_flight
        Candidates that the search has under way at once.
    places
        Structures that a worker relaxes at once; 1 where each is to be relaxed by itself.
    wall_limit_s
        A relaxation that takes longer is killed.
    in_process
        Makes an executor in this process, for an engine without workers.
    """

    source: PotentialSource
    folder: RunFolder
    log: Path
    in_flight: int
    places: int
    wall_limit_s: float
    in_process: Callable[[], Executor]


@dataclass(frozen=True)
class Resources:
    """What a long program needs.

    Parameters
    ----------
    nodes
        Machines.
    ranks
        MPI ranks in all.
    cpus_per_rank
        Cores, or threads, of each.
    gpus_per_node
        Accelerators of each machine.
    walltime
        Hours, minutes and seconds, such as "24:00:00"; "" leaves it to the scheduler.
    """

    nodes: int = 1
    ranks: int = 1
    cpus_per_rank: int = 1
    gpus_per_node: int = 0
    walltime: str = ""


@dataclass(frozen=True)
class JobRequest:
    """A long program that runs by itself, such as a DFT code, and that outlives its driver.

    Parameters
    ----------
    command
        As its arguments are; run in `folder`.
    folder
        Where it works; what it prints is appended to `log_name` there.
    environment
        Variables beside those that are inherited.
    name
        For the scheduler's list.
    """

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = Resources()
    name: str = "gasearch"
    log_name: str = "job.log"


class JobHandle(Protocol):
    """A program that was submitted, by this driver or by an earlier one."""

    @property
    def record(self) -> dict[str, Any]:
        """What names the job for good, as JSON: keep it, and `Engine.find_job` finds it again."""
        ...

    @property
    def exit_status(self) -> int | None:
        """How the program ended, negative for a signal; None where that is not known."""
        ...

    def poll(self) -> JobState:
        """Return where it is; "lost" where the scheduler does not know it any more."""
        ...

    def cancel(self) -> None:
        """End it, with all that it started; without effect where it has ended."""
        ...


@dataclass(frozen=True)
class Workers:
    """The workers of an engine at one moment.

    Parameters
    ----------
    connected
        Worker processes that are ready, or relax something.
    busy
        Those that relax something.
    most
        How many there may be.
    waiting
        Relaxations that wait for a worker.
    under_way
        Relaxations that a worker has.
    note
        What is wrong, such as what the scheduler answers; "" where nothing is.
    """

    engine: str
    provider: str
    connected: int = 0
    busy: int = 0
    most: int = 0
    waiting: int = 0
    under_way: int = 0
    note: str = ""


class Engine(Protocol):
    """Runs the relaxations of one search or several, and long programs.

    Its methods may be called from several threads, those of one executor from one at a time.
    """

    def executor(self, order: Order) -> Executor:
        """Return what runs the relaxations of one search; workers are shared fairly by searches.

        No search waits while another holds more than its share.
        """
        ...

    def submit_job(self, request: JobRequest) -> JobHandle:
        """Start a long program with resources of its own; it goes on when this driver ends."""
        ...

    def find_job(self, record: Mapping[str, Any]) -> JobHandle | None:
        """Return a job that was submitted earlier, or None where the record names none."""
        ...

    def workers(self) -> Workers:
        """Return how many workers there are, and what they do."""
        ...

    def close(self) -> None:
        """End all workers, at once; jobs go on."""
        ...


def open_engine(section: ExecutionSection, folder: RunFolder) -> Engine:
    """Return the engine that [execution] of a run.toml names, after ending orphans.

    Parameters
    ----------
    folder
        Where what an earlier driver left is looked up, and where the engine keeps its files.
    """
    from gasearch.execution.local_engine import LocalEngine
    from gasearch.execution.orphans import end_orphans

    end_orphans(folder, section)
    if section.engine == "local":
        return LocalEngine(section)
    from gasearch.execution.parsl_engine import ParslEngine

    return ParslEngine(section, folder)

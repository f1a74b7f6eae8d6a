"""What a search and what runs its relaxations agree on: tasks, events, executors, engines, jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from ase import Atoms

from gasearch.errors import GasearchError
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

if TYPE_CHECKING:
    from gasearch.store.records import Lease  # with the database, which workers never see


class ExecutionError(GasearchError, RuntimeError):
    """Workers or jobs that cannot be started, whatever the candidate."""


@dataclass(frozen=True)
class PotentialSource:
    """What a worker needs to load the potential itself.

    Parameters
    ----------
    name
        As in run.toml.
    folder
        Where relative files are looked up.
    species
        Which slot of a foreign model stands for which species, such as {"Fe3+": "Ga"}.
    reader
        Who reads moments off relaxed structures, as in run.toml: "own" or "chgnet".
    device
        As torch writes it.
    limits
        File that remembers how much fits into a batch.
    calibration
        Of a hold, as `Calibration.to_json` writes it; None for a potential that is not held.
    windows
        Of the reader on the host, as `Windows.to_json` writes them; None for those it comes with.
    """

    name: str
    folder: Path
    species: Mapping[str, str | int]
    device: str = "cpu"
    limits: Path | None = None
    reader: str = "own"
    calibration: Mapping[str, Any] | None = None
    windows: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class RelaxationTask:
    """One relaxation.

    Parameters
    ----------
    atoms
        Start structure, labels set.
    """

    lease: Lease
    atoms: Atoms
    settings: RelaxSettings


@dataclass(frozen=True, eq=False)
class Finished:
    """A relaxation that ended, well or not."""

    task: RelaxationTask
    relaxed: Relaxed


@dataclass(frozen=True, eq=False)
class Slow:
    """A relaxation under way that took more than `long_calls` force calls."""

    task: RelaxationTask


@dataclass(frozen=True, eq=False)
class Crashed:
    """A relaxation that took its worker down all alone, or was killed at its time limit.

    Parameters
    ----------
    n_calls
        Force calls that are known to have been made: `long_calls` + 1 once it was slow, else 0.
    """

    task: RelaxationTask
    reason: str
    n_calls: int


@dataclass(frozen=True, eq=False)
class Missing:
    """A relaxation that did not come back before its lease was over, with others beside it."""

    task: RelaxationTask
    reason: str


TaskEvent: TypeAlias = Finished | Slow | Crashed | Missing


class Executor(Protocol):
    """Runs tasks, some at once; it never sees the database."""

    def submit(self, task: RelaxationTask) -> None:
        """Take a task; it starts when a place is free."""
        ...

    def wait(self, timeout_s: float) -> Sequence[TaskEvent]:
        """Return what happened since, waiting at most so long for the first of it."""
        ...

    def age_s(self, task: RelaxationTask) -> float | None:  # noqa: ARG002
        """Return for how long a worker has had a task.

        None where none has it yet, or where the executor itself ends what takes too long.
        """
        return None

    def abandon(self, task: RelaxationTask) -> bool:  # noqa: ARG002
        """Expect no more of a task that a worker has; return whether it has no other beside it.

        Its result is returned by `wait` all the same, should it come. Called only for tasks whose
        `age_s` is known.
        """
        return False

    def close(self) -> None:
        """Give up everything that is under way, at once."""
        ...


JobState = Literal["waiting", "running", "ended", "lost"]


@dataclass(frozen=True)
class ExecutorRequest:
    """What one search wants of an engine.

    Parameters
    ----------
    source
        The potential, which each worker loads once and keeps.
    folder
        Of the run; `engine.json` is written there.
    log
        File that warnings and tracebacks of workers are appended to.
    places
        Structures that a worker relaxes at once; 1 where each is to be relaxed by itself.
    wall_limit_s
        A relaxation that takes longer is killed.
    in_process
        Makes an executor in this process, for an engine without workers.
    """

    source: PotentialSource
    folder: Path
    log: Path
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
        """What identifies the job, as JSON: a later driver passes it to `find_job`."""
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
    """Runs the relaxations of one search or several.

    Its methods may be called from several threads, those of one executor from one at a time.
    """

    def executor(self, request: ExecutorRequest) -> Executor:
        """Return what runs the relaxations of one search; workers are shared fairly by searches.

        No search waits while another holds more than its share.
        """
        ...

    def workers(self) -> Workers:
        """Return how many workers there are, and what they do."""
        ...

    def close(self) -> None:
        """End all workers, at once."""
        ...

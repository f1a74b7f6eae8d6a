"""Where Parsl gets its workers from: this machine, a scheduler, or a file of the user's."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gasearch import processes
from gasearch.errors import UsageError
from gasearch.execution.contract import ExecutionError, Resources
from gasearch.run.execution_section import PROVIDERS, ExecutionSection

if TYPE_CHECKING:
    from parsl.executors import HighThroughputExecutor
    from parsl.launchers.base import Launcher
    from parsl.providers.base import ExecutionProvider

LABEL = "relaxations"
_ANY_NUMBER = 1e-6  # of cores per worker: max_workers_per_node says how many there are


class ProviderError(UsageError):
    """A provider that cannot be made from what [execution] says."""


@dataclass(frozen=True, eq=False)
class ParslSetup:
    """An executor of Parsl that was not started, and how it grows and shrinks.

    Parameters
    ----------
    is_local
        Whether its blocks are processes of this machine.
    """

    executor: HighThroughputExecutor
    strategy: str
    max_idle_s: float
    is_local: bool


def first_line(text: object) -> str:
    """Return the first line of an error or a message, or the name of its type where it has none."""
    return next(iter(str(text).strip().splitlines()), type(text).__name__)


def require_parsl() -> None:
    """Raise one line where Parsl is not installed."""
    try:
        import parsl  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "parsl":
            raise
        raise ExecutionError(
            'engine = "parsl": no Parsl here; try: pip install "gasearch[parsl]"'
        ) from error


def make_setup(section: ExecutionSection, folder: Path) -> ParslSetup:
    """Return the executor that [execution] describes."""
    if section.provider in PROVIDERS:
        return _setup_of_section(section)
    return _setup_of_user(section, folder)


def _setup_of_section(section: ExecutionSection) -> ParslSetup:
    from parsl.executors import HighThroughputExecutor

    is_local = section.provider == "local"
    has_gpus = section.gpus_per_node and section.device != "cpu"
    executor = HighThroughputExecutor(
        label=LABEL,
        provider=make_provider(section),
        address="127.0.0.1" if is_local else None,
        max_workers_per_node=section.workers_per_node,
        cores_per_worker=_ANY_NUMBER,
        available_accelerators=section.gpus_per_node if has_gpus else (),
        heartbeat_period=1 if is_local else 10,
        heartbeat_threshold=12 if is_local else 60,
        block_error_handler=False,
        launch_cmd=_guarded_manager(),
        interchange_launch_cmd=_guarded_interchange(),
    )
    return ParslSetup(executor, "simple", 120.0, is_local)


def _setup_of_user(section: ExecutionSection, folder: Path) -> ParslSetup:
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.executors.high_throughput.executor import (
        DEFAULT_INTERCHANGE_LAUNCH_CMD,
        DEFAULT_LAUNCH_CMD,
    )
    from parsl.jobs.error_handlers import noop_error_handler
    from parsl.providers import LocalProvider

    config = _load(section.provider, folder)
    what = f'execution.provider = "{section.provider}"'
    if not isinstance(config, Config):
        raise ProviderError(f"{what} returned {type(config).__name__}, not a parsl.Config.")
    executor = config.executors[0]
    if len(config.executors) != 1 or not isinstance(executor, HighThroughputExecutor):
        raise ProviderError(f"{what}: its Config needs one executor, a HighThroughputExecutor.")
    executor.block_error_handler = noop_error_handler
    if executor.launch_cmd == DEFAULT_LAUNCH_CMD:
        executor.launch_cmd = _guarded_manager()
    if list(executor.interchange_launch_cmd) == list(DEFAULT_INTERCHANGE_LAUNCH_CMD):
        executor.interchange_launch_cmd = _guarded_interchange()
    is_local = isinstance(executor.provider, LocalProvider)
    return ParslSetup(executor, config.strategy or "none", config.max_idletime, is_local)


def _load(named: str, folder: Path) -> Any:
    from gasearch.plugins import load_plugin

    function = load_plugin("provider", named, folder)
    try:
        return function()
    except Exception as error:
        problem = f"{type(error).__name__}: {first_line(error)}"
        raise ProviderError(f'execution.provider = "{named}" fails: {problem}') from error


def make_provider(
    section: ExecutionSection, resources: Resources | None = None
) -> ExecutionProvider:
    """Return the provider of blocks of workers; or one for a long program, with its resources."""
    from parsl.providers import LocalProvider, LSFProvider, PBSProProvider, SlurmProvider

    nodes = section.nodes if resources is None else resources.nodes
    several = resources is None and nodes > 1  # a long program starts its own ranks
    blocks = {"init_blocks": 1, "min_blocks": section.min_blocks, "max_blocks": section.max_blocks}
    common: dict[str, Any] = {
        "nodes_per_block": nodes,
        "worker_init": start_lines(section, for_workers=resources is None),
        "launcher": _launcher(section.provider if several else "local"),
        **blocks,
    }
    if section.provider == "local":
        return LocalProvider(**common)
    gpus = section.gpus_per_node if resources is None else resources.gpus_per_node
    cpus = _cpus_per_node(resources) if resources else section.cpus_per_node
    cpus = cpus or section.workers_per_node
    walltime = (resources.walltime if resources else "") or section.walltime
    common |= {"walltime": walltime, "scheduler_options": section.scheduler_options}
    if section.provider == "slurm":
        return SlurmProvider(
            partition=section.partition or None,
            account=section.account or None,
            gpus_per_node=gpus or None,
            cores_per_node=cpus,
            exclusive=False,
            cmd_timeout=60,
            **common,
        )
    if section.provider == "pbs":
        return PBSProProvider(
            queue=section.partition or None,
            account=section.account or None,
            cpus_per_node=cpus,
            select_options=f"ngpus={gpus}" if gpus else "",
            **common,
        )
    options = section.scheduler_options + (f"\n#BSUB -gpu num={gpus}" if gpus else "")
    common["scheduler_options"] = options.strip()
    return LSFProvider(
        queue=section.partition or None,
        project=section.account or None,
        cores_per_node=cpus,
        **common,
    )


def _launcher(provider: str) -> Launcher:
    """Return what starts one manager on each node of a block."""
    from parsl import launchers

    kinds: dict[str, type[Launcher]] = {
        "slurm": launchers.SrunLauncher,
        "pbs": launchers.MpiExecLauncher,
        "lsf": launchers.JsrunLauncher,
    }
    launcher: Launcher = kinds.get(provider, launchers.SimpleLauncher)()
    return launcher


def _cpus_per_node(resources: Resources) -> int:
    return -(-resources.ranks // resources.nodes) * resources.cpus_per_rank


def start_lines(section: ExecutionSection, *, for_workers: bool) -> str:
    """Return the lines of shell before a program starts on a node: those of the user first.

    The programs of Parsl are found where this Python is; numerics of a worker use one thread.
    """
    lines = [section.worker_init] if section.worker_init else []
    lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
    if for_workers:
        lines += [f"export {name}=1" for name in processes.ONE_THREAD]
    return "\n".join(lines)


def _guarded_manager() -> str:
    """Return the launch command of managers, which knows its driver only on its own machine."""
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    guard = f"python -m gasearch.execution.parsl.guard --again --driver {_driver()} -- "
    return guard + DEFAULT_LAUNCH_CMD


def _guarded_interchange() -> list[str]:
    guard = [sys.executable, "-m", "gasearch.execution.parsl.guard", "--driver", _driver(), "--"]
    return [*guard, sys.executable, str(Path(sys.executable).with_name("interchange.py"))]


def _driver() -> str:
    own = processes.identity()
    return f"{own['host']},{own['pid']},{own['started']}"

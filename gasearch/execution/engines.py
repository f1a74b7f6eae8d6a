"""Engines are opened here: what runs the relaxations of one search or several.

An engine is disposable: the database is the truth, and whatever an engine loses is proposed again.
"""

from __future__ import annotations

from pathlib import Path

from gasearch.execution.contract import Engine
from gasearch.execution.engine_file import read_engine_file, remove_engine_file
from gasearch.processes import end_processes
from gasearch.run.execution_section import ExecutionSection


def open_engine(section: ExecutionSection, folder: Path) -> Engine:
    """Return the engine that [execution] of a run.toml names, after ending orphans.

    Parameters
    ----------
    folder
        Of the run: what an earlier driver left is looked up there, and the engine's files go there.
    """
    from gasearch.execution.local.engine import LocalEngine

    end_orphans(folder, section)
    if section.engine == "local":
        return LocalEngine(section)
    from gasearch.execution.parsl.engine import ParslEngine

    return ParslEngine(section, folder)


def end_orphans(folder: Path, section: ExecutionSection) -> int:
    """End what a dead driver of this run folder left, and return how many that were.

    A driver that lives keeps what it has. On this machine a process is ended only if host, boot,
    pid, start time and command line are those that were recorded; jobs of a scheduler are cancelled
    by their numbers.
    """
    record = read_engine_file(folder)
    if record is None or record.is_current:
        return 0
    n_ended = end_processes(record.processes)
    if record.jobs:
        from gasearch.execution.parsl.jobs import cancel_jobs

        n_ended += cancel_jobs(section, folder, record.provider, record.jobs)
    remove_engine_file(folder)
    return n_ended

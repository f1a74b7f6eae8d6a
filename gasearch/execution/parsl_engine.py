"""Parsl as an engine: batches of relaxations on the nodes of a cluster, or on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gasearch.execution.contract import ExecutionError, Executor
from gasearch.execution.engine import JobHandle, JobRequest, Order, Workers
from gasearch.execution.settings import ExecutionSection
from gasearch.run_folder import RunFolder


class ParslEngine:
    """Not here yet."""

    def __init__(self, section: ExecutionSection, folder: RunFolder) -> None:  # noqa: ARG002
        raise ExecutionError('engine = "parsl" is not in this version yet; use "local".')

    def executor(self, order: Order) -> Executor:
        """Return the executor of one search."""
        raise NotImplementedError

    def submit_job(self, request: JobRequest) -> JobHandle:
        """Start a long program."""
        raise NotImplementedError

    def find_job(self, record: Mapping[str, Any]) -> JobHandle | None:
        """Return a job that was submitted earlier."""
        raise NotImplementedError

    def workers(self) -> Workers:
        """Return how many workers there are."""
        raise NotImplementedError

    def close(self) -> None:
        """End all workers."""

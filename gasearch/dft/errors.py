"""What can go wrong with DFT jobs; each text says what was found and what to do."""

from __future__ import annotations

from pathlib import Path

from gasearch.errors import GasearchError, UsageError


class DftError(GasearchError, RuntimeError):
    """Base of the errors of DFT jobs."""


class NoCodeError(DftError, LookupError):
    """A code that is not installed."""


class JobRunningError(DftError):
    """A job, or a whole `gasearch dft run`, that is under way already."""


class JobFolderError(DftError):
    """A folder under RUN/dft that is no job, or no longer whole."""


class UnknownJobError(UsageError, LookupError):
    """A path, candidate or level that belongs to no job."""


class RefusedOutputError(DftError, ValueError):
    """An output that is not collected.

    Parameters
    ----------
    path
        The file or folder.
    problem
        What is wrong with it, and what to do.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path} is not collected: {self.problem}."


class NoOutputError(RefusedOutputError):
    """A job that has no output yet."""

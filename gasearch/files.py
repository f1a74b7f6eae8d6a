"""New files: complete or not there at all, never in place of another, and errors in one line."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gasearch.errors import GasearchError, UsageError


class OutputError(GasearchError, RuntimeError):
    """A file or folder that the operating system does not let us write."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path = path
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.path} cannot be written ({self.cause}): name another place, or make room."


def refuse_existing(path: Path) -> None:
    """Refuse to write over what is there."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already: name another one, or remove it.")


def make_folder(path: Path) -> None:
    """Make a folder, with those that it lies in, unless it is there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(path, "it is a file, not a folder") from error
    except OSError as error:
        raise OutputError(path, _cause(error)) from error


@contextmanager
def written(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a path beside `path` to write to; what is there at the end gets its name.

    Parameters
    ----------
    replace
        Whether it may take the place of a file.
    """
    if path.is_dir() or not replace:
        refuse_existing(path)
    make_folder(path.parent)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except (OSError, sqlite3.Error) as error:
        raise OutputError(path, _cause(error)) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _cause(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)

"""New files: complete or not there at all, never in place of another, and errors in one line.

Names of files that are made from data go through `name_from` and `inside`, and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gasearch.errors import GasearchError, UsageError

_IN_NAMES = frozenset(string.ascii_letters + string.digits + "_-+=.,")
_LONGEST_NAME = 120


class OutsideError(GasearchError, ValueError):
    """A path, made from data, that leaves its folder."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.folder = folder
        self.name = name

    def __str__(self) -> str:
        return (
            f"{self.name!r} leads out of {self.folder}, expected a place in it: what it was read "
            "from is damaged, or a stranger's; nothing was read or written there."
        )


def name_from(text: str) -> str:
    """Return a file's name made from data: letters, digits and ``_-+=.,`` as they are.

    Anything else, a dot or hyphen in front and what is too long give way to "_" and a hash of
    `text`, so that different texts have different names.
    """
    kept = "".join(letter if letter in _IN_NAMES else "_" for letter in text[:_LONGEST_NAME])
    if kept == text and kept and kept[0] not in ".-" and kept[-1] != ".":
        return kept
    digest = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
    return f"{kept.strip('.-')}_{digest[:8]}"


def inside(folder: Path, name: str) -> Path:
    """Return a path below a folder, or raise `OutsideError` for one that leads out of it.

    Links that lie in the folder already are the user's own, and are followed.
    """
    if Path(os.path.normpath(name)).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise OutsideError(folder, name)
    return folder / name


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


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file that is there whole, on the disk, or not at all; replaces an older one."""
    with written(path, replace=True) as partial, partial.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=2, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _cause(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)

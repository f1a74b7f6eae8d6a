"""Copies of the database, made while a search runs."""

from __future__ import annotations

import re
import time
from pathlib import Path

from gasearch.store.errors import DatabaseExistsError
from gasearch.store.sqlite.database import Database, copy_database


def backup(database: Database, path: Path) -> None:
    """Copy the file to a new place through SQLite's backup, which waits for writers."""
    if path.exists():
        raise DatabaseExistsError(path, "exists already", "choose another name for the backup")
    copy_database(database, path)


def backup_if_due(database: Database, folder: Path, every_s: float, keep: int) -> Path | None:
    """Make a backup unless there is one younger than `every_s`; keep the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = database.path.stem
    mine = _made(folder, stem)
    if mine and time.time() - mine[-1].stat().st_mtime < every_s:
        return None
    path = _free_name(folder, stem)
    copy_database(database, path)
    for old in [*mine, path][: -max(keep, 1)]:
        old.unlink(missing_ok=True)
    for rest in folder.glob(f".{stem}-*.partial"):
        rest.unlink(missing_ok=True)
    return path


def _free_name(folder: Path, stem: str) -> Path:
    """Return a name with the time in it, which sorts after all earlier ones."""
    while True:
        path = folder / f"{stem}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.db"
        if not path.exists():
            return path
        time.sleep(0.1)


def _made(folder: Path, stem: str) -> list[Path]:
    """Return the backups of that database, oldest first; other files are left alone."""
    pattern = re.compile(re.escape(stem) + r"-\d{8}-\d{6}\.db")
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))

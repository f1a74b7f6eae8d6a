"""Pickles: files that can run code when they are opened, and what it takes to open one here.

Checkpoints of gasearch are no pickles. Those of other packages are: a MACE `.model`, a CHGNet
`.pth.tar`, a schnetpack model. Such a file is opened only if the user recorded its sha256 before,
by `gasearch potential trust FILE`. A change of one byte takes the trust away.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gasearch.errors import UsageError

_WARNING = """\
{path} can run code when it is opened: it is a Python pickle, and its maker can put any program in.
That program could read, change or delete all that you can, and nothing would show it.
Trust it only if you made it, or if you know and trust who did and how it came to you.
gasearch will open it with this content (sha256 {digest}) and no other.
"""


class UntrustedFileError(UsageError):
    """A pickle that the user did not vouch for."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"{self.path} was not opened: it is a pickle, which can run any code when opened. "
            f"If you know and trust its maker, run: gasearch potential trust {self.path}"
        )


class ChangedFileError(UsageError):
    """A file that is another one now than the one that the user was asked about."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} has changed since it was shown to you; it is not trusted. Look again."


class TrustRecordError(UsageError):
    """A record of trusted files that cannot be used."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"the record of trusted files {self.path} {self.problem}; correct or delete it."


def record_path() -> Path:
    """Return where trust is recorded: in the user's configuration folder, by the XDG rules."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "gasearch" / "trusted.json"


def meaning(path: Path) -> str:
    """Return in words what it means to trust this file; to be shown before `trust`."""
    return _WARNING.format(path=path, digest=_digest(path.read_bytes()))


def trust(path: Path, shown: str | None = None) -> str:
    """Record that the user trusts the content of a file; return its sha256. Opens nothing.

    Parameters
    ----------
    shown
        The text of `meaning` that the user agreed to, for this content and no other.
    """
    record = record_path()
    digest = _digest(path.read_bytes())
    if shown is not None and digest not in shown:
        raise ChangedFileError(str(path))
    known = _recorded(record)
    known[digest] = {
        "file": str(path.resolve()),
        "since": datetime.now(UTC).isoformat("T", "seconds"),
    }
    record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = record.with_name(f".{record.name}.{os.getpid()}")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(known, indent=2) + "\n")
    partial.replace(record)
    return digest


def read_trusted(path: Path) -> bytes:
    """Return the content of a trusted pickle, or raise `UntrustedFileError`.

    What is unpickled must be these bytes and not the file again, which may have changed since.
    """
    content = path.read_bytes()
    if _digest(content) not in _recorded(record_path()):
        raise UntrustedFileError(str(path))
    return content


def _recorded(record: Path) -> dict[str, Any]:
    """Return what is trusted, by sha256."""
    if not record.exists():
        return {}
    try:
        known = json.loads(record.read_text())
    except (OSError, ValueError) as error:
        raise TrustRecordError(str(record), f"cannot be read ({error})") from error
    if not isinstance(known, dict):
        raise TrustRecordError(str(record), "is no JSON object")
    return known


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

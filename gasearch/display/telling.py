"""From an error to the one line that its user gets, and the exit status."""

from __future__ import annotations

import errno
import tempfile
import traceback

import typer
from rich.console import Console
from typer.exceptions import TyperException

from gasearch.display.shortage import is_shortage, shortage_line
from gasearch.errors import GasearchError, UsageError

_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_MEND = "make room on the disk or mend its permissions; nothing that was committed is lost"


def tell(error: BaseException, err: Console) -> int:
    """Print one line for an error, and return the exit status."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, TyperException):
        err.print(_usage_line(error))
        return 2
    if isinstance(error, typer.Abort | KeyboardInterrupt):
        err.print("gasearch: interrupted; nothing that was committed is lost")
        return 1
    if isinstance(error, GasearchError):
        err.print(f"gasearch: {_one_line(str(error))}")
        return 2 if isinstance(error, UsageError) else 1
    if is_shortage(error):
        err.print(f"gasearch: {shortage_line(error)}; nothing that was committed is lost")
        return 1
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        where = error.filename or "a file"
        err.print(f"gasearch: {where} cannot be used ({error.strerror}): {_MEND}")
    else:
        err.print(f"gasearch: {_report(error)}")
    return 1


def _usage_line(error: TyperException) -> str:
    message = error.format_message()
    if "\n" in message:  # the help, where there is no command
        return message
    command = getattr(getattr(error, "ctx", None), "command_path", "gasearch")
    return f"gasearch: {_one_line(message).rstrip('.')}; see: {command} --help"


def _report(error: BaseException) -> str:
    """Return a line for a bug, whose traceback goes to a file, not to the user."""
    what = _one_line(f"unexpected {type(error).__name__}: {error}").rstrip(".")
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="gasearch-", suffix=".log", delete=False, encoding="utf-8"
        ) as file:
            traceback.print_exception(error, file=file)
    except OSError:
        return f"{what}. Nothing committed is lost; there is no room for a report of it."
    return f"{what}. Nothing committed is lost; please report it with {file.name}"


def _one_line(text: str) -> str:
    return " ".join(text.split())

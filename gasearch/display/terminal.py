"""Consoles, and the one line and exit status of an error.

Light, so that the command line is there before anything heavy is imported.
"""

from __future__ import annotations

import errno
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from typer.exceptions import TyperException

from gasearch.display.shortage import is_shortage, shortage_line
from gasearch.errors import GasearchError, UsageError

_NARROWEST = 80  # columns; on a narrower terminal, lines run on instead of losing digits
_UNLIMITED = 10_000  # where no terminal limits it
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


_CONTROLS = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\n\t"
}
"""What moves a cursor, changes a terminal, or turns the direction of writing."""


def printable(text: str) -> str:
    """Return text without what a terminal would obey: it may come from a stranger's file."""
    return text.translate(_CONTROLS)


class _Console(Console):
    """A console on which data can only ever be read."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is, and as wide as it is in a file or a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    on_terminal = stream is not None and stream.isatty()
    columns = shutil.get_terminal_size().columns if on_terminal else _UNLIMITED
    return _Console(
        stderr=stderr,
        width=max(columns, _NARROWEST),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def is_screen(console: Console) -> bool:
    """Return whether what a console shows can be overwritten, as a bar of progress is."""
    return console.file.isatty() and not console.is_dumb_terminal


def report_error(error: BaseException, err: Console) -> int:
    """Print one line for an error, and return the exit status.

    An error that nobody expected has its traceback in a file, which the line names.
    """
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, TyperException):
        err.print(_usage_line(error))
        return 2
    if isinstance(error, typer.Abort | KeyboardInterrupt):
        line = "interrupted; nothing that was committed is lost"
    elif isinstance(error, GasearchError):
        line = _one_line(str(error))
    elif is_shortage(error):
        line = f"{shortage_line(error)}; nothing that was committed is lost"
    elif isinstance(error, OSError) and error.errno in _REFUSALS:
        line = (
            f"{error.filename or 'a file'} cannot be used ({error.strerror}): make room on the "
            "disk or correct its permissions; nothing that was committed is lost"
        )
    else:
        line = _line_of_a_bug(error)
    err.print(f"gasearch: {line}")
    return 2 if isinstance(error, UsageError) else 1


def _usage_line(error: TyperException) -> str:
    message = error.format_message()
    if "\n" in message:  # the help, where there is no command
        return message
    command = getattr(getattr(error, "ctx", None), "command_path", "gasearch")
    return f"gasearch: {_one_line(message).rstrip('.')}; see: {command} --help"


def _line_of_a_bug(error: BaseException) -> str:
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

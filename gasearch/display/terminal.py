"""Consoles. Light, so that the command line is there before anything heavy is imported."""

from __future__ import annotations

import shutil
import sys

from rich.console import Console

_NARROWEST = 80  # columns; on a narrower terminal, lines run on instead of losing digits
_UNLIMITED = 10_000  # where no terminal limits it


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is, and as wide as it is in a file or a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    is_screen = stream is not None and stream.isatty()
    columns = shutil.get_terminal_size().columns if is_screen else _UNLIMITED
    return Console(
        stderr=stderr,
        width=max(columns, _NARROWEST),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )

"""Consoles. Light, so that the command line is there before anything heavy is imported."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

_NARROWEST = 80  # columns; on a narrower terminal, lines run on instead of losing digits
_UNLIMITED = 10_000  # where no terminal limits it


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
    is_screen = stream is not None and stream.isatty()
    columns = shutil.get_terminal_size().columns if is_screen else _UNLIMITED
    return _Console(
        stderr=stderr,
        width=max(columns, _NARROWEST),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )

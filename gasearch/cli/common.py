"""What the commands share: options, the consoles, opening a run, JSON or text."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gasearch.display.terminal import make_console

# What is heavy is imported by the commands: their errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from gasearch.analysis.findings import Findings

out = make_console()
err = make_console(stderr=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Plot = Annotated[
    Path | None, typer.Option(help="Write a figure (png, pdf, svg); replaces an older one.")
]


def command_group(help: str) -> typer.Typer:  # noqa: A002 -- typer's name
    """Return a group of commands, such as `gasearch dft`."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=help)


def open_findings(folder: Path) -> AbstractContextManager[Findings]:
    """Open the database of a run that was started."""
    from gasearch.analysis.findings import read_run

    return read_run(folder)


def print_json(document: object) -> None:
    """Print one JSON document on stdout."""
    from gasearch.display.tables import as_json

    out.file.write(as_json(document) + "\n")
    out.file.flush()


def print_result(document: object, *shown: object, json: bool, notes: Iterable[str] = ()) -> None:
    """Print a result as JSON alone, or as lines and tables on stdout with notes on stderr."""
    if json:
        print_json(document)
        return
    for one in shown:
        out.print(one)
    for note in notes:
        err.print(note)


@contextmanager
def on_stop_signals(act: Callable[[], None]) -> Iterator[None]:
    """Call a function at SIGINT and SIGTERM for as long as the block runs."""
    before = {
        number: signal.signal(number, lambda *_: act())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

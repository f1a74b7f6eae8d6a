"""`gasearch doctor`: tries a configuration before a queue is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gasearch.display.terminal import make_console

# What is heavy is imported by the command: its errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from gasearch.doctor.checks import Check

out = make_console()


def doctor(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.")],
    engine: Annotated[
        bool,
        typer.Option(
            "--engine/--no-engine",
            help="Start a worker and relax one structure, or leave that out.",
        ),
    ] = True,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """Try a configuration before it waits in a queue.

    Changes nothing in the run. Exit status 1 if a search would fail.
    """
    from dataclasses import asdict

    from gasearch.display.search_tables import as_json
    from gasearch.doctor.checks import has_failed
    from gasearch.doctor.examine import examine
    from gasearch.run.folder import RunFolder

    found = list(_told(examine(RunFolder(folder), engine), silent=json))
    if json:
        out.file.write(as_json([asdict(check) for check in found]) + "\n")
        out.file.flush()
    if has_failed(found):
        raise typer.Exit(1)


def _told(checks: Iterator[Check], silent: bool) -> Iterator[Check]:
    """Yield the checks, each after its line was printed."""
    for check in checks:
        if not silent:
            advice = f": {check.advice}" if check.advice else ""
            out.print(f"{check.state:<5} {check.name:<11} {check.found}{advice}")
        yield check

"""`gasearch doctor`: tries a configuration before a job waits in a queue."""

from __future__ import annotations

from typing import Annotated

import typer

from gasearch.cli.common import Folder, Json, out, print_json


def doctor(
    folder: Folder,
    engine: Annotated[
        bool,
        typer.Option(
            "--engine/--no-engine",
            help="Start a worker and relax one structure, or leave that out.",
        ),
    ] = True,
    json: Json = False,
) -> None:
    """Try a configuration before it waits in a queue.

    Changes nothing in the run. Exit status 1 if a search would fail.
    """
    from gasearch.doctor.checks import has_failed
    from gasearch.doctor.examine import examine
    from gasearch.run.folder import RunFolder

    checks = []
    for check in examine(RunFolder(folder), engine):
        checks.append(check)
        if not json:  # each as soon as it is known
            advice = f": {check.advice}" if check.advice else ""
            out.print(f"{check.state:<5} {check.name:<11} {check.found}{advice}")
    if json:
        print_json(checks)
    if has_failed(checks):
        raise typer.Exit(1)

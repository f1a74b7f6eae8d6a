"""`gasearch serve`, and `gasearch status --watch`: searches that run, in browser and terminal."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gasearch.cli.common import on_stop_signals, out, run_folders
from gasearch.display.terminal import is_screen
from gasearch.errors import UsageError

# What is heavy is imported by the commands: their errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from gasearch.run.folder import RunFolder

Folders = Annotated[
    list[Path], typer.Argument(metavar="FOLDER...", help="Run folders.", show_default=False)
]


def serve(
    folders: Folders,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Of 127.0.0.1; 0: any that is free.")
    ] = 8427,
    every: Annotated[
        float, typer.Option(min=0.5, metavar="SECONDS", help="Between two looks at the runs.")
    ] = 2.0,
) -> None:
    """Show searches in a browser, while they run.

    The page updates by itself. It only reads, a little at a time, and answers this machine alone;
    from elsewhere use ssh -L. Ctrl-C ends it.
    """
    from gasearch.serve.server import open_server

    server, watcher = open_server(run_folders(folders), port, every)
    stop = threading.Event()
    thread = threading.Thread(target=server.serve_forever, name="server", daemon=True)
    with on_stop_signals(stop.set):
        thread.start()
        out.print(f"open {server.address}")
        tunnel = f"ssh -L {server.server_port}:127.0.0.1:{server.server_port}"
        out.print(f"from another machine, first: {tunnel} THIS_MACHINE")
        out.print("Ctrl-C ends it; the searches go on")
        stop.wait()
    server.shutdown()
    server.server_close()
    watcher.close()


def watch_status(folder: RunFolder, every_s: float) -> None:
    """Show where a search stands again and again, on a screen of its own, until Ctrl-C.

    What was seen last stays on the terminal.
    """
    if not is_screen(out):
        raise UsageError("--watch needs a terminal, and this is none: leave it out.")
    from rich.live import Live

    from gasearch.serve.terminal import still
    from gasearch.serve.watching import LiveRun

    folder.open_store().close()  # what is wrong is said before anything is shown
    run, stop = LiveRun(folder), threading.Event()
    try:
        with (
            on_stop_signals(stop.set),
            Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
        ):
            while not stop.is_set():
                run.look(stop)
                live.update(still(run, f"every {every_s:g} s; Ctrl-C ends this"), refresh=True)
                stop.wait(every_s)
        out.print(still(run))
    finally:
        run.close()

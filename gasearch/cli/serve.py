"""`gasearch serve`: searches that run, in a browser."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from gasearch.cli.common import on_stop_signals, out

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

    server, watcher = open_server(folders, port, every)
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

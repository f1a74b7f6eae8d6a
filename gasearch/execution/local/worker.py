"""A worker process: `python -m gasearch.execution.local.worker FD` relaxes what a pipe brings.

It knows the potential and nothing of the search, and ends when its parent does. Through the pipe
come the potential's source and then (number, atoms, settings); back go ("ready", None) or
("unusable", why), and then ("started", numbers) and ("progress", what one step brought).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from gasearch.execution.contract import PotentialSource

if TYPE_CHECKING:
    from gasearch.execution.stream import Stream

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def main(descriptor: int) -> None:
    """Serve relaxations until the pipe closes."""
    connection = Connection(descriptor)
    _end_with_parent(os.getppid())
    source: PotentialSource = connection.recv()
    try:
        stream = _open(source, connection)
    except Exception as error:  # noqa: BLE001 -- whatever it is, the parent must hear of it
        connection.send(("unusable", f"{type(error).__name__}: {error}"))
        return
    connection.send(("ready", None))
    while True:
        try:
            while not len(stream) or connection.poll():
                stream.submit(*connection.recv())
        except EOFError:
            return
        progress = stream.step()
        if progress:
            connection.send(("progress", progress))


def _open(source: PotentialSource, connection: Connection) -> Stream:
    from gasearch.execution.stream import Stream, load_source

    potential, reader = load_source(source)

    def tell(numbers: list[int]) -> None:
        connection.send(("started", numbers))

    return Stream(potential, source.limits, tell, reader)


def _end_with_parent(parent: int) -> None:
    """End this process soon after its parent died, in the middle of an evaluation too."""
    if sys.platform == "linux":  # at once, and even where native code keeps all threads waiting
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))

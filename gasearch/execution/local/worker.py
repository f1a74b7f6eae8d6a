"""A worker process: `python -m gasearch.execution.local.worker FD` relaxes what a pipe brings.

It knows the potential and nothing of the search, and ends when its parent does. Through the pipe
come the potential's source and then (number, atoms, settings); back go ("ready", None) or
("unusable", why), and then ("started", numbers) and ("progress", what `Stream.step` returned).
"""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from gasearch.execution.contract import PotentialSource
from gasearch.processes import end_with_parent
from gasearch.relax.audit import reason_of

if TYPE_CHECKING:
    from gasearch.execution.stream import Stream


def main(descriptor: int) -> None:
    """Serve relaxations until the pipe closes."""
    connection = Connection(descriptor)
    end_with_parent()
    source: PotentialSource = connection.recv()
    try:
        stream = _open(source, connection)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- the parent reports it
        connection.send(("unusable", reason_of(error)))
        return
    connection.send(("ready", None))
    while True:
        try:
            while not len(stream) or connection.poll():
                stream.submit(*connection.recv())
        except EOFError:
            return
        slow, ended = stream.step()
        if slow or ended:
            connection.send(("progress", (slow, ended)))


def _open(source: PotentialSource, connection: Connection) -> Stream:
    from gasearch.execution.stream import Stream, load_source

    potential, reader = load_source(source)

    def on_start(numbers: list[int]) -> None:
        connection.send(("started", numbers))

    return Stream(potential, source.limits, on_start, reader)


if __name__ == "__main__":
    main(int(sys.argv[1]))

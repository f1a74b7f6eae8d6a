"""`gasearch learn`: search, DFT, training, and again; one command that goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gasearch.cli.common import Json, err, on_stop_signals, out, print_result

if TYPE_CHECKING:
    from gasearch.cli.dft import ProgressLine
    from gasearch.learning.folder import LearnFolder
    from gasearch.run.folder import RunFolder

_HOW = {
    "done": "done: predictions agree with DFT, and the hull stays",
    "rounds": "ended: as many rounds as rounds.most of {file} says; raise it to go on",
    "exhausted": "ended: all that the searches found and that is worth it has its DFT result; "
    "after more supercells, or a larger budget of the runs, remove plan.json and round.json of the "
    "last round to go on",
    "invalid": "ended: with this potential no crystal stays whole, so there is nothing to compute. "
    "A network that breaks crystals has learned too little: give it more in [geometries] and "
    "[train] of {file}, remove the folder of this round, and model and round.json of the one "
    "before, and go on with: gasearch learn {folder}",
    "stopped": "stopped cleanly; nothing is lost. Go on with: gasearch learn {folder}",
    "waiting": "go on with: gasearch learn {folder}",
}


def learn(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Folder with learn.toml and run.toml.", show_default=False
        ),
    ],
    status: Annotated[
        bool, typer.Option("--status", help="Only show the rounds so far, and the next step.")
    ] = False,
    go_on: Annotated[
        bool,
        typer.Option("--go-on", help="Go on without the external results that are not there."),
    ] = False,
    json: Json = False,
) -> None:
    """Learn a potential: search, DFT, train, search again.

    Each round is an ordinary run folder. Ctrl-C or SIGTERM ends it cleanly, and the same command
    goes on; `gasearch init FOLDER --learn` makes such a folder.
    """
    from gasearch.learning.folder import LearnFolder
    from gasearch.learning.settings import LEARN_FILE

    place = LearnFolder(folder)
    place.settings()
    ending = "" if status else _run(place, go_on, quiet=json)
    how = _HOW[ending].format(file=folder / LEARN_FILE, folder=place.quoted) if ending else ""
    _print(place, ending, how, json)


def _run(place: LearnFolder, go_on: bool, *, quiet: bool) -> str:
    from gasearch.cli.dft import ProgressLine
    from gasearch.learning.loop import Loop

    try:
        with ProgressLine() as line:
            return Loop(place, _Tools(line, quiet), go_on).run()
    except KeyboardInterrupt:
        return "stopped"


def _print(place: LearnFolder, ending: str, how: str, json: bool) -> None:
    from gasearch.display.tables import make_table
    from gasearch.learning import summary

    document = summary.learn_document(place)
    table = make_table(summary.COLUMNS, summary.rows(document), texts=summary.TEXTS)
    under_way = [] if ending else _under_way(document["under_way"])
    print_result(
        {**document, "ending": ending or None},
        *(["", table] if document["rounds"] else []),
        *under_way,
        *([f"\n{how}"] if how else []),
        json=json,
    )


def _under_way(found: Mapping[str, Any] | None) -> list[str]:
    """Return the line on the round that is not over."""
    if found is None:
        return []
    jobs = ", ".join(f"{n} {state}" for state, n in found["jobs"].items())
    return [f"\nround {found['round']} is under way: {found['phase']}{jobs and f' ({jobs})'}"]


class _Tools:
    """What a loop shows, and how its searches run: as `gasearch run` does it."""

    def __init__(self, line: ProgressLine, quiet: bool) -> None:
        self._line = line
        self._out = err if quiet else out

    def search(self, folders: Sequence[RunFolder]) -> None:
        from gasearch.cli.run import run_searches

        run_searches(folders, self._out, err)

    def say(self, line: str) -> None:
        self._out.print(line)

    def dft(self, text: str) -> None:
        self._line(text)

    @contextmanager
    def training(self, output: Path) -> Iterator[Callable[[Any], None]]:
        from gasearch.cli.potentials.train import step_of
        from gasearch.display.progress import displays
        from gasearch.files import make_folder

        make_folder(output)
        self._out.print(f"training {output}")
        with on_stop_signals(_interrupt), displays(self._out) as (display,):
            yield lambda progress: display.show(step_of(progress))


def _interrupt() -> None:
    """End a training where it is: files are replaced whole or not at all."""
    raise KeyboardInterrupt

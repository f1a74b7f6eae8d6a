"""What the commands share: options, the consoles, opening a run, JSON or text."""

from __future__ import annotations

import itertools
import math
import re
import shlex
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from gasearch.display.terminal import make_console
from gasearch.errors import UsageError

# What is heavy is imported by the commands: their errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from gasearch.analysis.findings import Findings
    from gasearch.run.host_file import HostReading

out = make_console()
err = make_console(stderr=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Plot = Annotated[
    Path | None, typer.Option(help="Write a figure (png, pdf, svg); replaces an older one.")
]

_SUPERCELL = "--supercell"
Supercell = Annotated[
    str | None,
    typer.Option(
        _SUPERCELL,
        metavar="A B C",
        help="Repeats of the unit cell; nine numbers for a matrix; 4 or '12 f.u.' for the most "
        "compact cell of so many unit cells or formula units.",
    ),
]
Cell = Annotated[
    str,
    typer.Option(
        metavar="primitive|file",
        help="Of a structure file: the primitive cell where its own is larger, or as it is.",
    ),
]
Symprec = Annotated[
    float | None,
    typer.Option(help="Average a noisy file to the symmetry that it has within this (Å)."),
]
Charges = Annotated[
    str,
    typer.Option(
        metavar="integer|delocalised",
        help="Of a structure file: oxidation states on sites, or the order of ions alone.",
    ),
]
Moving = Annotated[
    str | None,
    typer.Option(
        metavar="ELEMENT",
        help="What leaves its sites in a structure file; by default the alkali metal.",
    ),
]


def host_reading(cell: str, symprec: float | None, charges: str, moving: str | None) -> HostReading:
    """Return how a structure file is to be read; refuse what no option can be."""
    from gasearch.run.host_file import HostReading

    if cell not in ("primitive", "file"):
        raise UsageError(f"--cell {cell}: expected primitive or file.")
    if symprec is not None and not 0 < symprec < math.inf:
        raise UsageError(f"--symprec {symprec:g}: expected a distance above 0, in Å.")
    if charges not in ("integer", "delocalised"):
        raise UsageError(f"--charges {charges}: expected integer or delocalised.")
    return HostReading(cell, symprec, charges, moving)  # type: ignore[arg-type]


class SupercellCommand(TyperCommand):
    """A command whose option --supercell takes one, three or nine numbers, quoted or not."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the numbers behind --supercell."""
        if _SUPERCELL in args[:-1]:
            start = args.index(_SUPERCELL) + 1
            n = _n_words(args[start:])
            args = [*args[:start], " ".join(args[start : start + n]), *args[start + n :]]
        return super().parse_args(ctx, args)


def _n_words(words: list[str]) -> int:
    """Return how many of the words that follow --supercell belong to it."""
    numbers = list(itertools.takewhile(re.compile(r"-?\d+").fullmatch, words[:9]))
    if len(numbers) == 1 and [w.lower() for w in words[1:2]] in (["f.u."], ["fu"]):
        return 2
    return max(1, len(numbers) if len(numbers) in (2, 9) else min(len(numbers), 3))


def read_supercell(text: str | None) -> Any:
    """Return a supercell as run.toml has it: a number, a text, three repeats, or three rows."""
    if text is None:
        return None
    words = re.findall(r"[^\s,;\[\]]+", text)
    if not words or not all(re.fullmatch(r"-?\d+", word) for word in words):
        return text
    if len(words) not in (1, 3, 9):
        raise UsageError(
            f"--supercell {text}: {len(words)} numbers; expected three repeats such as 1 2 1, nine "
            "of a matrix, or a number of unit cells such as 4."
        )
    numbers = [int(word) for word in words]
    if len(numbers) == 9:
        return [numbers[0:3], numbers[3:6], numbers[6:9]]
    return numbers[0] if len(numbers) == 1 else numbers


def run_folders(folders: Iterable[Path]) -> list[Path]:
    """Return the run folders that are meant: a learning loop stands for those of its last round."""
    from gasearch.learning.folder import runs_of

    return [own for folder in folders for own in runs_of(folder)]


def command_group(help: str) -> typer.Typer:  # noqa: A002 -- typer's name
    """Return a group of commands, such as `gasearch dft`."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=help)


def open_findings(folder: Path) -> AbstractContextManager[Findings]:
    """Open the database of a run that was started."""
    from gasearch.analysis.findings import read_run

    refuse_loop(folder)
    return read_run(folder)


def refuse_loop(folder: Path) -> None:
    """Refuse a learning folder where one run is needed; one that was searched itself is a run."""
    from gasearch.learning.folder import LearnFolder, runs_of
    from gasearch.run.folder import RunFolder

    place = LearnFolder(folder)
    if place.is_one and not RunFolder(folder).is_started:
        runs = ", ".join(RunFolder(one).quoted for one in runs_of(folder))
        raise UsageError(
            f"{folder} is a learning loop of several runs, and this command is for one: name one "
            f"of the last round ({runs}), or see: gasearch learn {place.quoted} --status"
        )


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


def see_also(folder: Path, number: int | None, *commands: str) -> str:
    """Return the line that names commands on the same candidate, or on the run, to be typed next.

    Parameters
    ----------
    number
        Of the candidate; None for its place in what is typed.
    commands
        Such as "show"; "report" and "serve" are about the run.
    """
    place, which = shlex.quote(str(folder)), "ID" if number is None else str(number)
    of_runs = ("report", "serve")
    texts = [f"gasearch {c} {place}{'' if c in of_runs else f' {which}'}" for c in commands]
    return f"see also: {', '.join(texts)}"


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

"""`gasearch dft`: candidates are computed with DFT here, or exported and collected again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gasearch.display.terminal import make_console, printable
from gasearch.errors import GasearchError, UsageError

# What is heavy is imported by the commands: their errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from gasearch.dft.jobs.folders import Status
    from gasearch.dft.jobs.prepare import Workplace

dft_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Compute candidates with DFT, here or in a workflow of your own.",
)
out = make_console()
err = make_console(stderr=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.", show_default=False)]
Ids = Annotated[
    list[int] | None,
    typer.Argument(metavar="ID...", help="Candidates; those promoted without a job by default."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Relax = Annotated[
    bool, typer.Option("--relax/--single-point", help="Relax at fixed cell, or only compute.")
]


@dft_app.command()
def run(
    folder: Folder,
    ids: Ids = None,
    relax: Relax = True,
    surrogate: Annotated[
        bool,
        typer.Option(
            "--surrogate",
            help="Begin from a geometry relaxed with Ga in place of Fe3+: where an order was lost.",
        ),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, metavar="N", help="At once; as [dft] says by default."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
) -> None:
    """Compute candidates with GPAW.

    Each as a program of its own: here, or as a job of the scheduler that [execution] names. Ctrl-C
    ends those of this machine; the same command goes on, and finds again what still runs. Results
    are collected at once.
    """
    with _workplace(folder, read_only=dry_run) as place:
        numbers = _numbers(place, ids or (), relax)
        if not numbers:
            out.print(_nothing(place))
            return
        if dry_run:
            _say_what(place, numbers, relax)
            return
        from gasearch.dft.jobs.run import run_jobs

        with _progress() as progress:
            ended = run_jobs(
                place,
                numbers,
                relax=relax,
                say=out.print,
                progress=progress,
                surrogate=surrogate,
                at_once=jobs,
            )
    wrong = [one for one in ended if one.state != "collected"]
    if wrong:
        raise GasearchError(
            f"{len(wrong)} of {len(ended)} jobs did not end well; the same command with their "
            "numbers tries again."
        )


@dft_app.command()
def export(
    folder: Folder,
    ids: Ids = None,
    code: Annotated[str, typer.Option(help="vasp, espresso, abinit or gpaw.")] = "vasp",
    relax: Relax = True,
    antiferromagnetic: Annotated[
        bool, typer.Option("--antiferromagnetic", help="Neighbouring moments antiparallel.")
    ] = False,
    as_training: Annotated[
        Path | None,
        typer.Option(metavar="FILE.xyz", help="Write DFT results as labelled frames instead."),
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="DFT level of the frames, where there are several.")
    ] = None,
) -> None:
    """Write inputs for a workflow of your own, or results as training data."""
    if as_training is not None:
        from gasearch.dft.jobs.export import training_frames, write_frames

        with _workplace(folder, read_only=True) as place:
            frames = training_frames(place, level)
        write_frames(frames, as_training)
        out.print(f"wrote {len(frames)} frames to {as_training}")
        return
    if level is not None:
        raise UsageError("--level is for --as-training.")
    from gasearch.dft.jobs.export import export_jobs

    with _workplace(folder) as place:
        numbers = place.chosen(ids or ())
        jobs = export_jobs(place, numbers, code, relax=relax, ferromagnetic=not antiferromagnetic)
        told = _nothing(place)
    for job in jobs:
        out.print(str(job.path))
    if not jobs:
        out.print(told)


@dft_app.command()
def collect(
    folder: Folder,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH...", help="Job folders or outputs; all jobs by default."),
    ] = None,
    candidate: Annotated[
        int | None, typer.Option(metavar="ID", help="Of an output outside of the job folders.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(metavar="NAME", help="Level of such an output; any name.")
    ] = None,
    code: Annotated[
        str, typer.Option(help="Whose moments it has, where the file does not say.")
    ] = "other",
    json: Json = False,
) -> None:
    """Bring results into the run, filed under the charge order that came out.

    Unconverged and truncated outputs are refused.
    """
    from gasearch.dft.errors import NoOutputError, RefusedOutputError
    from gasearch.dft.jobs.collect import adopt, collect_job, jobs_of

    done: list[tuple[str, Status]] = []
    refused: list[str] = []
    waiting = 0
    with _workplace(folder) as place:
        if (candidate is None) != (level is None):
            raise UsageError("--candidate and --level belong together.")
        if candidate is not None and level is not None:
            found = [adopt(place, path, candidate, level, code) for path in _one(paths)]
        else:
            found = jobs_of(place, paths or [])
        for job, output in found:
            try:
                done.append((job.path.name, collect_job(place, job, output)))
            except RefusedOutputError as error:
                if isinstance(error, NoOutputError) and not paths:
                    waiting += 1
                else:
                    refused.append(str(error))
    _tell_collected(done, refused, waiting, json)
    if refused:
        raise typer.Exit(1)


@dft_app.command()
def status(folder: Folder, json: Json = False) -> None:
    """Show where the DFT jobs stand."""
    from dataclasses import asdict

    from gasearch.dft.jobs.overview import counted, overview
    from gasearch.display.search_tables import as_json
    from gasearch.run.folder import RunFolder
    from gasearch.store import dft_jobs

    run_folder = RunFolder(folder)
    with run_folder.open_store() as store:
        found = {Path(row.folder).name: row.found for row in dft_jobs.jobs(store)}
    lines = overview(run_folder, found)
    if json:
        out.file.write(as_json([asdict(line) for line in lines]) + "\n")
        return
    out.print(counted(lines))
    for line in lines:
        order = f", charge order {line.charge_order}" if line.charge_order else ""
        became = f" to candidate {line.found}" if line.charge_order == "moved" else ""
        energy = "" if line.energy_eV is None else f", {line.energy_eV:.4f} eV"
        at = "" if line.step is None else f", step {line.step}"
        why = f" ({line.reason})" if line.reason else ""
        out.print(f"  {line.folder}: {line.state}{at}{order}{became}{energy}{why}")


@contextmanager
def _workplace(folder: Path, read_only: bool = False) -> Iterator[Workplace]:
    from gasearch.dft.jobs.prepare import Workplace
    from gasearch.run.folder import RunFolder

    run_folder = RunFolder(folder)
    with run_folder.open_store(read_only=read_only) as store:
        yield Workplace.of(run_folder, store)


def _numbers(place: Workplace, ids: Sequence[int], relax: bool) -> list[int]:
    """Return the candidates to compute: chosen ones, and those whose job was interrupted."""
    from gasearch.dft.jobs.folders import job_folders
    from gasearch.dft.jobs.prepare import PROGRAM
    from gasearch.dft.levels import dft_level

    if ids:
        return place.chosen(ids)
    level = dft_level(PROGRAM, place.section, place.host, relax=relax)
    waiting = [
        status.candidate
        for status in (job.status() for job in job_folders(place.folder.path))
        if status.level == level.name and status.state in ("prepared", "running")
    ]
    return list(dict.fromkeys([*waiting, *place.chosen(())]))


def _say_what(place: Workplace, numbers: Sequence[int], relax: bool) -> None:
    from gasearch.dft.jobs.prepare import PROGRAM
    from gasearch.dft.levels import dft_level

    level = dft_level(PROGRAM, place.section, place.host, relax=relax)
    out.print(f"level {level.name}: {', '.join(f'{k} {v}' for k, v in level.settings.items())}")
    for number in numbers:
        job = place.job(number, level)
        state = job.status().state if job.exists else "new"
        composition = place.store.proposal(number).composition
        out.print(f"  candidate {number} {composition}: {state}, {job.path}")


def _nothing(place: Workplace) -> str:
    return (
        "nothing to do: no promoted candidate is without a job; name candidates, or promote some "
        f"with: gasearch promote {place.folder.quoted}"
    )


def _one(paths: Sequence[Path] | None) -> list[Path]:
    if paths is None or len(paths) != 1:
        raise UsageError("--candidate and --level are for one output: name its path.")
    return list(paths)


def _tell_collected(
    done: Sequence[tuple[str, Status]], refused: Sequence[str], waiting: int, json: bool
) -> None:
    from gasearch.dft.jobs.run import summary
    from gasearch.display.search_tables import as_json

    if json:
        document = [
            {
                "folder": folder,
                "candidate": one.candidate,
                "charge_order": one.charge_order,
                "found": one.found,
                "energy_eV": one.energy_eV,
                "reason": one.reason,
            }
            for folder, one in done
        ]
        told = {"collected": document, "refused": list(refused), "without_output": waiting}
        out.file.write(as_json(told) + "\n")
        return
    for folder, one in done:
        out.print(f"{folder}: {summary(one)}")
    for line in refused:
        err.print(f"gasearch: {line}")
    if waiting:
        out.print(f"{waiting} jobs have no output yet")
    elif not done and not refused:
        out.print("nothing to collect")


@contextmanager
def _progress() -> Iterator[_Line]:
    line = _Line()
    try:
        yield line
    finally:
        line.end()


class _Line:
    """What a job does just now: one line that changes on a terminal, a line a minute elsewhere."""

    def __init__(self) -> None:
        self._is_screen = err.is_terminal and not err.is_dumb_terminal
        self._last_s = 0.0
        self._shown = ""

    def __call__(self, text: str) -> None:
        import time

        if text == self._shown:
            return
        if self._is_screen:
            err.file.write(f"\r\x1b[K{printable(text)}")
            err.file.flush()
        elif time.monotonic() - self._last_s >= 60:
            self._last_s = time.monotonic()
            err.print(text)
        self._shown = text

    def end(self) -> None:
        """Clear the line."""
        if self._is_screen and self._shown:
            err.file.write("\r\x1b[K")
            err.file.flush()

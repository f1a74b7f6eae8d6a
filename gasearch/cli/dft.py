"""`gasearch dft`: candidates are computed with DFT here, or exported and collected again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from gasearch.cli.common import (
    Folder,
    Json,
    command_group,
    err,
    out,
    print_json,
    print_result,
    refuse_loop,
)
from gasearch.display.terminal import is_screen, printable
from gasearch.errors import GasearchError, UsageError

# What is heavy is imported by the commands: their errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from gasearch.dft.jobs.folders import Status
    from gasearch.dft.jobs.overview import JobLine
    from gasearch.dft.jobs.prepare import Workplace

dft_app = command_group("Compute candidates with DFT, here or elsewhere.")

Ids = Annotated[
    list[int] | None,
    typer.Argument(metavar="ID...", help="Candidates; those promoted without a job by default."),
]
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
    """Compute candidates with GPAW, or with the potential that [dft] names.

    Each as a program of its own: here, or as a job of the scheduler that [execution] names. Ctrl-C
    ends those of this machine; the same command goes on, and finds again what still runs. Results
    are collected at once.
    """
    with _workplace(folder, read_only=dry_run) as place:
        numbers = _numbers(place, ids or (), relax)
        if not numbers:
            out.print(_nothing(place))
            return
        for line in place.assumptions(place.section.code):
            err.print(line)
        for doubt in place.doubts(place.section.code):
            err.print(f"note: {doubt}")
        if dry_run:
            _print_plan(place, numbers, relax)
            return
        from gasearch.dft.jobs.run import run_jobs

        with ProgressLine() as progress:
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
    code: Annotated[str, typer.Option(help="vasp, espresso, abinit, gpaw or potential.")] = "vasp",
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
            found = training_frames(place, level)
        write_frames(found.frames, as_training)
        out.print(f"wrote {len(found.frames)} frames to {as_training}")
        for reason, number in found.left_out.items():
            out.print(f"left out: {number} ({reason})")
        return
    if level is not None:
        raise UsageError("--level is for --as-training.")
    from gasearch.dft.jobs.export import export_jobs

    with _workplace(folder) as place:
        numbers = place.chosen(ids or ())
        jobs = export_jobs(place, numbers, code, relax=relax, ferromagnetic=not antiferromagnetic)
        nothing, doubts = _nothing(place), place.doubts(code) if jobs else []
        assumed = place.assumptions(code) if jobs else []
    for line in assumed:
        err.print(line)
    for doubt in doubts:
        err.print(f"note: {doubt}")
    for job in jobs:
        out.print(str(job.path))
    if not jobs:
        out.print(nothing)


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
    from gasearch.dft.outliers import outlier_notes

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
        notes = [
            note
            for level_name in dict.fromkeys(one.level for _, one in done)
            for note in outlier_notes(place.store, level_name)
        ]
    _print_collected(done, refused, waiting, json)
    for note in notes:
        err.print(note)
    if refused:
        raise typer.Exit(1)


@dft_app.command()
def status(folder: Folder, json: Json = False) -> None:
    """Show where the DFT jobs stand."""
    from gasearch.dft.jobs.overview import counted, overview
    from gasearch.run.folder import RunFolder
    from gasearch.store import dft_jobs

    refuse_loop(folder)
    run_folder = RunFolder(folder)
    with run_folder.open_store() as store:
        found = {Path(row.folder).name: row.found for row in dft_jobs.jobs(store)}
    jobs = overview(run_folder, found)
    print_result(jobs, counted(jobs), *map(_job_line, jobs), json=json)


def _job_line(job: JobLine) -> str:
    order = f", charge order {job.charge_order}" if job.charge_order else ""
    became = f" to candidate {job.found}" if job.charge_order == "moved" else ""
    energy = "" if job.energy_eV is None else f", {job.energy_eV:.4f} eV"
    at = "" if job.step is None else f", step {job.step}"
    why = f" ({job.reason})" if job.reason else ""
    return f"  {job.folder}: {job.state}{at}{order}{became}{energy}{why}"


@contextmanager
def _workplace(folder: Path, read_only: bool = False) -> Iterator[Workplace]:
    from gasearch.dft.jobs.prepare import Workplace
    from gasearch.run.folder import RunFolder

    refuse_loop(folder)
    run_folder = RunFolder(folder)
    with run_folder.open_store(read_only=read_only) as store:
        yield Workplace.of(run_folder, store)


def _numbers(place: Workplace, ids: Sequence[int], relax: bool) -> list[int]:
    """Return the candidates to compute: chosen ones, and those whose job was interrupted."""
    from gasearch.dft.jobs.folders import job_folders
    from gasearch.dft.levels import dft_level

    if ids:
        return place.chosen(ids)
    level = dft_level(place.section.code, place.section, place.host, relax=relax)
    waiting = [
        status.candidate
        for status in (job.status() for job in job_folders(place.folder.path))
        if status.level == level.name and status.state in ("prepared", "running")
    ]
    return list(dict.fromkeys([*waiting, *place.chosen(())]))


def _print_plan(place: Workplace, numbers: Sequence[int], relax: bool) -> None:
    from gasearch.dft.levels import dft_level

    level = dft_level(place.section.code, place.section, place.host, relax=relax)
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


def _print_collected(
    done: Sequence[tuple[str, Status]], refused: Sequence[str], waiting: int, json: bool
) -> None:
    from gasearch.dft.jobs.run import summary

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
        print_json({"collected": document, "refused": list(refused), "without_output": waiting})
        return
    for folder, one in done:
        out.print(f"{folder}: {summary(one)}")
    for line in refused:
        err.print(f"gasearch: {line}")
    if waiting:
        out.print(f"{waiting} jobs have no output yet")
    elif not done and not refused:
        out.print("nothing to collect")


class ProgressLine:
    """What a job does just now: one line that changes on a terminal, a line a minute elsewhere."""

    def __init__(self) -> None:
        self._is_screen = is_screen(err)
        self._last_s = 0.0
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __call__(self, text: str) -> None:
        """Show what jobs do just now."""
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

    def __exit__(self, *error: object) -> None:
        """Clear the line."""
        if self._is_screen and self._shown:
            err.file.write("\r\x1b[K")
            err.file.flush()

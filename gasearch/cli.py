"""The command line. Commands read their options, call the package, and print."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from typer.exceptions import TyperException

from gasearch import __version__, console
from gasearch.errors import GasearchError, UsageError
from gasearch.run_folder import RunFolder

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Ground states of mixed-valence battery cathodes: working-ion and charge order together.",
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Folder = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
X = Annotated[str | None, typer.Option("-x", help="Filled share, such as 0.75 or 2/3.")]


def main() -> NoReturn:
    """Run the command line; every expected error is one line on stderr."""
    try:
        code = app(standalone_mode=False)
    except typer.Exit as ending:
        code = ending.exit_code
    except TyperException as error:
        error.show()
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        err.print("gasearch: interrupted")
        code = 1
    except GasearchError as error:
        err.print(f"gasearch: {error}", markup=False)
        code = 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # noqa: BLE001 -- a bug: its traceback goes to a file, not to the user
        err.print(f"gasearch: {_report(error)}", markup=False)
        code = 1
    sys.exit(code or 0)


def _report(error: Exception) -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix="gasearch-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exception(error, file=file)
    return (
        f"unexpected {type(error).__name__}: {error}. Nothing committed is lost; "
        f"please report it with {file.name}"
    )


def _version(value: bool) -> None:
    if value:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Built-in host, or a CIF, POSCAR or extxyz file.")] = (
        "nafepo4-olivine"
    ),
    supercell: Annotated[tuple[int, int, int], typer.Option(help="Repeats A B C.")] = (1, 2, 1),
    potential: Annotated[str, typer.Option(help="Name, module:factory or file.py:factory.")] = (
        "pmmcs"
    ),
    budget: Annotated[int, typer.Option(help="Candidates to relax.")] = 100,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 1,
) -> None:
    """Write a commented run.toml into a new folder."""
    from gasearch.initializing import initialize

    run = RunFolder(folder)
    found = initialize(run, host, supercell, potential, budget, seed)
    for line in console.host_lines(found):
        out.print(line, markup=False)
    out.print(f"wrote {run.run_file}; start the search with: gasearch run {folder}", markup=False)


@app.command()
def enumerate(  # noqa: A001 -- the command's name
    host: Annotated[str, typer.Option(help="Built-in host, file, or run folder.")],
    supercell: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Repeats A B C; a run folder has its own.")
    ] = None,
    x: X = None,
    output: Annotated[
        Path | None, typer.Option(help="Write all distinct decorations here (extxyz, db).")
    ] = None,
    as_list: Annotated[bool, typer.Option("--list", help="List the decorations too.")] = False,
    json: Json = False,
) -> None:
    """Count decorations, raw and symmetry-distinct, and list or write them where they are few."""
    from gasearch import enumerating

    found = enumerating.host_of(host, supercell)
    compositions = enumerating.compositions_of(found, x)
    counts = enumerating.counts(found, compositions)
    n_written = enumerating.write(found, compositions, output) if output else 0
    listed = enumerating.listed(found, compositions) if as_list else []
    if json:
        document = counts if not as_list else {"counts": counts, "decorations": listed}
        sys.stdout.write(console.as_json(document) + "\n")
        return
    out.print(console.count_table(counts))
    for row in listed:
        out.print(f"{row['x']:.4g}  {row['fingerprint']}  x{row['orbit_size']}  {row['species']}")
    if output is not None:
        out.print(f"wrote {n_written} structures to {output}", markup=False)


@app.command()
def run(folder: Folder) -> None:
    """Start a search, or resume it: the same command."""
    from gasearch.session import Session

    run_folder = RunFolder(folder)
    session = Session(run_folder)
    budget = session.settings.search.budget
    n_done = _n_done(run_folder)
    out.print(
        f"{'resuming' if n_done else 'searching'} {folder}: {n_done} of {budget}", markup=False
    )
    with _stopping() as stop, console.watch(out, n_done, budget) as watch:
        for warning in session.warnings():
            err.print(f"gasearch: {warning}", markup=False)
        ending = session.run(watch, stop)
    if ending == "stopped":
        n_done = _n_done(run_folder)
        out.print(
            f"stopped cleanly with {n_done} of {budget} candidates relaxed; nothing is lost. "
            f"Resume with: gasearch run {folder}",
            markup=False,
        )
        return
    _print_findings(run_folder, ending)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Let SIGINT and SIGTERM end the search cleanly; a second one ends it at once."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _n_done(folder: RunFolder) -> int:
    if not folder.database.exists():
        return 0
    with folder.open_store(read_only=False) as store:
        counts = store.counts()
    return counts.relaxed + counts.failed


def _print_findings(folder: RunFolder, ending: str) -> None:
    from gasearch.inspection import Findings

    with folder.open_store() as store:
        findings = Findings(store)
        status = findings.status()
        best = findings.best(None, 10)
    out.print(f"done ({ending}): {status.counts.candidates} candidates in {folder.database}")
    out.print()
    out.print(console.composition_table(status.by_composition))
    out.print()
    out.print(console.ranked_table(best))
    _warn_ranks_only(findings.level.ranks_only)


def _warn_ranks_only(ranks_only: bool) -> None:
    if ranks_only:
        err.print(
            "note: this potential only ranks orders at one x; its formation energies, hull and "
            "voltage have no physical meaning"
        )


@app.command()
def status(folder: Folder, json: Json = False) -> None:
    """Show where a search stands."""
    from gasearch.inspection import Findings

    with RunFolder(folder).open_store() as store:
        found = Findings(store).status()
    if json:
        sys.stdout.write(console.as_json(console.status_document(found)) + "\n")
        return
    counts = found.counts
    out.print(
        f"{counts.candidates} candidates: {counts.relaxed} relaxed, {counts.failed} failed, "
        f"{counts.in_flight} in flight, {counts.queued} queued; {counts.duplicates} duplicates "
        f"drawn and rejected; {'done (' + str(found.ending) + ')' if found.done else 'not done'}"
    )
    out.print(console.composition_table(found.by_composition))


@app.command()
def best(
    folder: Folder,
    x: X = None,
    number: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 10,
    json: Json = False,
) -> None:
    """List the lowest candidates of a composition, or those nearest to the hull."""
    from gasearch.inspection import Findings

    with RunFolder(folder).open_store() as store:
        findings = Findings(store)
        rows = findings.best(x, number)
    if json:
        document = [console.ranked_document(row) for row in rows]
        sys.stdout.write(console.as_json(document) + "\n")
        return
    out.print(console.ranked_table(rows))
    _warn_ranks_only(findings.level.ranks_only)


@app.command()
def hull(
    folder: Folder,
    level: Annotated[str | None, typer.Option(help="Level of theory; the search's own.")] = None,
    json: Json = False,
    plot: Annotated[Path | None, typer.Option(help="Write a figure (png, pdf, svg).")] = None,
) -> None:
    """Show the convex hull of formation energies at one level of theory."""
    from gasearch.inspection import Findings

    with RunFolder(folder).open_store() as store:
        findings = Findings(store)
        rows = findings.hull(level)
    if plot is not None:
        from gasearch.plotting import plot_hull

        plot_hull(rows, findings.level.name, plot, findings.level.ranks_only)
    if json:
        document = console.hull_document(rows, findings.level)
        sys.stdout.write(console.as_json(document) + "\n")
        return
    out.print(f"level {findings.level.name}, {len(rows)} points; on the hull:", markup=False)
    out.print(console.ranked_table(row for row in rows if row.on_hull))
    _warn_ranks_only(findings.level.ranks_only)


@app.command()
def show(
    folder: Folder,
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Candidates.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write a file instead.")] = None,
) -> None:
    """Open candidates in ASE GUI; without ids, the hull and the ten nearest to it."""
    from gasearch import export as exporting
    from gasearch.inspection import Findings

    with RunFolder(folder).open_store() as store:
        rows = Findings(store).chosen(ids)
        found = exporting.structures(store, rows)
    if output is not None:
        n_written = exporting.export(found, output, "extxyz")
        out.print(f"wrote {n_written} structures to {output}", markup=False)
        return
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise UsageError("no screen to open ASE GUI on (DISPLAY is not set): use --output FILE.")
    with tempfile.TemporaryDirectory(prefix="gasearch-") as folder_name:
        path = Path(folder_name) / "candidates.traj"
        exporting.export(found, path, "extxyz")
        subprocess.run([sys.executable, "-m", "ase", "gui", str(path)], check=True)


@app.command()
def export(
    folder: Folder,
    output: Annotated[Path, typer.Option(help="File (.extxyz .traj .json .db) or folder.")],
    x: X = None,
    number: Annotated[int | None, typer.Option("-n", min=1, help="Only the lowest.")] = None,
    format_: Annotated[str, typer.Option("--format", help="In a folder: cif, poscar, extxyz.")] = (
        "cif"
    ),
) -> None:
    """Write relaxed structures as extxyz, CIF, POSCAR or an ASE database."""
    from gasearch import export as exporting
    from gasearch.inspection import Findings

    with RunFolder(folder).open_store() as store:
        findings = Findings(store)
        rows = findings.best(x, number or sys.maxsize)
        n_written = exporting.export(exporting.structures(store, rows), output, format_)
    out.print(f"wrote {n_written} structures to {output}", markup=False)


@app.command()
def check(
    folder: Folder,
    replay: Annotated[bool, typer.Option(help="Derive every proposal again.")] = False,
    audit: Annotated[bool, typer.Option(help="Judge every structure again.")] = False,
    json: Json = False,
) -> None:
    """Prove that the database is whole; exit status 1 if it is not."""
    from gasearch.checking import check_run

    problems = check_run(RunFolder(folder), replay, audit)
    if json:
        document = [{"check": p.check, "detail": p.detail} for p in problems]
        sys.stdout.write(console.as_json(document) + "\n")
    else:
        for problem in problems:
            out.print(f"{problem.check}: {problem.detail}", markup=False)
        out.print("whole: no problems" if not problems else f"{len(problems)} problems")
    if problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()

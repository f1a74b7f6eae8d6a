"""The command line. Commands read their options, call the package, and print."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gasearch import __version__
from gasearch.cli import doctor as doctor_cli
from gasearch.cli import hull as hull_cli
from gasearch.cli import report as report_cli
from gasearch.cli.dft import dft_app
from gasearch.cli.potential import potential_app
from gasearch.cli.store import store_app
from gasearch.display.telling import tell
from gasearch.display.terminal import make_console
from gasearch.errors import GasearchError, UsageError
from gasearch.run.sections import SearchSection
from gasearch.settings import help_of

# What is heavy is imported by the commands: their errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from gasearch.analysis.findings import Findings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ground states of mixed-valence battery cathodes: working-ion and charge order together.",
)
app.add_typer(potential_app, name="potential")
app.add_typer(dft_app, name="dft")
app.add_typer(store_app, name="store")
_SEARCH = SearchSection()
_INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt
out = make_console()
err = make_console(stderr=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
X = Annotated[
    str | None, typer.Option("-x", metavar="X", help="Filled share, such as 0.75 or 2/3.")
]


def main() -> NoReturn:
    """Run the command line; every expected error is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # a terminal without Å still gets its line
    try:
        code = app(prog_name="gasearch", standalone_mode=False)
        if code == _INTERRUPTED:
            code = tell(KeyboardInterrupt(), err)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 -- told to the user
        code = tell(error, err)
    sys.exit(code or 0)


def _print_json(document: object) -> None:
    from gasearch.display import search_tables as console

    out.file.write(console.as_json(document) + "\n")
    out.file.flush()


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        err.print(note)


@contextmanager
def _findings(folder: Path) -> Iterator[Findings]:
    """Open the database of a run that was started."""
    from gasearch.analysis.findings import Findings
    from gasearch.run.folder import RunFolder

    with RunFolder(folder).open_store() as store:
        yield Findings(store)


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
    supercell: Annotated[
        tuple[int, int, int], typer.Option(metavar="A B C", help="Repeats of the unit cell.")
    ] = (1, 2, 1),
    potential: Annotated[
        str | None,
        typer.Option(
            help="Name, model folder, module:factory or ./file.py:factory; the shipped default "
            "where it knows the host's species, else pmmcs."
        ),
    ] = None,
    budget: Annotated[int, typer.Option(help=help_of(SearchSection, "budget"))] = _SEARCH.budget,
    seed: Annotated[int, typer.Option(help=help_of(SearchSection, "seed"))] = _SEARCH.seed,
) -> None:
    """Write a commented run.toml into a new folder."""
    from gasearch.crystal.io.builtin import BUILTIN_HOSTS
    from gasearch.display import search_tables as console
    from gasearch.potentials.listing import missing_packages
    from gasearch.run.folder import RunFolder
    from gasearch.run.initialize import initialize

    run_folder = RunFolder(folder)
    found = initialize(run_folder, host, supercell, potential, budget, seed)
    for line in console.host_lines(found):
        out.print(line)
    name = run_folder.settings().potential.name
    out.print(f"potential     {name}")
    _print_notes(missing_packages(name))
    if host not in BUILTIN_HOSTS:
        out.print(f"check the sublattices in {run_folder.run_file}: they are a first guess")
    out.print(
        f"wrote {run_folder.run_file}; start the search with: gasearch run {run_folder.quoted}"
    )


@app.command()
def enumerate(  # noqa: A001 -- the command's name
    host: Annotated[str, typer.Option(help="Built-in host, file, or run folder.")],
    supercell: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="A B C", help="Repeats; a run folder has its own."),
    ] = None,
    x: X = None,
    output: Annotated[
        Path | None, typer.Option(help="Write all distinct decorations here (extxyz, db).")
    ] = None,
    as_list: Annotated[bool, typer.Option("--list", help="List the decorations too.")] = False,
    json: Json = False,
) -> None:
    """Count decorations, raw and distinct.

    Where they are few, list them or write them to a file too.
    """
    from gasearch.analysis import enumerate as enumerating
    from gasearch.display import search_tables as console

    found = enumerating.host_of(host, supercell)
    compositions = enumerating.compositions_of(found, x)
    counts = enumerating.counts(found, compositions)
    listed = enumerating.listed(found, compositions) if as_list else []
    n_written = enumerating.write(found, compositions, output) if output else 0
    if json:
        _print_json({"counts": counts, "decorations": listed} if as_list else counts)
        return
    out.print(console.count_table(counts))
    if listed:
        out.print()
        out.print(console.decoration_table(listed))
    if output is not None:
        out.print(f"wrote {n_written} structures to {output}")


@app.command()
def run(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Run folders.", show_default=False)
    ],
) -> None:
    """Start a search, or resume it.

    Several share the workers of one engine. Ctrl-C or SIGTERM ends them cleanly; the same command
    goes on where it was.
    """
    from gasearch.run.folder import RunFolder

    if len(folders) == 1:
        from gasearch.cli.run import run_search

        run_search(RunFolder(folders[0]), out, err)
        return
    from gasearch.cli.run_many import run_searches

    run_searches([RunFolder(folder) for folder in folders], out, err)


@app.command()
def status(folder: Folder, json: Json = False) -> None:
    """Show where a search stands."""
    from gasearch.display import search_tables as console

    with _findings(folder) as findings:
        found, failures = findings.status(folder), console.failure_lines(findings)
    if json:
        _print_json(console.status_document(found))
        return
    for line in [*console.status_lines(found, shlex.quote(str(folder))), *failures]:
        out.print(line)
    out.print()
    out.print(console.composition_table(found.by_composition))
    for line in console.proof_notes(found.by_composition):
        out.print(line)


@app.command()
def best(
    folder: Folder,
    x: X = None,
    number: Annotated[int, typer.Option("-n", min=1, metavar="N", help="How many.")] = 10,
    json: Json = False,
) -> None:
    """List the lowest candidates.

    Those of one composition with -x, else those nearest to the hull.
    """
    from gasearch.display import search_tables as console

    with _findings(folder) as findings:
        rows, notes = findings.best(x, number), console.notes(findings)
        proof = None if x is None or json else console.proof_line(findings.composition(x))
    if json:
        _print_json([console.ranked_document(row) for row in rows])
        return
    out.print(console.ranked_table(rows))
    if proof is not None:
        out.print(f"\n{proof}")
    _print_notes(notes if rows else [console.NOTHING, *notes])


app.command()(doctor_cli.doctor)
app.command()(hull_cli.hull)
app.command()(hull_cli.voltage)
app.command()(hull_cli.promote)
app.command()(report_cli.report)


@app.command()
def lineage(
    folder: Folder,
    number: Annotated[int, typer.Argument(metavar="ID", help="Candidate.", show_default=False)],
    json: Json = False,
) -> None:
    """Show the ancestors of a candidate.

    What made each, what was expected of it, and what came out.
    """
    from gasearch.analysis.lineage import lineage as ancestors_of
    from gasearch.display import search_tables as console

    with _findings(folder) as findings:
        rows, notes = ancestors_of(findings, number), console.notes(findings)
    if json:
        _print_json([console.ancestor_document(row) for row in rows])
        return
    out.print(console.lineage_table(rows))
    _print_notes(notes)


@app.command()
def show(
    folder: Folder,
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Candidates.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write a file instead, as `gasearch export` does.")
    ] = None,
) -> None:
    """Open candidates in ASE GUI.

    Without ids, those nearest to the hull.
    """
    from gasearch.analysis import export as exporting

    with _findings(folder) as findings:
        _print_notes(exporting.damage(findings.store))
        found = exporting.structures(findings.store, findings.chosen(ids))
    if output is not None:
        n_written = exporting.export(found, output)
        out.print(f"wrote {n_written} structures to {output}")
        return
    _refuse_no_screen()
    with tempfile.TemporaryDirectory(prefix="gasearch-") as place:
        path = Path(place) / "candidates.traj"
        exporting.export(found, path)
        command = [sys.executable, "-m", "ase", "gui", str(path)]
        ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise GasearchError(f"ASE GUI failed ({_reason(ended.stderr)}): use --output FILE.")


def _reason(stderr: str) -> str:
    """Return the line of a program's last words that names the error."""
    lines = stderr.strip().splitlines() or ["it gave no reason"]
    return [*lines[-1:], *(line for line in lines if "Error" in line)][-1]


def _refuse_no_screen() -> None:
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "linux" and not has_screen:
        raise UsageError("no screen to open ASE GUI on (DISPLAY is not set): use --output FILE.")


@app.command()
def export(
    folder: Folder,
    output: Annotated[
        Path, typer.Option(help="New file (.extxyz .traj .json .db .cif .vasp), or a folder.")
    ],
    x: X = None,
    number: Annotated[
        int | None, typer.Option("-n", min=1, metavar="N", help="Only the lowest.")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="In a folder: cif (the default), poscar or extxyz. One file of decorations with "
            "energies, for cluster expansions: smol (.json), icet (.extxyz, .db).",
        ),
    ] = None,
) -> None:
    """Write relaxed structures to files.

    As extxyz, CIF, POSCAR, trajectory or ASE database, with their oxidation states.
    """
    from gasearch.analysis import export as exporting

    with _findings(folder) as findings:
        _print_notes(exporting.damage(findings.store))
        rows = findings.best(x, number or sys.maxsize)
        if format_ in exporting.CLUSTER_CODES:
            n_written = exporting.export_decorations(findings, rows, output, format_)
        else:
            found = exporting.structures(findings.store, rows)
            n_written = exporting.export(found, output, format_)
    out.print(f"wrote {n_written} structures to {output}")


@app.command()
def check(
    folder: Folder,
    replay: Annotated[bool, typer.Option("--replay", help="Derive every proposal again.")] = False,
    audit: Annotated[bool, typer.Option("--audit", help="Judge every structure again.")] = False,
    json: Json = False,
) -> None:
    """Prove that the database is whole.

    Exit status 1 if it is not.
    """
    from gasearch.run.folder import RunFolder
    from gasearch.search.check import check_run

    problems = check_run(RunFolder(folder), replay, audit)
    if json:
        _print_json([{"check": p.check, "detail": p.detail} for p in problems])
    else:
        for problem in problems:
            out.print(f"{problem.check}: {problem.detail}")
        out.print(f"{len(problems)} problems" if problems else "whole: no problems")
    if problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()

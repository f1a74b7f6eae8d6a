"""The command line. Commands read their options, call the package, and print."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gasearch import __version__
from gasearch.cli import doctor as doctor_cli
from gasearch.cli import hull as hull_cli
from gasearch.cli import learn as learn_cli
from gasearch.cli import phase_diagram as phase_cli
from gasearch.cli import release as release_cli
from gasearch.cli import report as report_cli
from gasearch.cli import serve as serve_cli
from gasearch.cli.common import (
    Cell,
    Charges,
    Folder,
    Json,
    Moving,
    Supercell,
    SupercellCommand,
    Symprec,
    err,
    host_reading,
    open_findings,
    out,
    print_result,
    read_supercell,
    refuse_loop,
    see_also,
)
from gasearch.cli.dft import dft_app
from gasearch.cli.potentials.commands import potential_app
from gasearch.cli.store import store_app
from gasearch.display.terminal import report_error
from gasearch.errors import GasearchError, UsageError, refuse_other_systems
from gasearch.run.sections import SearchSection
from gasearch.settings import help_of

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
        refuse_other_systems()
        code = app(prog_name="gasearch", standalone_mode=False)
        if code == _INTERRUPTED:
            code = report_error(KeyboardInterrupt(), err)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has gone, as `head` does
        _discard_output()
        code = 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 -- the user gets a line of it
        code = report_error(error, err)
        try:
            print(end="", flush=True)
        except OSError:  # a full disk; Python would say so once more at its end
            _discard_output()
    sys.exit(code or 0)


def _discard_output() -> None:
    """Let what is left in the buffer of standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


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


@app.command(cls=SupercellCommand)
def init(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Built-in host, or a CIF, POSCAR or extxyz file.")] = (
        "nafepo4-olivine"
    ),
    supercell: Supercell = None,
    potential: Annotated[
        str | None,
        typer.Option(
            help="Name, model folder, module:factory or ./file.py:factory; by default the shipped "
            "model on crystals as it was trained on, else CHGNet with a hold."
        ),
    ] = None,
    budget: Annotated[int, typer.Option(help=help_of(SearchSection, "budget"))] = _SEARCH.budget,
    seed: Annotated[int, typer.Option(help=help_of(SearchSection, "seed"))] = _SEARCH.seed,
    cell: Cell = "primitive",
    symprec: Symprec = None,
    charges: Charges = "integer",
    moving: Moving = None,
    learning: Annotated[
        bool,
        typer.Option("--learn", help="Write a learn.toml beside it: for `gasearch learn`."),
    ] = False,
) -> None:
    """Write a commented run.toml into a new folder."""
    from gasearch.display.tables import host_lines
    from gasearch.potentials.listing import missing_packages
    from gasearch.run.folder import RunFolder
    from gasearch.run.host_file import formula_line
    from gasearch.run.initialize import initialize

    run_folder, reading = RunFolder(folder), host_reading(cell, symprec, charges, moving)
    found, named = initialize(
        run_folder, host, read_supercell(supercell), potential, budget, seed, reading
    )
    if named.file is not None:
        out.print(f"structure     {formula_line(named.file.structure)}")
    for line in host_lines(found):
        out.print(line)
    name = run_folder.settings().potential.name
    out.print(f"potential     {name}")
    for note in missing_packages(name):
        err.print(note)
    for note in named.lines:
        err.print(f"note: {note}")
    if named.file is not None:
        out.print(f"check the sublattices in {run_folder.run_file}: they are a first guess")
    if learning:
        from gasearch.learning.settings import write_learn_file

        out.print(f"wrote {run_folder.run_file} and {write_learn_file(folder)}; check both")
        out.print(f"start the loop with: gasearch learn {run_folder.quoted}")
        return
    out.print(
        f"wrote {run_folder.run_file}; start the search with: gasearch run {run_folder.quoted}"
    )


@app.command()
def hosts(json: Json = False) -> None:
    """List the built-in hosts.

    With what each may hold, its neutral range of x, and where its structure was published.
    """
    from gasearch.display.host_tables import hosts_document, hosts_table

    document = hosts_document()
    advice = "\nstart with one of them: gasearch init FOLDER --host NAME"
    print_result(document, hosts_table(document), advice, json=json)


@app.command(cls=SupercellCommand)
def enumerate(  # noqa: A001 -- the command's name
    host: Annotated[str, typer.Option(help="Built-in host, file, or run folder.")],
    supercell: Supercell = None,
    x: X = None,
    output: Annotated[
        Path | None, typer.Option(help="Write all distinct decorations here (extxyz, db).")
    ] = None,
    as_list: Annotated[bool, typer.Option("--list", help="List the decorations too.")] = False,
    cell: Cell = "primitive",
    symprec: Symprec = None,
    charges: Charges = "integer",
    moving: Moving = None,
    json: Json = False,
) -> None:
    """Count decorations, raw and distinct.

    Where they are few, list them or write them to a file too.
    """
    from gasearch.analysis import enumerate as enumerating
    from gasearch.display.tables import count_table, decoration_table

    reading = host_reading(cell, symprec, charges, moving)
    found, notes = enumerating.host_with_notes(host, read_supercell(supercell), reading)
    compositions = enumerating.compositions_of(found, x)
    counts = enumerating.counts(found, compositions)
    listed = enumerating.listed(found, compositions) if as_list else []
    n_written = enumerating.write(found, compositions, output) if output else 0
    print_result(
        {"counts": counts, "decorations": listed} if as_list else counts,
        count_table(counts),
        *(["", decoration_table(listed)] if listed else []),
        *([f"wrote {n_written} structures to {output}"] if output else []),
        json=json,
        notes=[f"note: {note}" for note in notes],
    )


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
    from gasearch.cli.run import run_searches
    from gasearch.run.folder import RunFolder

    for folder in folders:
        refuse_loop(folder)
    run_searches([RunFolder(folder) for folder in folders], out, err)


@app.command()
def status(
    folder: Folder,
    json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on showing it, until Ctrl-C; it only reads.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.5, metavar="SECONDS", help="Between two looks of --watch.")
    ] = 5.0,
) -> None:
    """Show where a search stands, and why candidates are not ok."""
    from gasearch.display import status as shown
    from gasearch.run.folder import RunFolder

    if watch:
        if json:
            raise UsageError("--json prints one document: leave --watch out.")
        serve_cli.watch_status(RunFolder(folder), every)
        return
    with open_findings(folder) as findings:
        found = findings.status()
        entries = shown.status_entries(findings, found, RunFolder(folder))
    print_result(
        shown.status_document(entries),
        *shown.status_lines(entries),
        "",
        shown.composition_table(found.by_composition),
        *shown.proof_notes(found.by_composition),
        json=json,
    )


@app.command()
def best(
    folder: Folder,
    x: X = None,
    number: Annotated[
        int | None,
        typer.Option("-n", min=1, metavar="N", help="How many; 10, and with --all all of them."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Candidates of every verdict, with the reason why one is not ok."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """List the lowest candidates.

    Those of one composition with -x, else those nearest to the hull.
    """
    from gasearch.display.status import proof_line
    from gasearch.display.tables import NOTHING, notes, ranked_documents, ranked_table

    with open_findings(folder) as findings:
        if every:
            rows = findings.best(x, number or sys.maxsize, compare=False, verdict=None)
        else:
            rows = findings.best(x, number or 10)
        advice = notes(findings)
        proof = [] if x is None or json else [f"\n{proof_line(findings.composition(x))}"]
    if not any(row.verdict == "ok" for row in rows):
        advice = [NOTHING, *advice]
    document = ranked_documents(rows)
    print_result(document, ranked_table(rows), *proof, json=json, notes=advice)


app.command()(doctor_cli.doctor)
app.command()(hull_cli.hull)
app.command()(hull_cli.voltage)
app.command()(hull_cli.promote)
app.command()(release_cli.release)
app.command()(learn_cli.learn)
app.command("phase-diagram")(phase_cli.phase_diagram)
app.command()(report_cli.report)
app.command()(serve_cli.serve)


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
    from gasearch.display.tables import lineage_table, notes

    with open_findings(folder) as findings:
        rows, advice = ancestors_of(findings, number), notes(findings)
    advice.append(see_also(folder, number, "show", "report"))
    print_result(rows, lineage_table(rows), json=json, notes=advice)


def _warn_of_damage(findings: Findings) -> None:
    from gasearch.analysis.export import damage

    for line in damage(findings.store):
        err.print(line)


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

    with open_findings(folder) as findings:
        _warn_of_damage(findings)
        found = exporting.structures(findings.store, findings.chosen(ids))
    if output is not None:
        n_written = exporting.export(found, output)
        out.print(f"wrote {n_written} structures to {output}")
        err.print(see_also(folder, found[0][0].id if found else None, "lineage", "report"))
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
    """Return the line that names the error in what a program printed."""
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

    with open_findings(folder) as findings:
        _warn_of_damage(findings)
        rows = findings.best(x, number or sys.maxsize, compare=False)
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
    print_result(
        [{"check": p.check, "detail": p.detail} for p in problems],
        *(f"{problem.check}: {problem.detail}" for problem in problems),
        f"{len(problems)} problems" if problems else "whole: no problems",
        json=json,
    )
    if problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()

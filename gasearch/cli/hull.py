"""`gasearch hull`, `voltage` and `promote`: from what a search found to what deserves DFT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gasearch.display.terminal import make_console
from gasearch.errors import UsageError

# What is heavy is imported by the commands: their errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from gasearch.analysis.hull_history import HullSnapshot
    from gasearch.analysis.joint_hull import JoinedHull

out = make_console()
err = make_console(stderr=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.", show_default=False)]
Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDER...",
        help="Run folders of one host and one level of theory.",
        show_default=False,
    ),
]
Level = Annotated[str | None, typer.Option(help="Level of theory; the search's own by default.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Plot = Annotated[
    Path | None, typer.Option(help="Write a figure (png, pdf, svg); replaces an older one.")
]


def hull(
    folders: Folders,
    level: Level = None,
    history: Annotated[
        bool, typer.Option("--history", help="How it came down, candidate by candidate.")
    ] = False,
    every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Candidates between the hulls of --history.")
    ] = 100,
    json: Json = False,
    plot: Plot = None,
) -> None:
    """Show the hull of formation energies.

    Several run folders of one host and one level (different supercells) make one hull.
    """
    from gasearch.analysis.joint_hull import joined_hull
    from gasearch.display import hull_tables

    found = joined_hull(folders, level)
    _print_notes(_outliers(folders, found))
    moments = _history(folders, found.level.name, every) if history else []
    if plot is not None:
        from gasearch.display.plotting import plot_hull

        lines = [hull_tables.formation(moment, found) for moment in moments[:-1]]
        plot_hull(found.points, found.level.name, plot, found.level.ranks_only, lines)
    if json:
        document = hull_tables.hull_document(found)
        past = hull_tables.history_document(moments, found)
        _print_json(document | ({"history": past} if history else {}))
        return
    _print_hull(found, folders)
    if history:
        out.print()
        out.print(hull_tables.history_table(moments, found))
    if plot is not None:
        out.print(f"wrote {plot}")
    _print_notes(hull_tables.hull_notes(found))


def _outliers(folders: Sequence[Path], found: JoinedHull) -> list[str]:
    """Return what stands out of a DFT level, run by run."""
    from gasearch.dft.outliers import outlier_notes
    from gasearch.run.folder import RunFolder

    if found.members[0].dft_settings is None:
        return []
    notes = []
    for folder in folders:
        with RunFolder(folder).open_store() as store:
            notes += outlier_notes(store, found.level.name)
    return notes


def _print_hull(found: JoinedHull, folders: Sequence[Path]) -> None:
    from gasearch.analysis.findings import Findings
    from gasearch.display import hull_tables
    from gasearch.display import search_tables as console
    from gasearch.run.folder import RunFolder

    out.print(f"level {found.level.name}, {len(found.points)} points; on the hull:\n")
    if len(folders) == 1:
        with RunFolder(folders[0]).open_store() as store:
            findings = Findings(store)
            rows = findings.ranked()
        if findings.level.name == found.level.name:
            out.print(console.ranked_table(row for row in rows if row.on_hull))
            return
    out.print(hull_tables.points_table(point for point in found.points if point.on_hull))


def _history(folders: Sequence[Path], level: str, every: int) -> list[HullSnapshot]:
    from gasearch.analysis.hull_history import hull_history
    from gasearch.run.folder import RunFolder

    if len(folders) > 1:
        raise UsageError("--history is that of one search: name one run folder.")
    with RunFolder(folders[0]).open_store() as store:
        if level != store.level.name:
            raise UsageError(f"--history is that of the search: its level is {store.level.name!r}.")
        return hull_history(store, every)


def voltage(
    folders: Folders,
    metal_energy: Annotated[
        float | None,
        typer.Option(
            metavar="E",
            help="Energy of the working ion's metal at the level of the hull, in eV per atom; "
            "by default that of the potential's model, or of the DFT level's settings.",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            metavar="T_K",
            help="In kelvins: free energies and voltages of each run's own cell, from all of its "
            "evaluated decorations.",
        ),
    ] = None,
    level: Level = None,
    json: Json = False,
    plot: Plot = None,
) -> None:
    """Show average voltages against the metal.

    Between neighbouring ground states of the hull; capacity and energy density beside them.
    """
    from gasearch.analysis.joint_hull import joined_hull
    from gasearch.analysis.voltage import hull_voltage
    from gasearch.display import hull_tables

    found = joined_hull(folders, level)
    if temperature is not None:
        _thermal(found, temperature, metal_energy, json, plot)
        return
    curve, ends = hull_voltage(found, metal_energy), found.vertices()
    if plot is not None:
        from gasearch.display.plotting import plot_voltage

        steps = [(step.x_from, step.x_to, step.voltage_V) for step in curve.steps]
        plot_voltage({"T = 0": steps}, curve.metal.element, _title(found), plot)
    if json:
        _print_json(hull_tables.voltage_document(found, curve, ends))
        return
    out.print(f"{hull_tables.metal_line(found.level.name, curve.metal)}\n")
    out.print(hull_tables.voltage_table(curve, ends))
    out.print(f"\n{hull_tables.voltage_line(curve)}")
    if plot is not None:
        out.print(f"wrote {plot}")
    _print_notes(hull_tables.ranks_only_notes(found))


def _thermal(
    found: JoinedHull,
    temperature_K: float,
    metal_energy: float | None,
    json: bool,
    plot: Path | None,
) -> None:
    from gasearch.analysis.thermodynamics import thermal_curve
    from gasearch.analysis.voltage import metal_of
    from gasearch.display import hull_tables

    metal = metal_of(found.members[0], metal_energy)
    curves = [thermal_curve(member, metal, temperature_K) for member in found.members]
    if plot is not None:
        from gasearch.display.plotting import plot_voltage

        lines = {
            f"{curve.cell} ({curve.run})": [(s.x_from, s.x_to, s.voltage_V) for s in curve.steps]
            for curve in curves
        }
        title = f"{_title(found)}, {temperature_K:g} K"
        plot_voltage(lines, metal.element, title, plot)
    if json:
        _print_json(hull_tables.thermal_document(found, metal, curves, temperature_K))
        return
    out.print(hull_tables.metal_line(found.level.name, metal))
    for curve in curves:
        out.print(f"\n{curve.run}: {curve.cell}, {curve.n_formula_units} f.u., {temperature_K:g} K")
        out.print()
        out.print(hull_tables.thermal_table(curve))
        out.print()
        out.print(hull_tables.thermal_steps_table(curve))
    if plot is not None:
        out.print(f"wrote {plot}")
    _print_notes([*hull_tables.thermal_notes(curves), *hull_tables.ranks_only_notes(found)])


def _title(found: JoinedHull) -> str:
    return found.level.name + (" (no physical meaning)" if found.level.ranks_only else "")


def promote(
    folder: Folder,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be promoted, and write nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Choose candidates for DFT by the rules of run.toml.

    Each promotion is stored with its reason; the same command again finds nothing new.
    """
    from gasearch.dft.promotion import promote as promote_in
    from gasearch.display import hull_tables
    from gasearch.run.folder import RunFolder

    run_folder = RunFolder(folder)
    plan = promote_in(run_folder, dry_run=dry_run)
    if json:
        _print_json(hull_tables.promotion_document(plan, dry_run))
        return
    if plan.new:
        out.print(hull_tables.promotion_table(plan))
        out.print()
    out.print(hull_tables.promotion_line(plan, dry_run, run_folder.quoted))
    _print_notes(plan.notes)


def _print_json(document: object) -> None:
    from gasearch.display import search_tables as console

    out.file.write(console.as_json(document) + "\n")
    out.file.flush()


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        err.print(note)

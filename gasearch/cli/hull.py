"""`gasearch hull`, `voltage` and `promote`: from what a search found to what deserves DFT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gasearch.cli.common import (
    Folder,
    Json,
    Plot,
    err,
    open_findings,
    print_result,
    run_folders,
)
from gasearch.errors import UsageError

# What is heavy is imported by the commands: their errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from rich.table import Table

    from gasearch.analysis.hull_history import HullSnapshot
    from gasearch.analysis.joint_hull import JointHull

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDER...",
        help="Run folders of one level of theory: of one host, of polymorphs, or a learning loop.",
        show_default=False,
    ),
]
Level = Annotated[str | None, typer.Option(help="Level of theory; the search's own by default.")]


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

    Several run folders of one level make one hull: different supercells of one host, and polymorphs
    of one composition, of which each has its own hull too.
    """
    from gasearch.analysis.joint_hull import joint_hull
    from gasearch.display import hull_tables
    from gasearch.display.tables import notes

    folders = run_folders(folders)
    found = joint_hull(folders, level)
    for note in _outliers(folders, found):
        err.print(note)
    moments = _history(folders, found.level.name, every) if history else []
    if plot is not None:
        from gasearch.display.plotting import plot_hull

        lines = [moment.formation(found) for moment in moments[:-1]]
        plot_hull(found.points, found.level.name, plot, found.level.ranks_only, lines)
    document = hull_tables.hull_document(found)
    if history:
        document["history"] = hull_tables.history_document(moments, found)
    print_result(
        document,
        _heading(found),
        _members_table(found, folders),
        *hull_tables.own_hull_tables(found),
        *(["", hull_tables.history_table(moments, found)] if history else []),
        *_wrote(plot),
        json=json,
        notes=notes(found),
    )


def _heading(found: JointHull) -> str:
    text = f"level {found.level.name}, {len(found.points)} points"
    if len(found.hosts) > 1:
        return f"{text} of {', '.join(found.hosts)}; on their common hull:\n"
    return f"{text}; on the hull:\n"


def _wrote(plot: Path | None) -> list[str]:
    return [] if plot is None else [f"wrote {plot}"]


def _outliers(folders: Sequence[Path], found: JointHull) -> list[str]:
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


def _members_table(found: JointHull, folders: Sequence[Path]) -> Table:
    """Return what is on the hull; of a single search, as `gasearch best` shows it."""
    from gasearch.display.hull_tables import points_table
    from gasearch.display.tables import ranked_table

    if len(folders) == 1:
        with open_findings(folders[0]) as findings:
            rows, level = findings.ranked(), findings.level
        if level.name == found.level.name:
            return ranked_table(row for row in rows if row.on_hull)
    on_hull = (point for point in found.points if point.on_hull)
    return points_table(on_hull, with_host=len(found.hosts) > 1)


def _history(folders: Sequence[Path], level: str, every: int) -> list[HullSnapshot]:
    from gasearch.analysis.hull_history import hull_history

    if len(folders) > 1:
        raise UsageError("--history is that of one search: name one run folder.")
    with open_findings(folders[0]) as findings:
        own = findings.level.name
        if level != own:
            raise UsageError(f"--history is that of the search: its level is {own!r}.")
        return hull_history(findings.store, every)


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

    Between neighbouring ground states of the hull; capacity and energy density beside them. Of
    polymorphs: along their common hull, and along that of each.
    """
    from gasearch.analysis.joint_hull import joint_hull
    from gasearch.analysis.voltage import VoltageCurve, host_voltages, hull_voltage
    from gasearch.display import hull_tables
    from gasearch.display.tables import notes

    folders = run_folders(folders)
    found = joint_hull(folders, level)
    if temperature is not None:
        _thermal(found, temperature, metal_energy, json, plot)
        return
    curve, ends = hull_voltage(found, metal_energy), found.vertices()
    by_host = host_voltages(found, metal_energy)
    if plot is not None:
        from gasearch.display.plotting import plot_voltage

        lines = {name: own.steps for name, own in by_host.items() if isinstance(own, VoltageCurve)}
        lines = {"common hull, T = 0" if by_host else "T = 0": curve.steps, **lines}
        plot_voltage(lines, curve.metal.element, _title(found), plot)
    print_result(
        hull_tables.voltage_document(found, curve, ends, by_host),
        f"{hull_tables.metal_line(found.level.name, curve.metal)}\n",
        hull_tables.voltage_table(curve, ends),
        f"\n{hull_tables.voltage_line(curve)}",
        *hull_tables.host_voltage_tables(found, by_host),
        *_wrote(plot),
        json=json,
        notes=[*hull_tables.rebuilt_lines(ends), *notes(found)],
    )


def _thermal(
    found: JointHull,
    temperature_K: float,
    metal_energy: float | None,
    json: bool,
    plot: Path | None,
) -> None:
    from gasearch.analysis.thermodynamics import thermal_curve
    from gasearch.analysis.voltage import metal_of
    from gasearch.display import hull_tables
    from gasearch.display.tables import notes

    metal = metal_of(found.members[0], metal_energy)
    curves = [thermal_curve(member, metal, temperature_K) for member in found.members]
    if plot is not None:
        from gasearch.display.plotting import plot_voltage

        lines = {f"{curve.cell} ({curve.run})": curve.steps for curve in curves}
        title = f"{_title(found)}, {temperature_K:g} K"
        plot_voltage(lines, metal.element, title, plot)
    tables: list[str | Table] = []
    hosts = {member.name: member.host_name for member in found.members}
    for curve in curves:
        host = f"{hosts[curve.run]}, " if len(found.hosts) > 1 else ""
        head = f"{curve.run}: {host}{curve.cell}, {curve.n_formula_units} f.u., {temperature_K:g} K"
        tables += [f"\n{head}\n", hull_tables.thermal_table(curve)]
        tables += ["", hull_tables.thermal_steps_table(curve)]
    print_result(
        hull_tables.thermal_document(found, metal, curves, temperature_K),
        hull_tables.metal_line(found.level.name, metal),
        *tables,
        *_wrote(plot),
        json=json,
        notes=[*hull_tables.thermal_notes(curves), *notes(found)],
    )


def _title(found: JointHull) -> str:
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
    print_result(
        hull_tables.promotion_document(plan, dry_run),
        *([hull_tables.promotion_table(plan), ""] if plan.new else []),
        hull_tables.promotion_line(plan, dry_run, run_folder.quoted),
        json=json,
        notes=plan.notes,
    )

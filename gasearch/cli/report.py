"""`gasearch report`: what a search found, as one page and as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gasearch.cli.common import print_result, run_folders, see_also

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDER...",
        help="Run folders of one host, or of a learning loop.",
        show_default=False,
    ),
]


def report(
    folders: Folders,
    output: Annotated[Path, typer.Option(help="The HTML page; replaces an older one.")] = Path(
        "report.html"
    ),
    figures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the figures here too, as PNG and PDF."),
    ] = None,
    x: Annotated[
        str | None,
        typer.Option(
            "-x", "--x", metavar="X", help="Composition to show in detail; the nearest to 2/3."
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(metavar="T_K", help="Of the free energies, in kelvins.")
    ] = 300.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print the numbers of the report as one JSON document.")
    ] = False,
) -> None:
    """Write a report: one HTML page that needs no network.

    Several run folders of one host (other supercells, other levels of theory) make one report.
    """
    from gasearch.report.collect import collect
    from gasearch.report.page import write_page

    found = collect(folders, x, temperature)
    write_page(found, output)
    lines = [f"wrote {output}"]
    if figures is not None:
        from gasearch.report.figures import write_figures

        lines.insert(0, f"wrote {len(write_figures(found, figures))} figures to {figures}")
    advice = [see_also(run_folders(folders)[0], None, "show", "lineage", "serve")]
    print_result(found.numbers, *lines, json=json, notes=advice)

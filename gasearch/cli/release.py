"""`gasearch release`: held candidates relaxed on without their hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gasearch.cli.common import Folder, Json, out, print_result

if TYPE_CHECKING:
    from gasearch.dft.release import Release


def release(
    folder: Folder,
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID...", help="Candidates; by default those on the hull."),
    ] = None,
    above_hull: Annotated[
        float,
        typer.Option(
            min=0, metavar="E", help="And those as near to the hull, in eV per formula unit."
        ),
    ] = 0.0,
    json: Json = False,
) -> None:
    """Relax held candidates on without their hold, and tell what became of them.

    An order that stays is a minimum of the potential itself. Results are stored at a level of
    their own, beside the hull of the search; what was released before is not relaxed again.
    """
    from gasearch.dft.release import release as release_in
    from gasearch.display import release_tables
    from gasearch.run.folder import RunFolder

    def show(row: Release) -> None:
        if not json:
            out.print(release_tables.progress_line(row))

    run_folder = RunFolder(folder)
    found = release_in(run_folder, ids or (), above_hull, show)
    print_result(
        release_tables.release_document(found),
        "",
        release_tables.release_table(found.rows),
        f"\n{release_tables.summary_line(found)}",
        json=json,
        notes=release_tables.release_notes(found, run_folder.quoted),
    )

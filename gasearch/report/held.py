"""What a report says of a hold: what is left of it at each candidate, and who stayed without it."""

from __future__ import annotations

from collections.abc import Sequence

from gasearch.analysis.joint_hull import HullPoint, JointHull
from gasearch.dft.release import Releases, released
from gasearch.display.release_tables import RELEASE_COLUMNS, release_cells, summary_line
from gasearch.display.tables import milli
from gasearch.report.material import Material
from gasearch.report.sections import Block, Table, Text

COLUMN = "held by (meV/cell)"
_HOW = "Relax them on without it: gasearch release."


def held_column(points: Sequence[HullPoint]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return a column of what is left of a hold, and a cell for each point; none where none is."""
    if not any(point.exists_only_while_held for point in points):
        return (), [() for _ in points]
    return (COLUMN,), [(milli(point.penalty_eV),) for point in points]


def held_blocks(material: Material, hull: JointHull, members: Sequence[HullPoint]) -> list[Block]:
    """Return which ground states of a held hull exist only while held, and what was released."""
    if not hull.level.is_held:
        return []
    pushed = [point for point in members if point.exists_only_while_held]
    blocks: list[Block] = []
    if pushed:
        listed = ", ".join(f"{p.id} (x = {p.x:.4g}, {milli(p.penalty_eV)} meV)" for p in pushed)
        text = f"{len(pushed)} of {len(members)} ground states exist only while held: {listed}."
        blocks.append(Text(f"{text} There the hold still pushes at the end. {_HOW}"))
    for run in material.runs:
        found = released(run.findings) if run.findings.level.name == hull.level.name else None
        if found is not None:
            blocks.append(_released(run.name, found))
    return blocks


def _released(run: str, found: Releases) -> Table:
    names = [name.replace("\n", " ") for name in RELEASE_COLUMNS]
    caption = f"Relaxed on without the hold, {found.level}, {run}: {summary_line(found).strip()}"
    return Table(names, [release_cells(row) for row in found.rows], caption)

"""The chapter on where ground states come from."""

from __future__ import annotations

from collections.abc import Sequence

from gasearch.analysis.lineage import Ancestor, lineage
from gasearch.report.chapters.material import Material
from gasearch.report.sections import Block, Section, Table, Text, meV

_MOST = 40  # ancestors in one table


def lineage_section(material: Material) -> Section:
    """Return the ancestors of each ground state of the searches."""
    blocks: list[Block] = []
    for hull in material.search_hulls:
        for point in material.members(hull):
            run = material.run(point.run)
            rows = lineage(run.findings, point.id)
            title = f"x = {point.x:.4g}, candidate {point.id} of {run.name} ({point.cell})"
            blocks.append(_table(rows, title))
    return Section("lineage", "Lineage", blocks or [Text("No valid candidate yet.")])


def _table(rows: Sequence[Ancestor], title: str) -> Table:
    generations = 1 + max(row.generation for row in rows) - min(row.generation for row in rows)
    n_shown = f", the last {_MOST} of them" if len(rows) > _MOST else ""
    told = f"{title}: {len(rows) - 1} ancestors in {generations} generations{n_shown}"
    names = ("id", "made by", "parents", "x", "above hull (meV/f.u.)", "verdict")
    table = [
        (
            str(row.id),
            row.operator
            if row.origin in ("search", row.operator)
            else f"{row.operator} ({row.origin})",
            ", ".join(map(str, row.parents)) or "-",
            f"{row.x:.4g}",
            meV(row.above_hull_eV_per_fu),
            row.verdict or "-",
            "-" if row.error_eV_per_fu is None else f"{1000 * row.error_eV_per_fu:+.1f}",
        )
        for row in rows[:_MOST]
    ]
    return Table((*names, "found - predicted (meV/f.u.)"), table, told, folded=True)

"""Sections of the report as JSON: texts stay texts, and are never markup."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gasearch.report.plotly_charts import plotly_figure
from gasearch.report.sections import Block, Cell, Chart, Section, StructureView, Table, Text


def section_documents(sections: Iterable[Section]) -> list[dict[str, Any]]:
    """Return sections as the page draws them."""
    return [
        {
            "key": section.key,
            "title": section.title,
            "blocks": [_block(block) for block in section.blocks],
        }
        for section in sections
    ]


def _block(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"kind": "text", "text": block.text, "is_warning": block.is_warning}
    if isinstance(block, Table):
        rows = [[_cell(cell) for cell in row] for row in block.rows]
        return {
            "kind": "table", "caption": block.caption, "columns": list(block.columns), "rows": rows,
        }  # fmt: skip
    if isinstance(block, Chart):
        figure = plotly_figure(block)
        return {"kind": "chart", "name": block.name, **figure}
    if isinstance(block, StructureView):
        return {"kind": "structures", "structures": list(block.structures)}
    raise TypeError(f"no form for {type(block).__name__}")


def _cell(cell: str | Cell) -> str | list[str]:
    """Return a cell as its text, or as text and what a click shows."""
    if isinstance(cell, str):
        return cell
    return cell.text if cell.target is None else [cell.text, cell.target]

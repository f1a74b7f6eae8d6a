"""A report as one HTML file that needs no network: plotly's javascript stands in it once."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from gasearch.errors import GasearchError
from gasearch.files import written
from gasearch.report.collect import Report
from gasearch.report.plotly_charts import plotly_figure
from gasearch.report.sections import Block, Cell, Chart, Section, StructureView, Table, Text


class NoPlotlyError(GasearchError, RuntimeError):
    """A page asked for without the package whose javascript draws its figures."""

    def __str__(self) -> str:
        return "no plotly here; try: pip install 'gasearch[report]' (or [serve], for serve alone)"


def write_page(report: Report, output: Path) -> None:
    """Write a report to an HTML file; an older one is replaced."""
    text = page(report)
    with written(output, replace=True) as path:
        path.write_text(text, encoding="utf-8")


def page(report: Report) -> str:
    """Return the page of a report."""
    figures: dict[str, Any] = {}
    structures: list[dict[str, Any]] = []
    body = "\n".join(_section(section, figures, structures) for section in report.sections)
    links = "\n".join(f'<a href="#{s.key}">{html.escape(s.title)}</a>' for s in report.sections)
    parts = {
        "TITLE": html.escape(report.title),
        "LINKS": links,
        "BODY": body,
        "STYLE": _own("style.css"),
        "SCRIPT": _own("report.js") + _own("viewer.js"),
        "FIGURES": _script_json(figures),
        "STRUCTURES": _script_json(structures),
        "NUMBERS": _script_json(report.numbers),
        "PLOTLY": plotly_script().replace("</script", "<\\/script"),
    }
    pieces = _own("template.html").split("%%")
    if len(pieces) % 2 == 0:
        raise ValueError("template.html has a %% without its partner")
    return "".join(parts[piece] if n % 2 else piece for n, piece in enumerate(pieces))


def _script_json(document: object) -> str:
    """Return JSON that may stand inside of a page's script element."""
    text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _own(name: str) -> str:
    return files("gasearch.report").joinpath(name).read_text(encoding="utf-8")


def plotly_script() -> str:
    """Return the javascript that draws figures."""
    try:
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "plotly":
            raise
        raise NoPlotlyError from error
    return str(get_plotlyjs())


def _section(section: Section, figures: dict[str, Any], structures: list[dict[str, Any]]) -> str:
    blocks = "\n".join(_block(block, figures, structures) for block in section.blocks)
    title = html.escape(section.title)
    return f'<section id="{section.key}">\n<h2>{title}</h2>\n{blocks}\n</section>'


def _block(block: Block, figures: dict[str, Any], structures: list[dict[str, Any]]) -> str:
    if isinstance(block, Text):
        kind = ' class="warning"' if block.is_warning else ""
        return f"<p{kind}>{html.escape(block.text)}</p>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Chart):
        figures[block.name] = plotly_figure(block)
        title = html.escape(block.title, quote=True)
        return (
            f'<div class="plot" data-figure="{block.name}" role="img" aria-label="{title}"></div>'
        )
    return _viewer(block, structures)


def _viewer(block: StructureView, structures: list[dict[str, Any]]) -> str:
    structures.extend(block.structures)
    options = "\n".join(
        f'<option value="{html.escape(one["key"], quote=True)}">{html.escape(one["name"])}</option>'
        for one in block.structures
    )
    return _own("viewer.html").replace("%%OPTIONS%%", options)


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    rows = "\n".join(f"<tr>{_cells(row)}</tr>" for row in table.rows)
    caption = html.escape(table.caption)
    body = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    if table.folded:
        inside = f'<div class="wide"><table>{body}</table></div>'
        return f"<details><summary>{caption}</summary>{inside}</details>"
    caption = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="wide"><table>{caption}{body}</table></div>'


def _cells(row: Sequence[str | Cell]) -> str:
    return "".join(f"<td>{_cell(cell)}</td>" for cell in row)


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return html.escape(cell)
    if cell.target is None:
        return html.escape(cell.text)
    target = html.escape(cell.target, quote=True)
    return f'<button class="show" data-structure="{target}">{html.escape(cell.text)}</button>'

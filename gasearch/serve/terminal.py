"""A run that is looked at, in a terminal: what `gasearch status` prints, read as the page reads."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.text import Text

from gasearch.display.reasons import cause_lines, causes
from gasearch.display.tables import make_table
from gasearch.report.sections import Cell
from gasearch.report.sections import Table as PlainTable
from gasearch.serve.overview import run_lines
from gasearch.serve.panels import compositions_section
from gasearch.serve.watching import LiveRun


def still(run: LiveRun, how: str = "") -> RenderableType:
    """Return what is known of a run, to be printed.

    Parameters
    ----------
    how
        What the reader can do, beside the time in the first line.
    """
    moment = run.moment
    clock = time.strftime("%H:%M:%S", time.localtime(moment.looked_s))
    lines = [
        f"{run.name} at {clock}{f', {how}' if how else ''}",
        *filter(None, [moment.trouble]),
        *run_lines(run),
    ]
    if moment.view is None:
        return Group(*map(Text, lines))
    refused = moment.view.table.refused
    lines += cause_lines(causes((number, *refused[number]) for number in refused))
    (table,) = compositions_section(moment.view).blocks
    if not isinstance(table, PlainTable):
        return Group(*map(Text, lines))
    rows = [[cell.text if isinstance(cell, Cell) else cell for cell in row] for row in table.rows]
    return Group(*map(Text, [*lines, ""]), make_table(table.columns, rows))

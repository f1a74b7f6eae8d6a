"""From run folders to the sections of a report, and to its numbers as one document."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gasearch import __version__
from gasearch.analysis.joint_hull import JoinedHull
from gasearch.analysis.voltage import hull_voltage
from gasearch.display.hull_tables import hull_document, voltage_document
from gasearch.display.search_tables import RANKS_ONLY, status_document
from gasearch.errors import GasearchError
from gasearch.report.chapters import (
    cells,
    energies,
    lineages,
    moments,
    orders,
    parity,
    progress,
    structures,
    temperature,
    xrd,
)
from gasearch.report.chapters.material import ROOM_TEMPERATURE_K, Material, opened
from gasearch.report.sections import Block, Cell, Chart, Section, Series, Table, Text

_CHAPTERS = (
    energies.hull_section,
    energies.voltage_section,
    temperature.temperature_section,
    energies.best_section,
    structures.structures_section,
    energies.lowest_section,
    orders.orders_section,
    cells.cells_section,
    xrd.xrd_section,
    moments.moments_section,
    parity.parity_section,
    parity.jobs_section,
    progress.progress_section,
    progress.searched_section,
    lineages.lineage_section,
)


@dataclass(frozen=True)
class Report:
    """All that a report shows.

    Parameters
    ----------
    numbers
        The same results as one JSON document: hulls, voltages, free energies and status, as the
        commands print them.
    """

    title: str
    sections: tuple[Section, ...]
    numbers: dict[str, Any]


def collect(
    folders: Sequence[Path], x: str | None = None, temperature_K: float = ROOM_TEMPERATURE_K
) -> Report:
    """Return the report of run folders of one host; they are closed again.

    Parameters
    ----------
    x
        The composition to show in detail, such as "2/3"; by default the nearest to that.
    temperature_K
        At which free energies are shown.
    """
    with opened(folders, x, temperature_K) as material:
        sections = (_summary(material), *(chapter(material) for chapter in _CHAPTERS))
        title = f"{material.host.declaration.name}: ground states"
        return Report(title, _known_targets(sections), _numbers(material))


def _summary(material: Material) -> Section:
    host = material.host
    low, high = host.x_range
    told = (
        f"{host.declaration.name}, {host.space_group.symbol}, {host.declaration.formula_unit}; "
        f"x from {low:.4g} to {high:.4g}. Working ion {host.working_element}."
    )
    blocks: list[Text | Table] = [Text(told)]
    if any(hull.level.ranks_only for hull in material.hulls):
        blocks.append(Text(RANKS_ONLY, is_warning=True))
    rows = [
        (
            run.name,
            run.cell,
            run.findings.level.name,
            f"{run.status.counts.candidates:,}",
            f"{run.status.counts.by_verdict.get('ok', 0):,}",
            f"{run.status.counts.n_calls:,}",
            run.status.ending or ("running" if run.status.running else "stopped"),
        )
        for run in material.runs
    ]
    names = ("run", "cell", "level of theory", "candidates", "valid", "force calls", "state")
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    made = Text(f"Made by gasearch {__version__} on {now}.")
    return Section("summary", "Summary", [*blocks, Table(names, rows), made])


def _known_targets(sections: Sequence[Section]) -> tuple[Section, ...]:
    """Return sections that point to shown structures only, each figure with a name of its own."""
    shown = {
        structure["key"]
        for section in sections
        for block in section.blocks
        for structure in getattr(block, "structures", ())
    }

    def kept(cell: str | Cell) -> str | Cell:
        return cell.text if isinstance(cell, Cell) and cell.target not in shown else cell

    result = []
    names: set[str] = set()
    for section in sections:
        blocks: list[Block] = []
        for block in section.blocks:
            if isinstance(block, Table):
                rows = [[kept(cell) for cell in row] for row in block.rows]
                blocks.append(replace(block, rows=rows))
            elif isinstance(block, Chart):
                name = _unlike(block.name, names)
                series = [_pointing(one, shown) for one in block.series]
                blocks.append(replace(block, name=name, series=series))
            else:
                blocks.append(block)
        result.append(Section(section.key, section.title, blocks))
    return tuple(result)


def _unlike(name: str, names: set[str]) -> str:
    """Return a name that no figure has yet, and note it."""
    tries = (name if n == 1 else f"{name}-{n}" for n in itertools.count(1))
    own = next(text for text in tries if text not in names)
    names.add(own)
    return own


def _pointing(series: Series, shown: set[str]) -> Series:
    targets = [target if target in shown else None for target in series.targets]
    return replace(series, targets=targets if any(targets) else ())


def _numbers(material: Material) -> dict[str, Any]:
    return {
        "host": material.host.declaration.name,
        "x_of_interest": material.x_of_interest,
        "hulls": [hull_document(hull) for hull in material.hulls],
        "voltages": [_voltage(hull) for hull in material.hulls],
        "temperatures": [temperature.document(material, hull) for hull in material.hulls],
        "runs": [
            {"run": run.name, "cell": run.cell, "status": status_document(run.status)}
            for run in material.runs
        ],
    }


def _voltage(hull: JoinedHull) -> dict[str, Any] | None:
    if hull.level.ranks_only:
        return None
    try:
        return voltage_document(hull, hull_voltage(hull), hull.vertices())
    except GasearchError:
        return None


def as_json(document: object) -> str:
    """Return JSON that may stand inside of a page's script element."""
    text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")

"""From run folders to the chapters of a report, and to its numbers as one document."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gasearch.report.chapters import (
    cells,
    energies,
    learning,
    moments,
    orders,
    parity,
    phases,
    progress,
    structures,
    summary,
    temperature,
    xrd,
)
from gasearch.report.material import ROOM_TEMPERATURE_K, Material, opened
from gasearch.report.sections import Block, Cell, Chart, Section, Series, Table

CHAPTERS: tuple[Callable[[Material], Section], ...] = (
    summary.summary_section,
    energies.hull_section,
    energies.voltage_section,
    temperature.temperature_section,
    phases.phases_section,
    energies.best_section,
    structures.structures_section,
    energies.lowest_section,
    orders.orders_section,
    cells.cells_section,
    xrd.xrd_section,
    moments.moments_section,
    parity.parity_section,
    parity.jobs_section,
    learning.learning_section,
    progress.progress_section,
    progress.searched_section,
    progress.lineage_section,
)
"""The chapters in their order: a new one is a function of its own file, named here."""


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
    """Return the report of run folders of one host, or of polymorphs; they are closed again.

    Parameters
    ----------
    x
        The composition to show in detail, such as "2/3"; by default the nearest to that.
    temperature_K
        At which free energies are shown.
    """
    with opened(folders, x, temperature_K) as material:
        sections = [chapter(material) for chapter in CHAPTERS]
        title = f"{', '.join(material.hosts)}: ground states"
    numbers = {key: value for section in sections for key, value in section.numbers.items()}
    return Report(title, _known_targets(sections), numbers)


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
        result.append(replace(section, blocks=blocks))
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

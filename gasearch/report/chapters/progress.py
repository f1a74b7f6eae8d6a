"""Chapters on the search itself: progress, operators, what is searched and proven, lineages."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gasearch.analysis.hull_history import EVERY, OWN_PURPOSES, hull_history
from gasearch.analysis.joint_hull import JointHull
from gasearch.analysis.lineage import Ancestor, lineage
from gasearch.display.plotting import BLUE, COLOURS, GREY, ORANGE
from gasearch.display.status import (
    proof_notes,
    status_document,
    status_entries,
    status_lines,
)
from gasearch.display.tables import milli
from gasearch.report.material import Material, OneRun, key_of
from gasearch.report.sections import (
    Block,
    Cell,
    Chart,
    Section,
    Series,
    Table,
    Text,
    file_name,
    styled,
)
from gasearch.store.sql.events import RECORDED

_MOST_ANCESTORS = 40  # in one table
_MOMENTS = 8  # hulls of the past in one figure


@dataclass(frozen=True)
class Improvement:
    """A candidate that was the lowest of its composition when its result came.

    Parameters
    ----------
    n_candidates
        Whose search relaxation had ended by then, itself included.
    energy_eV_per_fu
        Not a formation energy.
    """

    composition: str
    x: float
    candidate: int
    operator: str
    n_candidates: int
    energy_eV_per_fu: float


def improvements(run: OneRun) -> tuple[list[Improvement], int]:
    """Return what lowered a composition, in the order of results, and how many candidates ended."""
    rows = {row.candidate: row for row in run.store.evaluations(verdict=None)}
    lowest: dict[str, float] = {}
    found, n_candidates = [], 0
    for event in run.store.events(kind=RECORDED):
        row, purpose, energy = (
            rows.get(event.candidate or 0),
            event.data["purpose"],
            event.data["energy"],
        )
        if row is None or purpose not in OWN_PURPOSES:
            continue
        n_candidates += purpose == "search"
        if event.data["verdict"] != "ok" or not isinstance(energy, float):
            continue
        if energy < lowest.get(row.composition, float("inf")):
            lowest[row.composition] = energy
            per_fu = energy / run.n_units
            found.append(
                Improvement(
                    row.composition, row.x, row.candidate, row.operator, n_candidates, per_fu
                )
            )
    return found, n_candidates


def progress_section(material: Material) -> Section:
    """Return how each search came down, and what made its candidates."""
    blocks: list[Block] = []
    documents: list[dict[str, Any]] = []
    for run in material.runs:
        (hull,) = (h for h in material.search_hulls if any(m.name == run.name for m in h.members))
        found, n_candidates = improvements(run)
        entries = status_entries(run.findings, run.status, run.folder)
        documents.append({"run": run.name, "cell": run.cell, "status": status_document(entries)})
        first, *lines = status_lines(entries)
        blocks += [Text(f"{run.name} ({run.cell}): {first}"), *map(Text, lines)]
        if not found:
            blocks.append(Text(f"{run.name}: no candidate has a valid energy yet."))
            continue
        if hull.missing_ends():
            blocks.append(Text(f"{run.name}: no formation energies yet, so no lines to draw."))
        else:
            blocks += [_lowest_chart(run, hull, found, n_candidates), _history_chart(run, hull)]
        blocks += _operators(run, found)
    return Section("progress", "Progress", blocks, {"runs": documents})


def _lowest_chart(
    run: OneRun, hull: JointHull, found: Sequence[Improvement], n_candidates: int
) -> Chart:
    by_x = sorted(found, key=lambda one: (one.x, one.composition))
    groups = itertools.groupby(by_x, key=lambda one: one.composition)
    series = []
    for n, (group, colour, _) in enumerate(styled([list(group) for _, group in groups])):
        steps = sorted(group, key=lambda one: one.n_candidates)
        x = steps[0].x
        heights = [1000 * hull.formation_energy(x, one.energy_eV_per_fu) for one in steps]
        texts = [f"candidate {one.candidate} by {one.operator}" for one in steps]
        series.append(
            Series(
                x=[*(float(one.n_candidates) for one in steps), float(n_candidates)],
                y=[*heights, heights[-1]],
                kind="steps",
                name=f"x = {x:.4g}",
                colour=colour,
                texts=[*texts, texts[-1]],
                dash=n >= len(COLOURS),
            )
        )
    return Chart(
        name=file_name("progress", run.name),
        title=f"Lowest formation energy of each composition, {run.name} ({run.cell})",
        x_label="candidates",
        y_label="formation energy (meV/f.u.)",
        series=series,
        height=440,
    )


def _history_chart(run: OneRun, hull: JointHull) -> Chart:
    n_search = max(1, run.status.counts.relaxed + run.status.counts.failed)
    every = EVERY if n_search >= _MOMENTS * EVERY else max(1, -(-n_search // _MOMENTS))
    moments = hull_history(run.store, every)
    step = -(-len(moments) // _MOMENTS)
    shown = [*moments[:-1][::step], moments[-1]]
    series = []
    for n, moment in enumerate(shown, 1):
        points = moment.formation(hull)
        is_last = n == len(shown)
        series.append(
            Series(
                x=[x for x, _ in points],
                y=[1000 * energy for _, energy in points],
                kind="line",
                name=f"{moment.n_candidates} candidates",
                colour=BLUE if is_last else ORANGE,
                opacity=1.0 if is_last else 0.25 + 0.6 * n / len(shown),
                width=2.0 if is_last else 1.0,
            )
        )
    return Chart(
        name=file_name("hull-history", run.name),
        title=f"How the hull came down, {run.name} ({run.cell})",
        x_label="x",
        y_label="formation energy (meV/f.u.)",
        series=series,
    )


def _operators(run: OneRun, found: Sequence[Improvement]) -> list[Block]:
    rows = run.store.evaluations(verdict=None)
    made = Counter(row.operator for row in rows)
    valid = Counter(row.operator for row in rows if row.verdict == "ok")
    lowered = Counter(one.operator for one in found)
    final = {row.best for row in run.status.by_composition}
    holds = Counter(row.operator for row in rows if row.candidate in final)
    names = sorted(made, key=lambda name: (-made[name], name))
    table = Table(
        ("made by", "candidates", "valid", "lowered a composition", "lowest now"),
        [
            (name, str(made[name]), str(valid[name]), str(lowered[name]), str(holds[name]))
            for name in names
        ],
        "A candidate lowered its composition where no valid one before it was as low; the first "
        "of each composition counts too.",
    )
    chart = Chart(
        name=file_name("operators", run.name),
        title=f"Success by operator, {run.name}",
        x_label="made by",
        y_label="share of its candidates (%)",
        series=[
            Series(names, [100 * lowered[n] / made[n] for n in names], "bars", "lowered", BLUE),
            Series(names, [100 * holds[n] / made[n] for n in names], "bars", "lowest now", ORANGE),
        ],
    )
    return [chart, table]


def searched_section(material: Material) -> Section:
    """Return how much of each composition was searched, and what is proven."""
    blocks: list[Block] = []
    for run in material.runs:
        rows = run.status.by_composition
        x = [f"{row.x:.4g}" for row in rows]
        blocks.append(
            Chart(
                name=file_name("searched", run.name),
                title=f"Distinct decorations, {run.name} ({run.cell})",
                x_label="x",
                y_label="distinct decorations",
                series=[
                    Series(x, [float(r.total) for r in rows], "bars", "there are", GREY),
                    Series(x, [float(r.searched) for r in rows], "bars", "searched", BLUE),
                ],
                log_y=max(row.total for row in rows) > 50,
            )
        )
        names = ("x", "formula", "searched", "distinct", "valid", "failed", "lowest", "E_f")
        table = [
            (
                f"{row.x:.4g}",
                row.formula,
                f"{row.searched:,}",
                f"{row.total:,}",
                f"{row.valid:,}",
                str(row.failed),
                "-" if row.best is None else str(row.best),
                milli(row.best_formation_energy_eV_per_fu),
                f"among {row.valid:,}" if row.proven else "no",
            )
            for row in rows
        ]
        blocks.append(Table((*names, "proven"), table, f"{run.name}; E_f in meV/f.u. of this run"))
        blocks += [Text(line) for line in proof_notes(rows)]
    return Section("searched", "Searched and proven", blocks)


def lineage_section(material: Material) -> Section:
    """Return the ancestors of each ground state of the searches."""
    blocks: list[Block] = []
    for hull in material.search_hulls:
        for point in material.members(hull):
            run = material.run(point.run)
            rows = lineage(run.findings, point.id)
            title = f"x = {point.x:.4g}, candidate {point.id} of {run.name} ({point.cell})"
            keys = [key_of(run.name, row.id, hull.level.name) for row in rows]
            blocks.append(_lineage_table(rows, title, keys))
            line = f"gasearch show {run.folder.quoted} {point.id}"
            blocks.append(Text(f"Its structure, and that of its ancestors by their ids: {line}"))
    return Section("lineage", "Lineage", blocks or [Text("No valid candidate yet.")])


def _lineage_table(rows: Sequence[Ancestor], title: str, keys: Sequence[str]) -> Table:
    """Return a lineage; its ids show the structures that the report holds."""
    generations = 1 + max(row.generation for row in rows) - min(row.generation for row in rows)
    n_shown = f", the last {_MOST_ANCESTORS} of them" if len(rows) > _MOST_ANCESTORS else ""
    caption = f"{title}: {len(rows) - 1} ancestors in {generations} generations{n_shown}"
    names = ("id", "made by", "parents", "x", "above hull (meV/f.u.)", "verdict")
    table = [
        (
            Cell(str(row.id), key),
            row.made_by,
            ", ".join(map(str, row.parents)) or "-",
            f"{row.x:.4g}",
            milli(row.above_hull_eV_per_fu),
            row.verdict or "-",
            "-" if row.error_eV_per_fu is None else f"{1000 * row.error_eV_per_fu:+.1f}",
        )
        for row, key in zip(rows[:_MOST_ANCESTORS], keys, strict=False)
    ]
    return Table((*names, "found - predicted (meV/f.u.)"), table, caption, folded=True)

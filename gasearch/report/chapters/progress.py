"""Chapters on the search itself: progress, operators, what is searched, what is proven."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from gasearch.analysis.hull_history import EVERY, hull_history
from gasearch.analysis.joint_hull import JoinedHull
from gasearch.display.hull_tables import formation
from gasearch.display.plotting import COLOURS
from gasearch.display.search_tables import failure_lines, proof_notes, status_lines
from gasearch.report.chapters.material import Material, OneRun
from gasearch.report.sections import (
    BLUE,
    GREY,
    ORANGE,
    Block,
    Chart,
    Section,
    Series,
    Table,
    Text,
    file_name,
    meV,
)
from gasearch.store.sql.events import RECORDED

_OWN = ("search", "tight")
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
        row, purpose, energy = rows.get(event.candidate or 0), *_told(event.data)
        if row is None or purpose not in _OWN:
            continue
        n_candidates += purpose == "search"
        if event.data["verdict"] != "ok" or energy is None:
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


def _told(data: object) -> tuple[str, float | None]:
    values = data if isinstance(data, dict) else {}
    energy = values.get("energy")
    return str(values.get("purpose")), energy if isinstance(energy, float) else None


def progress_section(material: Material) -> Section:
    """Return how each search came down, and what made its candidates."""
    blocks: list[Block] = []
    for run in material.runs:
        (hull,) = (h for h in material.search_hulls if any(m.name == run.name for m in h.members))
        found, n_candidates = improvements(run)
        lines = status_lines(run.status, run.folder.quoted)
        blocks += [Text(f"{run.name} ({run.cell}): {lines[0]}"), *map(Text, lines[1:])]
        blocks += [Text(line, is_warning=True) for line in failure_lines(run.findings)]
        if not found:
            blocks.append(Text(f"{run.name}: no candidate has a valid energy yet."))
            continue
        if hull.missing_ends():
            blocks.append(Text(f"{run.name}: no formation energies yet, so no lines to draw."))
        else:
            blocks += [_lowest_chart(run, hull, found, n_candidates), _history_chart(run, hull)]
        blocks += _operators(run, found)
    return Section("progress", "Progress", blocks)


def _lowest_chart(
    run: OneRun, hull: JoinedHull, found: Sequence[Improvement], n_candidates: int
) -> Chart:
    ends = hull.vertices()
    first, last = ends[0], ends[-1]
    span = (last.x - first.x) or 1.0
    slope = (last.energy_eV_per_fu - first.energy_eV_per_fu) / span
    series = []
    by_x = sorted(found, key=lambda one: (one.x, one.composition))
    inside = [
        (name, list(group))
        for name, group in itertools.groupby(by_x, key=lambda one: one.composition)
    ]
    styles = zip(inside, itertools.cycle(COLOURS), itertools.count(), strict=False)
    for (_, group), colour, n in styles:
        steps = sorted(group, key=lambda one: one.n_candidates)
        x = steps[0].x
        line = first.energy_eV_per_fu + slope * (x - first.x)
        heights = [1000 * (one.energy_eV_per_fu - line) for one in steps]
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


def _history_chart(run: OneRun, hull: JoinedHull) -> Chart:
    n_search = max(1, run.status.counts.relaxed + run.status.counts.failed)
    every = EVERY if n_search >= _MOMENTS * EVERY else max(1, -(-n_search // _MOMENTS))
    moments = hull_history(run.store, every)
    step = -(-len(moments) // _MOMENTS)
    shown = [*moments[:-1][::step], moments[-1]]
    series = []
    for n, moment in enumerate(shown, 1):
        points = formation(moment, hull)
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
    made: dict[str, int] = {}
    valid: dict[str, int] = {}
    for row in rows:
        made[row.operator] = made.get(row.operator, 0) + 1
        valid[row.operator] = valid.get(row.operator, 0) + (row.verdict == "ok")
    lowered = {name: sum(one.operator == name for one in found) for name in made}
    final = {row.best for row in run.status.by_composition}
    holds = dict.fromkeys(made, 0)
    for row in rows:
        holds[row.operator] += row.candidate in final
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
                meV(row.best_formation_energy_eV_per_fu),
                f"among {row.valid:,}" if row.proven else "no",
            )
            for row in rows
        ]
        blocks.append(Table((*names, "proven"), table, f"{run.name}; E_f in meV/f.u. of this run"))
        blocks += [Text(line) for line in proof_notes(rows)]
    return Section("searched", "Searched and proven", blocks)

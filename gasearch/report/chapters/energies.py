"""Chapters on energies: hulls of all levels, voltage, and the lowest at one composition."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gasearch.analysis.joint_hull import HullPoint, JointHull
from gasearch.analysis.voltage import VoltageCurve, hull_voltage
from gasearch.display.hull_tables import (
    hull_document,
    metal_line,
    rebuilt_lines,
    voltage_document,
    voltage_line,
)
from gasearch.display.plotting import BLUE, GREY, MARKERS, plateaus
from gasearch.display.tables import RANKS_ONLY, cautions, hull_runs, milli
from gasearch.errors import GasearchError
from gasearch.report.held import held_blocks, held_column
from gasearch.report.material import Material, key_of, same_x
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

LOWEST = 10
_MOST_DRAWN = 4_000
_LOWEST_DRAWN = 50
_HOST_ONLY = (
    "The hull is that of this host: only orders of its working ions and charges were compared. "
    "Another polymorph may be lower."
)
_POLYMORPHS = (
    "The common hull is that of these hosts: {}. Formation energies are against the lowest of them "
    "at both ends; the line of each host joins its own ground states."
)


def hull_section(material: Material) -> Section:
    """Return the hulls, one for each level of theory, and all of them together."""
    text = f"{_HOST_ONLY} {material.host.declaration.note}".strip()
    if len(material.hosts) > 1:
        text = _POLYMORPHS.format(", ".join(material.hosts))
    blocks: list[Block] = [Text(text)]
    drawn = []
    for hull in material.hulls:
        blocks += _one_hull(material, hull)
        drawn += [] if hull.missing_ends() else [hull]
    if len(drawn) > 1:
        blocks.append(_together(drawn))
    numbers = {"hulls": [hull_document(hull) for hull in material.hulls]}
    return Section("hull", "Hull", blocks, numbers)


def _one_hull(material: Material, hull: JointHull) -> list[Block]:
    name = hull.level.name
    warning = [Text(text, is_warning=True) for text in cautions(hull.level, hull_runs(hull))]
    missing = hull.missing_ends()
    if missing:
        where = " and ".join(f"x = {x:.4g}" for x in missing)
        return [*warning, Text(f"{name}: no hull yet, for no valid candidate is at {where}.")]
    members = material.members(hull)
    n_points, n_shown = len(hull.points), len(thinned(hull.points))
    few = f" (the figure shows {n_shown:,}, all of the lowest among them)"
    text = f"{n_points:,} valid candidates{few if n_shown < n_points else ''}"
    found = Text(f"{name}: {text}, {len(members)} ground states.")
    tables: list[Block] = [_members_table(hull, members)]
    if len(hull.hosts) > 1:
        tables += [
            _members_table(hull, [p for p in hull.points if p.host == host and p.on_own_hull], host)
            for host in hull.hosts
        ]
    held = held_blocks(material, hull, members)
    return [*warning, found, _hull_chart(hull, members), *tables, *held]


def _hull_chart(hull: JointHull, members: Sequence[HullPoint]) -> Chart:
    cells = sorted({point.cell for point in hull.points}, key=lambda cell: (len(cell), cell))
    shown = thinned(hull.points)
    series = [_line(members, "hull", BLUE)]
    if len(hull.hosts) > 1:
        series = [_line(members, "common hull", GREY, dash=True), *_host_series(hull, shown)]
        cells = []
    for cell, symbol in zip(cells, itertools.cycle(MARKERS), strict=False):
        own = [point for point in shown if point.cell == cell]
        above = [point for point in own if not point.on_hull]
        label = f"candidates, {cell}"
        if above:
            series.append(_points(hull, above, label, GREY, symbol, 0.55))
        ground = [point for point in own if point.on_hull]
        if ground:
            series.append(_points(hull, ground, f"ground states, {cell}", BLUE, symbol, 1.0))
    suffix = " (no physical meaning)" if hull.level.ranks_only else ""
    return Chart(
        name=file_name("hull", hull.level.name),
        title=f"Formation energies, {hull.level.name}{suffix}",
        x_label="x",
        y_label="formation energy (meV/f.u.)",
        series=series,
        height=440,
    )


def _host_series(hull: JointHull, shown: Sequence[HullPoint]) -> list[Series]:
    """Return the hull and the points of each host, against the common ends."""
    series = []
    for host, colour, symbol in styled(hull.hosts):
        own = [point for point in shown if point.host == host]
        ground = [point for point in own if point.on_own_hull]
        lowest = {round(p.x, 9): p for p in reversed(ground)}
        series.append(_line(sorted(lowest.values(), key=lambda p: p.x), f"hull of {host}", colour))
        above = [point for point in own if not point.on_own_hull]
        for points, label, opacity in ((above, host, 0.4), (ground, f"ground states, {host}", 1.0)):
            if points:
                series.append(_points(hull, points, label, colour, symbol, opacity))
    return series


def thinned(points: Sequence[HullPoint], most: int = _MOST_DRAWN) -> list[HullPoint]:
    """Return so many points that a page can hold them: of each x the lowest, and some of the rest.

    Parameters
    ----------
    points
        By x and energy.
    most
        About so many; fewer are returned as they are.
    """
    if len(points) <= most:
        return list(points)
    step = -(-len(points) // (most // 2))
    kept = []
    for _, group in itertools.groupby(points, key=lambda point: round(point.x, 9)):
        own = list(group)
        kept += [*own[:_LOWEST_DRAWN], *own[_LOWEST_DRAWN::step]]
    return kept


def _line(members: Sequence[HullPoint], name: str, colour: str, dash: bool = False) -> Series:
    x, y = [p.x for p in members], [_height(p) for p in members]
    return Series(x, y, "line", name, colour, dash=dash)


def _points(
    hull: JointHull,
    points: Sequence[HullPoint],
    name: str,
    colour: str,
    symbol: str,
    opacity: float,
) -> Series:
    return Series(
        x=[p.x for p in points],
        y=[_height(p) for p in points],
        name=name,
        colour=colour,
        symbol=symbol,
        opacity=opacity,
        texts=[_describe(p) for p in points],
        targets=[key_of(p.run, p.id, hull.level.name) for p in points],
    )


def _describe(point: HullPoint) -> str:
    return (
        f"candidate {point.id}, {point.formula}, {point.host} {point.cell}, "
        f"{milli(point.above_hull_eV_per_fu)} "
        f"meV/f.u. above the hull, by {point.operator}"
    )


def _height(point: HullPoint) -> float:
    return 1000 * (point.formation_energy_eV_per_fu or 0.0)


def _together(hulls: Sequence[JointHull]) -> Chart:
    series = []
    for n, (hull, colour, symbol) in enumerate(styled(hulls)):
        members = hull.vertices()
        series.append(_line(members, hull.level.name, colour, dash=n > 0))
        series.append(_points(hull, members, "", colour, symbol, 1.0))
    return Chart(
        name="hulls-of-all-levels",
        title="Ground states by level of theory",
        x_label="x",
        y_label="formation energy (meV/f.u.)",
        series=series,
    )


def _members_table(hull: JointHull, members: Sequence[HullPoint], host: str = "") -> Table:
    """Return the ground states; those of one host with their heights above the common hull."""
    columns: dict[str, Callable[[HullPoint], str | Cell]] = {
        "id": lambda p: Cell(str(p.id), key_of(p.run, p.id, hull.level.name)),
        "x": lambda p: f"{p.x:.4g}",
        "formula": lambda p: p.formula,
        **({"host": lambda p: p.host} if len(hull.hosts) > 1 else {}),
        "run": lambda p: p.run,
        "cell": lambda p: p.cell,
        "E_f (meV/f.u.)": lambda p: milli(p.formation_energy_eV_per_fu),
        **({"above hull (meV/f.u.)": lambda p: milli(p.above_hull_eV_per_fu)} if host else {}),
        "made by": lambda p: p.operator,
        "fingerprint": lambda p: p.fingerprint,
    }
    column, cells = held_column(members)
    rows = [
        (*(text(p) for text in columns.values()), *own)
        for p, own in zip(members, cells, strict=True)
    ]
    return Table((*columns, *column), rows, f"Ground states of {host}" if host else "Ground states")


def voltage_section(material: Material) -> Section:
    """Return the voltages of all levels whose metal is known."""
    blocks: list[Block] = []
    series: list[Series] = []
    documents: list[dict[str, Any] | None] = []
    for hull, colour, _ in styled(_with_hosts(material.hulls)):
        name = hull.label
        documents.append(None)
        if hull.level.ranks_only:
            text = f"{name}: no voltage. {RANKS_ONLY.removeprefix('note: ')}."
            blocks.append(Text(text, is_warning=True))
            continue
        try:
            curve = hull_voltage(hull)
        except GasearchError as error:
            blocks.append(Text(f"{name}: {str(error).split('; give the')[0]}."))
            continue
        documents[-1] = voltage_document(hull, curve, hull.vertices())
        label = f"{name}, against {curve.metal.element}"
        series.append(Series(*plateaus(curve.steps), "line", label, colour))
        text = f"{metal_line(name, curve.metal)}; {voltage_line(curve)}"
        warning = [Text(text, is_warning=True) for text in cautions(hull.level, hull_runs(hull))]
        rebuilt = [Text(line, is_warning=True) for line in rebuilt_lines(hull.vertices())]
        blocks += [*warning, Text(f"{text}."), *rebuilt, _voltage_table(curve)]
    if series:
        chart = Chart("voltage", "Voltage, T = 0", "x", "voltage (V)", series)
        blocks.insert(0, chart)
    return Section("voltage", "Voltage", blocks, {"voltages": documents})


def _with_hosts(hulls: Sequence[JointHull]) -> Iterator[JointHull]:
    """Yield each hull, and after that of several hosts those of each."""
    for hull in hulls:
        yield hull
        if len(hull.hosts) > 1:
            yield from hull.by_host


def _voltage_table(curve: VoltageCurve) -> Table:
    rows = [
        (
            f"{step.x_from:.4g}",
            f"{step.x_to:.4g}",
            f"{step.voltage_V:.3f}",
            f"{step.capacity_mAh_per_g:.1f}",
        )
        for step in curve.steps
    ]
    return Table(("x", "to x", "voltage (V)", "capacity (mAh/g)"), rows)


def lowest_section(material: Material) -> Section:
    """Return the lowest candidates at the composition of interest, at each level."""
    blocks: list[Block] = []
    series: list[Series] = []
    x = material.x_of_interest
    for hull, colour, symbol in styled(material.hulls):
        points = material.at_x(hull)[:LOWEST]
        if not points:
            blocks.append(Text(f"{hull.level.name}: no valid candidate at x = {x:.4g}."))
            continue
        heights = [1000 * (p.energy_eV_per_fu - points[0].energy_eV_per_fu) for p in points]
        series.append(
            Series(
                x=[float(place) for place in range(1, len(points) + 1)],
                y=heights,
                name=hull.level.name,
                colour=colour,
                symbol=symbol,
                texts=[_describe(p) for p in points],
                targets=[key_of(p.run, p.id, hull.level.name) for p in points],
                size=9,
            )
        )
        blocks.append(_lowest_table(hull, points, heights))
    if series:
        label = "above the lowest (meV/f.u.)"
        title = f"The lowest at x = {x:.4g}"
        blocks.insert(0, Chart("lowest-at-x", title, "rank", label, series, whole_x=True))
    return Section("lowest", f"The lowest at x = {x:.4g}", blocks)


def _lowest_table(hull: JointHull, points: Sequence[HullPoint], heights: Sequence[float]) -> Table:
    names = ("rank", "id", "above the lowest (meV/f.u.)", "above hull (meV/f.u.)", "run", "cell")
    column, held = held_column(points)
    rows: list[tuple[str | Cell, ...]] = [
        (
            str(rank),
            Cell(str(p.id), key_of(p.run, p.id, hull.level.name)),
            f"{height:.1f}",
            milli(p.above_hull_eV_per_fu),
            p.run,
            f"{p.host} {p.cell}" if len(hull.hosts) > 1 else p.cell,
            f"{p.orbit_size:,}",
            p.fingerprint,
            *own,
        )
        for rank, (p, height, own) in enumerate(zip(points, heights, held, strict=True), 1)
    ]
    return Table((*names, "equivalent", "fingerprint", *column), rows, hull.level.name)


def best_section(material: Material) -> Section:
    """Return the candidates nearest to the hull of each search."""
    blocks: list[Block] = []
    for hull in material.search_hulls:
        near = nearest(material, hull)
        if not near:
            blocks.append(Text(f"{hull.level.name}: no hull yet, so nothing is near to it."))
            continue
        blocks.append(_best_table(hull, near))
    blocks.append(Text("Click on a number to see the structure below."))
    return Section("best", "Best candidates", blocks)


def nearest(material: Material, hull: JointHull) -> list[HullPoint]:
    """Return the ground states of a hull and the ten that come next; ends of the range once."""
    members = material.members(hull)
    known = [
        point
        for point in hull.points
        if point.above_hull_eV_per_fu is not None
        and (point in members or not any(same_x(point.x, end) for end in hull.x_range))
    ]
    known.sort(key=lambda p: (p.above_hull_eV_per_fu, p.x))
    return known[: len(members) + LOWEST]


def _best_table(hull: JointHull, points: Sequence[HullPoint]) -> Table:
    names = ("id", "x", "run", "cell", "E (eV/f.u.)", "E_f (meV/f.u.)", "above hull (meV/f.u.)")
    column, cells = held_column(points)
    rows: list[tuple[str | Cell, ...]] = [
        (
            Cell(str(p.id), key_of(p.run, p.id, hull.level.name)),
            f"{p.x:.4g}",
            p.run,
            f"{p.host} {p.cell}" if len(hull.hosts) > 1 else p.cell,
            f"{p.energy_eV_per_fu:.4f}",
            milli(p.formation_energy_eV_per_fu),
            milli(p.above_hull_eV_per_fu),
            f"{p.orbit_size:,}",
            p.operator,
            *own,
        )
        for p, own in zip(points, cells, strict=True)
    ]
    return Table((*names, "equivalent", "made by", *column), rows, hull.level.name)

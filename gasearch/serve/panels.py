"""What the page shows of a run: the same sections of text, tables and charts as the report has."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gasearch.display.plotting import BLUE, GREY, ORANGE
from gasearch.display.reasons import causes
from gasearch.display.tables import milli
from gasearch.report.sections import Block, Cell, Chart, Section, Series, Table, Text, styled
from gasearch.serve.dft_panel import candidate_cell, dft_section
from gasearch.serve.thinning import Thinned, thinned
from gasearch.serve.view import OK, View
from gasearch.serve.watching import Moment

_PAST_HULLS = 6
_MOST_CAUSES = 12
_SAME_X = 1e-6
_STRETCHES = 60  # of results, in each of which points are thinned
_CROWDS = (
    ("a candidate", 1, 1, 0.35),
    ("2 to 20 candidates", 2, 20, 0.6),
    ("more than 20", 21, sys.maxsize, 1.0),
)
"""What a point stands for, and how dark it is."""
_NOTHING = Text("No candidate has a valid energy yet.")


def panels(moment: Moment, x: float | None) -> list[Section]:
    """Return the sections of a run.

    Parameters
    ----------
    x
        The filled share to look at in detail; None for all.
    """
    view = moment.view
    if view is None:
        return []
    return [
        energies_section(view, x),
        *([growth_section(view, x)] if view.host.has_axis else []),
        compositions_section(view),
        reasons_section(view),
        dft_section(moment.dft, view.host.n_formula_units),
        operators_section(view),
    ]


def energies_section(view: View, x: float | None) -> Section:
    """Return the hull with its candidates, and the candidates of a composition as they came."""
    blocks: list[Block] = []
    if not len(view.energy):
        blocks = [_NOTHING]
    elif view.host.has_axis:
        blocks.append(_hull_chart(view))
        if not view.has_hull:
            why = "No hull yet: an end of the range has no valid energy. Heights are above the "
            blocks.insert(0, Text(f"{why}lowest at the same x."))
    if len(view.energy):
        blocks.append(_arrivals_chart(view, x))
    return Section("energies", "Hull and energies", blocks)


def _height(view: View) -> NDArray[np.float64]:
    """Return (n,) formation energies in meV/f.u., or heights where there is no hull."""
    if view.has_hull:
        return 1000 * view.formation(view.x, view.energy)
    return 1000 * view.above_hull


def _hull_chart(view: View) -> Chart:
    height = _height(view)
    series = _past_hulls(view)
    ground = view.ground_states
    if len(ground):
        x, energy = view.vertices
        line = (1000 * view.formation(x, energy)).tolist()
        series.append(Series(x.tolist(), line, "line", "hull", hovers=False))
    shown = thinned(view.composition, view.energy)
    above = ~np.isin(shown.place, ground)
    few = Thinned(shown.place[above], shown.stands_for[above])
    series += _crowd(view, few, view.x, height)
    if len(ground):
        series.append(_points(view, _alone(ground), view.x, height, BLUE, "ground states", 1.0))
    what = "formation energy" if view.has_hull else "above the lowest at the same x"
    left_out = "" if len(view.energy) <= len(shown.place) else f", {len(shown.place):,} shown"
    title = f"{len(view.energy):,} valid candidates{left_out}"
    return Chart("hull", title, "x", f"{what} (meV/f.u.)", series, height=400)


def _past_hulls(view: View) -> list[Series]:
    n = view.n_results
    moments = sorted({n * k // (_PAST_HULLS + 1) for k in range(1, _PAST_HULLS + 1)} - {0})
    series: list[Series] = []
    for place, moment in enumerate(moments, 1):
        found = view.hull_after(moment) if view.has_hull else None
        if found is None:
            continue
        x, energy = found
        heights = (1000 * view.formation(x, energy)).tolist()
        opacity = 0.35 + 0.5 * place / (_PAST_HULLS + 1)
        name = "hulls before" if not series else ""
        series.append(
            Series(
                x.tolist(), heights, "line", name, ORANGE, opacity=opacity, width=1.0, hovers=False
            )
        )
    return series


def _arrivals_chart(view: View, x: float | None) -> Chart:
    """Return energies in the order in which the results came, and how the lowest came down."""
    chosen = np.full(len(view.energy), fill_value=True)
    where = "all compositions" if view.host.has_axis else view.host.compositions[0].formula
    if x is not None:
        chosen = np.abs(view.x - x) < _SAME_X
        where = f"x = {x:.4g}"
    place = np.flatnonzero(chosen)
    height = 1000 * view.above_hull
    is_hull = view.has_hull and view.host.has_axis
    label = "above the hull (meV/f.u.)" if is_hull else "above the lowest (meV/f.u.)"
    stretch = view.order[place] * _STRETCHES // (view.n_results + 1)
    kept = thinned(stretch, view.above_hull[place])
    shown = Thinned(place[kept.place], kept.stands_for)
    series = _crowd(view, shown, view.order.astype(np.float64), height)
    if len(place) and (x is not None or not view.host.has_axis):
        series += _lowest_so_far(view, place, height)
    title = f"In the order of results, {where}"
    return Chart("arrivals", title, "result of the search", label, series, height=320)


def _lowest_so_far(
    view: View, place: NDArray[np.int64], height: NDArray[np.float64]
) -> list[Series]:
    series = []
    for code in np.unique(view.composition[place]).tolist():
        steps = view.steps(code)
        if not len(steps):
            continue
        x = [*view.order[steps].tolist(), view.n_results]
        y = [*height[steps].tolist(), height[steps[-1]]]
        name = f"lowest so far, {view.compositions[code].formula}"
        series.append(
            Series([float(n) for n in x], [float(h) for h in y], "steps", name, BLUE, hovers=False)
        )
    return series


def _crowd(
    view: View, shown: Thinned, x: NDArray[np.float64], y: NDArray[np.float64]
) -> list[Series]:
    """Return candidates in grey, darker where a point stands for many."""
    if (shown.stands_for == 1).all():
        return [_points(view, shown, x, y, GREY, "candidates", 0.55)]
    series = []
    for name, low, high, opacity in _CROWDS:
        inside = (shown.stands_for >= low) & (shown.stands_for <= high)
        if inside.any():
            some = Thinned(shown.place[inside], shown.stands_for[inside])
            series.append(_points(view, some, x, y, GREY, name, opacity))
    return series


def _alone(place: NDArray[np.int64]) -> Thinned:
    return Thinned(place, np.ones(len(place), dtype=np.int64))


def _points(
    view: View,
    shown: Thinned,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    colour: str,
    name: str,
    opacity: float,
) -> Series:
    place = shown.place
    numbers = view.number[place].tolist()
    return Series(
        x=np.round(x[place], 6).tolist(),
        y=np.round(y[place], 3).tolist(),
        name=name,
        colour=colour,
        opacity=opacity,
        texts=[
            _describe(view, int(one), int(n))
            for one, n in zip(place, shown.stands_for, strict=True)
        ],
        targets=[str(number) for number in numbers],
    )


def _describe(view: View, place: int, stands_for: int) -> str:
    formula = view.compositions[view.composition[place]].formula
    more = "" if stands_for == 1 else f", and {stands_for - 1:,} more about there"
    above = f"{1000 * view.above_hull[place]:.1f} meV/f.u."
    return f"candidate {view.number[place]}{more}, {formula}, {above} above"


def growth_section(view: View, x: float | None) -> Section:
    """Return how the lowest of each composition came down."""
    if not view.has_hull:
        return Section("growth", "How the hull came down", [_NOTHING])
    codes = sorted(range(len(view.compositions)), key=lambda n: view.compositions[n].x)
    series = []
    for code, colour, _ in styled(codes):
        steps = view.steps(code)
        own_x = view.compositions[code].x
        if not len(steps) or (x is not None and abs(own_x - x) > _SAME_X):
            continue
        shares = np.full(len(steps), own_x)
        y = (1000 * view.formation(shares, view.energy[steps])).tolist()
        numbers = view.number[steps].tolist()
        series.append(
            Series(
                x=[*view.order[steps].astype(float).tolist(), float(view.n_results)],
                y=[*y, y[-1]],
                kind="steps",
                name=_name(view, code),
                colour=colour,
                texts=[f"candidate {number}" for number in [*numbers, numbers[-1]]],
                targets=[str(number) for number in [*numbers, numbers[-1]]],
            )
        )
    if not series:
        return Section("growth", "How the hull came down", [_NOTHING])
    chart = Chart(
        name="growth",
        title="Lowest formation energy of each composition, with the energies known now",
        x_label="result of the search",
        y_label="formation energy (meV/f.u.)",
        series=series,
        height=340,
    )
    return Section("growth", "How the hull came down", [chart])


def _name(view: View, code: int) -> str:
    """Return the x of a composition, with its formula where others have the same."""
    own = view.compositions[code]
    others = [one for one in view.compositions if abs(one.x - own.x) < _SAME_X]
    return f"x = {own.x:.4g}{f', {own.formula}' if len(others) > 1 else ''}"


def compositions_section(view: View) -> Section:
    """Return how far the search is at each composition."""
    table = view.table
    names = ("x", "formula", "searched", "distinct", "valid", "not ok", "lowest", "E_f (meV/f.u.)")
    ended = table.search_verdict >= 0
    is_ok = table.search_verdict == OK
    rows: list[Sequence[str | Cell]] = []
    for code in sorted(range(len(view.compositions)), key=lambda n: view.compositions[n].x):
        composition = view.compositions[code]
        own = table.composition == code
        best = _best(view, code)
        height = None
        if best is not None and view.has_hull:
            height = float(view.formation(view.x[[best]], view.energy[[best]])[0])
        is_known = bool(composition.formula)
        total = f"{view.host.n_distinct(composition):,}" if is_known else "-"
        rows.append(
            (
                f"{composition.x:.4g}",
                composition.formula or "not of this host: see gasearch check",
                f"{int(own.sum()):,}",
                total,
                f"{int((own & is_ok).sum()):,}",
                f"{int((own & ended & ~is_ok).sum()):,}",
                "-" if best is None else candidate_cell(int(view.number[best])),
                milli(height),
            )
        )
    blocks: list[Block] = [Table(names, rows)] if rows else [_NOTHING]
    return Section("compositions", "Compositions", blocks)


def _best(view: View, code: int) -> int | None:
    own = np.flatnonzero(view.composition == code)
    if not len(own):
        return None
    return int(own[np.lexsort((view.number[own], view.energy[own]))[0]])


def reasons_section(view: View) -> Section:
    """Return verdicts, and why candidates are not ok."""
    counts = view.counts()
    total = sum(counts.values())
    blocks: list[Block] = []
    if total:
        shares = [f"{n:,} {verdict} ({n / total:.0%})" for verdict, n in counts.items()]
        blocks.append(Text(f"Verdicts: {', '.join(shares)}."))
    refused = view.table.refused
    found = causes((number, *refused[number]) for number in refused)
    rows: list[Sequence[str | Cell]] = [
        (f"{one.candidates:,}", one.verdict, candidate_cell(one.example), one.reason)
        for one in found[:_MOST_CAUSES]
    ]
    if rows:
        names = ("candidates", "verdict", "such as", "its reason")
        blocks.append(Table(names, rows))
    if len(found) > _MOST_CAUSES:
        more = sum(one.candidates for one in found[_MOST_CAUSES:])
        blocks.append(Text(f"{more:,} candidates more, for other reasons."))
    return Section("reasons", "Verdicts and reasons", blocks or [Text("No result yet.")])


def operators_section(view: View) -> Section:
    """Return what made the candidates."""
    table = view.table
    made = np.bincount(table.operator, minlength=len(table.operators))
    valid = np.bincount(table.operator[table.search_verdict == OK], minlength=len(table.operators))
    places = {int(n): place for place, n in enumerate(table.number.tolist())}
    lowest = [_best(view, code) for code in range(len(view.compositions))]
    holds = [places[int(view.number[best])] for best in lowest if best is not None]
    now = np.bincount(table.operator[holds], minlength=len(table.operators))
    ranking = sorted(range(len(made)), key=lambda n: (-made[n], table.operators[n]))
    rows = [(table.operators[n], f"{made[n]:,}", f"{valid[n]:,}", f"{now[n]:,}") for n in ranking]
    names = ("made by", "candidates", "valid", "lowest of a composition now")
    return Section("operators", "What made the candidates", [Table(names, rows)])

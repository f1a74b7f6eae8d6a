"""The figures of a report as PNG and PDF, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gasearch.display.plotting import VERMILION, new_figure
from gasearch.files import inside, make_folder, name_from, written
from gasearch.report.collect import Report
from gasearch.report.sections import Chart, Series

ENDINGS = (".png", ".pdf")
_PIXELS_PER_INCH = 80
_WIDTH = 7.0  # inches
_MANY = 12  # names in a legend of one column


def write_figures(report: Report, folder: Path) -> list[Path]:
    """Write all charts of a report into a folder; older ones of the same names are replaced."""
    make_folder(folder)
    paths = []
    for section in report.sections:
        for chart in section.charts:
            figure = draw(chart)
            for ending in ENDINGS:
                target = inside(folder, f"{name_from(chart.name)}{ending}")
                with written(target, replace=True) as path:
                    figure.savefig(path, dpi=200)
                paths.append(target)
    return paths


def draw(chart: Chart) -> Any:
    """Return the matplotlib figure of a chart."""
    figure = new_figure(_WIDTH, chart.height / _PIXELS_PER_INCH)
    axes = figure.add_subplot()
    for band in chart.bands:
        span, line = (
            (axes.axvspan, axes.axvline) if band.axis == "x" else (axes.axhspan, axes.axhline)
        )
        if band.high > band.low:
            span(band.low, band.high, color=VERMILION, alpha=0.15, lw=0, label=band.name)
        else:
            line(band.low, color=VERMILION, ls=":", label=band.name)
    _draw_bars(axes, chart)
    for one in chart.series:
        if one.kind != "bars":
            _draw_one(axes, one)
    axes.set_title(chart.title, fontsize=10, loc="left")
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    if chart.log_y:
        axes.set_yscale("log")
    if chart.equal_axes:
        axes.set_aspect("equal", adjustable="box")
    if chart.whole_x:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not chart.show_y_ticks:
        axes.set_yticks([])
    _legend(axes, chart)
    return figure


def _draw_one(axes: Any, one: Series) -> None:
    style: dict[str, Any] = {"color": one.colour, "alpha": one.opacity, "label": one.name or None}
    if one.kind == "points":
        style |= {} if one.filled else {"mfc": "none"}
        axes.plot(one.x, one.y, one.symbol, ms=0.75 * one.size, **style)
        return
    style |= {"ls": "--" if one.dash else "-", "lw": one.width}
    style |= {"drawstyle": "steps-post"} if one.kind == "steps" else {}
    axes.plot(one.x, one.y, **style)


def _draw_bars(axes: Any, chart: Chart) -> None:
    bars = [one for one in chart.series if one.kind == "bars"]
    if not bars:
        return
    named = chart.bar_width is None
    places = [float(n) for n in range(len(bars[0].x))]
    total = 0.8 if chart.bar_width is None else chart.bar_width
    width = total if chart.stacked else total / len(bars)
    bottoms = [0.0] * len(bars[0].y)
    for n, one in enumerate(bars):
        shift = 0.0 if chart.stacked else (n - (len(bars) - 1) / 2) * width
        middles = places if named else [float(x) for x in one.x]
        x = [middle + shift for middle in middles]
        style = {"color": one.colour, "label": one.name or None, "bottom": bottoms}
        axes.bar(x, one.y, width, **style)
        if chart.stacked:
            bottoms = [low + high for low, high in zip(bottoms, one.y, strict=True)]
    if named:
        names = [str(name) for name in bars[0].x]
        turned = {"rotation": 30, "ha": "right"} if max(map(len, names)) > 6 else {}
        axes.set_xticks(places, names, **turned)


def _legend(axes: Any, chart: Chart) -> None:
    n_names = sum(bool(one.name) for one in chart.series) + len(chart.bands)
    if n_names < 2:
        return
    style: dict[str, Any] = {"frameon": False, "fontsize": 8}
    if n_names > 5 or chart.stacked:
        style |= {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
        style |= {"ncols": -(-n_names // _MANY)}
    axes.legend(**style)

"""Charts as plotly's javascript reads them: plain JSON, so that no plotly is needed for it."""

from __future__ import annotations

import math
from typing import Any

from gasearch.display.plotting import VERMILION
from gasearch.report.sections import Band, Chart, Series

_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
}
_AXIS = {"zeroline": False, "ticks": "outside", "linecolor": "#444", "gridcolor": "#e6e6e6"}


def plotly_figure(chart: Chart) -> dict[str, Any]:
    """Return the data and layout of a chart."""
    layout: dict[str, Any] = {
        "title": {
            "text": _plain(chart.title),
            "font": {"size": 15},
            "x": 0,
            "xanchor": "left",
            "y": 0.98,
        },
        "height": chart.height,
        "margin": {"l": 68, "r": 24, "t": 44, "b": 52},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
        "xaxis": {**_AXIS, "title": {"text": _plain(chart.x_label)}},
        "yaxis": {
            **_AXIS,
            "title": {"text": _plain(chart.y_label)},
            "showticklabels": chart.show_y_ticks,
        },
        "hovermode": "closest",
        "shapes": [_shape(band) for band in chart.bands],
        "annotations": [_annotation(band) for band in chart.bands],
        "showlegend": sum(bool(one.name) for one in chart.series) > 1,
    }
    if any(one.kind == "bars" for one in chart.series):
        layout["barmode"] = "stack" if chart.stacked else "group"
    if any(isinstance(x, str) for one in chart.series for x in one.x):
        layout["xaxis"]["type"] = "category"
    if chart.log_y:
        layout["yaxis"] |= {"type": "log", "dtick": 1}
    if chart.equal_axes:
        layout["xaxis"] |= {"constrain": "domain"}
        layout["yaxis"] |= {"scaleanchor": "x", "constrain": "domain"}
    if chart.whole_x:
        layout["xaxis"] |= {"dtick": 1}
    return {"data": [_trace(one, chart) for one in chart.series], "layout": layout}


def _plain(text: str) -> str:
    """Return a text that plotly shows as it is: it reads some of HTML, and names may hold any."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _trace(one: Series, chart: Chart) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "x": [_plain(x) if isinstance(x, str) else x for x in one.x],
        "y": [value if math.isfinite(value) else None for value in one.y],
        "name": _plain(one.name),
        "showlegend": bool(one.name),
        "opacity": one.opacity,
    }
    if one.kind == "bars":
        trace |= {"type": "bar", "marker": {"color": one.colour}}
        if chart.bar_width is not None:
            trace["width"] = chart.bar_width
    elif one.kind == "points":
        symbol = _SYMBOLS[one.symbol] + ("" if one.filled else "-open")
        marker = {"color": one.colour, "symbol": symbol, "size": one.size}
        trace |= {"type": "scatter", "mode": "markers", "marker": marker}
    else:
        line: dict[str, Any] = {"color": one.colour, "width": one.width}
        line |= {"dash": "dash"} if one.dash else {}
        line |= {"shape": "hv"} if one.kind == "steps" else {}
        trace |= {"type": "scatter", "mode": "lines", "line": line}
    if one.texts:
        trace |= {
            "text": [_plain(text) for text in one.texts],
            "hovertemplate": "%{text}<br>%{x:.4g}, %{y:.4g}",
        }
        trace["hovertemplate"] += "<extra></extra>"
    elif not one.hovers or (one.kind == "line" and not one.name):
        trace["hoverinfo"] = "skip"
    if one.targets:
        trace["customdata"] = list(one.targets)
    return trace


def _shape(band: Band) -> dict[str, Any]:
    a, b = ("x", "y") if band.axis == "x" else ("y", "x")
    shape: dict[str, Any] = {
        f"{a}0": band.low,
        f"{a}1": band.high,
        f"{b}0": 0,
        f"{b}1": 1,
        f"{a}ref": a,
        f"{b}ref": "paper",
        "layer": "below",
    }
    if band.high > band.low:
        return shape | {
            "type": "rect",
            "fillcolor": VERMILION,
            "opacity": 0.15,
            "line": {"width": 0},
        }
    return shape | {"type": "line", "line": {"color": VERMILION, "width": 1.5, "dash": "dot"}}


def _annotation(band: Band) -> dict[str, Any]:
    middle = (band.low + band.high) / 2
    place: dict[str, Any] = {"x": middle, "y": 1, "yref": "paper", "yanchor": "bottom"}
    if band.axis == "y":
        place = {"x": 1, "xref": "paper", "xanchor": "right", "y": middle}
    return {**place, "text": _plain(band.name), "showarrow": False, "font": {"size": 11}}

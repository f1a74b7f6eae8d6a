"""Figures. matplotlib is imported when one is drawn."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gasearch.errors import GasearchError, UsageError
from gasearch.files import written

if TYPE_CHECKING:  # colours alone shall stay light
    from gasearch.analysis.joint_hull import HullPoint
    from gasearch.analysis.thermodynamics import ThermalStep
    from gasearch.analysis.voltage import VoltageStep

_ENDINGS = (".png", ".pdf", ".svg")
# Okabe and Ito: readable for the colour-blind
BLUE, ORANGE, GREY, BLACK = "#0072B2", "#E69F00", "#999999", "#000000"
GREEN, VERMILION, PURPLE, SKY = "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", "-.", ":")


class NoPlotError(GasearchError, RuntimeError):
    """A figure that cannot be drawn."""


def plot_hull(
    points: Sequence[HullPoint],
    level: str,
    output: Path,
    ranks_only: bool,
    history: Sequence[Sequence[tuple[float, float]]] = (),
) -> None:
    """Write a figure of formation energies and their lower convex hull.

    Parameters
    ----------
    points
        Each cell has a marker of its own; of several hosts, each host, with its own hull.
    output
        Its ending chooses the format: png, pdf or svg. An older figure is replaced.
    history
        Earlier hulls, oldest first, as (x, formation energy in eV/f.u.): thin lines.
    """
    refuse_ending(output)
    known = [point for point in points if point.formation_energy_eV_per_fu is not None]
    if not known:
        raise NoPlotError("nothing to draw: both ends of the range need a valid energy first.")
    figure = new_figure()
    axes = figure.add_subplot()
    _draw_history(axes, history)
    _draw(axes, known)
    axes.set_title(f"{level}{' (ranks orders at one x only)' if ranks_only else ''}", fontsize=10)
    save_figure(figure, output)


def plot_voltage(
    curves: Mapping[str, Sequence[VoltageStep | ThermalStep]],
    element: str,
    title: str,
    output: Path,
) -> None:
    """Write a figure of voltage against x.

    Parameters
    ----------
    curves
        Steps in ascending x, by the name in the legend.
    element
        Of the metal.
    """
    refuse_ending(output)
    figure = new_figure()
    axes = figure.add_subplot()
    styles = zip(curves.items(), itertools.cycle(COLOURS), itertools.cycle(_DASHES), strict=False)
    for (name, steps), colour, dash in styles:
        axes.plot(*plateaus(steps), dash, color=colour, label=name)
    axes.set_xlabel("x")
    axes.set_ylabel(f"voltage against {element} metal (V)")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False)
    save_figure(figure, output)


def plateaus(steps: Sequence[VoltageStep | ThermalStep]) -> tuple[list[float], list[float]]:
    """Return (x, voltage in V) of both ends of each step, to be joined by lines."""
    x = [end for step in steps for end in (step.x_from, step.x_to)]
    return x, [step.voltage_V for step in steps for _ in range(2)]


def refuse_ending(output: Path) -> None:
    """Refuse a name that is not one of a figure."""
    if output.suffix not in _ENDINGS:
        raise UsageError(f"--plot {output}: expected a name that ends in {', '.join(_ENDINGS)}.")


def save_figure(figure: Any, output: Path) -> None:
    """Write a figure of matplotlib; its ending chooses the format."""
    with written(output, replace=True) as path:
        figure.savefig(path, dpi=200)


def new_figure(width: float = 6, height: float = 4) -> Any:
    """Return an empty figure of matplotlib, in inches."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise NoPlotError("no matplotlib here; try: pip install 'gasearch[report]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _draw(axes: Any, points: Sequence[HullPoint]) -> None:
    if len({point.host for point in points}) > 1:
        _draw_hosts(axes, points)
        return
    cells = sorted({point.cell for point in points}, key=lambda c: (len(c), c))
    with_names = len(cells) > 1
    for cell, marker in zip(cells, itertools.cycle(MARKERS), strict=False):
        own = [_meV(point) for point in points if point.cell == cell]
        style = {"ms": 4, "color": GREY, "alpha": 0.6}
        axes.plot(
            *zip(*own, strict=True), marker, label=cell if with_names else "candidates", **style
        )
    ground = [point for point in points if point.on_hull]
    axes.plot(*zip(*sorted(map(_meV, ground)), strict=True), "-", color=BLUE, label="hull")
    for cell, marker in zip(cells, itertools.cycle(MARKERS), strict=False):
        own = [_meV(point) for point in ground if point.cell == cell]
        if own:
            axes.plot(*zip(*own, strict=True), marker, color=BLUE)
    _name_axes(axes)


def _draw_hosts(axes: Any, points: Sequence[HullPoint]) -> None:
    """Draw polymorphs: a colour, a marker and a hull for each, and the common hull."""
    hosts = dict.fromkeys(point.host for point in points)
    for host, colour, marker in zip(
        hosts, itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False
    ):
        own = [point for point in points if point.host == host]
        style = {"ms": 4, "color": colour, "alpha": 0.4}
        axes.plot(*zip(*map(_meV, own), strict=True), marker, **style)
        ground = sorted(_meV(point) for point in own if point.on_own_hull)
        if ground:
            axes.plot(*zip(*ground, strict=True), f"-{marker}", color=colour, label=host)
    common = sorted(_meV(point) for point in points if point.on_hull)
    axes.plot(*zip(*common, strict=True), "--", color=BLACK, lw=1, label="common hull")
    _name_axes(axes)


def _name_axes(axes: Any) -> None:
    axes.set_xlabel("x")
    axes.set_ylabel("formation energy (meV/f.u.)")
    axes.legend(frameon=False)


def _draw_history(axes: Any, history: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Draw earlier hulls, the older the fainter."""
    for n, hull in enumerate(history, 1):
        if hull:
            x, energy = zip(*hull, strict=True)
            alpha = 0.2 + 0.6 * n / len(history)
            label = "earlier hulls" if n == len(history) else None
            milli = [1000 * e for e in energy]
            axes.plot(x, milli, "-", lw=0.6, color=ORANGE, alpha=alpha, label=label)


def _meV(point: HullPoint) -> tuple[float, float]:  # noqa: N802 -- the unit
    return point.x, 1000 * (point.formation_energy_eV_per_fu or 0.0)

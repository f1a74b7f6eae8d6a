"""Figures. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gasearch.errors import GasearchError, UsageError
from gasearch.inspection import Ranked
from gasearch.outputs import written

_ENDINGS = (".png", ".pdf", ".svg")
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"  # Okabe and Ito: readable for the colour-blind


class NoPlotError(GasearchError, RuntimeError):
    """A figure that cannot be drawn."""


def plot_hull(rows: Sequence[Ranked], level: str, output: Path, ranks_only: bool) -> None:
    """Write a figure of formation energies and their lower convex hull.

    Parameters
    ----------
    output
        Its ending chooses the format: png, pdf or svg. An older figure is replaced.
    """
    if output.suffix not in _ENDINGS:
        raise UsageError(f"--plot {output}: expected a name that ends in {', '.join(_ENDINGS)}.")
    known = [row for row in rows if row.formation_energy_eV_per_fu is not None]
    if not known:
        raise NoPlotError("nothing to draw: both ends of the range need a valid energy first.")
    figure = _figure()
    axes = figure.add_subplot()
    _draw(
        axes, [(row.x, 1000 * (row.formation_energy_eV_per_fu or 0), row.on_hull) for row in known]
    )
    axes.set_title(f"{level}{' (ranks orders at one x only)' if ranks_only else ''}", fontsize=10)
    with written(output, replace=True) as path:
        figure.savefig(path, dpi=200)


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise NoPlotError("no matplotlib here; try: pip install 'gasearch[report]'") from error
    return Figure(figsize=(6, 4), layout="constrained")


def _draw(axes: Any, points: Sequence[tuple[float, float, bool]]) -> None:
    x, energy, _ = zip(*points, strict=True)
    axes.plot(x, energy, "o", ms=4, color=GREY, alpha=0.6, label="candidates")
    hull_x, hull_energy = zip(*sorted((x, e) for x, e, on_hull in points if on_hull), strict=True)
    axes.plot(hull_x, hull_energy, "o-", color=BLUE, label="hull")
    axes.set_xlabel("x")
    axes.set_ylabel("formation energy (meV/f.u.)")
    axes.legend(frameon=False)

"""Figures. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gasearch.errors import GasearchError, UsageError
from gasearch.inspection import Ranked

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"  # Okabe and Ito: readable for the colour-blind


class NoPlotError(GasearchError, RuntimeError):
    """A figure that cannot be drawn."""


def plot_hull(rows: Sequence[Ranked], level: str, output: Path, ranks_only: bool) -> None:
    """Write a figure of formation energies and their lower convex hull.

    Parameters
    ----------
    output
        Its ending chooses the format: png, pdf or svg.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise NoPlotError("no matplotlib here; try: pip install 'gasearch[report]'") from error
    if output.suffix not in (".png", ".pdf", ".svg"):
        raise UsageError(f"--plot {output}: expected a name that ends in .png, .pdf or .svg.")
    known = [row for row in rows if row.formation_energy_eV_per_fu is not None]
    energies = [1000 * (row.formation_energy_eV_per_fu or 0.0) for row in known]
    vertices = sorted(
        (row.x, energy) for row, energy in zip(known, energies, strict=True) if row.on_hull
    )
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(
        [row.x for row in known], energies, "o", ms=4, color=GREY, alpha=0.6, label="candidates"
    )
    axes.plot(*zip(*vertices, strict=True), "o-", color=BLUE, label="hull") if vertices else None
    axes.set_xlabel("x")
    axes.set_ylabel("formation energy (meV/f.u.)")
    axes.set_title(f"{level}{' (ranks orders at one x only)' if ranks_only else ''}", fontsize=10)
    axes.legend(frameon=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=200)

"""The figures of a phase diagram: temperature and composition, and the voltage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gasearch.analysis.voltage import VoltageStep
from gasearch.display.plotting import (
    BLUE,
    COLOURS,
    GREY,
    ORANGE,
    new_figure,
    plateaus,
    save_figure,
)
from gasearch.phases.diagram import ORDERED, PhaseDiagram
from gasearch.phases.phase_diagram import Study

_TITLES = {
    "ions and charges": "with electronic entropy",
    "ions": "ions alone, charges slaved",
    "charges": "charges alone, ions slaved",
}


def plot_diagrams(found: Study, output: Path, title: str) -> None:
    """Write the diagrams side by side: two phases grey, ordered phases coloured.

    Parameters
    ----------
    output
        Its ending chooses the format: png, pdf or svg.
    """
    n = len(found.diagrams)
    figure = new_figure(3.4 * n + 0.6, 4.2)
    axes = figure.subplots(1, n, sharey=True, squeeze=False)[0]
    states = found.models[0].states
    for each, diagram in zip(axes, found.diagrams, strict=True):
        _draw_gaps(each, diagram)
        _draw_orders(each, diagram, [state.x for state in states])
        each.set_title(_TITLES.get(diagram.disorder, diagram.disorder), fontsize=10)
        each.set_xlabel("x")
        each.set_xlim(*found.training.lattice.x_range)
        each.set_ylim(0, max(diagram.temperatures_K))
    axes[0].set_ylabel("T (K)")
    figure.suptitle(title, fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, frameon=False, ncols=4, loc="outside lower center")
    save_figure(figure, output)


def _draw_gaps(axes: Any, diagram: PhaseDiagram) -> None:
    temperatures = np.array(diagram.temperatures_K)
    edges = np.concatenate(
        [[temperatures[0]], (temperatures[1:] + temperatures[:-1]) / 2, [temperatures[-1]]]
    )
    label: str | None = "two phases"
    for n, gaps in enumerate(diagram.gaps):
        for gap in gaps:
            axes.fill_betweenx(
                [edges[n + 1], edges[n]], gap.x_from, gap.x_to, color=GREY, alpha=0.45, lw=0,
                label=label,
            )  # fmt: skip
            label = None
            for x, error in ((gap.x_from, gap.error_from), (gap.x_to, gap.error_to)):
                axes.errorbar(
                    x, temperatures[n], xerr=error, fmt=".", color="black", ms=2, lw=0.8, capsize=0
                )


def _draw_orders(axes: Any, diagram: PhaseDiagram, states: Sequence[float]) -> None:
    """Mark where the order of a ground state is there: ions filled, charges open."""
    x = diagram.x
    for number, at in enumerate(states):
        colour = COLOURS[number % len(COLOURS)]
        for part, what in enumerate(("ions", "charges")):
            if what not in diagram.disorder:
                continue
            points = [
                (x[k], t)
                for k, branch in enumerate(diagram.branches)
                for n, t in enumerate(diagram.temperatures_K)
                if branch.orders[n, number, part] >= ORDERED and _is_single(diagram, n, float(x[k]))
            ]
            if points:
                face = colour if part == 0 else "none"
                axes.plot(
                    *zip(*points, strict=True), "o" if part == 0 else "s",
                    ms=3 if part == 0 else 5, mec=colour, mfc=face, mew=0.8, lw=0,
                    label=f"order of x = {at:.3g}: {what}",
                )  # fmt: skip


def _is_single(diagram: PhaseDiagram, n: int, x: float) -> bool:
    return not any(gap.x_from + 1e-6 < x < gap.x_to - 1e-6 for gap in diagram.gaps[n])


def plot_thermal_voltage(
    found: Study,
    steps: Sequence[VoltageStep],
    ground_steps: Sequence[VoltageStep],
    offset_V: float,
    element: str,
    output: Path,
) -> None:
    """Write the voltage at a temperature beside that of T = 0.

    Parameters
    ----------
    offset_V
        What the metal adds: voltage = offset - mu.
    """
    figure = new_figure()
    axes = figure.add_subplot()
    temperature_K = found.options.temperature_K
    axes.plot(*plateaus(ground_steps), "--", color=GREY, label="T = 0")
    axes.plot(*plateaus(steps), "-", color=BLUE, label=f"{temperature_K:g} K, hull of F")
    scan = found.isotherm
    for x, marker, what in (
        (scan.filling, "^", "ions in"),
        (scan.emptying, "v", "ions out"),
    ):
        axes.plot(x, offset_V - scan.mu, marker, color=ORANGE, ms=3, lw=0, label=what)
    axes.set_xlabel("x")
    axes.set_ylabel(f"voltage against {element} metal (V)")
    axes.legend(frameon=False)
    save_figure(figure, output)

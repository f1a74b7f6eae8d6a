"""The figure of `search.py`: the share of solved runs over evaluations, one panel per landscape."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

STYLES = {
    "gasearch-budget": ("#56B4E9", "-"),
    "gasearch": ("#0072B2", "-"),
    "gasearch-uncharged": ("#56B4E9", (0, (5, 1))),
    "plain": ("#009E73", (0, (3, 1, 1, 1))),
    "ase_ga": ("#D55E00", "--"),
    "tempering": ("#CC79A7", "-."),
    "coulomb-order": ("#E69F00", (0, (1, 1))),
    "random": ("#000000", ":"),
}
"""Colour (Okabe and Ito, readable for the colour-blind) and dash of each method."""
SHORT = {
    "gasearch-budget": "gasearch, budget known",
    "gasearch": "gasearch",
    "gasearch-uncharged": "gasearch, no Coulomb",
    "plain": "gasearch, no surrogate",
    "ase_ga": "ase_ga",
    "tempering": "parallel tempering",
    "coulomb-order": "by Coulomb energy",
    "random": "random",
}
N_COLUMNS = 3
SIZES = {"model": "12 f.u.", "large": "24 f.u."}


def panels(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each panel by its title.

    Of relaxed energies: all compositions in one run, and the most varied composition alone.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row in document["rows"]:
        if row["part"] in SIZES:
            title = f"{row['landscape']}, {SIZES[row['part']]}, x = {row['x']}"
        elif row["part"] == "relaxed" and row["goal"] == "niches":
            title = f"{row['landscape']}, all niche minima"
        elif row["part"] == "relaxed" and row["x"] == _largest(document, row["landscape"]):
            title = f"{row['landscape']}, x = {row['x']}"
        else:
            continue
        found.setdefault(title, []).append(row)
    return found


def _largest(document: dict[str, Any], name: str) -> str:
    parts = [entry for entry in document["landscapes"] if entry["name"] == name]
    largest = max(
        (entry for entry in parts if entry["part"] == "relaxed"),
        key=lambda entry: (entry["n_distinct"], Fraction(entry["x"])),
    )
    return str(largest["x"])


def draw_success_curves(document: dict[str, Any], file: Path) -> None:
    """Write the figure."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    chosen = panels(document)
    if not chosen:
        return
    n_lines = -(-len(chosen) // N_COLUMNS)
    figure, axes = plt.subplots(
        n_lines,
        min(N_COLUMNS, len(chosen)),
        figsize=(4.4 * min(N_COLUMNS, len(chosen)), 3.2 * n_lines + 0.6),
        sharey=True,
        squeeze=False,
    )
    labels: dict[str, Any] = {}
    for panel, (title, rows) in zip(axes.flat, chosen.items(), strict=False):
        last = max(n for row in rows for n in [*row["evaluations"], 10] if n is not None)
        last = max([last, *(row["cap"] for row in rows if None in row["evaluations"])])
        for row in rows:
            colour, dash = STYLES[row["method"]]
            (line,) = panel.step(
                *success_curve(row["evaluations"], last),
                where="post",
                color=colour,
                linestyle=dash,
            )
            labels.setdefault(row["method"], line)
        panel.set(xscale="log", xlim=(1, last), ylim=(0, 1.02))
        panel.set_title(title, fontsize=9)
        panel.set_xlabel("evaluations")
        panel.grid(alpha=0.3)
    for panel in list(axes.flat)[len(chosen) :]:
        panel.set_visible(False)
    for line in axes:
        line[0].set_ylabel("share of runs solved")
    names = [name for name in STYLES if name in labels]
    figure.legend(
        [labels[name] for name in names],
        [SHORT[name] for name in names],
        loc="lower center",
        ncols=min(4, len(names)),
        frameon=False,
        fontsize=9,
    )
    figure.tight_layout(rect=(0, 0.6 / (3.2 * n_lines + 0.6), 1, 1))
    figure.savefig(file, dpi=130, metadata={"Software": None})
    plt.close(figure)


def success_curve(evaluations: Sequence[int | None], cap: int) -> tuple[list[int], list[float]]:
    """Return evaluations and the share of runs solved within them, from 1 to the cap."""
    solved = sorted(n for n in evaluations if n is not None)
    steps = [1, *solved, cap]
    shares = [sum(n <= step for n in solved) / len(evaluations) for step in steps]
    return steps, shares

"""Several potentials against the same frames: rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gasearch.potentials.contract import Potential
from gasearch.training.data.frames import Frame
from gasearch.training.evaluation.errors import Report, evaluate_model
from gasearch.training.evaluation.figures import plot_parity
from gasearch.training.evaluation.predict import predict

COLUMNS: Mapping[str, str] = {
    "energy_mae_meV_per_atom": "energy (meV/atom)",
    "formation_energy_mae_meV_per_fu": "formation (meV/f.u.)",
    "force_mae_meV_per_A": "forces (meV/Å)",
    "order_kendall_tau": "Kendall's tau",
    "moment_mae": "moments",
    "order_read_accuracy": "orders read",
    "swap_rms_meV": "swap (meV)",
    "swap_mae_meV": "swap error (meV)",
}
"""Heads of the table's columns, by the keys of a report."""


def compare_models(
    potentials: Mapping[str, Potential], frames: Sequence[Frame], plot: Path | None = None
) -> dict[str, Report]:
    """Return the errors of each potential, by its name; draw their parity plots if wanted."""
    reports = {name: evaluate_model(one, frames) for name, one in potentials.items()}
    if plot is not None:
        structures = [frame.atoms for frame in frames]
        found = {name: predict(one, structures) for name, one in potentials.items()}
        plot_parity(frames, found, plot)
    return reports


def as_markdown(reports: Mapping[str, Report]) -> str:
    """Return the table as Markdown: one row per model, '-' for what nobody can tell."""
    heads = ["model", *COLUMNS.values()]
    rows = [[name, *(number(report[key]) for key in COLUMNS)] for name, report in reports.items()]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None) -> str:
    """Return a measured number for a table, '-' for what nobody can tell."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

"""Figures of potentials: parity with the data, and node features in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gasearch.display.plotting import BLUE, GREY, ORANGE, NoPlotError
from gasearch.errors import UsageError
from gasearch.files import written
from gasearch.potentials.contract import Array, Prediction
from gasearch.training.data.frames import Frame
from gasearch.training.evaluation.embedding import Embedding

_ENDINGS = (".png", ".pdf", ".svg")


def plot_parity(
    frames: Sequence[Frame], found: Mapping[str, Sequence[Prediction]], output: Path
) -> None:
    """Write a figure with one row per model: energies, forces and moments against the data.

    Parameters
    ----------
    found
        Of each model, by its name, in the order of the frames.
    output
        Its ending chooses the format: png, pdf or svg. An older figure is replaced.
    """
    figure = _figure(output, (9, 2.8 * len(found)))
    rows = figure.subplots(len(found), 3, squeeze=False)
    for axes, (name, predictions) in zip(rows, found.items(), strict=True):
        _draw_energies(axes[0], name, frames, predictions)
        _draw(axes[1], "force (eV/Å)", *_forces(frames, predictions))
        _draw(axes[2], "moment", *_moments(frames, predictions))
    with written(output, replace=True) as path:
        figure.savefig(path, dpi=150)


def plot_embedding(embeddings: Mapping[str, Embedding], output: Path) -> None:
    """Write a figure with one panel per model: its redox sites in the plane of largest variance."""
    figure = _figure(output, (4 * len(embeddings), 3.6))
    panels = figure.subplots(1, len(embeddings), squeeze=False)[0]
    for axes, (name, embedding) in zip(panels, embeddings.items(), strict=True):
        labels = [str(species) for species in embedding.species]
        for colour, label in zip((BLUE, ORANGE, GREY), sorted(set(labels)), strict=False):
            chosen = embedding.points[[one == label for one in labels]]
            axes.plot(*chosen.T, "o", ms=3, alpha=0.6, color=colour, label=label)
        axes.set_title(f"{name} (separation {embedding.separation:.2g})", fontsize=9)
        axes.set_xlabel(f"first component ({100 * embedding.shares[0]:.0f} %)")
        axes.set_ylabel(f"second component ({100 * embedding.shares[1]:.0f} %)")
        axes.legend(frameon=False)
    with written(output, replace=True) as path:
        figure.savefig(path, dpi=150)


def require_figure(output: Path) -> None:
    """Raise what would prevent a figure from being drawn, before anything is computed for it."""
    _figure(output, (1, 1))


def _figure(output: Path, size: tuple[float, float]) -> Any:
    if output.suffix not in _ENDINGS:
        raise UsageError(f"{output}: expected a name that ends in {', '.join(_ENDINGS)}.")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise NoPlotError("no matplotlib here; try: pip install 'gasearch[report]'") from error
    return Figure(figsize=size, layout="constrained")


def _draw_energies(
    axes: Any, name: str, frames: Sequence[Frame], found: Sequence[Prediction]
) -> None:
    """Draw energies per atom; a model at another level is moved to the mean of the data."""
    known = [k for k, frame in enumerate(frames) if frame.energy is not None]
    true = np.array([float(frames[k].energy or 0) / len(frames[k]) for k in known])
    mine = np.array([found[k].energy / len(frames[k]) for k in known])
    shift = float(np.mean(true - mine)) if known else 0.0
    moved = f"{shift:+.3f}" if abs(shift) > 0.05 else ""
    _draw(axes, f"energy{moved} (eV/atom)", true, mine + (shift if moved else 0))
    axes.set_title(name, fontsize=9)


def _forces(frames: Sequence[Frame], found: Sequence[Prediction]) -> tuple[Array, Array]:
    pairs = [
        (frame.forces.flatten(), one.forces.flatten())
        for frame, one in zip(frames, found, strict=True)
        if frame.forces is not None
    ]
    return _joined(pairs)


def _moments(frames: Sequence[Frame], found: Sequence[Prediction]) -> tuple[Array, Array]:
    pairs = [
        (frame.moments[frame.redox_sites], np.abs(one.moments)[frame.redox_sites])
        for frame, one in zip(frames, found, strict=True)
        if frame.moments is not None and one.moments is not None
    ]
    return _joined(pairs)


def _joined(pairs: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    if not pairs:
        return np.empty(0), np.empty(0)
    true, mine = zip(*pairs, strict=True)
    return np.concatenate(true), np.concatenate(mine)


def _draw(axes: Any, what: str, true: Array, mine: Array) -> None:
    axes.set_xlabel(f"DFT {what}")
    axes.set_ylabel(f"model {what.split('(')[0].strip()}")
    if not len(true):
        axes.text(0.5, 0.5, "none", ha="center", transform=axes.transAxes, color=GREY)
        return
    ends = [min(true.min(), mine.min()), max(true.max(), mine.max())]
    axes.plot(ends, ends, "-", lw=0.8, color=GREY)
    axes.plot(true, mine, "o", ms=2, alpha=0.4, color=BLUE)

"""Whether a model knows how wrong it is: committees against true errors on unseen decorations.

For each fold of a cross-validation over decorations a CHGNet is fine-tuned for a few epochs as
`train_models.py` does, and beside it, for some folds, a few small PaiNN, each on decorations drawn
with replacement. On the decorations that were held out, spreads are compared with errors.

usage: uncertainty.py train [--folds 1,3] [--output FOLDER]
       uncertainty.py painn [--folds 1] [--output FOLDER]
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import typer
from train_models import DATA, RECIPES, ROOT

from gasearch.allocator import keep_freed_memory
from gasearch.potentials.networks.checkpoint import MODEL_FILE, save_checkpoint
from gasearch.training.data.frames import Frame
from gasearch.training.data.reading import read_frames
from gasearch.training.data.splitting import Split, fold_names, split_off
from gasearch.training.fitting import fit
from gasearch.training.settings import TrainingSettings
from gasearch.training.starting import starting_model

PLACE = ROOT / "build" / "uncertainty"
N_FOLDS = 5
N_MEMBERS = 3
PER_DECORATION = 6
"""Frames of each decoration that are trained on, evenly spread: neighbours in a relaxation are much
the same, and this takes a third of the time."""
CHGNET = replace(RECIPES["chgnet"].settings, epochs=5, anchor=0.0)
PAINN = TrainingSettings(epochs=40, batch_size=4, learning_rate=3e-3, keep_best=False)
SMALL = {"n_features": 32, "cutoff": 4.0}
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def train(folds: str = "1,3", output: Path = PLACE) -> None:
    """Fine-tune CHGNet without the decorations of each fold; finished ones are kept."""
    for fold in _numbers(folds):
        _trained(output / f"chgnet-{fold}", "chgnet", "ga", {}, _split(fold), CHGNET)


@app.command()
def painn(folds: str = "1", output: Path = PLACE) -> None:
    """Train the committees of small PaiNN."""
    for fold in _numbers(folds):
        for member in range(N_MEMBERS):
            split = _resampled(_split(fold), member)
            settings = replace(PAINN, seed=member)
            folder = output / f"painn-{fold}-{member}"
            _trained(folder, "painn", "fresh", SMALL, split, settings)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _split(fold: int) -> Split:
    """Return the frames of a fold: some of each decoration to train on, all that are held out."""
    frames = read_frames([DATA]).frames
    split = split_off(frames, fold_names(frames, N_FOLDS)[fold])
    return Split(tuple(_thinned(split.training)), split.validation)


def _thinned(frames: Sequence[Frame]) -> list[Frame]:
    chosen: list[Frame] = []
    for name in sorted({frame.decoration for frame in frames}):
        own = [frame for frame in frames if frame.decoration == name]
        places = np.linspace(0, len(own) - 1, min(PER_DECORATION, len(own))).round().astype(int)
        chosen += [own[place] for place in places]
    return chosen


def _resampled(split: Split, member: int) -> Split:
    """Return the frames of decorations that are drawn with replacement."""
    names = sorted({frame.decoration for frame in split.training})
    drawn = np.random.default_rng(member).choice(names, len(names))
    training = [frame for name in drawn for frame in split.training if frame.decoration == name]
    return Split(tuple(training), split.validation)


def _trained(
    folder: Path, architecture: str, start: str, arguments: dict, split: Split, settings
) -> None:
    if (folder / MODEL_FILE).exists():
        return
    keep_freed_memory()
    every = [*split.training, *split.validation]
    network, card = starting_model(architecture, every, start, arguments, settings.seed)
    began = time.process_time()
    fitted = fit(network, card, Split(split.training, ()), settings)
    notes = {"cpu_s": round(time.process_time() - began), "held_out": list(split.held_out)}
    save_checkpoint(folder, fitted.network, replace(fitted.card, notes=notes))
    typer.echo(f"{folder.name} {notes} {fitted.counters.history[-1]}", err=True)


if __name__ == "__main__":
    app()

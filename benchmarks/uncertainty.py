"""Whether a model knows how wrong it is: committees against true errors on unseen decorations.

For each fold of a cross-validation over decorations a CHGNet is fine-tuned for a few epochs as
`train_models.py` does, and beside it, for some folds, a few small PaiNN, each on decorations drawn
with replacement. On the decorations that were held out, spreads are compared with errors.

usage: uncertainty.py train [--folds 1,3] [--output FOLDER]
       uncertainty.py painn [--folds 1] [--output FOLDER]
       uncertainty.py measure [--folds 1,3] [--output FOLDER] [--to benchmarks/results]
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import typer
from machine import describe_machine
from scipy.stats import spearmanr
from train_models import DATA, PACKAGES, RECIPES, ROOT

from gasearch.allocator import keep_freed_memory
from gasearch.potentials.contract import Prediction
from gasearch.potentials.networks.checkpoint import MODEL_FILE, load_checkpoint, save_checkpoint
from gasearch.potentials.networks.committee import Committee, readout_width
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.training.committee import posterior
from gasearch.training.data.frames import Frame
from gasearch.training.data.reading import read_frames
from gasearch.training.data.splitting import Split, fold_names, split_off
from gasearch.training.evaluation.predict import predict
from gasearch.training.fitting import fit
from gasearch.training.settings import TrainingSettings
from gasearch.training.starting import starting_model
from gasearch.training.state import write_durably

PLACE = ROOT / "build" / "uncertainty"
N_FOLDS = 5
N_MEMBERS = 2
N_AXES = 8
WITHIN = 0.6827
PER_DECORATION = 6
"""Frames of each decoration that are trained on, evenly spread: neighbours in a relaxation are much
the same, and this takes a third of the time."""
CHGNET = replace(RECIPES["chgnet"].settings, epochs=5, anchor=0.0, committee=0)
PAINN = TrainingSettings(epochs=25, batch_size=4, learning_rate=3e-3, keep_best=False, committee=0)
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


@app.command()
def measure(
    folds: str = "1,3", output: Path = PLACE, to: Path = ROOT / "benchmarks" / "results"
) -> None:
    """Compare spreads with errors on every third frame that was held out; write a table."""
    keep_freed_memory()
    found = []
    for fold in _numbers(folds):
        frames = _split(fold).validation[::3]
        model = load_checkpoint(output / f"chgnet-{fold}")
        errors = _errors(frames, predict(model, [frame.atoms for frame in frames]))
        spreads = {"last layer": _last_layer(model, fold, frames)}
        members = [output / f"painn-{fold}-{k}" for k in range(N_MEMBERS)]
        if all((member / MODEL_FILE).exists() for member in members):
            spreads["PaiNN"], own = _ensemble(members, frames)
            found += _rows("PaiNN, its own errors", fold, own, spreads["PaiNN"])
        for name, spread in spreads.items():
            found += _rows(name, fold, errors, spread)
    document = {"rows": found, "cost": _cost(output), "machine": describe_machine(PACKAGES)}
    write_durably(to / "uncertainty.json", (json.dumps(document, indent=1) + "\n").encode())
    typer.echo(_table(found))
    typer.echo(document["cost"])


Both = dict[str, np.ndarray]
"""Of each frame: "energy" in meV/atom, "force" in meV/Å, the largest of a cell."""


def _errors(frames: Sequence[Frame], found: Sequence[Prediction]) -> Both:
    both = list(zip(frames, found, strict=True))
    energies = [1000 * abs(p.energy - f.energy) / len(f.atoms) for f, p in both]
    forces = [1000 * np.linalg.norm(p.forces - f.forces, axis=1).max() for f, p in both]
    return {"energy": np.array(energies), "force": np.array(forces)}


def _last_layer(model: NetworkPotential, fold: int, frames: Sequence[Frame]) -> Both:
    """Return what the posterior says, without any calibration by held-out frames."""
    committee = posterior(model.network, model.card, _split(fold).training, N_AXES)
    asked = NetworkPotential(model.network, replace(model.card, committee=committee))
    said = asked.uncertainty([frame.atoms for frame in frames])
    sizes = np.array([len(frame.atoms) for frame in frames])
    return {"energy": 1000 * said.energy_eV / sizes, "force": 1000 * said.force_eV_per_A}


def _ensemble(folders: Sequence[Path], frames: Sequence[Frame]) -> tuple[Both, Both]:
    """Return the spread of models that were trained apart, and the error of their mean."""
    structures = [frame.atoms for frame in frames]
    by_member = [predict(load_checkpoint(folder), structures) for folder in folders]
    spread: dict[str, list[float]] = {"energy": [], "force": []}
    means = []
    for atoms, found in zip(structures, zip(*by_member, strict=True), strict=True):
        energies = np.array([one.energy for one in found])
        forces = np.array([one.forces for one in found])
        spread["energy"].append(1000 * energies.std(ddof=1) / len(atoms))
        by_atom = np.sqrt(forces.var(axis=0, ddof=1).sum(axis=1))
        spread["force"].append(1000 * by_atom.max())
        means.append(replace(found[0], energy=energies.mean(), forces=forces.mean(axis=0)))
    return {name: np.array(values) for name, values in spread.items()}, _errors(frames, means)


def _rows(name: str, fold: int, errors: Both, spread: Both) -> list[dict[str, Any]]:
    rows = []
    for what in ("energy", "force"):
        ratio = errors[what] / spread[what]
        row = {"spread": name, "fold": fold, "of": what, "n": len(ratio)}
        row |= {"error": errors[what].mean(), "sigma": np.median(spread[what])}
        row |= {"rank_correlation": spearmanr(errors[what], spread[what])[0]}
        row |= {"scale": np.quantile(ratio, WITHIN), "ratios": np.round(ratio, 3).tolist()}
        rows.append({k: float(v) if isinstance(v, np.floating) else v for k, v in row.items()})
    return rows


HEAD = (
    "spread", "held out", "of", "n", "mean error", "median sigma", "rank correlation", "scale",
    "within 1 and 2 sigma", "the same, scaled by the other fold",
)  # fmt: skip


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a line for each row, scaled by the other folds where there are any."""
    lines = [HEAD, ["---"] * len(HEAD)]
    for row in rows:
        same = [one for one in rows if all(one[key] == row[key] for key in ("spread", "of"))]
        scales = [one["scale"] for one in same if one["fold"] != row["fold"]]
        numbers = [f"{row['error']:.1f}", f"{row['sigma']:.2f}", f"{row['rank_correlation']:.2f}"]
        ratios = np.array(row["ratios"])
        scaled = _shares(ratios / np.mean(scales)) if scales else "-"
        told = [row["spread"], f"fold {row['fold']}", row["of"], str(row["n"]), *numbers]
        lines.append([*told, f"{row['scale']:.2f}", _shares(ratios), scaled])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shares(ratios: np.ndarray) -> str:
    return f"{np.mean(ratios < 1):.0%}, {np.mean(ratios < 2):.0%}"


def _cost(output: Path) -> dict[str, float]:
    """Return CPU seconds of a force call and of a question, for a cell of 28 atoms."""
    model = load_checkpoint(next(output.glob("chgnet-*")))
    width = readout_width(model.network)
    committee = Committee(np.random.default_rng(0).normal(size=(N_AXES, width)))
    asked = NetworkPotential(model.network, replace(model.card, committee=committee))
    atoms = max(_split(1).validation, key=len).atoms
    tasks = {
        "call_s": lambda: predict(asked, [atoms]),
        "question_s": lambda: asked.uncertainty([atoms]),
    }
    return {name: round(_cpu_s(task), 3) for name, task in tasks.items()}


def _cpu_s(task: Callable[[], object]) -> float:
    task()
    took = []
    for _ in range(5):
        began = time.process_time()
        task()
        took.append(time.process_time() - began)
    return float(np.median(took))


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
    folder: Path,
    architecture: str,
    start: str,
    arguments: dict[str, Any],
    split: Split,
    settings: TrainingSettings,
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

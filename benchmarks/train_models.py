"""Cross-validation and training of the shipped models, each beside its charge-blind control.

A recipe says how a model is made: what it starts from, what it learns before it sees DFT, what it
is taught beside DFT, and the settings. `validate` trains it once per fold of a cross-validation
over decorations and writes the errors on the unseen ones; `ship` trains it on all frames. Both
continue where they were killed.

A small network first learns from CHGNet with Ga's weights in the place of Fe3+, which has seen no
frame of the data, and then from DFT together with frames of the CHGNet that was fine-tuned on the
same training frames: no teacher knows a held-out decoration.

usage: train_models.py list
       train_models.py validate NAME [--crystal lifepo4] [--folds 5] [--only K] [--output FOLDER]
                                     [--epochs N] [--json]
       train_models.py forward NAME LOOP [--crystal lifepo4] [--output FOLDER]
       train_models.py ship NAME [--crystal lifepo4] [--output FOLDER] [--epochs N]
       train_models.py package NAME [--crystal lifepo4] [--output FOLDER] [--to gasearch/models]
                                    [--model LOOP/round-3/model]
       train_models.py summary [--crystal lifepo4] [--output FOLDER] [--to benchmarks/results]
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import ase.io
import typer
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from machine import describe_machine

from gasearch.allocator import keep_freed_memory
from gasearch.analysis.voltage import GPAW_PBE_450
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.learning.folder import LearnFolder
from gasearch.potentials.contract import Potential
from gasearch.potentials.networks.checkpoint import (
    MODEL_FILE,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.training.data.frames import Frame
from gasearch.training.data.reading import read_frames
from gasearch.training.data.splitting import Split, fold_names, split_by_decoration, split_off
from gasearch.training.evaluation.errors import Report, evaluate_model
from gasearch.training.fitting import Fitted, fit
from gasearch.training.loop import TrainingProgress
from gasearch.training.settings import TrainingSettings
from gasearch.training.starting import starting_model
from gasearch.training.state import write_durably
from gasearch.training.teacher import teacher_frames

ROOT = Path(__file__).parents[1]
PACKAGES = ("gasearch", "torch", "chgnet", "mace-torch", "schnetpack", "numpy")
LICENCE = "CC BY 4.0 (data); CHGNet's own weights, from which it or its teacher started: BSD-3"
ABOUT = {"chgnet": "CHGNet", "mace": "MACE", "painn": "PaiNN", "cpainn": "cPaiNN"}
_FOLDS = "means of {} folds of a cross-validation over decorations"
_ROUNDS = "means over {} rounds of a learning loop, of the network before on the new frames"
NOT_FOR = (
    "other crystals or elements, other spin states or magnetic orders, antisites, surfaces, "
    "diffusion paths, high temperature, pressures beyond some GPa; energies of another level of "
    "theory must not be mixed in"
)


@dataclass(frozen=True)
class Crystal:
    """What a model is trained on.

    Parameters
    ----------
    ion
        The working ion.
    """

    name: str
    ion: str

    @property
    def frames(self) -> list[Frame]:
        """Its data."""
        return list(read_frames([ROOT / "data" / f"{self.name}-pbeu" / "train.xyz"]).frames)

    @property
    def card(self) -> dict[str, str]:
        """What the card of each of its models says."""
        frames = self.frames
        n_orders = len({frame.decoration for frame in frames})
        return {
            "data": f"data/{self.name}-pbeu: GPAW, PBE+U (5.3 eV on Fe d), plane waves 450 eV, one "
            f"k-point, energies at the average number of plane waves; {len(frames)} frames of "
            f"{n_orders} of the 16 orders of the 28-atom cell; no stress labels",
            "use_for": f"relaxing and ranking {self.ion}/vacancy and Fe2+/Fe3+ orders of olivine "
            f"{self.ion}xFePO4, x from 0 to 1, ferromagnetic high spin; formation energies and "
            "voltages at the level of the data",
            "not_for": NOT_FOR,
        }


CRYSTALS = {
    one.name: one
    for one in (
        Crystal("nafepo4", "Na"),
        Crystal("lifepo4", "Li"),
    )
}
CrystalOption = Annotated[str, typer.Option(help=", ".join(CRYSTALS))]
Output = Annotated[Path | None, typer.Option(help="Where trainings are kept.")]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Lessons:
    """Frames that another potential labels.

    Parameters
    ----------
    teacher
        A recipe whose model of the same fold labels them; "chgnet:ga" or "chgnet:blind" for CHGNet
        as it is before any training here; or "pmmcs".
    cells
        Supercells, with the number of random decorations of each.
    seed
        Of the decorations.
    """

    teacher: str
    cells: Mapping[tuple[int, int, int], int]
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """How a model is made.

    Parameters
    ----------
    architecture
        By name.
    start
        As `starting_model` takes it; with a pre-training, what that starts from.
    arguments
        Of a fresh network.
    settings
        Of the training on DFT.
    before
        What it learns before it sees DFT, the same for all folds; its teacher is no recipe.
    before_settings
        Of that.
    beside
        What it learns together with DFT.
    """

    architecture: str
    start: str
    settings: TrainingSettings
    arguments: Mapping[str, Any] = field(default_factory=dict)
    before: Lessons | None = None
    before_settings: TrainingSettings = field(default_factory=TrainingSettings)
    beside: Lessons | None = None


_FINE = TrainingSettings(
    epochs=24,
    batch_size=4,
    learning_rate=2e-3,
    anchor=0.2,
    keep_best=False,
)
_TAUGHT = TrainingSettings(
    epochs=20,
    batch_size=8,
    learning_rate=3e-3,
    validation_share=0.05,
    keep_best=False,
)
_AFTER = replace(_FINE, epochs=14, learning_rate=1e-3, anchor=0.0)
_MANY = {(1, 1, 1): 90, (1, 2, 1): 12}
_SOME = {(1, 1, 1): 32, (1, 2, 1): 8}


@dataclass(frozen=True)
class _Small:
    """A small network: its arguments and learning rates, and how long it learns before DFT."""

    arguments: Mapping[str, Any]
    rate_before: float = 3e-3
    rate: float = 1e-3
    epochs_before: int = 20


_SMALL = {
    "painn": _Small({"n_features": 64, "cutoff": 4.5}),
    "cpainn": _Small({"n_features": 64, "cutoff": 4.0}),
    "mace": _Small({"hidden_irreps": "16x0e + 16x1o", "cutoff": 4.5}, 1e-2, 3e-3),
}


def _recipes() -> dict[str, Recipe]:
    found = {
        "chgnet": Recipe("chgnet", "ga", _FINE),
        "chgnet-clone": Recipe("chgnet", "clone", _FINE),
        "chgnet-blind": Recipe("chgnet", "blind", _FINE),
    }
    for name, small in _SMALL.items():
        after = replace(_AFTER, learning_rate=small.rate)
        taught = replace(_TAUGHT, learning_rate=small.rate_before, epochs=small.epochs_before)
        for ending, start, own in (("", "fresh", "ga"), ("-blind", "blind", "blind")):
            before = Lessons(f"chgnet:{own}", _MANY)
            beside = Lessons(f"chgnet{ending}", _SOME, seed=10)
            found[name + ending] = Recipe(
                name, start, after, small.arguments, before, taught, beside
            )
        scratch = replace(after, epochs=100)
        found[f"{name}-scratch"] = Recipe(name, "fresh", scratch, small.arguments)
    return found


RECIPES = _recipes()


@app.command("list")
def list_recipes() -> None:
    """Show the recipes."""
    for name, recipe in RECIPES.items():
        lessons = [one.teacher for one in (recipe.before, recipe.beside) if one]
        typer.echo(f"{name:16s} start {recipe.start:8s} teachers {', '.join(lessons) or '-'}")


@app.command()
def validate(
    name: str,
    crystal: CrystalOption = "nafepo4",
    folds: int = 5,
    only: Annotated[int | None, typer.Option(help="One fold, from 0.")] = None,
    finished: Annotated[bool, typer.Option(help="Train nothing: the finished folds.")] = False,
    output: Output = None,
    epochs: Annotated[int | None, typer.Option(help="In place of the recipe's.")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Cross-validate a recipe over decorations; finished folds are read back."""
    keep_freed_memory()
    recipe, output = _chosen(name, crystal, epochs), _place(output, crystal)
    frames = CRYSTALS[crystal].frames
    rows = []
    for fold, names in enumerate(fold_names(frames, folds)):
        folder = output / name / f"fold{fold}"
        is_wanted = (folder / "errors.json").exists() if finished else only in (None, fold)
        if is_wanted:
            rows.append(_fold(name, recipe, split_off(frames, names), folder))
    if not rows:
        raise typer.BadParameter(f"no fold of {name} is finished")
    document = {"recipe": name, "folds": rows, "mean": _mean([row["errors"] for row in rows])}
    document["machine"] = describe_machine(PACKAGES)
    write_durably(output / name / "validation.json", _json(document))
    typer.echo(_json(document).decode() if as_json else _table(rows, document["mean"]))


@app.command()
def forward(
    name: str,
    loop: Annotated[Path, typer.Argument(help="Folder of a learning loop that is over.")],
    crystal: CrystalOption = "lifepo4",
    output: Output = None,
) -> None:
    """Judge the networks of a learning loop, each by the new frames of the rounds it searched."""
    rounds = [one for one in LearnFolder(loop).rounds() if one.frames.exists()]
    rows = []
    for before, after in itertools.pairwise(rounds):
        network = (after.result() or {})["searched_with"]
        if network is None:
            continue
        known = read_frames([before.frames]).frames
        seen = {(frame.decoration, frame.energy) for frame in known}
        frames = read_frames([after.frames]).frames
        new = [frame for frame in frames if (frame.decoration, frame.energy) not in seen]
        errors = evaluate_model(load_checkpoint(loop / network), new, known)
        rows.append({"held_out": [f"round {after.number}"], "errors": errors})
    document = {"recipe": name, "folds": rows, "mean": _mean([row["errors"] for row in rows])}
    document |= {"are": _ROUNDS, "machine": describe_machine(PACKAGES)}
    write_durably(_place(output, crystal) / name / "validation.json", _json(document))
    typer.echo(_table(rows, document["mean"]))


@app.command()
def ship(
    name: str,
    crystal: CrystalOption = "nafepo4",
    output: Output = None,
    epochs: Annotated[int | None, typer.Option(help="In place of the recipe's.")] = None,
) -> None:
    """Train a model on all frames: its errors are those of the cross-validation."""
    keep_freed_memory()
    recipe, output = _chosen(name, crystal, epochs), _place(output, crystal)
    frames = CRYSTALS[crystal].frames
    _made(name, recipe, Split(tuple(frames), ()), output / "shipped" / f"{name}-{crystal}")


@app.command()
def package(
    name: str,
    crystal: CrystalOption = "nafepo4",
    output: Output = None,
    to: Annotated[Path, typer.Option(help="Folder of the shipped models.")] = ROOT
    / "gasearch"
    / "models",
    of_loop: Annotated[Path | None, typer.Option("--model", help="Of a learning loop.")] = None,
) -> None:
    """Put a model that `ship` made where gasearch finds it, with the errors that were validated."""
    output, title = _place(output, crystal), f"{name}-{crystal}"
    validation = json.loads((output / name / "validation.json").read_text())
    network, card = read_checkpoint(of_loop or output / "shipped" / title)
    material = CRYSTALS[crystal]
    metal = {material.ion: GPAW_PBE_450[material.ion]}
    notes = {"licence": LICENCE, **_card(name, material, card, validation)}
    card = replace(card, name=title, notes=notes, working_ion_metal=metal)
    save_checkpoint(to / title, network, card)


@app.command()
def summary(
    crystal: CrystalOption = "nafepo4",
    output: Output = None,
    to: Annotated[Path | None, typer.Option(help="Folder for models.*.")] = None,
) -> None:
    """Show the errors of all recipes that were validated, over their finished folds."""
    output = _place(output, crystal)
    found = {}
    for name in RECIPES:
        rows = [json.loads(path.read_text()) for path in sorted(output.glob(f"{name}/fold*/err*"))]
        if rows:
            mean = _mean([row["errors"] for row in rows])
            found[name] = {"n_folds": len(rows), **mean, "folds": rows}
    keys = [key for key in next(iter(found.values())) if key not in ("folds", "n_folds")]
    lines = [
        "| model | folds | " + " | ".join(keys) + " |",
        "|---" + "|---:" * (len(keys) + 1) + "|",
    ]
    for name, one in found.items():
        told = ["-" if one[key] is None else f"{one[key]:.3g}" for key in keys]
        lines.append(f"| {name} | {one['n_folds']} | " + " | ".join(told) + " |")
    if to is not None:
        document = {"recipes": found, "machine": describe_machine(PACKAGES)}
        write_durably(to / "models.json", _json(document))
        write_durably(to / "models.md", ("\n".join(lines) + "\n").encode())
    typer.echo("\n".join(lines))


def _card(
    name: str, crystal: Crystal, card: ModelCard, validation: Mapping[str, Any]
) -> dict[str, Any]:
    mean, rows = validation["mean"], validation["folds"]
    recipe = RECIPES[name]
    told = {key: round(value, 3) for key, value in mean.items() if value is not None}
    text = (
        f"{ABOUT[recipe.architecture]} for olivine {crystal.ion}xFePO4; on unseen orders "
        f"{told['energy_mae_meV_per_atom']:.1f} meV/atom, {told['force_mae_meV_per_A']:.0f} meV/Å"
    )
    judged = f"{validation.get('are', _FOLDS).format(len(rows))}; this model saw all"
    teachers = [one.teacher for one in (recipe.before, recipe.beside) if one]
    notes = {
        "about": text,
        **crystal.card,
        "errors": told,
        "errors_are": judged,
        "teachers": teachers,
    }
    return {**notes, **{key: card.notes[key] for key in card.notes if key not in notes}}


def _chosen(name: str, crystal: str, epochs: int | None) -> Recipe:
    if name not in RECIPES:
        raise typer.BadParameter(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    if crystal not in CRYSTALS:
        raise typer.BadParameter(f"no crystal {crystal!r}; there are {', '.join(CRYSTALS)}")
    recipe, material = RECIPES[name], CRYSTALS[crystal]
    if crystal != "nafepo4" and (recipe.before or recipe.beside):
        raise typer.BadParameter(f"{name} has teachers, whose lessons are of nafepo4 alone")
    own: dict[str, Any] = {"working_ion_metal": {material.ion: GPAW_PBE_450[material.ion]}}
    if epochs is not None:
        own["epochs"] = epochs
    return replace(recipe, settings=replace(recipe.settings, **own))


def _place(output: Path | None, crystal: str) -> Path:
    """Return where trainings are kept."""
    usual = ROOT / "build" / "training"
    return output or (usual if crystal == "nafepo4" else usual / crystal)


def _fold(name: str, recipe: Recipe, split: Split, folder: Path) -> dict[str, Any]:
    """Return the errors of one fold on the decorations that it has not seen."""
    result = folder / "errors.json"
    if result.exists():
        row: dict[str, Any] = json.loads(result.read_text())
        return row
    potential = _made(name, recipe, split, folder)
    relaxed = [frame for frame in split.validation if not frame.hop]
    row = {
        "held_out": list(split.held_out),
        "errors": evaluate_model(potential, split.validation, split.training),
        "errors_without_hops": evaluate_model(potential, relaxed, split.training),
    }
    write_durably(result, _json(row))
    return row


def _made(name: str, recipe: Recipe, split: Split, folder: Path) -> NetworkPotential:
    """Return the trained model of a folder, trained now unless it is there."""
    if (folder / MODEL_FILE).exists():
        return load_checkpoint(folder)
    start = recipe.start
    if recipe.before is not None:
        start = str(_pretrained(name, recipe, recipe.before, split, folder))
    lessons = split
    if recipe.beside is not None:
        source = recipe.beside.teacher
        which = "shipped" if folder.parent.name == "shipped" else folder.name
        path = folder.parents[1] / "lessons" / f"{source.replace(':', '-')}-{which}.xyz"
        taught = _labelled(recipe.beside, lambda: _teacher(source, split, folder), path)
        lessons = Split((*split.training, *taught), split.validation)
    network, card = starting_model(
        recipe.architecture, [*split.training, *split.validation], start, recipe.arguments
    )
    state = folder / "training_state.safetensors"
    began = time.process_time()
    fitted = fit(network, card, lessons, recipe.settings, state, _show(name))
    _save(fitted, folder, name, split, time.process_time() - began)
    state.unlink(missing_ok=True)
    return load_checkpoint(folder)


def _pretrained(name: str, recipe: Recipe, before: Lessons, split: Split, folder: Path) -> Path:
    """Return the folder of the network that has seen no DFT: one for all folds."""
    shared = folder.parents[1] / "before" / name
    if (shared / MODEL_FILE).exists():
        return shared
    every = [*split.training, *split.validation]
    path = folder.parents[1] / "lessons" / f"{before.teacher.replace(':', '-')}.xyz"
    lessons = _labelled(before, lambda: _untrained(before.teacher, every), path)
    taught = split_by_decoration(lessons, recipe.before_settings.validation_share)
    network, card = starting_model(
        recipe.architecture, [*lessons, *every], recipe.start, recipe.arguments
    )
    state = shared / "training_state.safetensors"
    began = time.process_time()
    fitted = fit(network, card, taught, recipe.before_settings, state, _show(f"{name}, before"))
    _save(fitted, shared, f"{name}, before DFT", taught, time.process_time() - began)
    state.unlink(missing_ok=True)
    return shared


def _untrained(name: str, frames: Sequence[Frame]) -> Potential:
    """Return a teacher that has seen no frame of the data."""
    if name == "pmmcs":
        return Pmmcs()
    architecture, _, start = name.partition(":")
    return NetworkPotential(*starting_model(architecture, frames, start))


def _teacher(name: str, split: Split, folder: Path) -> Potential:
    """Return the teacher of a fold; one that is a recipe has seen its training frames alone."""
    if name not in RECIPES:
        return _untrained(name, [*split.training, *split.validation])
    place = folder.parents[1] / name / folder.name
    if folder.parent.name == "shipped":
        place = folder.parent / f"{name}-nafepo4"
    return _made(name, RECIPES[name], split, place)


def _labelled(lessons: Lessons, make_teacher: Callable[[], Potential], path: Path) -> list[Frame]:
    """Return the frames of lessons; all networks that have one teacher share the file."""
    if not path.exists():
        teacher, frames = make_teacher(), []
        for cell, n_decorations in lessons.cells.items():
            host = Host.build(builtin_host("nafepo4-olivine"), cell)
            frames += teacher_frames(teacher, host, n_decorations, seed=lessons.seed + sum(cell))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}")
        ase.io.write(partial, [_with_labels(frame) for frame in frames], format="extxyz")
        partial.replace(path)
    return list(read_frames([path]).frames)


def _with_labels(frame: Frame) -> Atoms:
    """Return the structure of a frame with its labels as results of a calculator."""
    atoms: Atoms = frame.atoms.copy()
    atoms.info |= {"decoration": frame.decoration, "tag": frame.tag}
    results = {"energy": frame.energy, "forces": frame.forces, "magmoms": frame.moments}
    if frame.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(frame.stress)
    known = {name: value for name, value in results.items() if value is not None}
    atoms.calc = SinglePointCalculator(atoms, **known)
    return atoms


def _save(fitted: Fitted, folder: Path, name: str, split: Split, cpu_s: float) -> None:
    notes = {
        **fitted.card.notes,
        "split": {"held_out": list(split.held_out), "n_training": len(split.training)},
        "epochs": fitted.counters.epoch,
        "licence": LICENCE,
    }
    record = {"cpu_s": round(cpu_s), "history": fitted.counters.history}
    write_durably(folder / "history.json", _json(record))
    title = folder.name if folder.parent.name == "shipped" else name
    save_checkpoint(folder, fitted.network, replace(fitted.card, name=title, notes=notes))


def _show(name: str) -> Any:
    def show(progress: TrainingProgress) -> None:
        if progress.record is not None:
            told = {k: round(v, 4) for k, v in progress.record.items() if k != "epoch"}
            typer.echo(f"{name} {progress.epoch}/{progress.epochs} {told}", err=True)

    return show


def _mean(reports: Sequence[Report]) -> Report:
    """Return means over folds, weighted with the number of frames, of what is known."""
    found: Report = {"n_frames": sum(int(report["n_frames"] or 0) for report in reports)}
    for key in [key for key in reports[0] if key != "n_frames"]:
        known = [report for report in reports if report[key] is not None]
        weights = [int(report["n_frames"] or 0) for report in known]
        values = [float(report[key] or 0) for report in known]
        total = sum(weight * value for weight, value in zip(weights, values, strict=True))
        found[key] = total / sum(weights) if known else None
    return found


def _table(rows: Sequence[Mapping[str, Any]], mean: Report) -> str:
    keys = [key for key in mean if key != "n_frames"]
    lines = ["| held out | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    named = [(", ".join(row["held_out"]), row["errors"]) for row in rows]
    for name, errors in [*named, ("mean", mean)]:
        values = ["-" if errors[key] is None else f"{errors[key]:.3g}" for key in keys]
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()


if __name__ == "__main__":
    app()

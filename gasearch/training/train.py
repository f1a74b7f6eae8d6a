"""`gasearch potential train` as a function: files in, a checkpoint folder out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gasearch.allocator import keep_freed_memory
from gasearch.errors import UsageError
from gasearch.potentials.networks.checkpoint import MODEL_FILE, save_checkpoint
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.training.data.frames import Frame
from gasearch.training.data.reading import FrameSet, read_frames
from gasearch.training.data.splitting import Split, split_by_decoration, split_off
from gasearch.training.evaluation.errors import Report, evaluate_model
from gasearch.training.fitting import Fitted, fit
from gasearch.training.loop import TrainingProgress
from gasearch.training.settings import TrainingPlan, TrainingSettings
from gasearch.training.starting import starting_model
from gasearch.training.state import write_durably

REPORT_FILE = "training_report.json"
STATE_FILE = "training_state.safetensors"


class FinishedModelError(UsageError):
    """An output folder that holds a trained model already."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder

    def __str__(self) -> str:
        return (
            f"{self.folder} holds a finished model: choose another output folder, or start a new "
            "training from that model."
        )


class UnknownDecorationError(UsageError):
    """A decoration to hold out that the data do not have."""

    def __init__(self, unknown: Sequence[str], known: Sequence[str]) -> None:
        super().__init__(unknown, known)
        self.unknown = tuple(unknown)
        self.known = tuple(known)

    def __str__(self) -> str:
        known = ", ".join(self.known[:20])
        return f"the data have no decoration {', '.join(self.unknown)}; they have {known}."


def train(
    plan: TrainingPlan,
    progress: Callable[[TrainingProgress], None] | None = None,
    on_data: Callable[[FrameSet], None] | None = None,
) -> dict[str, Any]:
    """Train a model on labelled frames and write it; return the report.

    Killed, it continues when called again with the same plan.

    Parameters
    ----------
    on_data
        Called with the frames before they are learned.
    """
    keep_freed_memory()
    folder, settings = plan.output, plan.options.settings
    if (folder / MODEL_FILE).exists():
        raise FinishedModelError(folder)
    data = read_frames(plan.files, plan.options.labelling)
    if on_data is not None:
        on_data(data)
    split = choose_split(data.frames, settings)
    arguments = plan.options.network
    start = starting_model(plan.architecture, data.frames, plan.start, arguments, settings.seed)
    state = folder / STATE_FILE
    fitted = fit(*start, split, settings, state, progress)
    report = make_report(fitted, split, data, plan)
    summary = {key: report[key] for key in ("split", "errors", "epochs")}
    notes = {**fitted.card.notes, **plan.options.notes, **summary}
    card = replace(fitted.card, name=folder.resolve().name, notes=notes)
    write_durably(folder / REPORT_FILE, _json(report))
    save_checkpoint(folder, fitted.network, card)
    state.unlink(missing_ok=True)
    return report


def choose_split(frames: Sequence[Frame], settings: TrainingSettings) -> Split:
    """Return the split that the settings ask for."""
    if settings.held_out:
        known = sorted({frame.decoration for frame in frames})
        unknown = sorted(set(settings.held_out).difference(known))
        if unknown:
            raise UnknownDecorationError(unknown, known)
        return split_off(frames, settings.held_out)
    return split_by_decoration(frames, settings.validation_share, settings.seed)


def make_report(fitted: Fitted, split: Split, data: FrameSet, plan: TrainingPlan) -> dict[str, Any]:
    """Return what is worth knowing about a training, as JSON writes it."""
    counters = fitted.counters
    return {
        "architecture": fitted.network.architecture,
        "arguments": dict(fitted.network.arguments),
        "n_weights": sum(p.numel() for p in fitted.network.parameters()),
        "start": dict(fitted.card.notes),
        "settings": plan.options.settings.to_json(),
        "data": {
            "files": {path.name: _sha256(path) for path in plan.files},
            "data_hash": data.data_hash,
            "n_frames": len(data.frames),
            "dropped": dict(data.dropped),
            "columns": {label: dict(names) for label, names in data.columns.items()},
            "stale": dict(data.stale),
            "unread": dict(data.unread),
        },
        "split": {
            "training": sorted({frame.decoration for frame in split.training}),
            "validation": list(split.held_out),
        },
        "species": fitted.card.species_map.to_json(),
        "reference": {str(slot): energy for slot, energy in fitted.card.reference.items()},
        "epochs": counters.epoch,
        "best_epoch": counters.best_epoch + 1,
        "wall_s": round(counters.wall_s, 1),
        "errors": split_errors(fitted, split),
        "history": counters.history,
    }


def split_errors(fitted: Fitted, split: Split) -> dict[str, Report]:
    """Return the errors of a trained model on both halves of its split."""
    potential = NetworkPotential(fitted.network, fitted.card)
    errors = {"training": evaluate_model(potential, split.training)}
    if split.validation:
        errors["validation"] = evaluate_model(potential, split.validation, split.training)
    return errors


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()

"""Settings of a training, as objects and from a TOML file, whose mistakes are reported in one line.

The keys at the top of a file and `[loss]` are those of `TrainingSettings`. `[network]` has the
arguments of a fresh network, `[labelling]` says how frames get their oxidation states, and
`[notes]` is for the model's card.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from gasearch.errors import UsageError
from gasearch.plugins import nearest
from gasearch.training.data.labels import Labelling


class TrainingSettingError(UsageError):
    """A setting out of range."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(name, value, expected)
        self.name = name
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        return f"training setting {self.name} = {self.value!r}, expected {self.expected}."


@dataclass(frozen=True)
class LossSettings:
    """Weights and scales of the parts of the loss.

    Each part is a smooth Huber function of error / scale: quadratic below the scale, linear above,
    so that one bad label costs little. A weight of 0 leaves the part out.

    Parameters
    ----------
    energy, forces, stress, moments, partial_charges
        Weights.
    difference
        Weight of the energy difference of two charge orders on one geometry.
    hop_share
        Frames between two charge orders count this many times as much as others.
    energy_scale
        In eV per atom.
    force_scale
        In eV/Å.
    stress_scale
        In eV/Å^3.
    moment_scale
        In Bohr magnetons.
    charge_scale
        In e.
    difference_scale
        In eV per cell.
    """

    energy: float = 1.0
    forces: float = 1.0
    stress: float = 0.3
    moments: float = 0.1
    partial_charges: float = 0.1
    difference: float = 1.0
    hop_share: float = 2.0
    energy_scale: float = 0.005
    force_scale: float = 0.05
    stress_scale: float = 0.005
    moment_scale: float = 0.05
    charge_scale: float = 0.05
    difference_scale: float = 0.1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            positive = name.endswith("_scale")
            if not math.isfinite(value) or value < 0 or (positive and value == 0):
                expected = "a number above 0" if positive else "a number from 0 on"
                raise TrainingSettingError(f"loss.{name}", value, expected)


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Parameters
    ----------
    epochs
        Passes over the training frames, at most.
    batch_size
        Structures per step.
    learning_rate
        Of Adam after the warm-up; it falls as a cosine to `final_rate` of that.
    warmup_steps
        In which the learning rate rises.
    clip
        Largest norm of the gradient relative to its running mean; larger ones are scaled down.
    ema
        Decay of the running mean of the weights, which is what is tested and kept; 0 for none.
    anchor
        How strongly weights are pulled back to where they started, per step and learning rate: for
        little data and a start that knows much.
    patience
        Epochs without a better validation loss after which training stops; 0 for never.
    keep_best
        Whether the weights of the epoch with the lowest validation loss are kept; if not, the last
        ones, so that a cross-validation chooses nothing by its validation frames.
    validation_share
        Share of the decorations that are held out; 0 for none.
    held_out
        Decorations to hold out in place of a random choice.
    loss
        Weights and scales.
    drop_repeats
        Whether of two labels on one geometry only that of lower energy is used.
    committee
        Members by which the model knows how certain it is of energies and forces; 0 for none. Each
        costs one more gradient per relaxed structure, and nothing in training.
    working_ion_metal
        Energy per atom of the metals of working ions at the level of the data, in eV: goes into the
        model for voltages.
    save_every_s
        A state to continue from is written at the end of an epoch, but not more often.
    seed
        Of the split, of the order of the frames and of new weights.
    device
        Where it is computed, as torch writes it: "cpu", "cuda".
    """

    epochs: int = 40
    batch_size: int = 4
    learning_rate: float = 2e-3
    final_rate: float = 0.01
    warmup_steps: int = 20
    clip: float = 3.0
    ema: float = 0.99
    anchor: float = 0.0
    patience: int = 0
    keep_best: bool = True
    validation_share: float = 0.2
    held_out: tuple[str, ...] = ()
    loss: LossSettings = field(default_factory=LossSettings)
    drop_repeats: bool = True
    committee: int = 8
    working_ion_metal: Mapping[str, float] = field(default_factory=dict)
    save_every_s: float = 20.0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        self._require("epochs", self.epochs >= 1, "1 or more")
        self._require("batch_size", self.batch_size >= 1, "1 or more")
        self._require("learning_rate", 0 < self.learning_rate < 1, "a number between 0 and 1")
        self._require("final_rate", 0 <= self.final_rate <= 1, "a number from 0 to 1")
        self._require("warmup_steps", self.warmup_steps >= 0, "0 or more")
        self._require("clip", self.clip > 0, "a number above 0")
        self._require("ema", 0 <= self.ema < 1, "a number from 0 to below 1")
        self._require("anchor", 0 <= self.anchor * self.learning_rate < 1, "0 or more, and small")
        self._require("patience", self.patience >= 0, "0 or more")
        self._require("patience", self.keep_best or not self.patience, "0 with keep_best = false")
        self._require("validation_share", 0 <= self.validation_share <= 0.5, "a number up to 0.5")
        self._require("committee", self.committee >= 0, "0 or more")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON writes them."""
        document = asdict(self)
        document["held_out"] = list(self.held_out)
        return document

    def _require(self, name: str, is_met: bool, expected: str) -> None:
        if not is_met:
            raise TrainingSettingError(name, getattr(self, name), expected)


_Section = TypeVar("_Section", TrainingSettings, Labelling)
_TABLES = ("network", "labelling", "notes")


class TrainingFileError(UsageError):
    """A file of training settings that cannot be used."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem.rstrip('.')}."


@dataclass(frozen=True)
class TrainingFile:
    """All options of a training beside its data and its start.

    Parameters
    ----------
    settings
        Of the training itself.
    labelling
        How oxidation states are found where frames do not carry them.
    network
        Arguments of a fresh network, such as {"n_features": 48}.
    notes
        What the model's card shall say, such as its licence.
    """

    settings: TrainingSettings = field(default_factory=TrainingSettings)
    labelling: Labelling = field(default_factory=Labelling)
    network: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingPlan:
    """A training from files to a model.

    Parameters
    ----------
    architecture
        By name.
    files
        Labelled frames.
    output
        Folder of the checkpoint, of the report and, until the end, of the state.
    start
        As `gasearch.training.starting.starting_model` takes it.
    options
        All else.
    """

    architecture: str
    files: Sequence[Path]
    output: Path
    start: str | None = None
    options: TrainingFile = field(default_factory=TrainingFile)


def read_training_file(path: Path | None, changes: Mapping[str, Any]) -> TrainingFile:
    """Return what a file says, or the defaults without one.

    Parameters
    ----------
    changes
        Settings that count instead of the file's, such as {"epochs": 10}.
    """
    source = "training settings" if path is None else str(path)
    return _training_file(source, {} if path is None else _toml(path), changes)


def training_options(
    source: str, settings: Mapping[str, Any], network: Mapping[str, Any]
) -> TrainingFile:
    """Return the options of a training whose settings stand in another file.

    Parameters
    ----------
    source
        How errors name that place.
    settings
        What a file of settings has, [network] left out.
    network
        Arguments of a fresh network.
    """
    return _training_file(source, {**settings, "network": dict(network)}, {})


def _training_file(
    source: str, given: Mapping[str, Any], changes: Mapping[str, Any]
) -> TrainingFile:
    document = dict(given)
    tables = {name: document.pop(name, {}) for name in _TABLES}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise TrainingFileError(source, f"{name} = {table!r}: expected a table, [{name}]")
    loss = document.get("loss", {})
    _refuse_unknown(source, document, TrainingSettings, *_TABLES)
    _refuse_unknown(source, loss if isinstance(loss, dict) else {}, LossSettings)
    _refuse_unknown(source, tables["labelling"], Labelling)
    return TrainingFile(
        _parsed(source, TrainingSettings, {**document, **changes}),
        _parsed(source, Labelling, tables["labelling"]),
        tables["network"],
        tables["notes"],
    )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingFileError(str(path), f"is not TOML: {error}") from error
    except OSError as error:
        raise TrainingFileError(str(path), f"cannot be read: {error.strerror}") from error


def _refuse_unknown(source: str, table: Mapping[str, Any], kind: Any, *more: str) -> None:
    known = [*(one.name for one in fields(kind)), *more]
    for key in table:
        if key not in known:
            problem = f"unknown key {key!r}{nearest(key, known)}; known here: {', '.join(known)}"
            raise TrainingFileError(source, problem)


def _parsed(source: str, kind: type[_Section], table: Mapping[str, Any]) -> _Section:
    try:
        return TypeAdapter(kind).validate_python(table)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "value_error":
            raise TrainingFileError(source, message) from error
        key = ".".join(map(str, first["loc"]))
        message = message.replace("Input should be", "it should be").split(", unable")[0]
        problem = f"{key} = {first['input']!r}: {message.split(' or an instance')[0]}"
        raise TrainingFileError(source, problem.replace("a dictionary", "a table")) from error

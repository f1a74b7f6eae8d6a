"""What a training can be told in a file: TOML, and one clear line for what it may not say.

The keys at the top and `[loss]` are those of `TrainingSettings`. `[network]` has the arguments of a
fresh network, `[labelling]` says how frames get their oxidation states, and `[notes]` is for the
model's card.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from gasearch.errors import UsageError
from gasearch.plugins import nearest
from gasearch.training.data.labels import Labelling
from gasearch.training.settings import LossSettings, TrainingSettings

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
    """All that a training is told beside its data.

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


def read_training_file(path: Path | None, changes: Mapping[str, Any]) -> TrainingFile:
    """Return what a file says, or the defaults without one.

    Parameters
    ----------
    changes
        Settings that count instead of the file's, such as {"epochs": 10}.
    """
    source = "training settings" if path is None else str(path)
    document = {} if path is None else _toml(path)
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

"""The state that a killed training continues from: one safetensors file, replaced as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from gasearch.errors import UsageError
from gasearch.files import written

_KEY = "gasearch"


class OtherTrainingError(UsageError):
    """A state file that belongs to a training with other data, settings or weights."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"{self.path} belongs to a training with other data, settings or starting weights: "
            "continue with those, choose another output folder, or remove the file."
        )


class BrokenStateError(UsageError):
    """A state file that cannot be read."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path} is no training state ({self.problem}): remove it to start again."


@dataclass
class Counters:
    """Where a training stands; all that is not a tensor.

    Parameters
    ----------
    epoch, step
        Finished ones.
    gradient_norm
        Running mean; 0 at first.
    best_epoch
        With the lowest validation loss so far; -1 before the first.
    best_loss
        Of that epoch.
    wall_s
        Spent so far, continued runs added up.
    history
        One entry per epoch.
    """

    epoch: int = 0
    step: int = 0
    gradient_norm: float = 0.0
    best_epoch: int = -1
    best_loss: float | None = None
    wall_s: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(
    path: Path, identity: str, counters: Counters, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Write a state so that the old one or the new one is there, whatever happens."""
    from safetensors.torch import save

    document = {"identity": identity, **asdict(counters)}
    owned = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    write_durably(path, save(owned, metadata={_KEY: json.dumps(document)}))


def load_state(path: Path, identity: str) -> tuple[Counters, dict[str, torch.Tensor]] | None:
    """Return what `save_state` wrote, or None where there is no file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            document = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        found = document.pop("identity")
        counters = Counters(**document)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BrokenStateError(path, f"{type(error).__name__}: {error}") from error
    if found != identity:
        raise OtherTrainingError(path)
    return counters, tensors


def saved_epochs(path: Path) -> int:
    """Return how many epochs a state file holds, whichever training it belongs to; 0 for none."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            return int(json.loads((file.metadata() or {})[_KEY])["epoch"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BrokenStateError(path, f"{type(error).__name__}: {error}") from error


def write_durably(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, through to the disk; it may replace an older one."""
    with written(path, replace=True) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

"""The training loop: plain torch, the same for every network.

The same seed gives the same weights to the last bit on one thread, and so does a training that was
killed and continued: order and learning rate are functions of the seed and the step alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gasearch.errors import GasearchError
from gasearch.potentials.networks.network import Network
from gasearch.training.data.samples import Minibatch, Unit, join
from gasearch.training.losses import ErrorSums, Parts, error_sums, evaluate_minibatch, loss_parts
from gasearch.training.settings import TrainingSettings
from gasearch.training.state import Counters, load_state, save_state

_MEMORY = 0.98  # of the running mean of gradient norms
_EVALUATED_TOGETHER = 8


class DivergedError(GasearchError, ArithmeticError):
    """A training whose loss is no number any more."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step

    def __str__(self) -> str:
        return (
            f"the loss is not a finite number after {self.step} steps: lower the learning rate, "
            "and look for frames with absurd labels."
        )


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands, for a display.

    Parameters
    ----------
    epoch, epochs
        The current one, from 1, and their number.
    step, steps
        Finished steps of this epoch, and their number.
    loss
        Mean of this epoch so far.
    record
        What the history says about the epoch, at its end; None before.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    record: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """What is to be learned.

    Parameters
    ----------
    network
        Its weights change.
    training, validation
        Units; the latter may be empty.
    reference
        (slots,) energy per atom that the network need not learn, in eV.
    settings
        How.
    """

    network: Network
    training: Sequence[Unit]
    validation: Sequence[Unit]
    reference: torch.Tensor
    settings: TrainingSettings


class Trainer:
    """One training, from the start or from where its state file says.

    Parameters
    ----------
    task
        What is to be learned.
    state_file
        Where to continue from and what to write; nothing is written if None.
    identity
        Of data, settings and starting weights: a state file of another training is refused.
    """

    def __init__(
        self, task: TrainingTask, state_file: Path | None = None, identity: str = ""
    ) -> None:
        task.network.to(task.settings.device)
        self.task = replace(task, reference=task.reference.to(task.settings.device))
        self.state_file = state_file
        self.identity = identity
        self.counters = Counters()
        self._parameters = _learnable(task.network)
        self._optimizer = torch.optim.Adam(self._parameters, lr=task.settings.learning_rate)
        self._start = [p.detach().clone() for p in self._parameters]
        self._mean = [p.detach().clone() for p in self._parameters]
        self._best = [p.detach().clone() for p in self._parameters]
        self._saved_at = time.monotonic()
        if state_file is not None:
            self._restore(state_file)

    def run(self, progress: Callable[[TrainingProgress], None] | None = None) -> Counters:
        """Train to the end; the network has the best weights then, and is on the CPU."""
        settings, counters = self.task.settings, self.counters
        while counters.epoch < settings.epochs and not self._is_stale():
            began = time.monotonic()
            loss = self._epoch(progress)
            record = self._validate(loss)
            counters.epoch += 1
            counters.wall_s += time.monotonic() - began
            counters.history.append(record)
            self._save()
            if progress is not None:
                n = self._n_steps
                progress(TrainingProgress(counters.epoch, settings.epochs, n, n, loss, record))
        _assign(self._parameters, self._best)
        self.task.network.eval().to("cpu")
        return counters

    @property
    def _n_steps(self) -> int:
        return math.ceil(len(self.task.training) / self.task.settings.batch_size)

    def _is_stale(self) -> bool:
        """Whether the validation loss has not fallen for longer than patience goes."""
        patience = self.task.settings.patience
        if not patience or not self.task.validation:
            return False
        return self.counters.epoch - 1 - self.counters.best_epoch >= patience

    def _epoch(self, progress: Callable[[TrainingProgress], None] | None) -> float:
        """Make one pass over the training units; return the mean loss."""
        total = 0.0
        self.task.network.train()
        for done, data in enumerate(self._batches(), start=1):
            total += self._step(data)
            if progress is not None and done < self._n_steps:
                epoch, epochs = self.counters.epoch + 1, self.task.settings.epochs
                progress(TrainingProgress(epoch, epochs, done, self._n_steps, total / done))
        return total / self._n_steps

    def _batches(self) -> Iterator[Minibatch]:
        seeds = [self.task.settings.seed, self.counters.epoch]
        order = np.random.default_rng(seeds).permutation(len(self.task.training)).tolist()
        size = self.task.settings.batch_size
        for start in range(0, len(order), size):
            units = [self.task.training[k] for k in order[start : start + size]]
            yield join(units).to(self.task.settings.device)

    def _step(self, data: Minibatch) -> float:
        """Move the weights once; return the loss before."""
        settings = self.task.settings
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self._optimizer.zero_grad(set_to_none=True)
        found = evaluate_minibatch(self.task.network, data, learn=True)
        loss = loss_parts(found, data, self.task.reference, settings.loss).total(settings.loss)
        if loss.requires_grad:
            loss.backward()
            self._clip()
            self._optimizer.step()
            self._pull_back()
        self.counters.step += 1
        if not bool(loss.isfinite()):
            raise DivergedError(self.counters.step)
        self._average()
        return float(loss.detach())

    def _learning_rate(self) -> float:
        settings, step = self.task.settings, self.counters.step
        share = step / max(1, settings.epochs * self._n_steps)
        cosine = (1 + math.cos(math.pi * min(1.0, share))) / 2
        rate = settings.learning_rate * (settings.final_rate + (1 - settings.final_rate) * cosine)
        return rate * min(1.0, (step + 1) / max(1, settings.warmup_steps))

    def _clip(self) -> None:
        """Scale a gradient down that is much longer than those before."""
        known = self.counters.gradient_norm
        limit = self.task.settings.clip * known if known > 0 else math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, limit))
        if not math.isfinite(norm):
            raise DivergedError(self.counters.step)
        capped = min(norm, limit)
        self.counters.gradient_norm = _MEMORY * known + (1 - _MEMORY) * capped if known else norm

    def _pull_back(self) -> None:
        """Move the weights a little towards those of the start."""
        share = self.task.settings.anchor * self._learning_rate()
        if share > 0:
            with torch.no_grad():
                for start, parameter in zip(self._start, self._parameters, strict=True):
                    parameter.lerp_(start, share)

    def _average(self) -> None:
        """Move the running mean of the weights; it follows quickly at first."""
        step = self.counters.step
        decay = min(self.task.settings.ema, step / (10 + step))
        with torch.no_grad():
            for mean, parameter in zip(self._mean, self._parameters, strict=True):
                mean.lerp_(parameter, 1 - decay)

    def _validate(self, loss: float) -> dict[str, Any]:
        """Return the record of an epoch; remember the averaged weights if they are the best."""
        record: dict[str, Any] = {"epoch": self.counters.epoch + 1, "loss": loss}
        record["learning_rate"] = self._learning_rate()
        own = [p.detach().clone() for p in self._parameters]
        _assign(self._parameters, self._mean)
        if self.task.validation:
            record |= validate(self.task, self.task.validation)
        _assign(self._parameters, own)
        value = record.get("validation_loss")
        best = self.counters.best_loss
        is_kept = not self.task.settings.keep_best
        if is_kept or value is None or best is None or value < best:
            self.counters.best_epoch, self.counters.best_loss = self.counters.epoch, value
            self._best = [mean.clone() for mean in self._mean]
        return record

    def _save(self) -> None:
        settings = self.task.settings
        is_last = self.counters.epoch == settings.epochs
        if self.state_file is None:
            return
        if time.monotonic() - self._saved_at < settings.save_every_s and not is_last:
            return
        save_state(self.state_file, self.identity, self.counters, self._tensors())
        self._saved_at = time.monotonic()

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {f"buffer.{name}": b for name, b in self.task.network.named_buffers()}
        for k, parameter in enumerate(self._parameters):
            tensors |= {f"weight.{k}": parameter, f"mean.{k}": self._mean[k]}
            tensors[f"best.{k}"] = self._best[k]
            for name, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{k}.{name}"] = value
        return tensors

    def _restore(self, path: Path) -> None:
        found = load_state(path, self.identity)
        if found is None:
            return
        self.counters, tensors = found
        buffers = dict(self.task.network.named_buffers())
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            place, _, moment = rest.partition(".")
            if kind == "buffer":
                buffers[rest].copy_(value)
            elif kind == "adam":
                parameter = self._parameters[int(place)]
                own = value if moment == "step" else value.to(parameter.device)
                self._optimizer.state[parameter][moment] = own
            else:
                _assign([self._held(kind)[int(place)]], [value])

    def _held(self, kind: str) -> Sequence[torch.Tensor]:
        held: dict[str, Sequence[torch.Tensor]] = {
            "weight": self._parameters,
            "mean": self._mean,
            "best": self._best,
        }
        return held[kind]


def validate(task: TrainingTask, units: Sequence[Unit]) -> dict[str, float]:
    """Return the loss of a network on units, and its mean errors in plain units."""
    parts, errors = Parts({}, {}), ErrorSums()
    task.network.eval()
    for start in range(0, len(units), _EVALUATED_TOGETHER):
        data = join(units[start : start + _EVALUATED_TOGETHER]).to(task.settings.device)
        found = evaluate_minibatch(task.network, data, learn=False)
        parts = parts.plus(loss_parts(found, data, task.reference, task.settings.loss))
        errors = errors.plus(error_sums(found, data, task.reference))
    return {"validation_loss": float(parts.total(task.settings.loss)), **errors.means()}


def _learnable(network: Network) -> list[torch.nn.Parameter]:
    """Return the weights to learn: all, where a potential has frozen all."""
    if not any(parameter.requires_grad for parameter in network.parameters()):
        network.requires_grad_()
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _assign(targets: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for target, value in zip(targets, values, strict=True):
            target.copy_(value)

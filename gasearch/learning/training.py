"""The network of the next round: trained on all frames, and kept out where it is no better."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gasearch.errors import UsageError
from gasearch.learning.settings import TrainSection
from gasearch.training.settings import LossSettings, TrainingPlan, training_options

if TYPE_CHECKING:
    from gasearch.potentials.contract import Potential
    from gasearch.training.data.frames import Frame
    from gasearch.training.loop import TrainingProgress

_SCALES = LossSettings()
_LEAST_EPOCHS, _FRAMES_READ = 24, 2000
_SOURCE = "learn.toml, train.settings"


@dataclass(frozen=True)
class Errors:
    """Mean absolute errors of a potential on frames that judge it.

    Parameters
    ----------
    energy_per_atom
        In eV, after energies were aligned by a line in x on the other frames.
    forces
        Of components, in eV/Å.
    """

    energy_per_atom: float
    forces: float

    @property
    def score(self) -> float:
        """Both in units of the loss's own scales: the smaller the better."""
        return self.energy_per_atom / _SCALES.energy_scale + self.forces / _SCALES.force_scale


@dataclass(frozen=True)
class Judged:
    """What a training was worth.

    Parameters
    ----------
    held_out
        Decorations that neither model has seen; empty where all frames were learned.
    after
        None for a training that failed, as `problem` says.
    is_kept
        Whether the new model takes the place of the old one.
    """

    held_out: tuple[str, ...]
    before: Errors
    after: Errors | None
    is_kept: bool
    n_frames: int
    problem: str = ""

    def in_words(self) -> str:
        """Return it in one line."""
        if self.after is None:
            return f"the training failed, and the potential of before stays: {self.problem}"
        on = f"{len(self.held_out)} unseen decorations" if self.held_out else "all frames"
        told = [
            f"{1000 * one.energy_per_atom:.1f} meV/atom and {1000 * one.forces:.0f} meV/Å"
            for one in (self.after, self.before)
        ]
        end = "" if self.is_kept else ": it is kept out, and the potential of before stays"
        return f"the new model on {on}: {told[0]}; the one before: {told[1]}{end}"

    def to_json(self) -> dict[str, Any]:
        """Return what round.json says of it."""
        return asdict(self)


def held_out(names: Sequence[str], share: float) -> tuple[str, ...]:
    """Return which of the new decorations judge the new model: evenly spread, the same each time.

    Parameters
    ----------
    names
        Those that may be held out, in the order in which they were chosen for DFT.
    """
    number = round(share * len(names))
    places = np.linspace(0, len(names) - 1, number + 2)[1:-1]
    return tuple(names[k] for k in dict.fromkeys(round(place) for place in places))


def epochs(n_frames: int) -> int:
    """Return how often so many frames are read where learn.toml does not say it.

    With few frames a network has too few steps to learn the cell: on 41 of LixFePO4 the errors of
    unseen orders still fell after 24 epochs.
    """
    return max(_LEAST_EPOCHS, math.ceil(_FRAMES_READ / max(1, n_frames)))


def checked(section: TrainSection, home: Path) -> TrainSection:
    """Return [train] with its start as a full path, or raise: before hours of DFT, not after.

    Parameters
    ----------
    home
        Folder of the learn.toml.
    """
    from gasearch.potentials.networks.architectures import declaration
    from gasearch.potentials.networks.declaration import StartError
    from gasearch.training.starting import STARTS

    declared = declaration(section.architecture)
    if section.start in ("ga", "clone") and not declared.own_weights:
        problem = "it has no weights of its own; take 'fresh' or a model"
        raise StartError(section.architecture, section.start, problem)
    training_options(_SOURCE, section.settings, section.network)
    if not section.start or section.start in STARTS:
        return section
    start = home / section.start
    if not start.exists():
        raise UsageError(
            f"learn.toml, train.start: there is no {start}; expected {', '.join(STARTS)}, or the "
            "folder of a model, relative to that of learn.toml."
        )
    return section.model_copy(update={"start": str(start.resolve())})


def train_and_judge(
    files: Sequence[Path],
    output: Path,
    section: TrainSection,
    old: tuple[Potential, str | None],
    fresh: Sequence[str],
    seed: int,
    progress: Callable[[TrainingProgress], None],
) -> Judged:
    """Train the network of a round, or go on with that, and compare it with the potential before.

    Parameters
    ----------
    old
        The potential of the round, and the folder of its model: what the training starts from.
    fresh
        Decorations that the potential before has not seen: some of those that are not alone at
        their composition are not learned, and judge.
    """
    from gasearch.potentials.networks.checkpoint import MODEL_FILE, load_checkpoint
    from gasearch.training.data.reading import read_frames
    from gasearch.training.loop import DivergedError
    from gasearch.training.train import train

    frames = read_frames(list(files)).frames
    judges = held_out(_not_alone(fresh, frames), section.held_out)
    unseen = [frame for frame in frames if frame.decoration in judges]
    seen = [frame for frame in frames if frame.decoration not in judges]
    names = tuple(sorted({frame.decoration for frame in unseen}))
    potential, start = old
    before = errors(potential, seen, unseen or seen)
    try:
        if not (output / MODEL_FILE).exists():
            plan = _plan(files, output, section, start, names, seed, epochs(len(seen)))
            train(plan, progress)
    except DivergedError as error:
        return Judged(names, before, None, is_kept=False, n_frames=len(frames), problem=str(error))
    after = errors(load_checkpoint(output), seen, unseen or seen)
    if not np.isfinite(after.score):
        problem = "what it predicts is no finite number"
        return Judged(names, before, None, is_kept=False, n_frames=len(frames), problem=problem)
    return Judged(names, before, after, bool(after.score < before.score), len(frames))


def _not_alone(names: Sequence[str], frames: Sequence[Frame]) -> list[str]:
    """Return the decorations that share their composition with another one."""
    alike: dict[str, set[str]] = {}
    for frame in frames:
        alike.setdefault(frame.composition, set()).add(frame.decoration)
    shared = {name for group in alike.values() if len(group) > 1 for name in group}
    return [name for name in names if name in shared]


def _plan(
    files: Sequence[Path],
    output: Path,
    section: TrainSection,
    start: str | None,
    judges: Sequence[str],
    seed: int,
    usual_epochs: int,
) -> TrainingPlan:
    own = {"epochs": usual_epochs, **section.settings, "seed": seed}
    own |= {"held_out": list(judges)} if judges else {"validation_share": 0.0}
    options = training_options(_SOURCE, own, section.network)
    chosen = start or section.start or None
    return TrainingPlan(section.architecture, list(files), output, chosen, options)


def errors(potential: Potential, seen: Sequence[Frame], unseen: Sequence[Frame]) -> Errors:
    """Return the errors of a potential on unseen frames, energies aligned on the seen ones.

    A universal potential has another zero of energy, which no search depends on: a constant and a
    slope in x are fitted, for every potential alike.
    """
    from gasearch.training.evaluation.predict import predict

    found = {
        id(frame): one
        for frame, one in zip(
            [*seen, *unseen], predict(potential, [f.atoms for f in [*seen, *unseen]]), strict=True
        )
    }

    def difference(frame: Frame) -> float:
        return (float(frame.energy or 0) - found[id(frame)].energy) / frame.n_units

    known = [frame for frame in seen if frame.energy is not None]
    rows = np.array([[1.0, frame.working_fraction] for frame in known])
    line, *_ = np.linalg.lstsq(rows, np.array([difference(frame) for frame in known]), rcond=None)
    energies = [
        abs(difference(frame) - line[0] - line[1] * frame.working_fraction)
        * frame.n_units
        / len(frame)
        for frame in unseen
        if frame.energy is not None
    ]
    forces = [
        np.abs(found[id(frame)].forces - frame.forces).ravel()
        for frame in unseen
        if frame.forces is not None
    ]
    return Errors(
        float(np.mean(energies)) if energies else float("nan"),
        float(np.mean(np.concatenate(forces))) if forces else 0.0,
    )

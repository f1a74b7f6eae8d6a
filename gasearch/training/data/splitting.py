"""Training and validation sets: whole decorations, never single frames of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gasearch.errors import UsageError
from gasearch.training.data.frames import Frame, by_decoration


class TooFewDecorationsError(UsageError):
    """Data that cannot be split as asked for."""

    def __init__(self, wanted: int, found: int) -> None:
        super().__init__(wanted, found)
        self.wanted = wanted
        self.found = found

    def __str__(self) -> str:
        return (
            f"{self.wanted} folds need as many decorations that share their composition with "
            f"another one, but there are {self.found}: take fewer folds, or more data."
        )


@dataclass(frozen=True, eq=False)
class Split:
    """Frames to learn from and frames of other decorations to validate on.

    Parameters
    ----------
    training, validation
        Frames, in their given order.
    """

    training: tuple[Frame, ...]
    validation: tuple[Frame, ...]

    @property
    def held_out(self) -> tuple[str, ...]:
        """Names of the decorations of the validation set, sorted."""
        return tuple(sorted({frame.decoration for frame in self.validation}))


def fold_names(frames: Sequence[Frame], n_folds: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Return the decorations of each fold: each composition spread evenly over the folds.

    A decoration that is alone at its composition (an end member) is in no fold and so always in the
    training set: leaving it out would test something else, the extrapolation to a composition.
    """
    shuffled = _shuffled(frames, seed)
    if n_folds < 2 or len(shuffled) < n_folds:
        raise TooFewDecorationsError(n_folds, len(shuffled))
    return [tuple(sorted(shuffled[fold::n_folds])) for fold in range(n_folds)]


def split_off(frames: Iterable[Frame], held_out: Iterable[str]) -> Split:
    """Return the split that keeps these decorations for validation."""
    names = set(held_out)
    every = tuple(frames)
    training = tuple(frame for frame in every if frame.decoration not in names)
    return Split(training, tuple(frame for frame in every if frame.decoration in names))


def split_by_decoration(frames: Sequence[Frame], share: float = 0.2, seed: int = 0) -> Split:
    """Return one split with about this share of the decorations held out.

    Nothing is held out for share 0, and where no two decorations have the same composition.
    """
    shuffled = _shuffled(frames, seed)
    if share <= 0 or len(shuffled) < 2:
        return Split(tuple(frames), ())
    n_folds = min(max(2, round(1 / share)), len(shuffled))
    return split_off(frames, shuffled[::n_folds])


def _shuffled(frames: Iterable[Frame], seed: int) -> list[str]:
    """Return the decorations that share their composition, shuffled within each composition."""
    alike: dict[str, list[str]] = {}
    for name, group in by_decoration(frames).items():
        alike.setdefault(group[0].composition, []).append(name)
    rng = np.random.default_rng(seed)
    shuffled: list[str] = []
    for composition in sorted(alike):
        names = sorted(alike[composition])
        if len(names) > 1:
            shuffled += [names[k] for k in rng.permutation(len(names)).tolist()]
    return shuffled

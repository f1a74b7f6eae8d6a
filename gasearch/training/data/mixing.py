"""Frames of two levels of theory: their energies cannot be learned, or compared, together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from gasearch.errors import UsageError
from gasearch.training.data.frames import Frame

_GAP = 0.2  # eV per atom between neighbouring energies of one composition
_FEWEST = 2  # frames on the smaller side of such gaps, by which they are no single bad frame


class MixedLevelsError(UsageError):
    """Frames whose `level` differs."""

    def __init__(self, levels: Mapping[str, int]) -> None:
        super().__init__(levels)
        self.levels = dict(levels)

    def __str__(self) -> str:
        found = ", ".join(f"{name} ({n} frames)" for name, n in self.levels.items())
        return (
            f"these frames are of {len(self.levels)} levels of theory: {found}. Energies of two "
            "levels cannot be learned or compared together: take files of one level, or write one "
            "level=NAME into all frames if these are names of the same."
        )


class EnergyGapError(UsageError):
    """Frames without a `level`, whose energies look like those of two."""

    def __init__(self, composition: str, gap: float, n_below: int, n_above: int) -> None:
        super().__init__(composition, gap, n_below, n_above)
        self.composition = composition
        self.gap = gap
        self.n_below = n_below
        self.n_above = n_above

    def __str__(self) -> str:
        return (
            f"{self.n_below} and {self.n_above} frames of {self.composition} lie {self.gap:.1f} eV "
            "per cell apart with none between, as those of two levels of theory do: take frames of "
            "one level; if they are of one, say so with level=NAME in every frame."
        )


def refuse_two_levels(frames: Sequence[Frame]) -> None:
    """Raise where frames name two levels, or name none and their energies show two."""
    levels = Counter(frame.level for frame in frames)
    named = {name: n for name, n in levels.items() if name}
    if len(named) > 1:
        raise MixedLevelsError(named)
    if levels[""]:
        _refuse_gap(frames)


def _refuse_gap(frames: Sequence[Frame]) -> None:
    energies: dict[str, list[float]] = {}
    for frame in frames:
        if frame.energy is not None:
            energies.setdefault(frame.composition, []).append(frame.energy / len(frame))
    gaps = []
    for composition, found in energies.items():
        ordered = np.sort(found)
        steps = np.diff(ordered)
        if len(steps) and steps.max() > _GAP:
            below = int(steps.argmax()) + 1
            n_atoms = next(len(frame) for frame in frames if frame.composition == composition)
            gap = float(steps.max()) * n_atoms
            gaps.append((composition, gap, below, len(found) - below))
    if sum(min(below, above) for _, _, below, above in gaps) >= _FEWEST:
        raise EnergyGapError(*max(gaps, key=lambda one: min(one[2:])))

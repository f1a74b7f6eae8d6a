"""Two charge orders on one geometry: the only data that make energies depend on the labels.

In relaxed frames the oxygens tell where the holes are, and labels are redundant. DFT keeps its
electronic state while the nuclei go half-way and further to another charge order, so that hop
frames know the energy of one order in the geometry of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from gasearch.potentials.contract import Array
from gasearch.training.data.frames import Frame, by_decoration

_EQUAL = 1e-3  # Å: in a geometry that is written twice
_SAME_VOLUME = 0.01  # Å^3
_SAME = 0.02  # Å: largest distance of atoms in geometries that count as one
_SAME_CELL = 0.1  # Å: relaxed cells of two charge orders differ by 0.03
_FARTHEST = 0.55  # share of the path that hop frames must have gone before it is extrapolated
_NEAR_END = 0.3  # share of the path; frames before it may be in another orbital state
_FLOOR = 0.02  # eV: noise of the data
_SLOPE_WEIGHT = 0.3


@dataclass(frozen=True, eq=False)
class LabelPair:
    """Two charge orders on (nearly) one geometry.

    Parameters
    ----------
    foreign
        The geometry with the order that it did not relax with.
    own
        The geometry with its own order; its cell may differ by some hundredths of an Å.
    difference
        Energy of `foreign` minus energy of `own`, in eV per cell.
    uncertainty
        Of the difference, in eV.
    decorations
        Names of the foreign and the own order.
    """

    foreign: Atoms
    own: Atoms
    difference: float
    uncertainty: float
    decorations: tuple[str, str]


def label_pairs(frames: Sequence[Frame]) -> list[LabelPair]:
    """Return the pairs that frames hold: those on one geometry, and the ends of hop lines.

    A hop line is a series of frames of one order on the straight path to the relaxed geometry of
    another one. Its energy there is extrapolated from energies and forces (a parabola; the
    difference from a cubic is taken as uncertainty) and compared with the energy of the order that
    belongs there. No pair where the frames end before half of the path.
    """
    return [*_coinciding(frames), *_line_ends(frames)]


def _coinciding(frames: Sequence[Frame]) -> list[LabelPair]:
    """Return pairs on one geometry; only frames of one volume are compared."""
    known = sorted(
        (frame for frame in frames if frame.energy is not None),
        key=lambda frame: (len(frame), frame.atoms.cell.volume),
    )
    pairs = []
    for k, own in enumerate(known):
        for foreign in reversed(known[:k]):
            if own.atoms.cell.volume - foreign.atoms.cell.volume > _SAME_VOLUME:
                break
            if _differ_in_order(foreign, own) and _distance(foreign.atoms, own.atoms) < _EQUAL:
                pairs.append(_pair(foreign, own))
    return pairs


def _pair(foreign: Frame, own: Frame) -> LabelPair:
    difference = float(foreign.energy or 0) - float(own.energy or 0)
    names = (foreign.decoration, own.decoration)
    return LabelPair(foreign.atoms, own.atoms, difference, _FLOOR, names)


def _differ_in_order(one: Frame, other: Frame) -> bool:
    same_atoms = np.array_equal(one.atoms.numbers, other.atoms.numbers)
    return same_atoms and not np.array_equal(one.charges, other.charges)


def _line_ends(frames: Sequence[Frame]) -> list[LabelPair]:
    groups = by_decoration(frames)
    lines: dict[tuple[str, str], list[Frame]] = {}
    for frame in frames:
        if frame.hop and frame.energy is not None and frame.forces is not None:
            lines.setdefault((frame.decoration, frame.hop.other), []).append(frame)
    pairs = (
        _line_end(line, groups.get(other, []))
        for (_, other), line in lines.items()
        if len(line) >= 3
    )
    return [pair for pair in pairs if pair is not None]


def _line_end(line: list[Frame], others: list[Frame]) -> LabelPair | None:
    """Return the pair where a line arrives at a relaxed frame of the other order."""
    shares = np.array([frame.hop.share for frame in line if frame.hop])
    if shares.max() < _FARTHEST:
        return None
    end = _end_of(line, shares)
    at_end = [
        frame
        for frame in others
        if frame.energy is not None
        and _differ_in_order(line[0], frame)
        and _distance(end, frame.atoms) < _SAME
    ]
    if not at_end:
        return None
    own = min(at_end, key=lambda frame: float(frame.energy or 0))
    energy, uncertainty = _extrapolated(line, shares)
    names = (line[0].decoration, own.decoration)
    return LabelPair(end, own.atoms, energy - float(own.energy or 0), uncertainty, names)


def _end_of(line: list[Frame], shares: Array) -> Atoms:
    """Return the geometry at the end of the path, with the labels of its beginning."""
    end: Atoms = line[0].atoms.copy()
    end.positions += (1 - shares[0]) * _direction(line, shares)
    return end


def _direction(line: list[Frame], shares: Array) -> Array:
    """Return the displacement along the whole path (n_atoms, 3), in Å."""
    last, first = int(shares.argmax()), int(shares.argmin())
    moved = line[last].atoms.positions - line[first].atoms.positions
    return np.asarray(moved / (shares[last] - shares[first]))


def _extrapolated(line: list[Frame], shares: Array) -> tuple[float, float]:
    """Return the energy at the end of the path and its uncertainty, in eV."""
    way = _direction(line, shares)
    energies = np.array([frame.energy for frame in line], dtype=np.float64)
    slopes = np.array([-np.sum(frame.forces * way) for frame in line if frame.forces is not None])
    near = shares >= _NEAR_END
    if near.sum() >= 3:
        shares, energies, slopes = shares[near], energies[near], slopes[near]
    parabola, cubic = (_at_end(shares, energies, slopes, degree) for degree in (2, 3))
    return parabola, max(_FLOOR, abs(parabola - cubic))


def _at_end(shares: Array, energies: Array, slopes: Array, degree: int) -> float:
    """Return the value at 1 of the polynomial that fits energies and slopes best."""
    powers = np.arange(degree + 1)
    values = shares[:, None] ** powers
    steps = powers * shares[:, None] ** np.maximum(powers - 1, 0)
    matrix = np.concatenate([values, _SLOPE_WEIGHT * steps])
    aims = np.concatenate([energies - energies[0], _SLOPE_WEIGHT * slopes])
    return float(np.linalg.lstsq(matrix, aims, rcond=None)[0].sum() + energies[0])


def _distance(one: Atoms, other: Atoms) -> float:
    """Return the largest distance of equal atoms, in Å, each placed in the cell of the first.

    Infinite where cells differ by more than charge orders differ.
    """
    if len(one) != len(other):
        return np.inf
    if np.abs(one.cell.array - other.cell.array).max() > _SAME_CELL:
        return np.inf
    between = one.get_scaled_positions(wrap=False) - other.get_scaled_positions(wrap=False)
    between -= np.round(between)
    return float(np.linalg.norm(between @ one.cell.array, axis=1).max())

"""A potential against labelled frames: the numbers of `gasearch potential test`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gasearch.crystal.species import MomentRanges, Species
from gasearch.potentials.contract import Array, Potential, Prediction
from gasearch.potentials.measured.awareness import charge_awareness
from gasearch.training.data.frames import WORKING_IONS, Frame, lowest_frames
from gasearch.training.data.label_pairs import label_pairs
from gasearch.training.evaluation.predict import predict, predict_energies

Report = dict[str, float | int | None]
COLUMNS: Mapping[str, str] = {
    "energy_mae_meV_per_atom": "energy (meV/atom)",
    "formation_energy_mae_meV_per_fu": "formation (meV/f.u.)",
    "force_mae_meV_per_A": "forces (meV/Å)",
    "stress_mae_meV_per_A3": "stress (meV/Å^3)",
    "order_kendall_tau": "Kendall's tau",
    "moment_mae": "moments",
    "order_read_accuracy": "orders read",
    "swap_rms_meV": "swap (meV)",
    "swap_mae_meV": "swap error (meV)",
}
"""Heads of the table's columns, by the keys of a report."""
_SEED = 7  # of the rattling before label swaps: the same for all models
_TIE = 1e-6  # eV per cell


def evaluate_model(
    potential: Potential, frames: Sequence[Frame], references: Sequence[Frame] = ()
) -> Report:
    """Return the errors of a potential; None where they cannot be computed.

    Energies are compared as they are: of a potential at another level of theory, only ranks, swaps
    and moments mean something. Formation energies and ranks are those of the lowest frame of each
    decoration; moments those of the redox sites.

    Parameters
    ----------
    references
        Frames whose errors do not count but which serve as end members and partners of label swaps:
        the training frames where `frames` are those held out.
    """
    found = predict(potential, [frame.atoms for frame in frames])
    return {
        "n_frames": len(frames),
        "energy_mae_meV_per_atom": _mean(1000 * _energy_errors(frames, found)),
        "formation_energy_mae_meV_per_fu": _mean(formation_errors(potential, frames, references)),
        "force_mae_meV_per_A": _mean(1000 * _force_errors(frames, found)),
        "stress_mae_meV_per_A3": _mean(1000 * _stress_errors(frames, found)),
        "order_kendall_tau": order_tau(frames, [one.energy for one in found]),
        "moment_mae": _mean(_moment_errors(frames, found)),
        "order_read_accuracy": read_accuracy(frames, found, _ranges(potential)),
        "swap_rms_meV": _swap_rms(potential, frames),
        "swap_mae_meV": _mean(swap_errors(potential, frames, references)),
    }


def compare_models(
    potentials: Mapping[str, Potential], frames: Sequence[Frame], plot: Path | None = None
) -> dict[str, Report]:
    """Return the errors of each potential, by its name; draw their parity plots if wanted."""
    reports = {name: evaluate_model(one, frames) for name, one in potentials.items()}
    if plot is not None:
        from gasearch.training.evaluation.figures import plot_parity

        structures = [frame.atoms for frame in frames]
        found = {name: predict(one, structures) for name, one in potentials.items()}
        plot_parity(frames, found, plot)
    return reports


def number(value: float | None) -> str:
    """Return a measured number for a table, '-' where there is none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def formation_errors(
    potential: Potential, frames: Sequence[Frame], references: Sequence[Frame] = ()
) -> Array:
    """Return errors (n,) of formation energies in meV per formula unit, end members left out.

    Both levels refer to their own energies of the same end frames, those lowest in the data. Empty
    where a host has no two compositions, or no decoration between them.
    """
    counted = {frame.decoration for frame in frames}
    errors: list[float] = []
    for group in _by_host(lowest_frames([*frames, *references])).values():
        x = np.array([frame.working_fraction for frame in group])
        if x.max() - x.min() < 1e-6:
            continue
        true = np.array([float(frame.energy or 0) / frame.n_units for frame in group])
        cells = predict_energies(potential, [frame.atoms for frame in group])
        units = np.array([frame.n_units for frame in group])
        difference = _above_ends(x, cells / units, true) - _above_ends(x, true, true)
        inner = (x > x.min()) & (x < x.max())
        mine = np.array([frame.decoration in counted for frame in group])
        errors += (1000 * difference[inner & mine]).tolist()
    return np.array(errors)


def order_tau(frames: Sequence[Frame], energies: Sequence[float]) -> float | None:
    """Return Kendall's tau between two rankings of the decorations of each composition.

    Pairs of all compositions together; equal energies of the potential count as half right (0).
    """
    index = {id(frame): k for k, frame in enumerate(frames)}
    groups: dict[str, list[Frame]] = {}
    for frame in lowest_frames(frames):
        groups.setdefault(frame.composition, []).append(frame)
    agreements = [
        _agreement(one, other, energies[index[id(one)]] - energies[index[id(other)]])
        for group in groups.values()
        for k, one in enumerate(group)
        for other in group[:k]
    ]
    return float(np.mean(agreements)) if agreements else None


def read_accuracy(
    frames: Sequence[Frame], found: Sequence[Prediction], ranges: MomentRanges
) -> float | None:
    """Return the share of redox sites whose predicted moments give the right oxidation state."""
    right = [
        _reads(species, float(one.moments[site]), ranges)
        for frame, one in zip(frames, found, strict=True)
        if one.moments is not None
        for site, species in ((int(k), frame.species[k]) for k in frame.redox_sites)
        if species in ranges
    ]
    return float(np.mean(right)) if right else None


def swap_errors(
    potential: Potential, frames: Sequence[Frame], references: Sequence[Frame] = ()
) -> Array:
    """Return errors (n_pairs,) of the energy difference of two charge orders on one geometry, meV.

    Of a pair, the order that went into the other's geometry must be among the frames.
    """
    counted = {frame.decoration for frame in frames}
    pairs = label_pairs([*frames, *references])
    pairs = [pair for pair in pairs if pair.decorations[0] in counted]
    foreign = predict_energies(potential, [pair.foreign for pair in pairs])
    own = predict_energies(potential, [pair.own for pair in pairs])
    return np.asarray(1000 * (foreign - own - np.array([pair.difference for pair in pairs])))


def _energy_errors(frames: Sequence[Frame], found: Sequence[Prediction]) -> Array:
    """Return errors in eV per atom of the frames that have an energy."""
    return np.array(
        [
            (one.energy - frame.energy) / len(frame)
            for frame, one in zip(frames, found, strict=True)
            if frame.energy is not None
        ]
    )


def _force_errors(frames: Sequence[Frame], found: Sequence[Prediction]) -> Array:
    """Return errors of all force components, in eV/Å."""
    errors = [
        (one.forces - frame.forces).flatten()
        for frame, one in zip(frames, found, strict=True)
        if frame.forces is not None
    ]
    return np.concatenate([np.empty(0), *errors])


def _stress_errors(frames: Sequence[Frame], found: Sequence[Prediction]) -> Array:
    """Return errors of the nine components of all stresses, in eV/Å^3."""
    errors = [
        (one.stress - frame.stress).flatten()
        for frame, one in zip(frames, found, strict=True)
        if frame.stress is not None
    ]
    return np.concatenate([np.empty(0), *errors])


def _moment_errors(frames: Sequence[Frame], found: Sequence[Prediction]) -> Array:
    errors = [
        (np.abs(one.moments) - frame.moments)[frame.redox_sites]
        for frame, one in zip(frames, found, strict=True)
        if one.moments is not None and frame.moments is not None
    ]
    joined = np.concatenate([np.empty(0), *errors])
    return np.asarray(joined[np.isfinite(joined)])


def _swap_rms(potential: Potential, frames: Sequence[Frame]) -> float | None:
    structures = [frame.atoms for frame in lowest_frames(frames)]
    return charge_awareness(potential, structures, np.random.default_rng(_SEED))


def _by_host(frames: Sequence[Frame]) -> dict[str, list[Frame]]:
    """Return the frames of each host: what is left without working ions, per formula unit."""
    groups: dict[str, list[Frame]] = {}
    for frame in frames:
        amounts: Mapping[str, int] = frame.atoms.symbols.formula.count()
        left = {e: n / frame.n_units for e, n in amounts.items() if e not in WORKING_IONS}
        groups.setdefault(str(sorted(left.items())), []).append(frame)
    return groups


def _above_ends(x: Array, energies: Array, true: Array) -> Array:
    """Return energies above the line between the end frames that are lowest in the data."""
    first, last = (
        int(np.flatnonzero(at_end)[true[at_end].argmin()])
        for at_end in (x < x.min() + 1e-6, x > x.max() - 1e-6)
    )
    share = (x - x[first]) / (x[last] - x[first])
    return np.asarray(energies - share * energies[last] - (1 - share) * energies[first])


def _agreement(one: Frame, other: Frame, found: float) -> float:
    """Return 1 for a pair in the right sequence, -1 for one in the wrong one, 0 for a tie."""
    true = float(one.energy or 0) - float(other.energy or 0)
    return 0.0 if abs(found) < _TIE else float(np.sign(found * true))


def _reads(species: Species, moment: float, ranges: MomentRanges) -> bool:
    inside = [
        other
        for other, (low, high) in ranges.items()
        if other.element == species.element and low <= abs(moment) <= high
    ]
    return inside == [species]


def _ranges(potential: Potential) -> MomentRanges:
    return getattr(potential, "moment_ranges", None) or {}


def _mean(errors: Array) -> float | None:
    return float(np.abs(errors).mean()) if len(errors) else None

"""What DFT has said so far, in all rounds: results, frames, and the hull that they make."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from gasearch.analysis.findings import Findings
from gasearch.analysis.hull import ON_HULL, places
from gasearch.analysis.joint_hull import cell_name
from gasearch.crystal.io.hosts import host_from_json
from gasearch.dft.errors import UnknownJobError
from gasearch.dft.jobs.export import TrainingFrames, training_frames, write_frames
from gasearch.dft.jobs.prepare import Workplace
from gasearch.learning.geometries import OPPOSITES, STRAIN, in_one_setting
from gasearch.run.folder import RunFolder
from gasearch.store import dft_jobs

_STEP = "relax"  # the tags of the steps of a job itself; the last one is its result


@dataclass(frozen=True)
class Known:
    """The lowest DFT result of a decoration.

    Parameters
    ----------
    run
        Its run folder, relative to the learning folder.
    energy_per_fu
        In eV.
    """

    run: str
    id: int
    cell: str
    fingerprint: str
    x: float
    energy_per_fu: float

    @property
    def key(self) -> tuple[str, str]:
        """What tells its decoration from all others."""
        return self.cell, self.fingerprint


@dataclass(frozen=True)
class Member:
    """A ground state of the hull of all DFT results."""

    run: str
    id: int
    cell: str
    fingerprint: str
    x: float
    formation_per_fu: float


@dataclass(frozen=True)
class JobCounts:
    """What became of the DFT jobs of a loop.

    Parameters
    ----------
    kept, moved, delocalised
        Results by what became of the charge order that was asked for.
    """

    jobs: int
    kept: int
    moved: int
    delocalised: int
    failed: int


def known_results(folders: Sequence[RunFolder], base: Path, level: str) -> list[Known]:
    """Return the lowest DFT result of each decoration, by x and energy."""
    lowest: dict[tuple[str, str], Known] = {}
    for folder in folders:
        for one in _results(folder, base, level):
            other = lowest.get(one.key)
            if other is None or one.energy_per_fu < other.energy_per_fu:
                lowest[one.key] = one
    return sorted(lowest.values(), key=lambda one: (one.x, one.energy_per_fu, one.cell))


def _results(folder: RunFolder, base: Path, level: str) -> Iterator[Known]:
    name = folder.path.relative_to(base).as_posix()
    with folder.open_store() as store:
        if not _has(store, level):
            return
        cell = cell_name(host_from_json(store.run.host))
        for row in dft_jobs.dft_rows(store, level):
            if row.verdict == "ok":
                units = store.run.n_formula_units
                yield Known(name, row.candidate, cell, row.fingerprint, row.x, row.energy / units)


def _has(store: Any, level: str) -> bool:
    return any(row.name == level for row in dft_jobs.dft_levels(store))


def hull_members(known: Sequence[Known], ends: tuple[float, float]) -> list[Member]:
    """Return the ground states of all DFT results, one for each x; none without both ends."""
    found = places([one.x for one in known], [one.energy_per_fu for one in known], 1, ends)
    members: dict[float, Member] = {}
    for one, (formation, above) in zip(known, found, strict=True):
        if formation is not None and above is not None and above <= ON_HULL:
            members.setdefault(
                one.x, Member(one.run, one.id, one.cell, one.fingerprint, one.x, formation)
            )
    return list(members.values())


def x_range(folders: Sequence[RunFolder]) -> tuple[float, float]:
    """Return the neutral range of the host."""
    with folders[0].open_store() as store:
        low, high = Findings(store).host.x_range
    return low, high


def count_jobs(folders: Sequence[RunFolder], level: str) -> JobCounts:
    """Return what became of all jobs at a level."""
    orders, states = Counter[str | None](), Counter[str]()
    for folder in folders:
        with folder.open_store() as store:
            rows = [row for row in dft_jobs.jobs(store) if row.level == level]
        orders.update(row.charge_order for row in rows)
        states.update(row.state for row in rows)
    return JobCounts(
        jobs=sum(states.values()),
        kept=orders["kept"],
        moved=orders["moved"],
        delocalised=orders["delocalised"],
        failed=states["failed"],
    )


def all_frames(folders: Sequence[RunFolder], level: str, target: Path) -> TrainingFrames:
    """Write the frames of all DFT results; return them."""
    frames: list[Any] = []
    left_out = Counter[str]()
    for folder in folders:
        with folder.open_store() as store:
            if not _has(store, level):
                continue
            place = Workplace.of(folder, store)
            found = training_frames(place, level)
        frames += in_one_setting(place.host, found.frames)
        left_out.update(found.left_out)
    if not frames:
        raise UnknownJobError(
            "no DFT job of this loop ended with a charge order: there is nothing to learn from; "
            "see why with: gasearch dft status RUN"
        )
    write_frames(frames, target)
    return TrainingFrames(tuple(frames), dict(left_out))


def mean_forces(folder: RunFolder, level: str) -> dict[int, float]:
    """Return the mean absolute component of the DFT forces by candidate, in eV/Å; where known.

    At a geometry where those of the potential vanish, that is their error.
    """
    found = {}
    with folder.open_store() as store:
        for row in dft_jobs.dft_rows(store, level) if _has(store, level) else ():
            forces = dft_jobs.dft_relaxed(store, row.candidate, level).forces
            mean = float(np.abs(forces).mean())
            if not math.isnan(mean):
                found[row.candidate] = mean
    return found


def cell_errors(folder: RunFolder, level: str) -> dict[int, float]:
    """Return by candidate the mean strain between its axes and the lowest energy of DFT.

    A parabola through the energies of a pair of strained geometries and of that between them. Atoms
    keep their fractional coordinates, so a cell that may relax with them is off by more.
    """
    with folder.open_store() as store:
        if not _has(store, level):
            return {}
        frames = training_frames(Workplace.of(folder, store), level).frames
    by_tag: dict[int, dict[str, Atoms]] = {}
    middles: dict[int, Atoms] = {}
    for frame in frames:
        tag, number = frame.info["tag"], frame.info["gaid"]
        by_tag.setdefault(number, {})[tag] = frame
        if tag.startswith(_STEP):
            middles[number] = frame
    found = {}
    for number, middle in middles.items():
        strains = list(strains_to_lowest(middle, by_tag[number]))
        if strains:
            found[number] = float(np.mean(np.abs(strains)))
    return found


def strains_to_lowest(middle: Atoms, tagged: Mapping[str, Atoms]) -> Iterator[float]:
    """Yield of each pair the strain to its lowest energy; one that lies beyond counts as there."""
    plus, minus = OPPOSITES
    for tag, one in tagged.items():
        other = tagged.get(tag.removesuffix(plus) + minus)
        if not (tag.startswith(STRAIN) and tag.endswith(plus)) or other is None:
            continue
        frames = (one, middle, other)
        if len({frame.info["decoration"] for frame in frames}) > 1:
            continue  # an energy of another charge order
        high, energy, low = (frame.get_potential_energy() for frame in frames)
        bend = high + low - 2 * energy
        step = float(np.abs(one.cell.lengths() / middle.cell.lengths() - 1).mean())
        share = (low - high) / (2 * bend) if bend > 0 else np.sign(low - high)
        yield step * float(np.clip(share, -1, 1))

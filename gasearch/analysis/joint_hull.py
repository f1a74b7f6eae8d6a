"""One hull of several run folders at one level of theory: cells of any size, polymorphs too.

Runs of one host differ in their supercells only. Runs of several hosts are polymorphs: crystals of
one composition per formula unit at each x. All points make the common hull; each host has its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gasearch.analysis.findings import Ranked, known_of
from gasearch.analysis.hull import ON_HULL, NoEndMemberError, places
from gasearch.analysis.polymorphs import (
    DifferentRunsError,
    host_names,
    refuse_other_chemistry,
)
from gasearch.crystal.host import Host
from gasearch.crystal.io.hosts import host_from_json
from gasearch.errors import UsageError
from gasearch.run.folder import RunFolder
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import EvaluationRow, LevelRecord, RunRecord
from gasearch.store.sql.other_levels import LevelRow, other_levels, rows_at


@dataclass(frozen=True, kw_only=True)
class HullPoint(Ranked):
    """A valid candidate of one of the runs, with its place in the hull of all of them.

    Parameters
    ----------
    run
        The folder, as it was named.
    cell
        The supercell, such as "1x2x1".
    host
        The name of its host.
    above_own_hull_eV_per_fu
        Height above the hull of its host alone; None where that lacks an end of its range.
    """

    run: str
    cell: str
    energy_eV_per_fu: float
    host: str = ""
    above_own_hull_eV_per_fu: float | None = None

    @property
    def on_own_hull(self) -> bool:
        """Whether it is a ground state of its own host."""
        above = self.above_own_hull_eV_per_fu
        return above is not None and above <= ON_HULL


@dataclass(frozen=True, eq=False)
class Member:
    """One run of a joint hull.

    Parameters
    ----------
    name
        The folder, as it was named.
    rows
        Its valid candidates, by x and energy: of each the evaluation that counts.
    host_name
        What tells its host from the other ones of the hull.
    dft_settings
        Of the level, where it is one of DFT.
    is_released
        Whether the level is that of a potential whose hold was taken away.
    """

    name: str
    folder: Path
    run: RunRecord
    level: LevelRecord
    host: Host
    rows: tuple[EvaluationRow, ...]
    host_name: str
    dft_settings: Mapping[str, Any] | None = None
    is_released: bool = False

    @property
    def cell(self) -> str:
        """The supercell, such as "1x2x1"."""
        return cell_name(self.host)


@dataclass(frozen=True, eq=False)
class JointHull:
    """The points of all runs, by x and energy per formula unit.

    Parameters
    ----------
    only
        The host whose runs these are, where they were taken out of the hull of several hosts.
    """

    members: tuple[Member, ...]
    points: tuple[HullPoint, ...]
    only: str = ""

    @property
    def level(self) -> LevelRecord:
        """The level of theory of all points."""
        return self.members[0].level

    @property
    def label(self) -> str:
        """The level, and the host where it is that of one among several."""
        return f"{self.level.name}, {self.only}" if self.only else self.level.name

    @property
    def host(self) -> Host:
        """The host that goes to the highest x, in the cell of its first run."""
        return max((member.host for member in self.members), key=lambda host: host.x_range[1])

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts, in the order of the runs."""
        return tuple(dict.fromkeys(member.host_name for member in self.members))

    @property
    def x_range(self) -> tuple[float, float]:
        """The neutral range, of all hosts together."""
        return _x_range(self.members)

    def of_host(self, name: str) -> JointHull:
        """Return the hull of one of the hosts alone, with its own ends."""
        own = tuple(member for member in self.members if member.host_name == name)
        if own == self.members:
            return self
        return JointHull(own, _placed(own), only=name)

    @cached_property
    def by_host(self) -> tuple[JointHull, ...]:
        """The hulls of the hosts, each alone."""
        return tuple(self.of_host(name) for name in self.hosts)

    def missing_ends(self) -> list[float]:
        """Return the ends of the range without a valid energy: there is no hull without them."""
        return list(self._missing_ends)

    @cached_property
    def _missing_ends(self) -> tuple[float, ...]:
        present = [point.x for point in self.points]
        return tuple(end for end in self.x_range if not np.isclose(present, end).any())

    def formation_energy(self, x: float, energy_per_fu: float) -> float:
        """Return an energy against the straight line between the lowest of both ends, in eV/f.u.

        Raises
        ------
        NoEndMemberError
            Where an end of the range has no valid energy.
        """
        x_first, e_first, slope = self._line_between_ends
        return energy_per_fu - e_first - slope * (x - x_first)

    @cached_property
    def _line_between_ends(self) -> tuple[float, float, float]:
        """(x, energy in eV/f.u.) of the first end, and the slope to the last in eV/f.u."""
        ends = self.vertices()
        first, last = ends[0], ends[-1]
        slope = 0.0
        if last.x > first.x:
            slope = (last.energy_eV_per_fu - first.energy_eV_per_fu) / (last.x - first.x)
        return first.x, first.energy_eV_per_fu, slope

    def vertices(self) -> list[HullPoint]:
        """Return the ground states, one for each x, in ascending x.

        Raises
        ------
        NoEndMemberError
            Where an end of the range has no valid energy.
        """
        missing = self.missing_ends()
        if missing:
            raise NoEndMemberError(missing)
        lowest: dict[float, HullPoint] = {}
        for point in self.points:
            if point.on_hull:
                lowest.setdefault(point.x, point)
        return list(lowest.values())


def cell_name(host: Host) -> str:
    """Return the supercell of a host: "1x2x1", or the rows of its matrix."""
    matrix = host.matrix
    if np.array_equal(matrix, np.diag(np.diag(matrix))):
        return "x".join(str(n) for n in np.diag(matrix))
    return " ".join("(" + " ".join(map(str, row)) + ")" for row in matrix.tolist())


def read_member(folder: Path, level: str | None = None) -> Member:
    """Return what one run has found.

    Parameters
    ----------
    level
        The name of a level of theory; the search's own if None.
    """
    with RunFolder(folder).open_store() as store:
        run, own = store.run, store.level
        host = host_from_json(run.host)
        if level in (None, own.name):
            rows = tuple(store.evaluations(verdict="ok"))
            return Member(str(folder), folder, run, own, host, rows, host.declaration.name)
        row, record, rows = _at_other_level(store, level)
    is_released = row.released_from is not None
    settings = None if is_released else row.settings
    name = host.declaration.name
    return Member(str(folder), folder, run, record, host, rows, name, settings, is_released)


def _at_other_level(
    store: PopulationStore, level: str | None
) -> tuple[LevelRow, LevelRecord, tuple[EvaluationRow, ...]]:
    """Return a level beside the search's with its valid evaluations."""
    own = store.level
    others = {row.name: row for row in other_levels(store)}
    if level is None or level not in others:
        found = f"this run has the level {own.name!r} only"
        if others:
            found = f"this run has the levels {', '.join(map(repr, (own.name, *others)))}"
        raise UsageError(f"--level {level!r}: {found}.")
    row = others[level]
    record = LevelRecord(level, row.code, row.weights_hash, (), ranks_only=False)
    return row, record, tuple(one for one in rows_at(store, level) if one.verdict == "ok")


def joint_hull(folders: Sequence[Path | str], level: str | None = None) -> JointHull:
    """Return the hull of all valid candidates of some runs.

    The ends of the range are the lowest of all runs there, whichever host they have.

    Raises
    ------
    DifferentRunsError
        Where two of them differ in composition, in their host's settings, or in level of theory.
    """
    paths = [Path(folder) for folder in folders]
    _refuse_repeated(paths)
    members = tuple(read_member(path, level) for path in paths)
    for member in members[1:]:
        refuse_other_chemistry((members[0].name, members[0].run), (member.name, member.run))
        refuse_other_level(members[0], member)
    names = host_names([(member.name, member.run) for member in members])
    members = tuple(
        dataclasses.replace(member, host_name=name)
        for member, name in zip(members, names, strict=True)
    )
    return JointHull(members, _with_own_heights(members))


def _refuse_repeated(folders: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for folder in folders:
        first = seen.setdefault(folder.resolve(), folder)
        if first is not folder:
            raise UsageError(f"{folder} is named twice: each run counts once.")


def refuse_other_level(first: Member, other: Member) -> None:
    """Refuse a run at another level of theory, or whose potential has other weights."""
    levels = [(m.level.name, m.level.weights_hash) for m in (first, other)]
    if levels[0] != levels[1]:
        one, two = first.level.name, other.level.name
        if one == two:
            one, two = (f"{m.level.name} ({m.level.weights_hash[:12]})" for m in (first, other))
        raise DifferentRunsError("levels of theory", (first.name, one), (other.name, two))


def _x_range(members: Sequence[Member]) -> tuple[float, float]:
    ranges = [member.host.x_range for member in members]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _placed(members: Sequence[Member]) -> tuple[HullPoint, ...]:
    points = [_unplaced(member, row) for member in members for row in member.rows]
    points.sort(key=lambda point: (point.x, point.energy_eV_per_fu))  # stable: then by run
    x, energy = [p.x for p in points], [p.energy_eV_per_fu for p in points]
    return tuple(
        dataclasses.replace(
            point,
            formation_energy_eV_per_fu=formation,
            above_hull_eV_per_fu=above,
            above_own_hull_eV_per_fu=above,
        )
        for point, (formation, above) in zip(
            points, places(x, energy, 1, _x_range(members)), strict=True
        )
    )


def _with_own_heights(members: tuple[Member, ...]) -> tuple[HullPoint, ...]:
    """Return the points of the common hull, each with its height above that of its own host."""
    points = _placed(members)
    hull = JointHull(members, points)
    if len(hull.hosts) == 1:
        return points
    heights = {
        (point.run, point.id): point.above_hull_eV_per_fu
        for own in hull.by_host
        for point in own.points
    }
    return tuple(
        dataclasses.replace(point, above_own_hull_eV_per_fu=heights[point.run, point.id])
        for point in points
    )


def _unplaced(member: Member, row: EvaluationRow) -> HullPoint:
    return HullPoint(
        **known_of(row, member.host),
        run=member.name,
        cell=member.cell,
        host=member.host_name,
        energy_eV_per_fu=row.energy / member.run.n_formula_units,
        formation_energy_eV_per_fu=None,
        above_hull_eV_per_fu=None,
    )
